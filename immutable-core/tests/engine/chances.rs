//! The releases of the quickstart, by chance: 200 that answer a fifth of their requests with an error, and 200 that do not.

#![allow(clippy::print_stdout, reason = "the times are worth seeing")]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::analysis::{Analysis, AtDeadline, Compared};
use immutable_core::engine::{Engine, Event, Outcome, Reason};
use immutable_core::model::{FleetId, MetricName};
use immutable_core::plan::{StageSpec, Strategy};
use immutable_core::provider::{
    MetricKind, MetricSample, MetricSource, MetricValue, OpContext, Platform, ProviderError, Window,
};
use immutable_core::testkit::{SimCloud, SimOptions};

use super::harness::{Stand, entropy, events, outcome};

const RUNS: u64 = 200;

/// Requests that fail by chance: each with the probability that its fleet has, drawn from the seed and its time.
#[derive(Debug)]
struct Chance {
    cloud: SimCloud,
    seed: u64,
    bad: Option<FleetId>,
}

impl Chance {
    /// Of so many requests of a fleet, how many fail.
    fn failed(&self, fleet: &FleetId, window: Window, requests: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, fleet, window.from).hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        let probability = if self.bad.as_ref() == Some(fleet) { 0.2 } else { 0.0 };
        (0..requests).filter(|_| random.f64() < probability).count() as u64
    }
}

#[async_trait]
impl MetricSource for Chance {
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        self.cloud.platform().metrics.describe(cx, metric).await
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let mut samples = self.cloud.platform().metrics.query(cx, metric, fleet, window).await?;
        for sample in &mut samples {
            if let MetricValue::Ratio { part, whole } = &mut sample.value {
                *part = self.failed(fleet, window, *whole);
            }
        }
        Ok(samples)
    }
}

/// As in the quickstart.
fn strategy() -> Strategy {
    let errors = Compared::new("errors".parse().unwrap()).acceptable(0.02).hard_stop(0.5, Duration::from_secs(2));
    let analysis = Analysis::of([errors])
        .interval(Duration::from_millis(200))
        .minimum_time(Duration::from_millis(600))
        .minimum_requests(30)
        .minimum_instances(1)
        .deadline(Duration::from_mins(3))
        .at_deadline(AtDeadline::GoBack);
    Strategy::canary([25, 50].map(|percent| StageSpec::percent(percent).unwrap())).analysis(analysis)
}

/// How a rollout of the seed ends, and how long the canary had traffic until then.
async fn rolled_out(seed: u64, is_bad: bool) -> (Outcome, Duration) {
    let instant = Duration::from_millis(1);
    let (boot, ready_after, call_latency) = (instant, instant, instant);
    let stand =
        Stand::with(SimOptions { requests_per_second: 400, boot, ready_after, call_latency, ..SimOptions::default() });
    stand.install(4).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let bad = is_bad.then(|| stand.fleet("2"));
    let mut platform = stand.cloud.platform();
    platform.pace.observe = Duration::from_millis(100);
    let platform = Platform { metrics: Arc::new(Chance { cloud: stand.cloud.clone(), seed, bad }), ..platform };
    let engine =
        Engine::builder(platform).clock(stand.cloud.clock()).journal(stand.journal.clone()).entropy(entropy()).build();
    let rollout = engine.start(stand.spec("2", strategy())).await.unwrap();
    let end = outcome(&rollout).await;
    let at = |wanted: fn(&Event) -> bool, events: &[Event]| events.iter().find(|event| wanted(event)).cloned();
    let events = events(&rollout).await;
    let reached = at(|event| matches!(event, Event::GoalReached { .. }), &events);
    let left = at(|event| matches!(event, Event::TurnedBack { .. } | Event::StageEntered { .. }), &events);
    let (
        Some(Event::GoalReached { at: reached, .. }),
        Some(Event::TurnedBack { at, .. } | Event::StageEntered { at, .. }),
    ) = (reached, left)
    else {
        panic!("{events:?}")
    };
    (end, at.duration_since(reached).unsigned_abs())
}

#[tokio::test(start_paused = true)]
async fn the_bad_release_of_the_quickstart_is_stopped_in_seconds_and_no_good_one_is() {
    let (mut stopped, mut passed) = (Vec::new(), Vec::new());
    for seed in 0..RUNS {
        let (end, took) = rolled_out(seed, true).await;
        assert!(matches!(end, Outcome::RolledBack { reason: Reason::CheckFailed { .. }, .. }), "seed {seed}: {end}");
        stopped.push(took);
        let (end, took) = rolled_out(seed, false).await;
        assert_eq!(end, Outcome::Promoted, "seed {seed}");
        passed.push(took);
    }
    for (name, times) in [("bad releases stopped", &mut stopped), ("first stage of good ones passed", &mut passed)] {
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{RUNS} {name} after {median:?} (median), {worst:?} (worst)");
        assert!(worst < Duration::from_secs(10), "{name}: {worst:?}");
    }
}
