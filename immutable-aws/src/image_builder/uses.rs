//! Who still needs an AMI.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::AutoScalingGroup;
use aws_sdk_ec2::types::{Instance, InstanceStateName, LaunchTemplateVersion, Reservation};
use futures_util::stream::{self, StreamExt as _};
use immutable_core::provider::{Effect, ErrorKind, ProviderError};

use super::{REMOVE, ami};
use crate::config::Config;
use crate::error::unseen;
use crate::tags;

/// How many templates are looked at at once: EC2 lets an account look some dozens of times in a second, and others look as well.
const LOOKS_AT_ONCE: usize = 10;

/// The first that needs an AMI of a region, in words, if anybody does.
pub(super) async fn find(client: &aws_sdk_ec2::Client, ami: &str) -> Result<Option<String>, ProviderError> {
    if let Some(instance) = instance(client, ami).await? {
        return Ok(Some(format!("instance {instance} was started from it: retire it first")));
    }
    if let Some(template) = template_of_a_fleet(client, ami).await? {
        return Ok(Some(format!("launch template {template} of a fleet names it: remove the fleet first")));
    }
    let template = current_template(client, ami).await?;
    Ok(template.map(|template| format!("launch template {template} names it: make another version of it first")))
}

async fn instance(client: &aws_sdk_ec2::Client, ami: &str) -> Result<Option<String>, ProviderError> {
    let request = client.describe_instances().filters(ami::filter("image-id", ami));
    let pages = request.into_paginator().page_size(1000).items().send().collect::<Result<Vec<_>, _>>().await;
    let found = pages.map_err(|error| unseen(REMOVE, Effect::None, error))?;
    let ends = |instance: &&Instance| {
        let state = instance.state().and_then(|state| state.name());
        matches!(state, Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated))
    };
    let mut living = found.iter().flat_map(Reservation::instances).filter(|instance| !ends(instance));
    Ok(living.next().map(|instance| instance.instance_id().unwrap_or_default().to_owned()))
}

async fn template_of_a_fleet(client: &aws_sdk_ec2::Client, ami: &str) -> Result<Option<String>, ProviderError> {
    let request = client.describe_launch_templates().filters(ami::filter(&format!("tag:{}", tags::AMI), ami));
    let pages = request.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    let found = pages.map_err(|error| unseen(REMOVE, Effect::None, error))?;
    Ok(found.first().map(|template| template.launch_template_name().unwrap_or_default().to_owned()))
}

/// Of templates that are not ours, the versions from which something is started that names none.
async fn current_template(client: &aws_sdk_ec2::Client, ami: &str) -> Result<Option<String>, ProviderError> {
    let request = client.describe_launch_template_versions().versions("$Latest").versions("$Default");
    let request = request.filters(ami::filter("image-id", ami));
    let pages = request.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    let found = pages.map_err(|error| unseen(REMOVE, Effect::None, error))?;
    let names_it =
        |version: &&LaunchTemplateVersion| version.launch_template_data().and_then(|data| data.image_id()) == Some(ami);
    Ok(found.iter().find(names_it).map(|version| version.launch_template_name().unwrap_or_default().to_owned()))
}

/// A group that starts instances from an older version of a template that is not ours.
pub(super) async fn group(config: &Config, ami: &str) -> Result<Option<String>, ProviderError> {
    let mut templates: BTreeMap<(String, String), String> = BTreeMap::new();
    let pages = config.clients.autoscaling.describe_auto_scaling_groups().into_paginator().items().send();
    let groups = pages.collect::<Result<Vec<_>, _>>().await.map_err(|error| unseen(REMOVE, Effect::None, error))?;
    // Those of fleets have templates of ours, which say themselves which AMI they name.
    let is_fleet = |group: &&AutoScalingGroup| group.tags().iter().any(|tag| tag.key() == Some(tags::FLEET));
    for group in groups.iter().filter(|group| !is_fleet(group)) {
        let mixed = group.mixed_instances_policy().and_then(|policy| policy.launch_template());
        let overrides = mixed.iter().flat_map(|mixed| mixed.overrides());
        let specifications = group
            .launch_template()
            .into_iter()
            .chain(mixed.and_then(|mixed| mixed.launch_template_specification()))
            .chain(overrides.filter_map(|one| one.launch_template_specification()));
        for specification in specifications {
            let (id, version) = (specification.launch_template_id(), specification.version());
            // What is current is looked at for all templates together.
            if let (Some(id), Some(version)) = (id, version.filter(|version| !version.starts_with('$'))) {
                let group = group.auto_scaling_group_name().unwrap_or_default().to_owned();
                templates.insert((id.to_owned(), version.to_owned()), group);
            }
        }
    }
    let looks = templates.into_iter().map(|((id, version), group)| async move {
        Ok::<_, ProviderError>(is_named(&config.clients.ec2, ami, id, version).await?.then_some(group))
    });
    let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(LOOKS_AT_ONCE);
    while let Some(found) = looks.next().await {
        if let Some(group) = found? {
            return Ok(Some(format!("Auto Scaling group {group} starts instances from it: remove it first")));
        }
    }
    Ok(None)
}

/// Whether a version of a template names an AMI. One that is not there any more names none.
async fn is_named(
    client: &aws_sdk_ec2::Client,
    ami: &str,
    template: String,
    version: String,
) -> Result<bool, ProviderError> {
    let request = client.describe_launch_template_versions().launch_template_id(template).versions(version);
    match request.send().await {
        Ok(found) => {
            let mut data = found.launch_template_versions().iter().filter_map(|version| version.launch_template_data());
            Ok(data.any(|data| data.image_id() == Some(ami)))
        }
        Err(error) => {
            let error = unseen(REMOVE, Effect::None, error);
            if error.kind() == ErrorKind::NotFound { Ok(false) } else { Err(error) }
        }
    }
}
