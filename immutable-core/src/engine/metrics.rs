//! Before a rollout: do its metrics say anything?

use std::time::Duration;

use jiff::Timestamp;

use super::calls::Calls;
use super::{Engine, StartError};
use crate::analysis::{Analysis, Check, Compared, Traffic, power};
use crate::model::{FleetId, MetricName, Split, Weight};
use crate::plan::{Plan, PlanError, friendly};
use crate::provider::{MetricSample, MetricSource, MetricValue, OpContext, Window};

/// What serves now must have said something in so many intervals, or in this time if it is longer.
const INTERVALS: u32 = 10;
const AT_LEAST: Duration = Duration::from_mins(5);

/// A metric of at least so many requests in each interval is not silent in one by chance.
const BUSY: f64 = 20.0;

/// It is steady if it says something in so many intervals in sequence.
const STEADY: u32 = 3;

impl Engine {
    /// Asks the source for each metric of a plan; for those of its analysis, also what they say of what serves now. A comparison with
    /// silence would hold up the rollout until its deadline. What can be expected of the analysis comes back.
    pub(super) async fn check_metrics(&self, plan: &Plan, split: &Split) -> Result<Option<String>, StartError> {
        let calls = self.calls(None, 0);
        let context = calls.context(&["plan"]);
        let checked = plan.stages.iter().flat_map(|stage| &stage.gate.checks).map(Check::metric);
        let judged = plan.analysis.iter().flat_map(Analysis::metrics).map(Compared::metric);
        for metric in checked.chain(judged.clone()) {
            let describe = || self.platform.metrics.describe(&context, metric);
            let described = calls.look_patiently("describe a metric", describe).await;
            described.map_err(|error| refused(metric, error.to_string()))?;
        }
        let serving = plan.replaces.as_ref().filter(|fleet| **fleet != plan.target && !split.weight(fleet).is_none());
        let (Some(analysis), Some(fleet)) = (&plan.analysis, serving) else { return Ok(None) };
        let (mut usual, mut measured) = (Vec::new(), Duration::ZERO);
        for metric in judged {
            let source = Source { calls: &calls, metrics: &*self.platform.metrics, context: &context, metric, fleet };
            let said = source.check(analysis, self.clock.now()).await;
            let (said, span) = said.map_err(|problem| refused(metric, problem))?;
            measured = measured.max(span);
            usual.push((metric.clone(), said));
        }
        let (fleet, canary) = (split.weight(fleet), plan.first_judged_weight());
        Ok(canary.map(|canary| outlook(analysis, &usual, measured, share(canary) / share(fleet))))
    }
}

fn refused(metric: &MetricName, problem: String) -> StartError {
    PlanError::Metric { metric: metric.clone(), problem }.into()
}

/// What one metric says of one fleet.
struct Source<'a> {
    calls: &'a Calls,
    metrics: &'a dyn MetricSource,
    context: &'a OpContext,
    metric: &'a MetricName,
    fleet: &'a FleetId,
}

impl Source<'_> {
    /// What it said lately, and since when, if that is less than all of the time. Where it said nothing, or nothing that would be
    /// there when an interval is read: what to do about that.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    async fn check(&self, analysis: &Analysis, now: Timestamp) -> Result<(MetricValue, Duration), String> {
        let time = AT_LEAST.max(analysis.interval.saturating_mul(INTERVALS));
        let samples = self.samples(before(now, time), now).await?;
        let since = samples.iter().map(|sample| sample.window.from).min().unwrap_or(now);
        let span = now.duration_since(since).unsigned_abs().max(Duration::from_secs(1));
        let Some(said) = MetricValue::pooled(&samples) else {
            let (fleet, time) = (self.fleet, friendly(time));
            return Err(format!(
                "says nothing about {fleet}, which serves now, in the last {time}: nothing could be judged by it; if that fleet is broken, roll out without an analysis"
            ));
        };
        let is_busy = match said {
            MetricValue::Ratio { whole, .. } => {
                whole as f64 * analysis.interval.as_secs_f64() >= BUSY * span.as_secs_f64()
            }
            MetricValue::Gauge(_) => true,
        };
        match self.silence(analysis, before(now, analysis.delay), time).await? {
            Some(silence) if is_busy => {
                let (delay, silence) = (friendly(analysis.delay.saturating_add(silence)), friendly(analysis.interval));
                Err(format!(
                    "says nothing yet about intervals of {silence} when they are read, and does later: set the analysis' delay to {delay}"
                ))
            }
            _ => Ok((said, span)),
        }
    }

    /// How long ago the last interval was of which it says something, when it says something of those before it as well: to twice as
    /// much at most. None if the last one is not silent, or if others are, too.
    async fn silence(&self, analysis: &Analysis, read: Timestamp, most: Duration) -> Result<Option<Duration>, String> {
        let ago = |intervals: u32| before(read, analysis.interval.saturating_mul(intervals));
        let most = u32::try_from(most.as_nanos() / analysis.interval.as_nanos()).unwrap_or(u32::MAX);
        let (mut silent, mut known) = (0, 1);
        while !self.says_something(ago(known), ago(silent)).await? {
            if known >= most {
                return Ok(None);
            }
            (silent, known) = (known, known.saturating_mul(2).min(most));
        }
        let mut is_late = silent > 0;
        for earlier in known..known + STEADY {
            is_late = is_late && self.says_something(ago(earlier + 1), ago(earlier)).await?;
        }
        Ok(is_late.then(|| analysis.interval.saturating_mul(known)))
    }

    async fn says_something(&self, from: Timestamp, to: Timestamp) -> Result<bool, String> {
        Ok(MetricValue::pooled(&self.samples(from, to).await?).is_some())
    }

    async fn samples(&self, from: Timestamp, to: Timestamp) -> Result<Vec<MetricSample>, String> {
        let read = || self.metrics.query(self.context, self.metric, self.fleet, Window { from, to });
        self.calls.look_patiently("read a metric", read).await.map_err(|error| error.to_string())
    }
}

fn before(at: Timestamp, time: Duration) -> Timestamp {
    at.checked_sub(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What the analysis can see, if traffic stays as it was: `share` times the requests of what serves now go to the canary.
#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
fn outlook(analysis: &Analysis, usual: &[(MetricName, MetricValue)], time: Duration, share: f64) -> String {
    let ratios = || {
        usual.iter().filter_map(|(metric, value)| match value {
            MetricValue::Ratio { part, whole } => Some((metric, *part as f64, *whole as f64)),
            MetricValue::Gauge(_) => None,
        })
    };
    let requests = ratios().map(|(_, _, whole)| whole).fold(0.0, f64::max);
    let traffic = Traffic::of(requests / time.as_secs_f64() * share);
    let usual =
        |traffic: Traffic, (metric, part, whole): (&MetricName, f64, f64)| traffic.usual(metric.clone(), part / whole);
    power(analysis, &ratios().fold(traffic, usual)).to_string()
}

fn share(weight: Weight) -> f64 {
    f64::from(weight.points()) / f64::from(Weight::FULL.points())
}
