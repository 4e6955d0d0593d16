//! What the custom role allows is enough for images, and each part of it is needed. The fake checks every request.

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_azure::RoleUse;
use immutable_azure_fake::Options;
use immutable_core::model::Fingerprint;
use immutable_core::provider::{ImageBuilder as _, Progress, ProviderError};
use serde_json::json;

use crate::support::{actions, without};
use crate::world::{Outcome, World, cx, spec};

/// An image is built past what a failed start has left and an agent that was not well, and removed, by somebody who may take these actions; or
/// the first thing that goes wrong is told.
async fn come_and_go(actions: BTreeSet<String>) -> Result<(), String> {
    let world = World::with(Options { actions: Some(actions), ..Options::default() });
    let identity = world.fake.id("Microsoft.ManagedIdentity/userAssignedIdentities/builder");
    let (images, spec) = (world.images_with(world.settings().identity(identity)), self::spec("true"));
    let recipe = Fingerprint::of("unknown").short();
    let old = json!({ "properties": { "timeCreated": "2026-01-02T03:04:05Z" } });
    world.fake.put(&format!("Microsoft.Compute/disks/im-web-{recipe}-b"), old);
    world.next_build(Outcome::Deaf);
    let mut is_placed = false;
    let image = until_done(async || {
        if let (false, Some(builder)) = (is_placed, world.builders().first()) {
            is_placed = true;
            let name = builder["name"].as_str().unwrap();
            world.fake.put(&format!("Microsoft.Network/networkInterfaces/{name}-old"), json!({}));
        }
        images.ensure(&cx(), &spec).await
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    until_done(async || images.ensure(&cx(), &spec).await).await?;
    until_done(async || images.remove(&cx(), &image).await).await
}

async fn until_done<T>(mut call: impl AsyncFnMut() -> Result<Progress<T>, ProviderError>) -> Result<T, String> {
    for _ in 0..500 {
        if let Progress::Done(done) = call().await.map_err(|error| error.to_string())? {
            return Ok(done);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never done");
}

#[tokio::test]
async fn the_role_for_images_with_an_identity_is_enough_and_each_of_it_is_needed() {
    let all = actions([RoleUse::Images, RoleUse::Identity]);
    assert_eq!(come_and_go(all.clone()).await, Ok(()));
    for missing in &all {
        let told = come_and_go(without(&all, missing)).await.expect_err(missing);
        assert!(told.contains(missing.as_str()), "{missing} is not named: {told}");
    }
}
