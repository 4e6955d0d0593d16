//! Sources of metrics that are late, or cannot be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::analysis::{Analysis, Compared};
use immutable_core::engine::{Clock, Engine, Outcome, Reason};
use immutable_core::model::{FleetId, MetricName};
use immutable_core::plan::Strategy;
use immutable_core::provider::{
    ErrorKind, MetricKind, MetricSample, MetricSource, OpContext, Platform, ProviderError, Window,
};
use immutable_core::testkit::{Behaviour, SimCloud};
use jiff::Timestamp;

use super::harness::{Stand, entropy, minutes, outcome, switches, until_waiting};
use super::judging::{errors, one};

/// Errors by the name of `errors`, and the same by the name of `latency`, which cannot be read while it is broken. It knows nothing of
/// the last moments.
#[derive(Debug, Clone)]
struct Source {
    cloud: SimCloud,
    late: Duration,
    broken: Arc<AtomicBool>,
}

#[async_trait]
impl MetricSource for Source {
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
        if metric == latency().metric() && self.broken.load(Ordering::Relaxed) {
            return Err(ProviderError::new(ErrorKind::Unavailable, "query", "down for maintenance"));
        }
        let to = window.to.min(self.cloud.clock().now() - self.late);
        if to <= window.from {
            return Ok(Vec::new());
        }
        self.cloud.platform().metrics.query(cx, errors().metric(), fleet, Window { to, ..window }).await
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

/// A stand of four instances whose source is so late.
async fn stand(late: Duration) -> (Stand, Source) {
    let mut stand = Stand::serving(switches()[0], 4).await;
    let source = Source { cloud: stand.cloud.clone(), late, broken: Arc::default() };
    stand.engine = engine(&stand, &source, stand.cloud.platform());
    tokio::time::sleep(minutes(10)).await;
    (stand, source)
}

fn engine(stand: &Stand, source: &Source, platform: Platform) -> Engine {
    let platform = Platform { metrics: Arc::new(source.clone()), ..platform };
    Engine::builder(platform).clock(stand.cloud.clock()).journal(stand.journal.clone()).entropy(entropy()).build()
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_cannot_be_read_holds_up_none_of_the_others() {
    let (stand, source) = stand(Duration::ZERO).await;
    stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille: 200 });
    let rollout = stand.start("2", judged([latency(), errors()])).await;
    source.broken.store(true, Ordering::Relaxed);
    let Outcome::RolledBack { reason: Reason::CheckFailed { evidence }, .. } = outcome(&rollout).await else {
        panic!("{:?}", rollout.status())
    };
    assert!(evidence.starts_with("errors is 0.2"), "{evidence}");
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_while_a_metric_cannot_be_read_and_what_it_missed_is_read_later() {
    let (mut stand, source) = stand(Duration::ZERO).await;
    let strategy = || judged([errors(), latency()]);
    let rollout = stand.start("2", strategy()).await;
    source.broken.store(true, Ordering::Relaxed);
    until_waiting(&rollout, "down for maintenance").await;
    tokio::time::sleep(minutes(30)).await;
    assert_eq!(rollout.status().stage, Some((1, "10 %".to_owned())), "{:?}", rollout.status());
    // Another driver knows what the journal says, which is all of the one metric and nothing of the other.
    stand.engine = engine(&stand, &source, stand.cloud.platform());
    let rollout = stand.start("2", strategy()).await;
    until_waiting(&rollout, "down for maintenance").await;
    source.broken.store(false, Ordering::Relaxed);
    let mended = stand.cloud.clock().now();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    // All that was missed is there to be read: nothing has to be waited for.
    let took = stand.cloud.clock().now().duration_since(mended).unsigned_abs();
    assert!(took < minutes(10), "{took:?}");
}

/// A turn counts so many intervals of a metric at most, and there are more of them from one turn to the next.
#[tokio::test(start_paused = true)]
async fn short_intervals_are_kept_up_with_at_a_slow_pace() {
    let (mut stand, source) = stand(Duration::ZERO).await;
    let mut platform = stand.cloud.platform();
    platform.pace.observe = Duration::from_secs(20);
    stand.engine = engine(&stand, &source, platform);
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

#[tokio::test(start_paused = true)]
async fn a_source_that_is_later_than_the_delay_is_refused_and_told_what_to_set() {
    for (late, delay) in [(25, "40s"), (60, "1m 20s"), (170, "5m")] {
        let (stand, _) = stand(Duration::from_secs(late)).await;
        let log = stand.cloud.log();
        let refused = stand.engine.start(stand.spec("2", judged([errors()]))).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("set the analysis' delay to {delay}")), "{late}: {refused}");
        assert_eq!(stand.cloud.log(), log);
    }
    let (stand, _) = stand(minutes(1)).await;
    let patient = strategy(Analysis::of([errors()]).delay(Duration::from_secs(80)));
    assert_eq!(outcome(&stand.start("2", patient).await).await, Outcome::Promoted);
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
