//! Removing an AMI and its snapshots.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Image as Ami, Snapshot};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};

use super::settings::ImageCopy;
use super::{REMOVE, ami, uses, wait};
use crate::config::Config;
use crate::error::{failed, unseen};
use crate::tags;

/// Removes an image, its copies, and what an interrupted removal has left of them.
pub(super) async fn remove(config: &Config, image: &Image) -> Result<Progress<()>, ProviderError> {
    let refuse = |kind, problem: String| Err(ProviderError::new(kind, REMOVE, problem).without_effect());
    let main = &config.clients.ec2;
    let named = ami::own(main, REMOVE, ami::filter("image-id", image.id.as_str())).await?;
    let named = named.into_iter().next();
    if named.as_ref().is_some_and(|ami| ami::image(ami).is_none_or(|found| found.fingerprint != image.fingerprint)) {
        return refuse(
            ErrorKind::InvalidRequest,
            format!("{} is another image, or none of ours: look again", image.id),
        );
    }
    if let Some(user) = user(config, image, named.is_some()).await? {
        return refuse(ErrorKind::Conflict, format!("image {} is in use: {user}", image.id));
    }
    let mut effect = Effect::None;
    // The copies first, so that the image itself, when it is there, still says that there may be some.
    for copy in &config.images.copies {
        for copied in copies(copy, image).await? {
            let Some(removed) = take_away(&copy.client, image, Some(&copied), effect).await? else {
                return Ok(snapshots_held(image));
            };
            effect = removed;
        }
        let Some(removed) = take_away(&copy.client, image, None, effect).await? else {
            return Ok(snapshots_held(image));
        };
        effect = removed;
    }
    match take_away(main, image, named.as_ref(), effect).await? {
        Some(_) => Ok(Progress::Done(())),
        None => Ok(snapshots_held(image)),
    }
}

/// The first that needs an image or one of its copies, in words.
async fn user(config: &Config, image: &Image, is_there: bool) -> Result<Option<String>, ProviderError> {
    if is_there && let Some(user) = user_here(config, image).await? {
        return Ok(Some(user));
    }
    for copy in &config.images.copies {
        for copied in copies(copy, image).await? {
            let id = copied.image_id().unwrap_or_default();
            if let Some(user) = uses::find(&copy.client, id).await? {
                return Ok(Some(format!("of its copy {id}, {user}")));
            }
        }
    }
    Ok(None)
}

/// The same in the region that images are built in.
async fn user_here(config: &Config, image: &Image) -> Result<Option<String>, ProviderError> {
    let main = &config.clients.ec2;
    if let Some(user) = uses::find(main, image.id.as_str()).await? {
        return Ok(Some(user));
    }
    if let Some(group) = uses::group(config, image.id.as_str()).await? {
        return Ok(Some(group));
    }
    let built = ami::own(main, REMOVE, ami::filter("tag-key", tags::PARENT)).await?;
    let child = built.iter().filter_map(ami::image).find(|other| other.parents.contains(&image.fingerprint));
    Ok(child.map(|child| format!("image {} is built on it: remove that one first", child.id)))
}

/// The copies of an image in another region: AMIs of ours with the same content, that were built when it was.
async fn copies(copy: &ImageCopy, image: &Image) -> Result<Vec<Ami>, ProviderError> {
    let mut found = ami::own(&copy.client, REMOVE, ami::of_fingerprint(&image.fingerprint)).await?;
    found.retain(|ami| ami::image(ami).is_some_and(|copied| copied.labels.built_at == image.labels.built_at));
    Ok(found)
}

/// Removes what there is of an image in a region. What the call has done so far afterwards; nothing while EC2 still holds a snapshot.
async fn take_away(
    client: &aws_sdk_ec2::Client,
    image: &Image,
    ami: Option<&Ami>,
    before: Effect,
) -> Result<Option<Effect>, ProviderError> {
    let mut effect = before;
    if let Some(ami) = ami {
        match discard(client, REMOVE, ami, before).await? {
            Some(discarded) => effect = discarded,
            None => return Ok(None),
        }
    }
    // The same content may have been built again meanwhile.
    let kept = ami::own(client, REMOVE, ami::of_fingerprint(&image.fingerprint)).await?;
    let kept: Vec<Ami> = kept.into_iter().filter(|other| other.image_id() != ami.and_then(Ami::image_id)).collect();
    sweep(client, REMOVE, &image.fingerprint, &kept, effect).await
}

/// Deletes the snapshots of a content that none of its AMIs has, such as an interrupted removal leaves behind, or an AMI that has failed before it was
/// said which snapshots it has. What the call has done so far afterwards; nothing while EC2 still holds a snapshot.
///
/// As long as an AMI does not say yet which it has, all are kept.
pub(super) async fn sweep(
    client: &aws_sdk_ec2::Client,
    operation: &'static str,
    fingerprint: &Fingerprint,
    amis: &[Ami],
    before: Effect,
) -> Result<Option<Effect>, ProviderError> {
    if amis.iter().any(|ami| snapshots(ami).is_empty()) {
        return Ok(Some(before));
    }
    let request = client.describe_snapshots().owner_ids("self").filters(ami::of_fingerprint(fingerprint));
    let pages = request.into_paginator().page_size(1000).items().send().collect::<Result<Vec<_>, _>>().await;
    let found = pages.map_err(|error| unseen(operation, before, error))?;
    let kept: BTreeSet<&str> = amis.iter().flat_map(snapshots).collect();
    let left: Vec<&str> = found.iter().filter_map(Snapshot::snapshot_id).filter(|&id| !kept.contains(id)).collect();
    delete(client, operation, left, before).await
}

fn snapshots(ami: &Ami) -> BTreeSet<&str> {
    let volumes = ami.block_device_mappings().iter().filter_map(|mapping| mapping.ebs());
    volumes.filter_map(|volume| volume.snapshot_id()).collect()
}

/// Deregisters an AMI and deletes its snapshots. What the call has done so far afterwards; nothing while EC2 still holds a snapshot.
pub(super) async fn discard(
    client: &aws_sdk_ec2::Client,
    operation: &'static str,
    ami: &Ami,
    before: Effect,
) -> Result<Option<Effect>, ProviderError> {
    let request = client.deregister_image().image_id(ami.image_id().unwrap_or_default());
    if let Err(error) = request.send().await {
        let is_gone = matches!(error.code(), Some("InvalidAMIID.NotFound" | "InvalidAMIID.Unavailable"));
        if !is_gone {
            return Err(failed(operation, before, error));
        }
    }
    delete(client, operation, snapshots(ami), Effect::Unknown).await
}

async fn delete(
    client: &aws_sdk_ec2::Client,
    operation: &'static str,
    snapshots: impl IntoIterator<Item = &str>,
    before: Effect,
) -> Result<Option<Effect>, ProviderError> {
    let (mut effect, mut is_held) = (before, false);
    for snapshot in snapshots {
        match client.delete_snapshot().snapshot_id(snapshot).send().await {
            Ok(_) => effect = Effect::Unknown,
            Err(error) => match error.code() {
                Some("InvalidSnapshot.NotFound") => {}
                // For some seconds after its AMI is gone.
                Some("InvalidSnapshot.InUse") => is_held = true,
                _ => return Err(failed(operation, effect, error)),
            },
        }
    }
    Ok((!is_held).then_some(effect))
}

fn snapshots_held(image: &Image) -> Progress<()> {
    let note = format!("the snapshots of image {} to be let go", image.id);
    Progress::Pending { retry_after: wait::FOR_THE_LIST, note }
}
