//! Sources of metrics that are late, or cannot be read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::analysis::{Analysis, AtDeadline, Compared};
use immutable_core::engine::{Clock, Engine, Event, Outcome, Reason, Rollout};
use immutable_core::model::{FleetId, MetricName};
use immutable_core::plan::{StageSpec, Strategy};
use immutable_core::provider::{
    ErrorKind, MetricKind, MetricSample, MetricSource, OpContext, Platform, ProviderError, Window,
};
use immutable_core::testkit::{Behaviour, SimCloud};
use jiff::{SignedDuration, Timestamp};

use super::harness::{Stand, entropy, events, minutes, outcome, switches, until, until_waiting};
use super::judging::{errors, one};

/// Errors by the name of `errors`, and the same by the name of `latency`.
#[derive(Debug, Clone)]
struct Source {
    cloud: SimCloud,
    /// For how long nothing is known of what has just been; and how much of that it tells.
    late: Duration,
    lag: Duration,
    /// It tells of whole steps of this length, as most do, or of all at once.
    step: Option<Duration>,
    fault: Arc<Mutex<Fault>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    No,
    LatencyCannotBeRead,
    Silence,
}

impl Source {
    fn of(cloud: &SimCloud) -> Self {
        let fault = Arc::new(Mutex::new(Fault::No));
        Self { cloud: cloud.clone(), late: Duration::ZERO, lag: Duration::ZERO, step: None, fault }
    }

    fn is(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn engine(&self, stand: &Stand) -> Engine {
        self.engine_on(stand, stand.cloud.platform())
    }

    fn engine_on(&self, stand: &Stand, platform: Platform) -> Engine {
        let platform = Platform { metrics: Arc::new(self.clone()), ..platform };
        Engine::builder(platform).clock(stand.cloud.clock()).journal(stand.journal.clone()).entropy(entropy()).build()
    }

    /// What it tells of in samples of its own.
    fn parts(&self, window: Window) -> Vec<Window> {
        let known = window.to.min(self.cloud.clock().now() - self.late);
        let Some(step) = self.step else {
            return (window.from < known).then_some(Window { to: known, ..window }).into_iter().collect();
        };
        let step = i64::try_from(step.as_secs()).unwrap();
        let first = window.from.as_second() / step + i64::from(window.from.as_millisecond() % (1_000 * step) > 0);
        let at = |number: i64| Timestamp::from_second(number * step).unwrap();
        (first..known.as_second() / step).map(|number| Window { from: at(number), to: at(number + 1) }).collect()
    }
}

#[async_trait]
impl MetricSource for Source {
    fn lag(&self) -> Duration {
        self.lag
    }

