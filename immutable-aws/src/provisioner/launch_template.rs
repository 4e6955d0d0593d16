//! The launch template of a fleet: all that its instances are, in one version that never changes, and the record that the fleet exists.

use aws_sdk_ec2::types::{
    InstanceType, LaunchTemplate, LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
    LaunchTemplateHttpTokensState, LaunchTemplateIamInstanceProfileSpecificationRequest,
    LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateInstanceNetworkInterfaceSpecificationRequest,
    LaunchTemplateTagSpecificationRequest, RequestLaunchTemplateData, ResourceType, Tag,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use immutable_core::model::{Fingerprint, FleetId, FleetSpec};
use immutable_core::provider::{Effect, ErrorKind, ProviderError};

use super::survey::Parts;
use crate::config::{Config, launch_key};
use crate::error::failed;
use crate::guest;
use crate::tags::{self, Tags};

/// The version that every fleet uses: the first, which is the only one that we make. Versions never change, so whatever somebody adds later
/// or makes the default changes no fleet.
pub(super) const VERSION: &str = "1";

/// The name of a fleet's template, and of its group.
pub(crate) fn name(fleet: &FleetId) -> String {
    format!("immutable-{fleet}")
}

/// The tags of a fleet that is launched like this.
pub(super) fn tags_of(config: &Config, spec: &FleetSpec) -> Tags {
    let mut tags = tags::of_fleet(spec);
    tags.insert(tags::LAUNCH.to_owned(), config.launch.fingerprint().to_string());
    tags
}

/// That the fleet which exists is the one that is asked for: a fleet is bound to its release, and to how it is launched, for ever.
pub(super) fn bound(
    config: &Config,
    operation: &'static str,
    spec: &FleetSpec,
    parts: &Parts,
) -> Result<(), ProviderError> {
    let wanted = tags_of(config, spec);
    let Some(found) = parts.tags() else { return Ok(()) };
    let same = |key: &str| found.get(key) == wanted.get(key);
    let fleet = &wanted[tags::FLEET];
    let problem = if !same(tags::SERVICE) || !same(tags::RELEASE) {
        format!("fleet {fleet} exists with another release: give the new release a fleet of its own")
    } else if !same(tags::LAUNCH) && !grows_as_made(&found, spec, parts) {
        format!(
            "fleet {fleet} was made with other launch settings (types, subnets, security groups, profile, key, hooks): \
             put the settings' label into the release, so that it is a fleet of its own, or use the settings it was made with"
        )
    } else {
        return Ok(());
    };
    Err(ProviderError::new(ErrorKind::Immutable, operation, problem).without_effect())
}

/// Whether all that is left to do is to resize a group whose release says itself with which settings it is launched. A rollout that has brought
/// other settings has to be able to go back to it.
fn grows_as_made(found: &Tags, spec: &FleetSpec, parts: &Parts) -> bool {
    let made: Option<Fingerprint> = found.get(tags::LAUNCH).and_then(|made| made.parse().ok());
    let labelled = spec.release.launch().labels.get(&launch_key());
    parts.group.is_some() && labelled.is_some() && labelled == made.map(|made| made.short()).as_ref()
}

/// The id of the fleet's template, which is made unless it exists.
pub(super) async fn ensure(
    config: &Config,
    operation: &'static str,
    spec: &FleetSpec,
    parts: &Parts,
) -> Result<String, ProviderError> {
    if let Some(id) = parts.template.as_ref().and_then(LaunchTemplate::launch_template_id) {
        return Ok(id.to_owned());
    }
    let tags = tags_of(config, spec);
    let root = root_device(config, operation, spec).await?;
    let data = data(config, operation, spec, &root, &tags)?;
    // The name makes it one, however often it is asked for. A token of ours would outlive the template: a fleet that is made again, as on
    // the way back, would be answered with the template that is gone.
    let request = config.clients.ec2.create_launch_template().launch_template_name(name(&spec.id));
    let request = request.version_description(spec.release.image().labels.version.as_str());
    let request = request.tag_specifications(tags::specification(ResourceType::LaunchTemplate, &tags));
    let made = request.launch_template_data(data).send().await;
    let made = made.map_err(|error| failed(operation, Effect::None, error))?;
    let id = made.launch_template().and_then(LaunchTemplate::launch_template_id).map(str::to_owned);
    id.ok_or_else(|| ProviderError::new(ErrorKind::Internal, operation, "a launch template was made without an id"))
}

/// The name of the image's root device, which is encrypted. Asking for it also shows that the image can be launched.
async fn root_device(config: &Config, operation: &'static str, spec: &FleetSpec) -> Result<String, ProviderError> {
    let image = &spec.release.image().id;
    let refused =
        |problem| ProviderError::new(ErrorKind::InvalidRequest, operation, format!("image {image} {problem}"));
    let found = config.clients.ec2.describe_images().image_ids(image.as_str()).send().await;
    let found = found.map_err(|error| failed(operation, Effect::None, error))?;
    let Some(found) = found.images().first() else {
        return Err(refused("does not exist here: build it, or copy it to this region").without_effect());
    };
    let root = found.root_device_name().filter(|name| !name.is_empty());
    let root = root.ok_or_else(|| refused("has no root volume that can be encrypted").without_effect());
    root.map(str::to_owned)
}

fn data(
    config: &Config,
    _operation: &'static str,
    spec: &FleetSpec,
    root: &str,
    tags: &Tags,
) -> Result<RequestLaunchTemplateData, ProviderError> {
    let (launch, exceptions) = (&config.launch, &config.launch.exceptions);
    let user_data = guest::user_data(spec.release.launch())?;
    let tokens = if exceptions.optional_imdsv2 {
        LaunchTemplateHttpTokensState::Optional
    } else {
        LaunchTemplateHttpTokensState::Required
    };
    let mut data = RequestLaunchTemplateData::builder()
        .image_id(spec.release.image().id.as_str())
        .set_instance_type(launch.instance_types.first().map(|name| InstanceType::from(name.as_str())))
        .set_key_name(exceptions.key_pair.clone())
        .user_data(BASE64_STANDARD.encode(user_data))
        .metadata_options(LaunchTemplateInstanceMetadataOptionsRequest::builder().http_tokens(tokens).build())
        .network_interfaces(
            LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
                .device_index(0)
                .associate_public_ip_address(exceptions.public_address)
                .set_groups(Some(launch.security_groups.clone()))
                .delete_on_termination(true)
                .build(),
        );
    if let Some(profile) = &launch.instance_profile {
        let profile = LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(profile).build();
        data = data.iam_instance_profile(profile);
    }
    if !exceptions.unencrypted_root_volume {
        let volume = LaunchTemplateEbsBlockDeviceRequest::builder()
            .encrypted(true)
            .delete_on_termination(true)
            .set_kms_key_id(launch.volume_key.clone())
            .build();
        data = data.block_device_mappings(
            LaunchTemplateBlockDeviceMappingRequest::builder().device_name(root).ebs(volume).build(),
        );
    }
    for of in [ResourceType::Volume, ResourceType::NetworkInterface] {
        data = data.tag_specifications(specification(of, tags));
    }
    Ok(data.build())
}

fn specification(of: ResourceType, tags: &Tags) -> LaunchTemplateTagSpecificationRequest {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    LaunchTemplateTagSpecificationRequest::builder().resource_type(of).set_tags(Some(tags)).build()
}

/// Removes the template, the last of a fleet. One that is gone is removed.
pub(super) async fn remove(
    config: &Config,
    operation: &'static str,
    template: &LaunchTemplate,
) -> Result<(), ProviderError> {
    let Some(id) = template.launch_template_id() else { return Ok(()) };
    match config.clients.ec2.delete_launch_template().launch_template_id(id).send().await {
        Ok(_) => Ok(()),
        Err(error) => {
            let error = failed(operation, Effect::None, error);
            if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::AutoScalingGroup;
    use immutable_core::model::{Image, ImageLabels, LaunchSpec, Release, ServiceName};
    use jiff::Timestamp;

    use super::*;
    use crate::config::tests::{builder, config};

    fn spec(launch: LaunchSpec) -> FleetSpec {
        let labels = ImageLabels { version: "1".to_owned(), commit: None, built_at: Timestamp::UNIX_EPOCH };
        let (id, fingerprint) = ("ami-1".parse().unwrap(), Fingerprint::of("ami-1"));
        let release = Release::new(Image { id, fingerprint, parents: Vec::new(), labels }, launch);
        let service: ServiceName = "web".parse().unwrap();
        let id = FleetId::of(&service, &release.id());
        FleetSpec { id, service, release, size: 2, rollout: "rollout-1".parse().unwrap() }
    }

    #[test]
    fn a_fleet_is_bound_to_how_it_is_launched_unless_its_group_only_grows_and_its_release_says_how() {
        let bigger = builder().instance_types(["m7i.xlarge"]).build().unwrap();
        let mut labelled = LaunchSpec::default();
        labelled.labels.extend([config().launch_label()]);
        for (launch, has_group, is_bound) in
            [(LaunchSpec::default(), true, false), (labelled.clone(), true, true), (labelled.clone(), false, false)]
        {
            let spec = spec(launch);
            let made = tags_of(&config(), &spec);
            let tags = made.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
            let template = Some(LaunchTemplate::builder().set_tags(Some(tags)).build());
            let group = has_group.then(|| AutoScalingGroup::builder().build());
            let parts = Parts { template, group, ..Parts::default() };
            assert!(bound(&config(), "test", &spec, &parts).is_ok());
            let answer = bound(&bigger, "test", &spec, &parts);
            assert_eq!(answer.is_ok(), is_bound, "{has_group}: {answer:?}");
            assert!(answer.err().is_none_or(|error| error.kind() == ErrorKind::Immutable));
        }
    }
}
