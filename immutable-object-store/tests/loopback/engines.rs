//! Two engines over one journal in S3, each with a client of its own, on one simulated cloud.

use std::sync::Arc;
use std::time::{Duration, Instant};

use immutable_core::engine::{DriverError, Engine, Outcome, Rollout, StartError};
use immutable_core::journal::store::{RecordKey, RecordStore as _};
use immutable_core::journal::{JournalError, StoreJournal};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::testkit::{SimCloud, SimOptions};
use tokio::time::timeout;

use super::s3::S3;

/// Short, because here real time passes: whoever takes over waits for a whole lease time.
const LEASE: Duration = Duration::from_secs(4);
/// Far more than anything here takes.
const LONG: Duration = Duration::from_mins(2);

fn engine(cloud: &SimCloud, s3: &S3, owner: &str) -> Engine {
    let mut platform = cloud.platform();
    // The lease is renewed when the driver looks: much more often than it runs out.
    platform.pace.observe = LEASE / 10;
    (platform.pace.ambiguity_horizon, platform.pace.list_lag) = (LEASE / 2, Duration::ZERO);
    Engine::builder(platform)
        .journal(StoreJournal::new(Arc::new(s3.records())).with_lease_time(LEASE))
        .clock(cloud.clock())
        .owner(owner.parse().unwrap())
        .build()
}

fn spec(cloud: &SimCloud, version: &str, strategy: Strategy) -> RolloutSpec {
    RolloutSpec::new("web".parse().unwrap(), "route".parse().unwrap(), cloud.release(version), strategy)
}

async fn outcome(rollout: &Rollout) -> Outcome {
    timeout(LONG, rollout.wait()).await.expect("it goes on and on").unwrap()
}

/// One drives, and the other is refused; the one that drives is gone, and the other ends what it began.
#[tokio::test]
async fn one_of_two_engines_drives_and_the_other_takes_over_within_the_lease_time_when_it_is_gone() {
    let short = Duration::from_millis(20);
    let cloud = SimCloud::new(SimOptions {
        boot: short,
        ready_after: short,
        register_after: short,
        drain_for: short,
        end_after: short,
        call_latency: Duration::from_millis(1),
        ..SimOptions::default()
    });
    let s3 = S3::start().await;
    let (first, second) = (engine(&cloud, &s3, "host-1"), engine(&cloud, &s3, "host-2"));
    let installed = first.start(spec(&cloud, "1", Strategy::blue_green()).desired(2)).await.unwrap();
    assert_eq!(outcome(&installed).await, Outcome::Promoted);

    let bake = 4 * LEASE;
    let rollout = first.start(spec(&cloud, "2", Strategy::rolling().bake(bake))).await.unwrap();
    let service = "web".parse().unwrap();
    let error = second.recover(&service).await.unwrap_err();
    let held = matches!(&error, StartError::Journal(JournalError::Held { owner: Some(owner), .. }) if owner.as_str() == "host-1");
    assert!(held, "{error}");
    drop(first);
    assert!(matches!(rollout.wait().await, Err(DriverError::Dropped)));

    let began = Instant::now();
    let rollout = second.recover(&service).await.unwrap().expect("it goes on");
    assert!(began.elapsed() < 2 * LEASE, "{:?}", began.elapsed());
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    let release = cloud.release("2").id();
    let instances = cloud.instances();
    assert!(instances.iter().filter(|instance| instance.release == release).count() == 2, "{instances:#?}");
}

/// The lease is taken away from an engine that lives: the log fences it, and it moves nothing more.
#[tokio::test]
async fn an_engine_whose_lease_was_taken_from_it_is_fenced_by_the_log() {
    let cloud = SimCloud::new(SimOptions { boot: LONG, ..SimOptions::default() });
    let s3 = S3::start().await;
    let (first, second) = (engine(&cloud, &s3, "host-1"), engine(&cloud, &s3, "host-2"));
    let stale = first.start(spec(&cloud, "1", Strategy::blue_green()).desired(2)).await.unwrap();
    let lease = RecordKey::new("web", "lease").unwrap();
    s3.records().delete(&lease).await.unwrap();
    let _rollout = second.recover(&"web".parse().unwrap()).await.unwrap().expect("it goes on");
    let stopped = timeout(LONG, stale.wait()).await.expect("it goes on and on").unwrap_err().to_string();
    assert!(stopped.contains("was taken over") || stopped.contains("cannot be used any more"), "{stopped}");
    assert!(stale.abort("too late").await.is_err());
}
