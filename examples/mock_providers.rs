//! Testing one's own deploy step without a cloud: with mocks, where it matters which calls are made, and with a simulated
//! cloud, where it matters how a whole rollout ends. In a project these are `#[tokio::test]` functions.
//!
//! `cargo run --example mock_providers`

#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::sync::Arc;
use std::time::Duration;

use immutable_core::analysis::Check;
use immutable_core::engine::{Engine, Outcome, StartError};
use immutable_core::model::{Release, RouteVersion, Split};
use immutable_core::plan::{PlanError, RolloutSpec, StageSpec, Strategy};
use immutable_core::provider::{
    ErrorKind, FleetsState, MockProvisioner, MockTrafficSwitch, Platform, ProviderError, ProvisionerCapabilities,
    SwitchKind, TrafficCapabilities, TrafficState, VersionCheck,
};
use immutable_core::testkit::{Behaviour, SimCloud, SimOptions};
use jiff::Timestamp;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is under test: how a team rolls out its service, and what it tells its people about the end.
async fn deploy(engine: &Engine, release: Release, strategy: Strategy) -> Result<String> {
    let version = release.image().labels.version.clone();
    let spec = RolloutSpec::new("web".parse()?, "front-door".parse()?, release, strategy).desired(3);
    Ok(match engine.start(spec).await?.wait().await? {
        Outcome::Promoted => format!("{version} serves"),
        Outcome::RolledBack { reason, .. } => format!("{version} was rolled back: {reason}"),
        other => format!("{version} needs a person: {other}"),
    })
}

fn careful() -> Result<Strategy> {
    let errors = Check::at_most("errors".parse()?, 0.01);
    Ok(Strategy::canary([StageSpec::percent(10)?.hold(Duration::from_mins(10)).check(errors)]))
}

/// An empty cloud in which nothing may be called but what a test expects.
fn empty(max_fleet_size: u32) -> (MockProvisioner, MockTrafficSwitch) {
    let mut fleets = MockProvisioner::new();
    let capabilities = ProvisionerCapabilities { max_fleet_size: Some(max_fleet_size) };
    fleets.expect_capabilities().return_const(capabilities);
    fleets.expect_observe().returning(|_, _| Ok(FleetsState { as_of: Timestamp::now(), fleets: Vec::new() }));
    let mut traffic = MockTrafficSwitch::new();
    let capabilities = TrafficCapabilities {
        kind: SwitchKind::Membership,
        max_fleets: None,
        version_check: VersionCheck::WithTheChange,
    };
    traffic.expect_capabilities().return_const(capabilities);
    traffic.expect_observe().returning(|_, _| {
        let version = RouteVersion::new("1").expect("a digit is a version");
        Ok(TrafficState { as_of: Timestamp::now(), version, split: Split::closed(), members: Vec::new() })
    });
    (fleets, traffic)
}

/// The parts that a test is not about are those of a simulated cloud.
fn platform(fleets: MockProvisioner, traffic: MockTrafficSwitch) -> Platform {
    Platform { fleets: Arc::new(fleets), traffic: Arc::new(traffic), ..SimCloud::default().platform() }
}

/// A plan that cannot work is refused before anything is touched.
async fn a_refused_plan_touches_nothing() -> Result<()> {
    let (mut fleets, mut traffic) = empty(2);
    fleets.expect_ensure().never();
    fleets.expect_retire().never();
    fleets.expect_remove().never();
    traffic.expect_apply().never();
    let engine = Engine::new(platform(fleets, traffic));

    let refused = deploy(&engine, SimCloud::default().release("1.0"), Strategy::rolling()).await;
    let error = refused.expect_err("three instances are more than two").downcast::<StartError>()?;
    assert!(matches!(*error, StartError::Plan(PlanError::TooLarge { desired: 3, limit: 2 })), "{error}");
    println!("  refused: {error}");
    Ok(())
}

/// The whole fleet is asked for in one call; when that is refused, no traffic is moved.
async fn a_denied_launch_moves_no_traffic() -> Result<()> {
    let (mut fleets, mut traffic) = empty(100);
    fleets.expect_ensure().withf(|_, spec| spec.size == 3 && spec.service.as_str() == "web").times(1).returning(
        |_, _| {
            let message = "the role may not launch instances: allow it";
            Err(ProviderError::new(ErrorKind::PermissionDenied, "ensure fleet", message).without_effect())
        },
    );
    traffic.expect_apply().never();
    let engine = Engine::new(platform(fleets, traffic));

    let told = deploy(&engine, SimCloud::default().release("1.0"), Strategy::rolling()).await?;
    assert!(told.contains("allow it"), "{told}");
    println!("  {told}");
    Ok(())
}

/// Two rollouts of minutes take milliseconds: tokio's time is paused, and goes at once to what is waited for.
async fn a_bad_release_is_rolled_back_with_full_capacity() -> Result<()> {
    let cloud = SimCloud::new(SimOptions { boot: Duration::from_mins(1), ..SimOptions::default() });
    let engine = Engine::builder(cloud.platform()).clock(cloud.clock()).build();
    let (good, bad) = (cloud.release("1.0"), cloud.release("2.0"));
    cloud.behave(bad.id(), Behaviour::Errors { per_mille: 50 });
    println!("  {}", deploy(&engine, good, careful()?).await?);

    cloud.watch();
    let told = deploy(&engine, bad, careful()?).await?;
    assert!(told.contains("rolled back: check failed"), "{told}");
    assert_eq!(cloud.least_serving(), Some(3), "no instance of the good release was missing at any moment");
    assert_eq!(cloud.instances().len(), 3, "nothing of the bad release is left");
    println!("  {told}");
    println!("  it is {} in the cloud", cloud.now());
    Ok(())
}

fn main() -> Result<()> {
    let test = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    println!("a refused plan touches nothing");
    test()?.block_on(a_refused_plan_touches_nothing())?;
    println!("a denied launch moves no traffic");
    test()?.block_on(a_denied_launch_moves_no_traffic())?;
    println!("a bad release is rolled back with full capacity");
    test()?.block_on(a_bad_release_is_rolled_back_with_full_capacity())?;
    println!("\nAll as expected.");
    Ok(())
}
