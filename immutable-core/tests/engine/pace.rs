//! How often, and how many at once: the budget of calls, observations that lag, answers that take their time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::engine::{ApiBudget, Engine, Outcome};
use immutable_core::model::{FleetId, FleetSpec, Sample, ServiceName};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{
    FleetsState, HealthProbe, OpContext, Platform, ProbeTarget, Progress, ProviderError, Provisioner,
    ProvisionerCapabilities,
};
use immutable_core::testkit::{Operation, SimCloud};
use tokio::time::Instant;

use super::harness::{Stand, engine, minutes, outcome, service, switches, until_waiting};

/// A provisioner whose observations lag, that takes its time, and that notes when it is called.
#[derive(Debug)]
struct Odd {
    cloud: SimCloud,
    /// Observations are as old as this.
    lag: Duration,
    seen: Mutex<Vec<(Instant, FleetsState)>>,
    ensured: Mutex<Vec<(Instant, String)>>,
    /// So many times `ensure` says that it is not done yet.
    pending: AtomicUsize,
}

impl Odd {
    fn new(cloud: &SimCloud, lag: Duration, pending: usize) -> Arc<Self> {
        let (seen, ensured, pending) = (Mutex::default(), Mutex::default(), AtomicUsize::new(pending));
        Arc::new(Self { cloud: cloud.clone(), lag, seen, ensured, pending })
    }
}

#[async_trait]
impl Provisioner for Odd {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities::default()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.ensured.lock().unwrap().push((Instant::now(), cx.key.as_str().to_owned()));
        if self.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Ok(Progress::Pending { retry_after: Duration::from_secs(20), note: "thinking".into() });
        }
        self.cloud.platform().fleets.ensure(cx, spec).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        let state = self.cloud.platform().fleets.observe(cx, service).await?;
        let mut seen = self.seen.lock().unwrap();
        seen.push((Instant::now(), state));
        let (first, now) = (seen[0].1.clone(), Instant::now());
        let old = seen.iter().rev().find(|(at, _)| now.duration_since(*at) >= self.lag);
        // It claims to be fresh: that it is not is the trouble with it.
        Ok(FleetsState { as_of: self.cloud.now(), ..old.map_or(first, |(_, state)| state.clone()) })
    }

    async fn retire(
        &self,
        cx: &OpContext,
        proof: &immutable_core::decide::RetireProof,
    ) -> Result<Progress<()>, ProviderError> {
        self.cloud.platform().fleets.retire(cx, proof).await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        self.cloud.platform().fleets.remove(cx, service, fleet).await
    }
}

fn odd_engine(stand: &Stand, odd: &Arc<Odd>) -> Engine {
    let platform = Platform { fleets: Arc::clone(odd) as Arc<dyn Provisioner>, ..stand.cloud.platform() };
    Engine::builder(platform).journal(stand.journal.clone()).clock(stand.cloud.clock()).build()
}

#[tokio::test(start_paused = true)]
async fn an_observation_that_lags_is_waited_for_at_the_platforms_pace() {
    let stand = Stand::new();
    let odd = Odd::new(&stand.cloud, Duration::from_secs(30), 0);
    let engine = odd_engine(&stand, &odd);
    let rollout = engine.start(stand.spec("1", Strategy::blue_green()).desired(3)).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    assert_eq!(stand.cloud.instances().len(), 3);
    let ensured = std::mem::take(&mut *odd.ensured.lock().unwrap());
    let pauses: Vec<_> = ensured.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(5)), "{pauses:?}");
    assert!((2..=8).contains(&ensured.len()), "{ensured:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_pending_is_asked_for_again_when_it_said_and_is_the_same_intent() {
    let stand = Stand::new();
    let odd = Odd::new(&stand.cloud, Duration::ZERO, 3);
    let engine = odd_engine(&stand, &odd);
    let rollout = engine.start(stand.spec("1", Strategy::blue_green()).desired(3)).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    let ensured = std::mem::take(&mut *odd.ensured.lock().unwrap());
    assert_eq!(ensured.len(), 4);
    for pair in ensured.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_secs(20));
        assert_eq!(pair[0].1, pair[1].1);
    }
    // Written once each: to start, to register, to open.
    assert_eq!(stand.journal_text().await.matches("\"intended\"").count(), 3);
}

