//! The engine rolls out on the provider, which is what it is for.

use immutable_core::engine::{Engine, Outcome};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::testkit::conformance::{Harness, Version};

use crate::harness::AcmeHarness;

#[tokio::test(start_paused = true)]
async fn a_release_replaces_another_one() {
    let harness = AcmeHarness::new();
    let engine = Engine::builder(harness.platform()).clock(harness.clock()).build();
    for version in [Version::Old, Version::New] {
        let release = harness.release(version).await;
        let fleet = immutable_core::model::FleetId::of(&harness.service(), &release.id());
        let spec = RolloutSpec::new(harness.service(), harness.route(), release, Strategy::rolling()).desired(12);
        assert_eq!(engine.start(spec).await.unwrap().wait().await.unwrap(), Outcome::Promoted);
        assert_eq!(harness.request().await, Some(Ok(fleet)));
    }
}
