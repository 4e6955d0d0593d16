//! Requests that outlive the call that sent them: they land minutes later, on top of whatever was done since.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::engine::{Engine, Entropy, Event, Outcome, Rollout};
use immutable_core::model::{FleetId, FleetSpec, RouteId, RouteVersion, ServiceName};
use immutable_core::plan::Strategy;
use immutable_core::provider::{
    Assignment, ErrorKind, FleetsState, OpContext, Pace, Platform, Progress, ProviderError, Provisioner,
    ProvisionerCapabilities, TrafficCapabilities, TrafficState, TrafficSwitch,
};
use immutable_core::testkit::{Operation, SimCloud};
use tokio::time::Instant;

use super::harness::{Stand, events, minutes, outcome, service, strategies, switches, until, until_waiting};

const LATE: Duration = Duration::from_secs(280);

/// A cloud of which one request is slow: its caller gives up, and it lands later.
#[derive(Debug)]
struct Slow {
    cloud: SimCloud,
    /// Which operation is slow, the how-manieth time from now.
    next: Mutex<Option<(Operation, u32)>>,
    calls: Mutex<HashMap<Operation, u32>>,
    /// When the last request of each kind reached the cloud.
    reached: Mutex<HashMap<Operation, Instant>>,
}

impl Slow {
    fn new(cloud: &SimCloud) -> Arc<Self> {
        let (next, calls, reached) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { cloud: cloud.clone(), next, calls, reached })
    }

    fn is_slow(&self, operation: Operation) -> bool {
        self.reached.lock().unwrap().insert(operation, Instant::now());
        let mut calls = self.calls.lock().unwrap();
        let call = calls.entry(operation).or_default();
        *call += 1;
        let mut next = self.next.lock().unwrap();
        let slow = *next == Some((operation, *call));
        if slow {
            *next = None;
        }
        slow
    }

    fn was_slow(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }

    /// Lands the request after its time, whoever still waits for it; the caller hears nothing in time.
    fn send<F>(operation: Operation, request: F) -> ProviderError
    where
        F: Future<Output = Result<Progress<()>, ProviderError>> + Send + 'static,
    {
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            request.await
        });
        ProviderError::new(ErrorKind::Timeout, operation.as_str(), "no answer")
    }
}

#[async_trait]
impl Provisioner for Slow {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.cloud.platform().fleets.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let (fleets, operation) = (self.cloud.platform().fleets, Operation::EnsureFleet);
        if !self.is_slow(operation) {
            return fleets.ensure(cx, spec).await;
        }
        let (cx, spec) = (cx.clone(), spec.clone());
        Err(Self::send(operation, async move { fleets.ensure(&cx, &spec).await }))
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.cloud.platform().fleets.observe(cx, service).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let (fleets, operation) = (self.cloud.platform().fleets, Operation::Retire);
        if !self.is_slow(operation) {
            return fleets.retire(cx, proof).await;
        }
        let (cx, proof) = (cx.clone(), proof.clone());
        Err(Self::send(operation, async move { fleets.retire(&cx, &proof).await }))
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let (fleets, operation) = (self.cloud.platform().fleets, Operation::RemoveFleet);
        if !self.is_slow(operation) {
            return fleets.remove(cx, service, fleet).await;
        }
        let (cx, service, fleet) = (cx.clone(), service.clone(), fleet.clone());
        Err(Self::send(operation, async move { fleets.remove(&cx, &service, &fleet).await }))
    }
}

#[async_trait]
impl TrafficSwitch for Slow {
    fn capabilities(&self) -> TrafficCapabilities {
        self.cloud.platform().traffic.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        self.cloud.platform().traffic.observe(cx, route).await
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let (traffic, operation) = (self.cloud.platform().traffic, Operation::ApplyRoute);
        if !self.is_slow(operation) {
            return traffic.apply(cx, route, assignment, expected).await;
        }
        let (cx, route, assignment, expected) = (cx.clone(), route.clone(), assignment.clone(), expected.clone());
        Err(Self::send(operation, async move { traffic.apply(&cx, &route, &assignment, &expected).await }))
    }
}

/// What happens once the slow request was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Nothing,
    Abort,
    /// The driver is gone at once, and another goes on and goes back.
    TakeOverAndAbort,
}

/// Numbers far apart from each other, and the same in every run: what is waited for between two tries is drawn from them.
#[derive(Debug)]
struct Scattered(AtomicU64);

