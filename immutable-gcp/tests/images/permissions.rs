//! What `role_permissions` names is enough for images, and what of it images need is needed: the fake checks every request.

use std::collections::BTreeSet;

use immutable_core::provider::{ImageBuilder as _, Progress};
use immutable_gcp::{ImageSettings, ImageUse, role_permissions};
use immutable_gcp_fake::Options;

use crate::world::{World, cx};

/// What images get on without: what is for fleets, one of two ways to hear from a builder, and the end of a disk that a failed start has left.
const NOT_FOR_IMAGES: [&str; 16] = [
    "compute.backendServices.list",
    "compute.disks.delete",
    "compute.instanceGroupManagers.create",
    "compute.instanceGroupManagers.delete",
    "compute.instanceGroupManagers.get",
    "compute.instanceGroupManagers.list",
    "compute.instanceGroupManagers.update",
    "compute.instanceGroups.delete",
    "compute.instanceTemplates.create",
    "compute.instanceTemplates.delete",
    "compute.instanceTemplates.get",
    "compute.instanceTemplates.useReadOnly",
    "compute.instances.get",
    "compute.instances.getGuestAttributes",
    "compute.instances.getSerialPortOutput",
    "compute.networkEndpointGroups.list",
];

/// An image is built, taken out of use and removed by somebody with these permissions, or the first thing that goes wrong is told.
async fn come_and_go(permissions: BTreeSet<String>) -> Result<(), String> {
    let world = World::with(Options { permissions: Some(permissions), ..Options::default() }).await;
    let (images, spec) = (world.images(), world.spec("true"));
    let image = until_done(async || images.ensure(&cx(), &spec).await).await?;
    until_done(async || images.deprecate(&cx(), &image, ImageUse::Obsolete).await).await?;
    until_done(async || images.remove(&cx(), &image).await).await
}

async fn until_done<T>(
    mut call: impl AsyncFnMut() -> Result<Progress<T>, immutable_core::provider::ProviderError>,
) -> Result<T, String> {
    for _ in 0..500 {
        if let Progress::Done(done) = call().await.map_err(|error| error.to_string())? {
            return Ok(done);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never done");
}

#[tokio::test]
async fn the_permissions_are_enough_and_each_is_needed() {
    let world = World::new().await;
    let all = role_permissions(&world.config(ImageSettings::default())).into_iter().map(str::to_owned);
    let all: BTreeSet<String> = all.collect();
    assert_eq!(come_and_go(all.clone()).await, Ok(()));
    let mut silent = Vec::new();
    for missing in &all {
        let mut rest = all.clone();
        rest.remove(missing);
        match come_and_go(rest).await {
            Ok(()) => silent.push(missing.as_str()),
            Err(error) => assert!(error.contains(missing), "{missing} is not named: {error}"),
        }
    }
    assert_eq!(silent, NOT_FOR_IMAGES);

    let mut deaf = all.clone();
    deaf.retain(|permission| !permission.contains("getGuestAttributes") && !permission.contains("getSerialPortOutput"));
    assert!(come_and_go(deaf).await.unwrap_err().contains("compute.instances.getGuestAttributes"));
}
