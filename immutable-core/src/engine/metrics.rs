//! Before a rollout: do its metrics say anything?

use std::time::Duration;

use super::{Engine, StartError};
use crate::analysis::{Analysis, Check, Compared, Traffic, power};
use crate::model::{FleetId, MetricName, Split, Weight};
use crate::plan::{Plan, PlanError, friendly};
use crate::provider::{MetricValue, OpContext, ProviderError, Window};

/// What serves now must have said something in so many intervals, or in this time if it is longer.
const INTERVALS: u32 = 10;
const AT_LEAST: Duration = Duration::from_mins(5);

impl Engine {
    /// Asks the source for each metric of a plan; for those that are compared, also what they say of what serves now. A comparison
    /// with silence would hold up the rollout until its deadline. What can be expected of the comparison comes back.
    pub(super) async fn check_metrics(&self, plan: &Plan, split: &Split) -> Result<Option<String>, StartError> {
        let calls = self.calls(None, 0);
        let context = calls.context(&["plan"]);
        let refused = |metric: &MetricName, problem: String| PlanError::Metric { metric: metric.clone(), problem };
        let checked = plan.stages.iter().flat_map(|stage| &stage.gate.checks).map(Check::metric);
        let compared = plan.analysis.iter().flat_map(Analysis::metrics).map(Compared::metric);
        for metric in checked.chain(compared.clone()) {
            let describe = || self.platform.metrics.describe(&context, metric);
            let described = calls.look_patiently("describe a metric", describe).await;
            described.map_err(|error| refused(metric, error.to_string()))?;
        }
        let serving = plan.replaces.as_ref().filter(|fleet| **fleet != plan.target && !split.weight(fleet).is_none());
        let (Some(analysis), Some(fleet)) = (&plan.analysis, serving) else { return Ok(None) };
        let time = AT_LEAST.max(analysis.interval.saturating_mul(INTERVALS));
        let (mut usual, mut measured) = (Vec::new(), Duration::ZERO);
        for metric in compared {
            let said = calls.look_patiently("read a metric", || self.lately(&context, metric, fleet, time)).await;
            let Some((said, span)) = said.map_err(|error| refused(metric, error.to_string()))? else {
                let time = friendly(time);
                let problem = format!(
                    "says nothing about {fleet}, which serves now, in the last {time}: nothing could be compared with it; if it is broken, roll out without an analysis"
                );
                return Err(refused(metric, problem).into());
            };
            measured = measured.max(span);
            usual.push((metric.clone(), said));
        }
        let (fleet, canary) = (split.weight(fleet), plan.first_judged_weight());
        Ok(canary.map(|canary| outlook(analysis, &usual, measured, share(canary) / share(fleet))))
    }

    /// What a metric said of a fleet lately, and since when, if that is less than all of the time.
    async fn lately(
        &self,
        context: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        time: Duration,
    ) -> Result<Option<(MetricValue, Duration)>, ProviderError> {
        let to = self.clock.now();
        let from = to.checked_sub(time).unwrap_or(to);
        let samples = self.platform.metrics.query(context, metric, fleet, Window { from, to }).await?;
        let since = samples.iter().map(|sample| sample.window.from).min().unwrap_or(to);
        let span = to.duration_since(since).unsigned_abs().max(Duration::from_secs(1));
        Ok(MetricValue::pooled(&samples).map(|value| (value, span)))
    }
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
