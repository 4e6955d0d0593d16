//! Finding AMIs, and what the tags of one of ours say.

use std::collections::BTreeSet;

use aws_sdk_ec2::operation::describe_images::builders::DescribeImagesFluentBuilder;
use aws_sdk_ec2::types::{Filter, Image as Ami, ImageState, ResourceType};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use immutable_core::model::{Fingerprint, Image, ImageLabels, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use jiff::Timestamp;

use super::builder::Builder;
use super::{ENSURE, pending, told, wait};
use crate::config::Config;
use crate::error::{failed, unseen};
use crate::tags::{self, Tags};

/// An image keeps so many of those it was built from, nearest first; the tags of a thing have no room for many more.
pub(super) const MOST_PARENTS: usize = 20;

/// The name of the AMI of a recipe. A name is there once in an account and a region, so two who build at once make one image.
pub(super) fn name(service: &ServiceName, fingerprint: &Fingerprint) -> String {
    format!("immutable-{service}-{}", fingerprint.short())
}

/// AMIs of this account, of all pages and in every state but `deregistered`, in which one is told of for a while that is gone.
pub(super) async fn own(
    client: &aws_sdk_ec2::Client,
    operation: &'static str,
    filter: Filter,
) -> Result<Vec<Ami>, ProviderError> {
    // One that is disabled is only told of to those who ask for it.
    let request = client.describe_images().owners("self").include_disabled(true).filters(filter);
    let mut found = all(request, operation, Effect::None).await?;
    found.retain(|ami| ami.state() != Some(&ImageState::Deregistered));
    Ok(found)
}

async fn all(
    request: DescribeImagesFluentBuilder,
    operation: &'static str,
    before: Effect,
) -> Result<Vec<Ami>, ProviderError> {
    // A thousand is the most that a page can have:
    // https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html
    let pages = request.into_paginator().page_size(1000).items().send();
    pages.collect::<Result<Vec<_>, _>>().await.map_err(|error| unseen(operation, before, error))
}

pub(super) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// The AMIs of one content.
pub(super) fn of_fingerprint(fingerprint: &Fingerprint) -> Filter {
    filter(&format!("tag:{}", tags::IMAGE), &fingerprint.to_string())
}

/// An AMI of ours as an image; nothing where it is somebody else's.
pub(super) fn image(ami: &Ami) -> Option<Image> {
    let tags = tags::read(ami.tags());
    let labels = ImageLabels {
        version: tags.get(tags::VERSION).cloned().unwrap_or_default(),
        commit: tags.get(tags::COMMIT).cloned(),
        built_at: tags.get(tags::BUILT_AT)?.parse().ok()?,
    };
    let fingerprint = tags.get(tags::IMAGE)?.parse().ok()?;
    Some(Image { id: ami.image_id()?.parse().ok()?, fingerprint, parents: parents(&tags)?, labels })
}

/// The tags of what an image was built from.
pub(super) fn parent_tags(parents: &[Fingerprint]) -> Tags {
    let tag = |(index, parent): (usize, &Fingerprint)| (parent_key(index), parent.to_string());
    parents.iter().take(MOST_PARENTS).enumerate().map(tag).collect()
}

fn parents(tags: &Tags) -> Option<Vec<Fingerprint>> {
    (0..MOST_PARENTS).map_while(|index| tags.get(&parent_key(index))).map(|parent| parent.parse().ok()).collect()
}

fn parent_key(index: usize) -> String {
    if index == 0 { tags::PARENT.to_owned() } else { format!("{}-{}", tags::PARENT, index + 1) }
}

/// What a builder is started from.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) parents: Vec<Fingerprint>,
    /// The names of the devices that have a volume: the root's, and those of all others.
    pub(super) volumes: BTreeSet<String>,
}

/// The AMI that a recipe starts from, if it is there and is the one that is meant.
pub(super) async fn base(config: &Config, base: &Image, before: Effect) -> Result<Base, ProviderError> {
    let refused = |problem: &str| told(ErrorKind::InvalidRequest, format!("base: {} {problem}", base.id), before);
    let missing = "is not there, or not yet, or not for this account and region: build or share it first";
    // By its id: a filter would have EC2 look through all AMIs that are public.
    let request = config.clients.ec2.describe_images().image_ids(base.id.as_str());
    let found = request.send().await.map_err(|error| match error.code() {
        Some(code) if code.starts_with("InvalidAMIID.") => refused(missing).with_source(error),
        _ => unseen(ENSURE, before, error),
    })?;
    let usable = found.images().iter().find(|ami| ami.state() == Some(&ImageState::Available));
    let Some(ami) = usable else {
        return Err(refused(missing));
    };
    let known = image(ami);
    let mut parents = match &known {
        Some(known) if known.fingerprint == base.fingerprint => vec![known.fingerprint],
        _ if base.fingerprint == Fingerprint::of(base.id.as_str()) => vec![base.fingerprint],
        _ => return Err(refused("is another image than the one that is asked for: build that first")),
    };
    parents.extend(known.map(|known| known.parents).unwrap_or_default());
    if parents.len() > MOST_PARENTS {
        return Err(refused("has too many images below it to keep track of: start from one that has fewer"));
    }
    let root = ami.root_device_name().filter(|name| !name.is_empty());
    let root = root.ok_or_else(|| refused("has no root volume that could be kept"))?;
    let others = ami.block_device_mappings().iter().filter(|mapping| mapping.ebs().is_some());
    let volumes = others.filter_map(|mapping| mapping.device_name()).chain([root]).map(str::to_owned).collect();
    Ok(Base { parents, volumes })
}

