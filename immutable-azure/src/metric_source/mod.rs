//! What Azure Monitor tells of a fleet.

mod addresses;
mod declared;
mod gateway;
mod minutes;
mod question;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{ErrorKind, MetricKind, MetricSample, MetricSource, OpContext, ProviderError, Window};
use jiff::Timestamp;

pub use declared::{FleetMetric, FleetSeries};
pub use question::Aggregation;

use crate::{Config, ConfigError};
use gateway::Wanted;
use minutes::{samples, settled, whole_minutes};

const OPERATION: &str = "query metrics";

/// The metrics of the application gateways that fleets are behind, in whole minutes, and those that you [declare](Self::metric):
///
/// * `errors`, a ratio: the answers with a status of 5xx, of all requests;
/// * `latency_average`, `latency_max`, a level: seconds from when the gateway began to connect to an instance until the first byte of its answer.
///   On several gateways, the slowest counts. Gateways tell
///   [no percentiles](https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-network-applicationgateways-metrics).
///
/// They are looked for on those of the configuration's [routes](crate::ConfigBuilder::routes) that are application gateways or parts of them, of the
/// second generation. Other load balancers of Azure do not see requests, and have none of these.
///
/// # What can be told
/// Where a rule leads to a pool of a fleet's own on a gateway, its metrics are those of the pool, and `errors` has the answers that the gateway itself
/// gave because it reached no instance.
///
/// Where fleets share a pool, the metrics are those of the addresses that the fleet's instances have now, from the moment on that each of them was
/// made: an address may have been somebody else's before. So an instance that has ended takes its metrics with it; what the gateway answers
/// itself belongs to nobody; and of `latency_average` the slowest instance counts.
///
/// # Silence
/// A minute without requests is not told. Azure fills such minutes with zeros or with nothing, as it fills those that it does not know yet, and does
/// not say which it is. So no request at all and a latency of zero are silence; and the newest minutes are left out, for as long as
/// [`metric_lag`](crate::ConfigBuilder::metric_lag) says.
///
/// # Errors
/// `NotFound` for any other metric, and for those of gateways when no route is one. `Unavailable` when Azure has told only a part.
///
/// # Cancellation
/// Dropping a future leaves nothing behind.
#[derive(Clone)]
pub struct MonitorMetrics {
    config: Config,
    declared: BTreeMap<MetricName, FleetMetric>,
}

impl MonitorMetrics {
    /// The metrics on the routes of this configuration.
    pub fn new(config: Config) -> Self {
        Self { config, declared: BTreeMap::new() }
    }

    /// One metric more, which Azure Monitor has of each fleet.
    ///
    /// ```no_run
    /// use immutable_azure::{Aggregation, Config, FleetMetric, FleetSeries, MonitorMetrics};
    ///
    /// # fn example(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    /// let group = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/web-production/providers";
    /// let set = format!("{group}/Microsoft.Compute/virtualMachineScaleSets/im-{{fleet}}");
    /// let load = FleetMetric::gauge(FleetSeries::new(set, "Percentage CPU", Aggregation::Average));
    ///
    /// let insights = format!("{group}/Microsoft.Insights/components/web");
    /// let of_fleet = |metric| FleetSeries::new(&insights, metric, Aggregation::Count).dimension("cloud/roleName", "{fleet}");
    /// let failures = FleetMetric::ratio(of_fleet("requests/failed"), of_fleet("requests/count"));
    ///
    /// let metrics = MonitorMetrics::new(config).metric("load".parse()?, load)?.metric("failures".parse()?, failures)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] for a name that there is already, and for what can be no metric of Azure's.
    pub fn metric(mut self, name: MetricName, metric: FleetMetric) -> Result<Self, ConfigError> {
        metric.check()?;
        if Wanted::named(&name).is_some() || self.declared.contains_key(&name) {
            return Err(ConfigError::new("metric", format!("there is a metric {name} already: give it another name")));
        }
        self.declared.insert(name, metric);
        Ok(self)
    }

    fn built_in(&self, metric: &MetricName) -> Result<Wanted, ProviderError> {
        let missing = |message: String| ProviderError::new(ErrorKind::NotFound, OPERATION, message).without_effect();
        let Some(wanted) = Wanted::named(metric) else {
            let is_percentile = metric.as_str().starts_with("latency_p");
            let advice = ": Azure has no percentiles, but latency_average and latency_max";
            return Err(missing(format!("there is no metric {metric}{}", if is_percentile { advice } else { "" })));
        };
        let needed = || missing(format!("{metric} needs an application gateway as a route in the configuration"));
        if gateway::gateways(&self.config).is_empty() { Err(needed()) } else { Ok(wanted) }
    }
}

impl fmt::Debug for MonitorMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorMetrics").field("declared", &self.declared).finish_non_exhaustive()
    }
}

#[async_trait]
impl MetricSource for MonitorMetrics {
    fn lag(&self) -> Duration {
        self.config.metric_lag
    }

    async fn describe(&self, _: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        match self.declared.get(metric) {
            Some(declared) => Ok(declared.kind()),
            None => self.built_in(metric).map(Wanted::kind),
        }
    }

    async fn query(
        &self,
        _: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let declared = self.declared.get(metric);
        let wanted = if declared.is_none() { Some(self.built_in(metric)?) } else { None };
        let window = settled(window, Timestamp::now(), self.config.metric_lag);
        let Some(span) = whole_minutes(window) else { return Ok(Vec::new()) };
        let minutes = match (declared, wanted) {
            (Some(declared), _) => declared.minutes(&self.config, fleet, span).await?,
            (None, Some(wanted)) => gateway::minutes(&self.config, wanted, fleet, span).await?,
            (None, None) => return Ok(Vec::new()),
        };
        Ok(samples(&minutes, span))
    }
}
