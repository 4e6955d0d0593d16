//! Metrics over what passed through the traffic switch.

use async_trait::async_trait;
use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{
    ErrorKind, MetricKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};

use crate::traffic_switch::LocalSwitch;
use crate::traffic_switch::counters::Share;

/// Every metric there is, by name.
const METRICS: [(&str, Share); 3] =
    [("errors", Share::Errors), ("latency_over_100ms", Share::Over100Ms), ("latency_over_1s", Share::Over1S)];

/// Tells how a fleet answered the requests that a [`LocalSwitch`] gave it.
///
/// Three metrics, each a ratio of all requests that ended in the window:
///
/// * `errors`: answers with a status from 500 on, answers that broke off, and requests that the fleet did not answer;
/// * `latency_over_100ms` and `latency_over_1s`: the head of the answer took longer than that.
///
/// There is one sample for each tenth of a second that lies inside the window as a whole and saw a request end. What ended
/// in a tenth of a second that is cut by an end of the window is in no sample, so it is best to ask for windows that begin
/// and end at tenths of a second. Counts are kept for one hour.
#[derive(Debug, Clone)]
pub struct LocalMetrics {
    switch: LocalSwitch,
}

impl LocalMetrics {
    /// The metrics of a switch. They keep the switch listening.
    pub fn new(switch: LocalSwitch) -> Self {
        Self { switch }
    }
}

#[async_trait]
impl MetricSource for LocalMetrics {
    async fn describe(&self, _cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        share("describe metric", metric).map(|_| MetricKind::Ratio)
    }

    async fn query(
        &self,
        _cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let share = share("query metric", metric)?;
        let ratios = self.switch.meters().find(fleet).map(|meter| meter.ratios(share, window)).unwrap_or_default();
        let sample = |r: crate::traffic_switch::counters::SlotRatio| MetricSample {
            window: r.window,
            value: MetricValue::Ratio { part: r.part, whole: r.whole },
        };
        Ok(ratios.into_iter().map(sample).collect())
    }
}

fn share(operation: &'static str, metric: &MetricName) -> Result<Share, ProviderError> {
    METRICS.iter().find(|(name, _)| *name == metric.as_str()).map(|(_, share)| *share).ok_or_else(|| {
        let known = METRICS.map(|(name, _)| name).join(", ");
        let message = format!("no metric {metric}; this source has {known}");
        ProviderError::new(ErrorKind::NotFound, operation, message).without_effect()
    })
}
