//! Removing an AMI and its snapshots.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Image as Ami, Snapshot};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use immutable_core::model::Image;
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};

use super::{REMOVE, ami, spread, uses, wait};
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
    if let Some(ami) = &named
        && let Some(user) = user(config, image, ami).await?
    {
        return refuse(ErrorKind::Conflict, format!("image {} is in use: {user}", image.id));
    }
    let mut effect = Effect::None;
    // The copies first: they are found by the name of the image.
    for copy in &config.images.copies {
        let copied = match &named {
            Some(ami) => spread::find(copy, REMOVE, ami).await?,
            None => None,
        };
        let Some(removed) = take_away(&copy.client, image, copied.as_ref(), effect).await? else {
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
async fn user(config: &Config, image: &Image, ami: &Ami) -> Result<Option<String>, ProviderError> {
    let main = &config.clients.ec2;
    if let Some(user) = uses::find(main, image.id.as_str()).await? {
        return Ok(Some(user));
    }
    if let Some(group) = uses::group(config, image.id.as_str()).await? {
        return Ok(Some(group));
    }
    let built = ami::own(main, REMOVE, ami::filter("tag-key", tags::PARENT)).await?;
    let child = built.iter().filter_map(ami::image).find(|other| other.parents.contains(&image.fingerprint));
    if let Some(child) = child {
        return Ok(Some(format!("image {} is built on it: remove that one first", child.id)));
    }
    for copy in &config.images.copies {
        let copied = spread::find(copy, REMOVE, ami).await?;
        if let Some(id) = copied.as_ref().and_then(Ami::image_id)
            && let Some(user) = uses::find(&copy.client, id).await?
        {
            return Ok(Some(format!("of its copy {id}, {user}")));
        }
    }
    Ok(None)
}

/// Removes what there is of an image in a region. What the call has done so far afterwards; nothing while EC2 still holds a snapshot.
async fn take_away(
    client: &aws_sdk_ec2::Client,
    image: &Image,
    ami: Option<&Ami>,
    before: Effect,
) -> Result<Option<Effect>, ProviderError> {
    if let Some(ami) = ami {
        return discard(client, REMOVE, ami, before).await;
    }
    // What an interrupted removal has left, unless the same content has been built again meanwhile.
    if !ami::own(client, REMOVE, ami::of_fingerprint(&image.fingerprint)).await?.is_empty() {
        return Ok(Some(before));
    }
    let request = client.describe_snapshots().owner_ids("self").filters(ami::of_fingerprint(&image.fingerprint));
    let pages = request.into_paginator().page_size(1000).items().send().collect::<Result<Vec<_>, _>>().await;
    let left = pages.map_err(|error| unseen(REMOVE, before, error))?;
    delete(client, REMOVE, left.iter().filter_map(Snapshot::snapshot_id), before).await
}

/// Deregisters an AMI and deletes its snapshots. What the call has done so far afterwards; nothing while EC2 still holds a snapshot.
pub(super) async fn discard(
    client: &aws_sdk_ec2::Client,
    operation: &'static str,
    ami: &Ami,
    before: Effect,
) -> Result<Option<Effect>, ProviderError> {
    let volumes = ami.block_device_mappings().iter().filter_map(|mapping| mapping.ebs());
    let snapshots: BTreeSet<&str> = volumes.filter_map(|volume| volume.snapshot_id()).collect();
    let request = client.deregister_image().image_id(ami.image_id().unwrap_or_default());
    if let Err(error) = request.send().await {
        let is_gone = matches!(error.code(), Some("InvalidAMIID.NotFound" | "InvalidAMIID.Unavailable"));
        if !is_gone {
            return Err(failed(operation, before, error));
        }
    }
    delete(client, operation, snapshots, Effect::Unknown).await
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
