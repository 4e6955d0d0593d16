//! Copies of an image in other regions, and other accounts that may use it.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    Image as Ami, ImageAttributeName, ImageState, LaunchPermission, LaunchPermissionModifications, ResourceType,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ProviderError};
use jiff::Timestamp;

use super::settings::ImageCopy;
use super::{ENSURE, ami, removal, told};
use crate::config::Config;
use crate::error::{failed, unseen};
use crate::tags;

/// How long a copy is asked for with the same token, in seconds.
const TURN: i64 = 300;

/// Has an image copied and shared as the settings say. What is still to be waited for, if anything.
pub(super) async fn ensure(
    config: &Config,
    ami: &Ami,
    now: Timestamp,
    before: Effect,
) -> Result<Option<String>, ProviderError> {
    let mut effect = share(config, &config.clients.ec2, ami, before).await?;
    let mut waits = None;
    for copy in &config.images.copies {
        let region = copy.region().unwrap_or_default();
        let found = find(copy, ami, effect).await?;
        let Some(copied) = found else {
            begin(config, (copy, ami), now, effect).await?;
            effect = Effect::Unknown;
            waits = Some(format!("the copy of image {} to {region}", id(ami)));
            continue;
        };
        let discard = match copied.state() {
            _ if !is_of(&copied, ami) => "is of an earlier build",
            Some(ImageState::Available) => {
                effect = share(config, &copy.client, &copied, effect).await?;
                continue;
            }
            Some(ImageState::Failed | ImageState::Error | ImageState::Invalid) => "has failed",
            Some(ImageState::Disabled) => {
                let problem = format!(
                    "the copy of image {} in {region}, {}, is disabled: enable it, or remove the image",
                    id(ami),
                    id(&copied)
                );
                return Err(told(ErrorKind::Conflict, problem, effect));
            }
            _ => {
                waits = Some(format!("the copy of image {} in {region} to become available", id(ami)));
                continue;
            }
        };
        removal::discard(&copy.client, ENSURE, &copied, effect).await?;
        let problem = format!("the copy {} of image {} in {region} {discard} and was removed", id(&copied), id(ami));
        return Err(ProviderError::new(ErrorKind::Unavailable, ENSURE, problem));
    }
    Ok(waits)
}

/// The copy of an image, or what is in its place: an AMI of ours with the same content, or at least its name.
///
/// # Errors
/// `Conflict` when its name is that of an AMI of somebody else's.
async fn find(copy: &ImageCopy, ami: &Ami, before: Effect) -> Result<Option<Ami>, ProviderError> {
    let content = tags::read(ami.tags()).remove(tags::IMAGE).unwrap_or_default();
    let of_content = ami::filter(&format!("tag:{}", tags::IMAGE), &content);
    let mut found = ami::own(&copy.client, ENSURE, of_content).await?;
    // The copy itself first, and the same one for everybody who looks.
    found.sort_by(|one, other| {
        let place =
            |copied: &Ami| (!is_of(copied, ami), copied.creation_date().map(str::to_owned), id(copied).to_owned());
        place(one).cmp(&place(other))
    });
    if let Some(copied) = found.into_iter().next() {
        return Ok(Some(copied));
    }
    let name = ami.name().unwrap_or_default();
    let named = ami::own(&copy.client, ENSURE, ami::filter("name", name)).await?;
    match named.into_iter().next() {
        // The list of all that has this tag lags behind.
        Some(copied) if tags::read(copied.tags()).get(tags::IMAGE) == Some(&content) => Ok(Some(copied)),
        Some(other) => {
            let region = copy.region().unwrap_or_default();
            let problem = format!("{} in {region} has the name {name} and is none of ours: remove it", id(&other));
            Err(told(ErrorKind::Conflict, problem, before))
        }
        None => Ok(None),
    }
}

/// Whether an AMI is a copy of this one, and not of one that was built before it.
fn is_of(copied: &Ami, ami: &Ami) -> bool {
    let [copied, ami] = [copied, ami].map(|one| tags::read(one.tags()).remove(tags::BUILT_AT));
    copied == ami
}

async fn begin(
    config: &Config,
    (copy, ami): (&ImageCopy, &Ami),
    now: Timestamp,
    before: Effect,
) -> Result<(), ProviderError> {
    let region = config.clients.ec2.config().region().map(AsRef::<str>::as_ref);
    // After a failed copy another token has to come, and nothing that is left says that there was one. A copy that is asked for twice
    // for that is made once all the same, by its name.
    let turn = now.as_second().div_euclid(TURN).to_string();
    let token = IdempotencyKey::of(&["copy", id(ami), copy.region().unwrap_or_default(), &turn]);
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
    // EC2 refuses tags of others, such as those of CloudFormation.
    let mut own = tags::read(ami.tags());
    own.retain(|key, _| key == "Name" || key.starts_with("immutable:"));
    for of in [ResourceType::Image, ResourceType::Snapshot] {
        request = request.tag_specifications(tags::specification(of, &own));
    }
    match request.send().await {
        Ok(_) => Ok(()),
        // Somebody else has begun it, or this is the second time: the list does not show it yet.
        Err(error) if matches!(error.code(), Some("IdempotentParameterMismatch" | "InvalidAMIName.Duplicate")) => {
            Ok(())
        }
        Err(error) => Err(failed(ENSURE, before, error)),
    }
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
