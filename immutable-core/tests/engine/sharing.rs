//! Two engines over one journal that is shared.

use std::sync::Arc;
use std::time::Duration;

use immutable_core::engine::{DriverError, Engine, Outcome, StartError};
use immutable_core::journal::store::{DirectoryStore, MemoryStore, RecordStore};
use immutable_core::journal::{JournalError, StoreJournal};
use immutable_core::plan::Strategy;
use tokio::time::Instant;

use super::harness::{Stand, minutes, outcome, service, switches, until_waiting};

const LEASE: Duration = Duration::from_secs(30);

fn engine(stand: &Stand, store: &Arc<dyn RecordStore>, owner: &str) -> Engine {
    Engine::builder(stand.cloud.platform())
        .journal(StoreJournal::new(Arc::clone(store)).with_lease_time(LEASE))
        .clock(stand.cloud.clock())
        .owner(owner.parse().unwrap())
        .build()
}

#[tokio::test(start_paused = true)]
async fn one_of_two_drives_and_the_other_takes_over_within_the_lease_time_when_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn RecordStore>; 2] =
        [Arc::new(MemoryStore::new()), Arc::new(DirectoryStore::open(directory.path()).unwrap())];
    for store in stores {
        let stand = Stand::on(switches()[0]);
        let (first, second) = (engine(&stand, &store, "host-1"), engine(&stand, &store, "host-2"));
        let installed = first.start(stand.spec("1", Strategy::blue_green()).desired(3)).await.unwrap();
        assert_eq!(outcome(&installed).await, Outcome::Promoted);

        let rollout = first.start(stand.spec("2", Strategy::rolling().bake(minutes(60)))).await.unwrap();
        until_waiting(&rollout, "hold").await;
        // Nothing happens in a bake, for much longer than a lease lasts, and yet the one who drives is known to live.
        for _ in 0..10 {
            let error = second.recover(&service()).await.unwrap_err();
            let held = matches!(&error, StartError::Journal(JournalError::Held { owner: Some(owner), .. }) if owner.as_str() == "host-1");
            assert!(held, "{error}");
        }
        drop(first);
        assert!(matches!(rollout.wait().await, Err(DriverError::Dropped)));

        let began = Instant::now();
        let rollout = second.recover(&service()).await.unwrap().expect("it goes on");
        assert!(began.elapsed() <= LEASE, "{:?}", began.elapsed());
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_only("2", 3, "the second").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_lease_was_taken_from_it_stops_and_moves_nothing_more() {
    let store: Arc<dyn RecordStore> = Arc::new(MemoryStore::new());
    let stand = Stand::on(switches()[0]);
    let (first, second) = (engine(&stand, &store, "host-1"), engine(&stand, &store, "host-2"));
    let installed = first.start(stand.spec("1", Strategy::blue_green()).desired(3)).await.unwrap();
    assert_eq!(outcome(&installed).await, Outcome::Promoted);
    let stale = first.start(stand.spec("2", Strategy::rolling().bake(minutes(60)))).await.unwrap();
    until_waiting(&stale, "hold").await;

    // By force: somebody deletes the lease of an owner that lives.
    let lease = immutable_core::journal::store::RecordKey::new(service().as_str(), "lease").unwrap();
    store.delete(&lease).await.unwrap();
    let rollout = second.recover(&service()).await.unwrap().expect("it goes on");
    let stopped = stale.wait().await.unwrap_err().to_string();
    assert!(stopped.contains("was taken over") || stopped.contains("cannot be used any more"), "{stopped}");
    let lines = stand.cloud.log().len();
    assert!(stale.abort("too late").await.is_err());
    assert_eq!(stand.cloud.log().len(), lines);
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    stand.assert_only("2", 3, "the second").await;
}
