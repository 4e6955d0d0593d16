//! The contract of every provider trait on this machine: real images, processes, requests and time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod instance;
#[path = "../support/mod.rs"]
mod support;

use harness::LocalHarness;
use immutable_core::engine::{Engine, Outcome};
use immutable_core::model::FleetId;
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::OpContext;
use immutable_core::testkit::conformance::{Fault, Harness, Version};

immutable_core::conformance_suite!(LocalHarness::new());

#[tokio::test]
async fn a_release_comes_over_one_whose_image_was_changed_under_it() {
    for strategy in [Strategy::rolling(), Strategy::blue_green()] {
        let harness = LocalHarness::new();
        let (platform, service) = (harness.platform(), harness.service());
        let engine = Engine::new(platform.clone());
        for version in [Version::Old, Version::New] {
            let release = harness.release(version).await;
            let fleet = FleetId::of(&service, &release.id());
            let spec = RolloutSpec::new(service.clone(), harness.route(), release, strategy.clone()).desired(3);
            assert_eq!(engine.start(spec).await.unwrap().wait().await.unwrap(), Outcome::Promoted);
            assert_eq!(harness.request().await, Some(Ok(fleet)));
            let state = platform.fleets.observe(&OpContext::standalone("look"), &service).await.unwrap();
            assert_eq!(state.fleets.len(), 1, "{state:?}");
            assert!(harness.inject(&Fault::Drift(state.fleets[0].instances[0].id.clone())).await);
        }
    }
}
