//! The driver killed before and after every append to the journal and every changing call, and its successor too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::engine::Outcome;
use immutable_core::journal::{Entry, Journal, JournalError, Lease, MemoryJournal};
use immutable_core::model::{FleetId, FleetSpec, OwnerId, RouteId, RouteVersion, ServiceName, Weight};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::{
    Assignment, FleetsState, OpContext, Platform, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
    SwitchKind, TrafficCapabilities, TrafficState, TrafficSwitch,
};
use immutable_core::testkit::{Behaviour, SimCloud, SimOptions};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use crate::rules::Judge;
use crate::story::Story;
use crate::watch::Watch;
use crate::world::{engine, service, spec};

/// Counts the points at which a driver can be killed, and stops it at one of them.
#[derive(Debug, Clone)]
struct Fuse {
    left: Arc<AtomicU64>,
    blown: Arc<Notify>,
}

impl Fuse {
    fn new(points: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(points)), blown: Arc::default() }
    }

    async fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.blown.notify_one();
            // Its driver gets no further: it is dropped here.
            std::future::pending::<()>().await;
        }
    }

    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        self.pass().await;
        let answer = call.await;
        self.pass().await;
        answer
    }
}

#[derive(Debug, Clone)]
struct Fused {
    fuse: Fuse,
    good: Platform,
    journal: MemoryJournal,
}

#[async_trait]
impl Journal for Fused {
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError> {
        self.journal.take_over(service, owner).await
    }

    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError> {
        self.fuse.around(self.journal.append(lease, seq, at, body)).await
    }

    async fn check(&self, lease: &Lease) -> Result<(), JournalError> {
        self.journal.check(lease).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        self.journal.list(service).await
    }

    async fn release(&self, lease: Lease) -> Result<(), JournalError> {
        self.journal.release(lease).await
    }
}

#[async_trait]
impl Provisioner for Fused {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.good.fleets.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.fuse.around(self.good.fleets.ensure(cx, spec)).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.good.fleets.observe(cx, service).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        self.fuse.around(self.good.fleets.retire(cx, proof)).await
    }

    async fn remove(&self, cx: &OpContext, of: &ServiceName, fleet: &FleetId) -> Result<Progress<()>, ProviderError> {
        self.fuse.around(self.good.fleets.remove(cx, of, fleet)).await
    }
}

#[async_trait]
impl TrafficSwitch for Fused {
    fn capabilities(&self) -> TrafficCapabilities {
        self.good.traffic.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        self.good.traffic.observe(cx, route).await
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        self.fuse.around(self.good.traffic.apply(cx, route, assignment, expected)).await
    }
}

fn strategies() -> [Strategy; 4] {
    let whole = |name: &str, weight| StageSpec::new(name, weight).size(Amount::Percent(100));
    [
        Strategy::blue_green(),
        Strategy::rolling(),
        Strategy::canary([StageSpec::new("one", Weight::percent(25).unwrap()).size(Amount::Count(1))]),
        Strategy::stages("own", [whole("dark", Weight::NONE), whole("all", Weight::FULL)]),
    ]
}

/// One rollout whose first driver is killed at a point, and the second at another. `None` when a point was never reached.
async fn run(switch: SwitchKind, strategy: &Strategy, behaviour: Behaviour, kills: &[u64]) -> Option<bool> {
    let (cloud, journal) = (SimCloud::new(SimOptions { switch, ..SimOptions::default() }), MemoryJournal::new());
    let first = engine(&cloud, cloud.platform(), journal.clone(), 1);
    let installed = first.start(spec(&cloud, "1", Strategy::blue_green(), 3)).await.unwrap().wait().await;
    assert_eq!(installed.unwrap(), Outcome::Promoted);
    cloud.behave(cloud.release("2").id(), behaviour);
    cloud.keep_changes();
    let watch = Watch::new(&cloud);
    let (all, mut kills, mut drivers) = (kills, kills.iter(), 1);
    let outcome = loop {
        let kill = kills.next();
        let fuse = Fuse::new(kill.copied().unwrap_or(u64::MAX));
        let fused = Fused { fuse: fuse.clone(), good: watch.platform(), journal: journal.clone() };
        let parts = (Arc::new(fused.clone()), Arc::new(fused.clone()));
        let platform = Platform { fleets: parts.0, traffic: parts.1, ..watch.platform() };
        drivers += 1;
        let engine = engine(&cloud, platform, fused, drivers);
        // The very first append is part of the start itself.
        let started = tokio::select! {
            biased;
            () = fuse.blown.notified() => continue,
            started = engine.start(spec(&cloud, "2", strategy.clone(), 3)) => started.unwrap(),
        };
        tokio::select! {
            biased;
            () = fuse.blown.notified() => {}
            outcome = tokio::time::timeout(Duration::from_hours(24), started.wait()) => {
                if kill.is_some() {
                    return None;
                }
                let outcome = outcome.unwrap_or_else(|_| panic!("no end, killed at {all:?}: {:#?}", started.status()));
                break outcome.unwrap();
            }
        }
    };
    tokio::time::sleep(Duration::from_mins(5)).await;
    let note = || format!("{strategy:?} on {switch:?}, killed at {all:?}\n{}", cloud.log().join("\n"));
    let story = Story::read(journal.list(&service()).await.unwrap());
    let judge = Judge { story: &story, watch: &watch, switch, drifted: BTreeSet::new() };
    let mut violations = judge.broken(&cloud.take_changes());
    violations.extend(story.broken(&watch.measured()));
    assert_eq!(violations, Vec::<String>::new(), "{}", note());
    let promoted = outcome == Outcome::Promoted;
    let winner = cloud.release(if promoted { "2" } else { "1" }).id();
    let instances = cloud.instances();
    assert!(instances.len() == 3 && instances.iter().all(|i| i.release == winner && i.is_good), "{}", note());
    Some(promoted)
}

fn simulate(switch: SwitchKind, strategy: &Strategy, behaviour: Behaviour, kills: &[u64]) -> Option<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(switch, strategy, behaviour, kills))
}

#[test]
fn a_driver_killed_at_any_point_and_its_successor_too_come_to_the_same_end() {
    // Each point for the first driver; for its successor all of them, or some.
    let stride = if std::env::var_os("IMMUTABLE_FULL").is_some() { 1 } else { 23 };
    let (mut single, mut double) = (0, 0);
    for switch in [SwitchKind::Weighted { step: Weight::percent(1).unwrap() }, SwitchKind::Membership] {
        for strategy in strategies() {
            for behaviour in [Behaviour::Good, Behaviour::NeverHealthy] {
                let expected = simulate(switch, &strategy, behaviour, &[]).unwrap();
                assert_eq!(expected, behaviour == Behaviour::Good);
                println!("{switch:?}, {behaviour:?}: {single} runs with one kill, {double} with two");
                for point in 1.. {
                    let Some(promoted) = simulate(switch, &strategy, behaviour, &[point]) else { break };
                    assert_eq!(promoted, expected, "{strategy:?} on {switch:?}, killed at {point}");
                    single += 1;
                    for second in (1 + point % stride..).step_by(usize::try_from(stride).unwrap()) {
                        let Some(promoted) = simulate(switch, &strategy, behaviour, &[point, second]) else { break };
                        assert_eq!(promoted, expected, "{strategy:?} on {switch:?}, killed at {point} and {second}");
                        double += 1;
                    }
                }
            }
        }
    }
    assert!(single > 100 && double > 100);
    println!("{single} runs with one kill, {double} with two");
}
