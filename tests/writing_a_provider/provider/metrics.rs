//! Counts of the balancer as metrics.

use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{
    ErrorKind, MetricKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};
use jiff::Timestamp;

use super::error::{refuse, unseen};
use crate::acme::Acme;

#[derive(Debug)]
pub(super) struct AcmeMetrics {
    acme: Acme,
}

impl AcmeMetrics {
    pub(super) fn new(acme: Acme) -> Self {
        Self { acme }
    }
}

#[async_trait]
impl MetricSource for AcmeMetrics {
    async fn describe(&self, _: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        match metric.as_str() {
            "errors" => Ok(MetricKind::Ratio),
            _ => Err(refuse(ErrorKind::NotFound, "describe metric", format!("no metric {metric}: there is errors"))),
        }
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        const OPERATION: &str = "query metric";
        self.describe(cx, metric).await?;
        let counts = self.acme.answered(fleet.as_str(), window.from, window.to).await;
        let counts = counts.map_err(|trouble| unseen(OPERATION, trouble))?;
        // M1: a second in which nothing was counted is in no sample. M3: only whole seconds of the window are.
        let sample = |(second, whole): (i64, u64)| {
            let from = Timestamp::from_second(second).ok()?;
            let to = from.checked_add(Duration::from_secs(1)).ok()?;
            Some(MetricSample { window: Window { from, to }, value: MetricValue::Ratio { part: 0, whole } })
        };
        Ok(counts.into_iter().filter_map(sample).collect())
    }
}