impl Entropy for Scattered {
    fn next_u64(&self) -> u64 {
        // The golden ratio of the numbers there are.
        self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}

/// The pace of the platform, and with what the drawn numbers begin: which harm is done hangs on the pauses between two tries.
#[derive(Debug, Clone, Copy)]
struct Setting {
    pace: Pace,
    dice: u64,
}

fn engine(stand: &Stand, slow: &Arc<Slow>, Setting { pace, dice }: Setting) -> Engine {
    let platform = Platform {
        fleets: Arc::clone(slow) as Arc<dyn Provisioner>,
        traffic: Arc::clone(slow) as Arc<dyn TrafficSwitch>,
        pace,
        ..stand.cloud.platform()
    };
    Engine::builder(platform)
        .journal(stand.journal.clone())
        .clock(stand.cloud.clock())
        .entropy(Scattered(AtomicU64::new(dice)))
        .build()
}

/// One rollout to release 2 of which one request is slow. `None`: there is no such request. What went wrong, if anything did.
async fn run(
    strategy: &Strategy,
    (operation, nth): (Operation, u32),
    then: Then,
    setting: Setting,
) -> Option<Vec<String>> {
    let stand = Stand::serving(switches()[0], 2).await;
    let slow = Slow::new(&stand.cloud);
    *slow.next.lock().unwrap() = Some((operation, nth));
    let first = engine(&stand, &slow, setting);
    let mut rollout = first.start(stand.spec("2", strategy.clone())).await.unwrap();
    while !slow.was_slow() {
        if rollout.status().outcome.is_some() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let second = engine(&stand, &slow, setting);
    if then == Then::TakeOverAndAbort {
        drop(first);
        rollout = second.recover(&service()).await.unwrap()?;
    }
    if then != Then::Nothing {
        rollout.abort("enough").await.unwrap();
    }
    let end = outcome(&rollout).await;
    Some(harm(&stand, &rollout, end, then).await)
}

/// What is not as it was promised. Everything that was sent has landed before it is looked for.
async fn harm(stand: &Stand, rollout: &Rollout, end: Outcome, then: Then) -> Vec<String> {
    let kept = match (&end, then) {
        (Outcome::Promoted, _) => "2",
        (Outcome::RolledBack { .. }, Then::Abort | Then::TakeOverAndAbort) => "1",
        _ => return vec![format!("it ended {end}")],
    };
    tokio::time::sleep(minutes(10)).await;
    let (instances, budget) = (stand.cloud.instances(), rollout.plan().budget);
    let mut harm = Vec::new();
    if stand.ids(kept).len() != 2 || instances.len() != 2 {
        harm.push(format!("{} instances of release {kept} and {} in all", stand.ids(kept).len(), instances.len()));
    }
    if stand.cloud.members().len() != 2 {
        harm.push(format!("{} members", stand.cloud.members().len()));
    }
    if stand.fleets().await.len() != 1 {
        harm.push(format!("fleets {:?}", stand.fleets().await));
    }
    if stand.cloud.peak_instances() > budget.ceiling() {
        harm.push(format!("{} existed", stand.cloud.peak_instances()));
    }
    if stand.cloud.least_serving().unwrap() < budget.required() {
        harm.push(format!("{} served", stand.cloud.least_serving().unwrap()));
    }
    harm
}

/// Each request of each strategy, slow, and everything that can happen then.
async fn all(pace: Pace) -> (u32, Vec<String>) {
    let (mut runs, mut harms) = (0, Vec::new());
    let operations = [Operation::EnsureFleet, Operation::ApplyRoute, Operation::Retire, Operation::RemoveFleet];
    for (number, strategy) in strategies(2).into_iter().enumerate() {
        for operation in operations {
            for nth in 1.. {
                let mut any = false;
                let thens = [Then::Nothing, Then::Abort, Then::TakeOverAndAbort];
                for (then, dice) in thens.into_iter().flat_map(|then| [274, 411].map(|dice| (then, dice))) {
                    let setting = Setting { pace, dice };
                    let Some(harm) = run(&strategy, (operation, nth), then, setting).await else { continue };
                    (runs, any) = (runs + 1, true);
                    let note = format!("strategy {number}, {operation} number {nth}, then {then:?}, dice {dice}");
                    harms.extend((!harm.is_empty()).then(|| format!("{note}: {}", harm.join(", "))));
                }
                if !any {
                    break;
                }
            }
        }
    }
    (runs, harms)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_lands_minutes_later_does_no_harm() {
    let (runs, harms) = all(Pace::default()).await;
    assert!(harms.is_empty(), "{} of {runs}:\n{}", harms.len(), harms.join("\n"));
    assert!(runs > 200, "{runs}");
}

/// The other half of the proof: without the horizon the same requests do harm, and it is seen.
#[tokio::test(start_paused = true)]
async fn without_the_horizon_it_does() {
    let (_, harms) = all(Pace { ambiguity_horizon: Duration::ZERO, ..Pace::default() }).await;
    for what in [
        "ensure fleet",
        "apply route",
        "retire instances",
        "then Abort",
        "TakeOver",
        "4 in all",
        "4 existed",
        "0 served",
    ] {
        assert!(harms.iter().any(|harm| harm.contains(what)), "{what} in {harms:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn drivers_that_die_while_they_wait_do_not_make_the_wait_longer() {
    let mut stand = Stand::serving(switches()[0], 3).await;
    let rollout = stand.start("2", Strategy::rolling()).await;
    until("started", &rollout, || !stand.ids("2").is_empty()).await;
    let stopped = Instant::now();
    for _ in 0..10 {
        stand.restart();
        let next = stand.start("2", Strategy::rolling()).await;
        assert_eq!(next.id(), rollout.id());
        until_waiting(&next, "the driver before").await;
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    stand.restart();
    let last = stand.start("2", Strategy::rolling()).await;
    until("going on", &last, || stand.cloud.members().len() > 3).await;
    let waited = stopped.elapsed();
    assert!(waited >= minutes(5) && waited < Duration::from_secs(330), "{waited:?}");
    assert_eq!(outcome(&last).await, Outcome::Promoted);
    let taken_over = events(&last).await.into_iter().filter(|event| matches!(event, Event::TakenOver { .. }));
    assert_eq!(taken_over.count(), 1);
    stand.assert_only("2", 3, "the last").await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_driver_that_had_sent_nothing() {
    let mut stand = Stand::serving(switches()[0], 3).await;
    let began = Instant::now();
    let rollout = stand.start("2", Strategy::rolling()).await;
    stand.restart();
    let next = stand.engine.recover(&service()).await.unwrap().unwrap();
    assert_eq!((next.id(), outcome(&next).await), (rollout.id(), Outcome::Promoted));
    assert!(!events(&next).await.iter().any(|event| matches!(event, Event::TakenOver { .. })));
    assert!(began.elapsed() < minutes(5), "{:?}", began.elapsed());
}