/// A probe that panics once, and that hangs for as long as it is told to.
#[derive(Debug)]
struct Moody {
    cloud: SimCloud,
    panics: AtomicBool,
    hangs: AtomicBool,
}

#[async_trait]
impl HealthProbe for Moody {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "in a bad mood");
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.cloud.platform().health.sample(cx, targets).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_or_hangs_is_told_and_asked_again() {
    let stand = Stand::new();
    let (panics, hangs) = (AtomicBool::new(false), AtomicBool::new(false));
    let probe = Arc::new(Moody { cloud: stand.cloud.clone(), panics, hangs });
    let platform = Platform { health: Arc::clone(&probe) as Arc<dyn HealthProbe>, ..stand.cloud.platform() };
    let engine = Engine::builder(platform).journal(stand.journal.clone()).clock(stand.cloud.clock()).build();
    let spec = stand.spec("1", Strategy::blue_green().bake(minutes(30))).desired(2);
    assert_eq!(outcome(&engine.start(spec).await.unwrap()).await, Outcome::Promoted);
    let rollout = engine.start(stand.spec("2", Strategy::blue_green().bake(minutes(30)))).await.unwrap();
    until_waiting(&rollout, "hold").await;
    probe.panics.store(true, Ordering::Relaxed);
    until_waiting(&rollout, "the probe panicked").await;
    probe.hangs.store(true, Ordering::Relaxed);
    until_waiting(&rollout, "no answer within 30s").await;
    let log = stand.cloud.log();
    tokio::time::sleep(minutes(2)).await;
    assert_eq!(stand.cloud.log(), log);
    probe.hangs.store(false, Ordering::Relaxed);
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    stand.assert_only("2", 2, "in a good mood").await;
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_calls_is_shared_by_all_rollouts() {
    let stand = Stand::new();
    let budget = ApiBudget { concurrency: 1, calls_per_second: Some(2) };
    let engine = engine(&stand.cloud, &stand.journal, budget);
    let shop = |version: &str| {
        let release = stand.cloud.release(version);
        RolloutSpec::new("shop".parse().unwrap(), "shop".parse().unwrap(), release, Strategy::blue_green()).desired(2)
    };
    let web = engine.start(stand.spec("1", Strategy::blue_green()).desired(2)).await.unwrap();
    let other = engine.start(shop("2")).await.unwrap();
    let calls = || stand.cloud.calls().values().sum::<u64>();
    let mut most = 0;
    while web.status().outcome.is_none() || other.status().outcome.is_none() {
        let before = calls();
        tokio::time::sleep(Duration::from_secs(5)).await;
        most = most.max(calls() - before);
    }
    assert_eq!((outcome(&web).await, outcome(&other).await), (Outcome::Promoted, Outcome::Promoted));
    // Twice five, and the one at the edge.
    assert!((5..=11).contains(&most), "{most} calls in five seconds");
    let kinds: BTreeMap<Operation, u64> = stand.cloud.calls();
    assert!(kinds.len() >= 5, "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_held_does_not_keep_another_from_going_on() {
    let stand = Stand::serving(switches()[0], 2).await;
    let held = stand.start("2", Strategy::blue_green().bake(Duration::from_hours(24))).await;
    until_waiting(&held, "hold").await;
    let release = stand.cloud.release("3");
    let spec = RolloutSpec::new("shop".parse().unwrap(), "shop".parse().unwrap(), release, Strategy::rolling());
    assert_eq!(stand.run(spec.desired(2)).await, Outcome::Promoted);
    assert_eq!(held.status().outcome, None);
    assert_eq!(held.status().service, service());
}
