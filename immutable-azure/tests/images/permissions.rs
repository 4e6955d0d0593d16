//! The actions that images need: these are enough, and each of them is needed. The fake checks every request.

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_azure::{RoleUse, custom_role};
use immutable_azure_fake::Options;
use immutable_core::model::Fingerprint;
use immutable_core::provider::{ImageBuilder as _, Progress, ProviderError};
use serde_json::{Value, json};

use crate::world::{Outcome, World, cx, spec};

/// What the fake does not ask for, and Azure may: it makes a disk of its own accord, and shows how a machine is beside the machine.
const NOT_ASKED_FOR: [&str; 2] =
    ["Microsoft.Compute/disks/write", "Microsoft.Compute/virtualMachines/instanceView/read"];

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
async fn the_actions_are_enough_and_each_is_needed() {
    let role = custom_role("immutable", ["/subscriptions/s"], [RoleUse::Images, RoleUse::Identity]);
    let role: Value = serde_json::from_str(&role).unwrap();
    let actions = role["Actions"].as_array().unwrap().iter();
    let all: BTreeSet<String> = actions.map(|action| action.as_str().unwrap().to_owned()).collect();
    assert_eq!(come_and_go(all.clone()).await, Ok(()));
    let mut silent = Vec::new();
    for missing in &all {
        let mut rest = all.clone();
        rest.remove(missing);
        match come_and_go(rest).await {
            Ok(()) => silent.push(missing.as_str()),
            Err(told) => assert!(told.contains(missing.as_str()), "{missing} is not named: {told}"),
        }
    }
    assert_eq!(silent, NOT_ASKED_FOR);
}
