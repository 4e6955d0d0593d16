//! The tags by which everything that was made is found again, by whoever comes later.
//!
//! They are put on in the request that makes the thing, never after it, so that nothing is made that nobody finds.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use immutable_core::model::{FleetSpec, ServiceName};

/// The service that a thing was made for. The permission to change or remove a thing hangs on this tag.
pub(crate) const SERVICE: &str = "immutable:service";
/// The fleet that a thing belongs to.
pub(crate) const FLEET: &str = "immutable:fleet";
/// The whole fingerprint of the release that a fleet is bound to.
pub(crate) const RELEASE: &str = "immutable:release";
/// The rollout on whose behalf a thing was made.
pub(crate) const ROLLOUT: &str = "immutable:rollout";
/// The fingerprint of the content of an image, or of the image that a fleet's instances are born from.
pub(crate) const IMAGE: &str = "immutable:image";
/// The id of the AMI that a fleet's instances are born from.
pub(crate) const AMI: &str = "immutable:ami";
/// The fingerprint of the settings that a fleet's instances are launched with, beside its release.
pub(crate) const LAUNCH: &str = "immutable:launch";
/// The place of an instance in its fleet, where no group keeps it.
pub(crate) const PLACE: &str = "immutable:place";
/// The listener or rule that a target group was made for.
pub(crate) const ROUTE: &str = "immutable:route";
/// The target group that a target group was made like: where the route led before, and leads to when it is closed.
pub(crate) const LIKE: &str = "immutable:like";
/// Of a listener or rule: how often it was changed, by which call the last time, and from which version.
pub(crate) const ROUTE_VERSION: &str = "immutable:route-version";
/// What an instance is for that is in no fleet.
pub(crate) const ROLE: &str = "immutable:role";
/// The role of an instance that an image is built on.
pub(crate) const BUILDER: &str = "builder";
/// The fingerprint of the recipe that a builder works on; of the image that comes of it as well.
pub(crate) const RECIPE: &str = "immutable:recipe";
/// When a builder is ended by whoever sees it, in RFC 3339.
pub(crate) const EXPIRES_AT: &str = "immutable:expires-at";
/// The word by which the output of a builder is known.
pub(crate) const NONCE: &str = "immutable:nonce";
/// The nearest of the images that an image was built from; the others have a number behind it.
pub(crate) const PARENT: &str = "immutable:parent";
/// The version of an image, in the words of those who built it.
pub(crate) const VERSION: &str = "immutable:version";
/// The commit that an image was built from.
pub(crate) const COMMIT: &str = "immutable:commit";
/// When an image was built, in RFC 3339.
pub(crate) const BUILT_AT: &str = "immutable:built-at";
/// The SHA-256 of what the build has put into an image.
pub(crate) const CONTENT: &str = "immutable:content";

/// Tags by their keys.
pub(crate) type Tags = BTreeMap<String, String>;

/// The tags of everything that is made for a fleet.
pub(crate) fn of_fleet(spec: &FleetSpec) -> Tags {
    let image = spec.release.image();
    tags([
        ("Name", spec.id.as_str()),
        (SERVICE, spec.service.as_str()),
        (FLEET, spec.id.as_str()),
        (RELEASE, &spec.release.id().fingerprint().to_string()),
        (ROLLOUT, spec.rollout.as_str()),
        (IMAGE, &image.fingerprint.to_string()),
        (AMI, image.id.as_str()),
    ])
}

pub(crate) fn tags<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Tags {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The tags of a thing of EC2, to be put on as it is made.
pub(crate) fn specification(of: ResourceType, tags: &Tags) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    TagSpecification::builder().resource_type(of).set_tags(Some(tags)).build()
}

/// The tags that EC2 tells of a thing.
pub(crate) fn read(tags: &[Tag]) -> Tags {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect()
}

/// The filter of EC2 for the things of one service.
pub(crate) fn of_service(service: &ServiceName) -> aws_sdk_ec2::types::Filter {
    aws_sdk_ec2::types::Filter::builder().name(format!("tag:{SERVICE}")).values(service.as_str()).build()
}

/// Tags as the API of load balancers takes them.
pub(crate) fn of_balancer(tags: &Tags) -> Vec<aws_sdk_elasticloadbalancingv2::types::Tag> {
    let tag = |(key, value): (&String, &String)| {
        aws_sdk_elasticloadbalancingv2::types::Tag::builder().key(key).value(value).build()
    };
    tags.iter().map(tag).collect()
}