/// Begins to make the AMI of a builder that is done.
pub(super) async fn create(
    config: &Config,
    builder: &Builder,
    content: &str,
    now: Timestamp,
    before: Effect,
) -> Result<Progress<Image>, ProviderError> {
    let mut tags = builder.tags.clone();
    for of_the_builder in [tags::ROLE, tags::EXPIRES_AT, tags::NONCE] {
        tags.remove(of_the_builder);
    }
    let internal = |problem: &str| ProviderError::new(ErrorKind::Internal, ENSURE, format!("{} {problem}", builder.id));
    let recipe = tags.get(tags::RECIPE).cloned().ok_or_else(|| internal("has lost the tag of its recipe: end it"))?;
    let name = tags.get("Name").cloned().ok_or_else(|| internal("has lost the tag of its name: end it"))?;
    tags.insert(tags::IMAGE.to_owned(), recipe);
    tags.insert(tags::CONTENT.to_owned(), content.to_owned());
    tags.insert(tags::BUILT_AT.to_owned(), now.to_string());
    let mut request = config.clients.ec2.create_image().instance_id(&builder.id).name(&name);
    for of in [ResourceType::Image, ResourceType::Snapshot] {
        request = request.tag_specifications(tags::specification(of, &tags));
    }
    match request.send().await {
        Ok(_) => Ok(pending(format!("image {name} to be made of builder {}", builder.id))),
        // Somebody else has begun it, or this is the second time: the list does not show it yet.
        Err(error) if error.code() == Some("InvalidAMIName.Duplicate") => {
            let named = own(&config.clients.ec2, ENSURE, filter("name", &name)).await?;
            let is_another = |ami: &&Ami| tags::read(ami.tags()).get(tags::IMAGE) != tags.get(tags::IMAGE);
            match named.iter().find(is_another).and_then(|ami| ami.image_id()) {
                Some(other) => {
                    let problem = format!("AMI {other} has the name {name} and is not this image: remove it");
                    Err(told(ErrorKind::Conflict, problem, before))
                }
                None => Ok(Progress::Pending {
                    retry_after: wait::FOR_THE_LIST,
                    note: format!("image {name} to be listed"),
                }),
            }
        }
        Err(error) => Err(failed(ENSURE, before, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ami(tags: &Tags) -> Ami {
        let of = tags::specification(ResourceType::Image, tags);
        Ami::builder().image_id("ami-1").set_tags(of.tags).build()
    }

    fn tags(parents: &[Fingerprint]) -> Tags {
        let mut tags = parent_tags(parents);
        tags.extend(tags::tags([
            (tags::IMAGE, Fingerprint::of("it").to_string().as_str()),
            (tags::VERSION, "1.0.0"),
            (tags::COMMIT, "abc"),
            (tags::BUILT_AT, "2026-01-02T03:04:05Z"),
        ]));
        tags
    }

    #[test]
    fn an_image_survives_its_tags() {
        for count in [0, 1, MOST_PARENTS] {
            let parents: Vec<_> = (0..count).map(|index| Fingerprint::of(index.to_string())).collect();
            let image = image(&ami(&tags(&parents))).unwrap();
            assert_eq!(
                (image.id.as_str(), image.fingerprint, &image.parents),
                ("ami-1", Fingerprint::of("it"), &parents)
            );
            let built_at = "2026-01-02T03:04:05Z".parse().unwrap();
            assert_eq!(image.labels, ImageLabels { version: "1.0.0".into(), commit: Some("abc".into()), built_at });
        }
    }

    #[test]
    fn an_ami_without_our_tags_is_none_of_ours() {
        for key in [tags::IMAGE, tags::BUILT_AT] {
            let mut tags = tags(&[]);
            tags.insert(key.to_owned(), "something else".to_owned());
            assert_eq!(image(&ami(&tags)), None, "{key}");
            tags.remove(key);
            assert_eq!(image(&ami(&tags)), None, "{key}");
        }
        let mut without_commit = tags(&[]);
        without_commit.remove(tags::COMMIT);
        assert_eq!(image(&ami(&without_commit)).unwrap().labels.commit, None);
    }
}