    async fn describe(&self, cx: &OpContext, _: &MetricName) -> Result<MetricKind, ProviderError> {
        self.cloud.platform().metrics.describe(cx, errors().metric()).await
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::LatencyCannotBeRead && metric == latency().metric() {
            return Err(ProviderError::new(ErrorKind::Unavailable, "query", "down for maintenance"));
        }
        let mut samples = Vec::new();
        for part in self.parts(window).into_iter().filter(|_| fault != Fault::Silence) {
            samples.extend(self.cloud.platform().metrics.query(cx, errors().metric(), fleet, part).await?);
        }
        Ok(samples)
    }
}

fn latency() -> Compared {
    Compared::new("latency".parse().unwrap())
}

fn judged(metrics: impl IntoIterator<Item = Compared>) -> Strategy {
    strategy(Analysis::of(metrics))
}

fn strategy(analysis: Analysis) -> Strategy {
    Strategy::canary([one()]).analysis(analysis.minimum_instances(1))
}

/// A stand of four instances with traffic for a while, and a source of its metrics.
async fn stand() -> (Stand, Source) {
    let mut stand = Stand::serving(switches()[0], 4).await;
    let source = Source::of(&stand.cloud);
    stand.engine = source.engine(&stand);
    tokio::time::sleep(minutes(20)).await;
    (stand, source)
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_cannot_be_read_holds_up_none_of_the_others() {
    let (stand, source) = stand().await;
    stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille: 200 });
    let rollout = stand.start("2", judged([latency(), errors()])).await;
    source.is(Fault::LatencyCannotBeRead);
    let Outcome::RolledBack { reason: Reason::CheckFailed { evidence }, .. } = outcome(&rollout).await else {
        panic!("{:?}", rollout.status())
    };
    assert!(evidence.starts_with("errors is 0.2"), "{evidence}");
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_while_a_metric_cannot_be_read_and_what_it_missed_is_read_later() {
    let (mut stand, source) = stand().await;
    let strategy = || judged([errors(), latency()]);
    let rollout = stand.start("2", strategy()).await;
    source.is(Fault::LatencyCannotBeRead);
    until_waiting(&rollout, "down for maintenance").await;
    tokio::time::sleep(minutes(30)).await;
    assert_eq!(rollout.status().stage, Some((1, "10 %".to_owned())), "{:?}", rollout.status());
    // Another driver knows what the journal says, which is all of the one metric and nothing of the other.
    stand.engine = source.engine(&stand);
    let rollout = stand.start("2", strategy()).await;
    until_waiting(&rollout, "down for maintenance").await;
    source.is(Fault::No);
    let mended = stand.cloud.clock().now();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    // All that was missed is there to be read: nothing has to be waited for.
    let took = stand.cloud.clock().now().duration_since(mended).unsigned_abs();
    assert!(took < minutes(10), "{took:?}");
}

/// A turn counts so many intervals of a metric at most, and there are more of them from one turn to the next.
#[tokio::test(start_paused = true)]
async fn short_intervals_are_kept_up_with_at_a_slow_pace() {
    let (mut stand, source) = stand().await;
    let mut platform = stand.cloud.platform();
    platform.pace.observe = Duration::from_secs(20);
    stand.engine = source.engine_on(&stand, platform);
    let analysis = Analysis::of([errors()]).interval(Duration::from_millis(200));
    let rollout = stand.start("2", strategy(analysis)).await;
    until_waiting(&rollout, "errors: ").await;
    tokio::time::sleep(minutes(4)).await;
    let waiting = rollout.status().waiting.join("; ");
    let counted = waiting.split_once("errors: ").and_then(|(_, rest)| rest.split_once("s of 300s measured"));
    let counted: f64 = counted.and_then(|(seconds, _)| seconds.parse().ok()).unwrap();
    // Less the pace of one turn, and what it takes to catch up with it.
    assert!(counted >= 200.0, "{waiting}");
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

/// Whether a canary can be started with a source that tells of steps of ten seconds, so much later; if not, why not.
async fn starts(stand: &mut Stand, source: Source, analysis: Analysis) -> Result<Rollout, String> {
    stand.engine = source.engine(stand);
    let log = stand.cloud.log();
    let started = stand.engine.start(stand.spec("2", strategy(analysis))).await;
    if started.is_err() {
        assert_eq!(stand.cloud.log(), log);
    }
    started.map_err(|error| error.to_string())
}

const STEP: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_plan_says_that_a_source_is_later_than_the_delay_and_what_to_set() {
    let analysis = || Analysis::of([errors()]).at_deadline(AtDeadline::GoBack);
    for late in [25, 60, 170].map(Duration::from_secs) {
        let (mut stand, source) = stand().await;
        let source = Source { late, step: Some(STEP), ..source };
        let rollout = starts(&mut stand, source, analysis()).await.unwrap();
        let plan = rollout.plan().to_string();
        let (_, delay) = plan.split_once("set the analysis' delay to ").unwrap_or_else(|| panic!("{plan}"));
        let delay: SignedDuration = delay.lines().next().unwrap().parse().unwrap();
        let delay = delay.unsigned_abs();
        assert!(late < delay && delay <= late + STEP + Duration::from_secs(2), "{late:?}: {delay:?}");
        let end = outcome(&rollout).await;
        assert!(matches!(end, Outcome::RolledBack { reason: Reason::NotJudged { .. }, .. }), "{end}");
        let (mut stand, source) = self::stand().await;
        let source = Source { late, step: Some(STEP), ..source };
        let rollout = starts(&mut stand, source, analysis().delay(delay)).await.unwrap();
        let plan = rollout.plan().to_string();
        assert!(!plan.contains("delay"), "{plan}");
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    }
    // Later than what is looked at, and known to be.
    let (mut stand, source) = stand().await;
    let source = Source { late: minutes(7), step: Some(STEP), ..source };
    let rollout = starts(&mut stand, source, analysis().delay(minutes(8))).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_tells_its_lag_needs_no_delay() {
    for late in [5, 60, 400].map(Duration::from_secs) {
        let (mut stand, source) = stand().await;
        let source = Source { late, lag: late, step: Some(STEP), ..source };
        let rollout = starts(&mut stand, source, Analysis::of([errors()])).await.unwrap();
        assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{late:?}");
    }
    let (mut stand, source) = stand().await;
    let source = Source { lag: minutes(2), ..source };
    let hasty = Analysis::of([errors()]).minimum_time(minutes(4)).deadline(minutes(5));
    let refused = starts(&mut stand, source, hasty).await.unwrap_err();
    assert!(refused.contains("deadline: 300s is not longer than minimum_time and delay together"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_interval_that_holds_no_sample_is_refused() {
    let (mut stand, source) = stand().await;
    let source = Source { step: Some(minutes(1)), ..source };
    let refused = starts(&mut stand, source.clone(), Analysis::of([errors()])).await.unwrap_err();
    assert!(refused.contains("set the analysis' interval to 1m"), "{refused}");
    let rollout = starts(&mut stand, source, Analysis::of([errors()]).interval(minutes(1))).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

/// What was good for a while is not promoted by a driver that has not read yet what came after that.
#[tokio::test(start_paused = true)]
async fn nothing_passes_while_intervals_are_still_to_be_read() {
    let (mut stand, source) = stand().await;
    let analysis = || Analysis::of([errors()]).deadline(Duration::from_hours(10));
    let rollout = stand.start("2", strategy(analysis())).await;
    until_waiting(&rollout, "errors: ").await;
    stand.restart();
    // For longer than it takes to know the instances again.
    tokio::time::sleep(Duration::from_hours(3)).await;
    stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille: 200 });
    tokio::time::sleep(Duration::from_hours(1)).await;
    stand.engine = source.engine(&stand);
    let rollout = stand.start("2", strategy(analysis())).await;
    let end = outcome(&rollout).await;
    assert!(matches!(end, Outcome::RolledBack { reason: Reason::CheckFailed { .. }, .. }), "{end}");
    let left = events(&rollout).await.into_iter().filter(|event| matches!(event, Event::StageEntered { .. })).count();
    assert_eq!(left, 0, "the canary's stage is the first");
}

/// The second stage is starved of data.
#[tokio::test(start_paused = true)]
async fn a_stage_without_data_goes_back_whatever_the_one_before_it_showed() {
    let (stand, source) = stand().await;
    let stages = [10, 25].map(|percent| StageSpec::percent(percent).unwrap());
    let analysis = Analysis::of([errors()]).minimum_instances(1).at_deadline(AtDeadline::GoBack);
    let rollout = stand.start("2", Strategy::canary(stages).analysis(analysis)).await;
    until("the second stage", &rollout, || rollout.status().stage.is_some_and(|(number, _)| number == 2)).await;
    source.is(Fault::Silence);
    let end = outcome(&rollout).await;
    assert!(matches!(end, Outcome::RolledBack { reason: Reason::NotJudged { .. }, .. }), "{end}");
}

/// A metric with a bound beside one without: that one needs a baseline, and either can fail the release.
#[tokio::test(start_paused = true)]
async fn a_bound_beside_a_comparison_waits_for_both_and_fails_by_either() {
    for (per_mille, is_good) in [(2, true), (30, false)] {
        let (stand, _) = stand().await;
        stand.cloud.behave(stand.id("1"), Behaviour::Errors { per_mille });
        stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille });
        let rollout = stand.start("2", judged([errors(), latency().at_most(0.01)])).await;
        assert!(rollout.plan().baseline.is_some());
        let end = outcome(&rollout).await;
        assert_eq!(end == Outcome::Promoted, is_good, "{end}");
        if !is_good {
            assert!(end.to_string().contains("latency is 0.03"), "no worse than the old one: {end}");
        }
    }
}

/// A clock that is set wrong on the way.
#[derive(Debug)]
struct Wrong(SimCloud, Arc<AtomicBool>);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        let ahead = if self.1.load(Ordering::Relaxed) { 20 } else { 0 };
        self.0.clock().now() + Duration::from_secs(ahead)
    }
}

#[tokio::test(start_paused = true)]
async fn who_follows_a_driver_whose_clock_was_ahead_says_what_it_waits_for() {
    let stand = Stand::serving(switches()[0], 4).await;
    tokio::time::sleep(minutes(10)).await;
    let is_ahead: Arc<AtomicBool> = Arc::default();
    let clock = Wrong(stand.cloud.clone(), Arc::clone(&is_ahead));
    let wrong = Engine::builder(stand.cloud.platform()).clock(clock).journal(stand.journal.clone());
    let wrong = wrong.entropy(entropy()).build();
    let spec = || stand.spec("2", strategy(Analysis::of([errors()]).interval(Duration::from_secs(1))));
    let rollout = wrong.start(spec()).await.unwrap();
    until_waiting(&rollout, "errors: ").await;
    is_ahead.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(30)).await;
    drop(wrong);
    let rollout = stand.engine.start(spec()).await.unwrap();
    until_waiting(&rollout, "by a clock that was ahead").await;
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}
