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

/// A source is steady that told of so many samples in sequence.
const STEADY: usize = 10;

impl Engine {
    /// Has the analysis of a plan read its metrics no earlier than their source knows them.
    pub(super) fn mind_the_lag(&self, plan: &mut Plan) -> Result<(), StartError> {
        let Some(analysis) = &mut plan.analysis else { return Ok(()) };
        analysis.delay_at_least(self.platform.metrics.lag());
        analysis.problem().map_or(Ok(()), |problem| Err(PlanError::Analysis { problem }.into()))
    }

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
        let (mut usual, mut measured, mut told) = (Vec::new(), Duration::from_secs(1), Vec::new());
        for compared in analysis.metrics() {
            let metric = compared.metric();
            let source = Source { calls: &calls, metrics: &*self.platform.metrics, context: &context, metric, fleet };
            let now = self.clock.now();
            let Some(lately) = source.lately(analysis, now).await.map_err(|problem| refused(metric, problem))? else {
                let time = friendly(looked_at(analysis));
                let silence = format!("says nothing about {fleet}, which serves now, in the last {time}");
                if analysis.compares(compared) {
                    let problem = format!(
                        "{silence}: nothing could be compared with it; if that fleet is broken, roll out without an analysis"
                    );
                    return Err(refused(metric, problem));
                }
                told.push(format!("{metric}: {silence}"));
                continue;
            };
            if let Some(problem) = lately.too_coarse(analysis) {
                return Err(refused(metric, problem));
            }
            measured = measured.max(lately.span());
            told.extend(lately.silence(analysis, now).map(|silence| format!("{metric}: {silence}")));
            usual.push((metric.clone(), lately.said));
        }
        let (fleet, canary) = (split.weight(fleet), plan.first_judged_weight());
        let expected = canary.map(|canary| outlook(analysis, &usual, measured, share(canary) / share(fleet)));
        told.splice(..0, expected);
        Ok((!told.is_empty()).then(|| told.join("\n")))
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

/// What it said lately.
struct Lately {
    /// In the order of time, each with something in it; at least one.
    samples: Vec<MetricSample>,
    /// All together.
    said: MetricValue,
}

impl Source<'_> {
    /// `None` if it said nothing.
    async fn lately(&self, analysis: &Analysis, now: Timestamp) -> Result<Option<Lately>, String> {
        let time = looked_at(analysis).saturating_add(analysis.delay);
        let from = now.checked_sub(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let read = || self.metrics.query(self.context, self.metric, self.fleet, Window { from, to: now });
        let mut samples = self.calls.look_patiently("read a metric", read).await.map_err(|error| error.to_string())?;
        samples.retain(|sample| MetricValue::pooled(std::slice::from_ref(sample)).is_some());
        samples.sort_by_key(|sample| sample.window.from);
        Ok(MetricValue::pooled(&samples).map(|said| Lately { samples, said }))
    }
}

/// How far back is looked.
fn looked_at(analysis: &Analysis) -> Duration {
    AT_LEAST.max(analysis.interval.saturating_mul(INTERVALS))
}

impl Lately {
    /// Why no interval would hold a sample, and what to do. A single one may have been told of all the time that was asked for.
    fn too_coarse(&self, analysis: &Analysis) -> Option<String> {
        let shortest = self.samples.iter().map(|sample| length(sample.window)).min()?;
        let is_coarse = self.samples.len() > 1 && shortest > analysis.interval;
        let step = friendly(shortest);
        is_coarse.then(|| {
            format!("is told for {step} at a time, which no interval holds: set the analysis' interval to {step}")
        })
    }

    /// For how long nothing has been known that should be by now, where there was something all the time before. It is told to people,
    /// who know whether their source is late or the fleet has just become silent.
    fn silence(&self, analysis: &Analysis, now: Timestamp) -> Option<String> {
        let last = self.samples.len().checked_sub(STEADY).map(|first| &self.samples[first..])?;
        let is_steady = last.windows(2).all(|two| two[0].window.to == two[1].window.from);
        let silent = now.duration_since(last.last()?.window.to).unsigned_abs();
        // Up to one sample is not over yet.
        let is_long = silent > self.step().saturating_add(analysis.delay).saturating_add(Duration::from_secs(1));
        let time = friendly(Duration::from_secs(silent.as_secs() + 1));
        (is_steady && is_long).then(|| {
            format!("nothing is known of the last {time}; if its source is so late, nothing will pass: set the analysis' delay to {time}")
        })
    }

    /// What the source tells at a time.
    fn step(&self) -> Duration {
        self.samples.iter().map(|sample| length(sample.window)).max().unwrap_or_default()
    }

    /// From the first moment that it told of to the last.
    fn span(&self) -> Duration {
        let to = self.samples.iter().map(|sample| sample.window.to).max();
        let from = self.samples.first().map(|sample| sample.window.from);
        from.zip(to).map_or(Duration::ZERO, |(from, to)| length(Window { from, to }))
    }
}

fn length(window: Window) -> Duration {
    window.to.duration_since(window.from).unsigned_abs()
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
