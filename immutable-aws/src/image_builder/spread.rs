//! Copies of an image in other regions, and other accounts that may use it.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    Image as Ami, ImageAttributeName, ImageState, LaunchPermission, LaunchPermissionModifications, ResourceType,
};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ProviderError};

use super::settings::ImageCopy;
use super::{ENSURE, ami, removal};
use crate::config::Config;
use crate::error::{failed, unseen};
use crate::tags;

/// Has an image copied and shared as the settings say. What is still to be waited for, if anything.
pub(super) async fn ensure(config: &Config, ami: &Ami, before: Effect) -> Result<Option<String>, ProviderError> {
    let mut effect = share(config, &config.clients.ec2, ami, before).await?;
    let mut waits = None;
    for copy in &config.images.copies {
        let found = find(copy, ENSURE, ami).await?;
        let region = copy.region().unwrap_or_default();
        let Some(copied) = found else {
            begin(config, copy, ami, effect).await?;
            effect = Effect::Unknown;
            waits = Some(format!("the copy of image {} to {region}", id(ami)));
            continue;
        };
        match copied.state() {
            Some(ImageState::Available) => effect = share(config, &copy.client, &copied, effect).await?,
            Some(ImageState::Failed | ImageState::Error | ImageState::Invalid) => {
                removal::discard(&copy.client, ENSURE, &copied, effect).await?;
                let problem = format!("the copy of image {} to {region} has failed and was removed", id(ami));
                return Err(ProviderError::new(ErrorKind::Unavailable, ENSURE, problem));
            }
            _ => waits = Some(format!("the copy of image {} in {region} to become available", id(ami))),
        }
    }
    Ok(waits)
}

/// The copy of an image, found by its name, which is there once in a region.
pub(super) async fn find(copy: &ImageCopy, operation: &'static str, ami: &Ami) -> Result<Option<Ami>, ProviderError> {
    let found = ami::own(&copy.client, operation, ami::filter("name", ami.name().unwrap_or_default())).await?;
    Ok(found.into_iter().next())
}

async fn begin(config: &Config, copy: &ImageCopy, ami: &Ami, before: Effect) -> Result<(), ProviderError> {
    let region = config.clients.ec2.config().region().map(AsRef::<str>::as_ref);
    let token = IdempotencyKey::of(&["copy", id(ami), copy.region().unwrap_or_default()]);
    let mut request = copy
        .client
        .copy_image()
        .client_token(token.as_str())
        .name(ami.name().unwrap_or_default())
        .source_image_id(id(ami))
        .set_source_region(region.map(str::to_owned));
    if !config.launch.exceptions.unencrypted_root_volume {
        request = request.encrypted(true).set_kms_key_id(copy.volume_key.clone());
    }
    for of in [ResourceType::Image, ResourceType::Snapshot] {
        request = request.tag_specifications(tags::specification(of, &tags::read(ami.tags())));
    }
    request.send().await.map(drop).map_err(|error| failed(ENSURE, before, error))
}

/// Lets the accounts of the settings start instances from an AMI, as far as they cannot yet. Nobody's permission is taken away.
async fn share(
    config: &Config,
    client: &aws_sdk_ec2::Client,
    ami: &Ami,
    before: Effect,
) -> Result<Effect, ProviderError> {
    if config.images.accounts.is_empty() {
        return Ok(before);
    }
    let request = client.describe_image_attribute().image_id(id(ami)).attribute(ImageAttributeName::LaunchPermission);
    let found = request.send().await.map_err(|error| unseen(ENSURE, before, error))?;
    let may: BTreeSet<&str> = found.launch_permissions().iter().filter_map(LaunchPermission::user_id).collect();
    let missing = config.images.accounts.iter().filter(|account| !may.contains(account.as_str()));
    let add: Vec<_> = missing.map(|account| LaunchPermission::builder().user_id(account).build()).collect();
    if add.is_empty() {
        return Ok(before);
    }
    let change = LaunchPermissionModifications::builder().set_add(Some(add)).build();
    let request = client.modify_image_attribute().image_id(id(ami)).launch_permission(change);
    request.send().await.map_err(|error| failed(ENSURE, before, error))?;
    Ok(Effect::Unknown)
}

fn id(ami: &Ami) -> &str {
    ami.image_id().unwrap_or_default()
}
