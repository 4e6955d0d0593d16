//! What Cloud Monitoring tells of the requests to a fleet.

mod histogram;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use google_cloud_compute_v1::model::BackendService;
use google_cloud_compute_v1::model::backend_service::LoadBalancingScheme as Scheme;
use google_cloud_monitoring_v3::model::aggregation::{Aligner, Reducer};
use google_cloud_monitoring_v3::model::{Aggregation, ListTimeSeriesResponse, TimeInterval, TimeSeries, TypedValue};
use google_cloud_wkt as wkt;
use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{
    ErrorKind, MetricKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};
use jiff::Timestamp;

use crate::Config;
use crate::on_route::OnRoute;
use crate::operation::Scope;
use crate::task::Task;
use crate::traffic_switch::Route;
use histogram::percentile;

const OPERATION: &str = "query metrics";

/// Load balancers tell their metrics in intervals of a minute, which is also the shortest that can be asked for.
/// <https://docs.cloud.google.com/monitoring/api/metrics_gcp_i_o>
const MINUTE: i64 = 60;

/// The metric's label that tells whether a request went well, and its value where it did not:
/// <https://docs.cloud.google.com/monitoring/api/metrics_gcp_i_o#gcp-loadbalancing>.
const CLASS: &str = "response_code_class";
const FAILED: &str = "500";

/// The metrics of the application load balancers that fleets are behind, per backend service, in whole minutes:
///
/// * `errors`, a ratio: the answers with a status of 5xx, whether from the instances or from the balancer that reached none, of all requests;
/// * `latency_p50`, `latency_p90`, `latency_p95`, `latency_p99`, a level: seconds from when the balancer sent a request to an instance until it
///   had all of the answer. On several routes, the slowest counts. The balancer tells how many requests were how slow in steps, so this
///   is [an estimate](https://docs.cloud.google.com/monitoring/api/v3/distribution-metrics) that is as wrong as a step is wide.
///
/// They are looked for on those of the configuration's [routes](crate::ConfigBuilder::routes) that are URL maps. A backend service that
/// fleets share has no metrics of each.
///
/// # Errors
/// `NotFound` for any other metric, and for all of them when no route is a URL map.
///
/// # Cancellation
/// Dropping a future leaves nothing behind.
pub struct MonitoringMetrics {
    config: Config,
}

impl MonitoringMetrics {
    /// The metrics on the routes of this configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl fmt::Debug for MonitoringMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitoringMetrics").finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wanted {
    Errors,
    /// The part of the requests that are not slower.
    Latency(f64),
}

impl Wanted {
    fn named(name: &MetricName) -> Option<Self> {
        Some(match name.as_str() {
            "errors" => Self::Errors,
            "latency_p50" => Self::Latency(0.50),
            "latency_p90" => Self::Latency(0.90),
            "latency_p95" => Self::Latency(0.95),
            "latency_p99" => Self::Latency(0.99),
            _ => return None,
        })
    }

    /// The metric of the balancer that it is made of.
    fn metric(self) -> &'static str {
        match self {
            Self::Errors => "request_count",
            Self::Latency(_) => "backend_latencies",
        }
    }

    fn kind(self) -> MetricKind {
        match self {
            Self::Errors => MetricKind::Ratio,
            Self::Latency(_) => MetricKind::Gauge,
        }
    }
}

/// What is known of minutes, by their beginnings in seconds since 1970.
type Minutes = BTreeMap<i64, MetricValue>;

#[async_trait]
impl MetricSource for MonitoringMetrics {
    fn lag(&self) -> Duration {
        self.config.metric_lag
    }

    async fn describe(&self, _: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        self.wanted(metric).map(Wanted::kind)
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let (wanted, task) = (self.wanted(metric)?, Task::new(&self.config, OPERATION, cx));
        let window = settled(window, Timestamp::now(), self.config.metric_lag);
        let Some(span) = whole_minutes(window) else { return Ok(Vec::new()) };
        let mut minutes = Minutes::new();
        let places = self.config.routes.iter().filter_map(|route| OnRoute::of(route, fleet));
        for place in places.filter(|place| place.is_alone).collect::<Vec<_>>() {
            let service = place.service.get(&task).await?;
            let folder = service.as_ref().and_then(|service| folder(service, &place.service.scope));
            let Some(folder) = folder else { continue };
            let filter = format!(
                "metric.type = \"loadbalancing.googleapis.com/{folder}/{}\" AND resource.labels.backend_target_name = \"{}\"",
                wanted.metric(),
                place.service.name
            );
            for series in self.series(&task, wanted, &filter, span).await? {
                add(&mut minutes, wanted, &series);
            }
        }
        Ok(samples(&minutes, span))
    }
}

impl MonitoringMetrics {
    fn wanted(&self, metric: &MetricName) -> Result<Wanted, ProviderError> {
        let missing = |message: String| ProviderError::new(ErrorKind::NotFound, OPERATION, message).without_effect();
        let wanted = Wanted::named(metric).ok_or_else(|| missing(format!("there is no metric {metric}")))?;
        let has_url_map = self.config.routes.iter().any(|route| Route::parse(route).is_some());
        has_url_map
            .then_some(wanted)
            .ok_or_else(|| missing(format!("{metric} needs a URL map as a route in the configuration")))
    }

    /// What there is, added up by minute, of requests also by class. A minute without data has none: `ALIGN_DELTA` would make it up.
    async fn series(
        &self,
        task: &Task<'_>,
        wanted: Wanted,
        filter: &str,
        (from, to): (i64, i64),
    ) -> Result<Vec<TimeSeries>, ProviderError> {
        let at = |seconds| wkt::Timestamp::clamp(seconds, 0);
        let kept = (wanted == Wanted::Errors).then(|| format!("metric.labels.{CLASS}"));
        let aggregation = Aggregation::new()
            .set_alignment_period(wkt::Duration::clamp(MINUTE, 0))
            .set_per_series_aligner(Aligner::AlignSum)
            .set_cross_series_reducer(Reducer::ReduceSum)
            .set_group_by_fields(kept);
        let request = self.config.clients.metrics.list_time_series();
        let request = request.set_name(format!("projects/{}", self.config.project)).set_filter(filter);
        let request = request.set_interval(TimeInterval::new().set_start_time(at(from)).set_end_time(at(to)));
        let request = request.set_aggregation(aggregation);
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let page = request.clone().set_page_token(token).send().await;
            // A metric of which the project has never had any data is not there.
            let Some(page) = task.found(page)? else { return Ok(all) };
            whole(&page)?;
            all.extend(page.time_series);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(all);
            }
        }
    }
}

/// Whether an answer is all that there is: errors that are missing would look like none.
fn whole(page: &ListTimeSeriesResponse) -> Result<(), ProviderError> {
    if page.execution_errors.is_empty() {
        return Ok(());
    }
    let problem = "Cloud Monitoring could not read all of the load balancer's metrics: ask again";
    Err(ProviderError::new(ErrorKind::Unavailable, OPERATION, problem).without_effect())
}

/// Where the metrics of a load balancer are, by its kind:
/// <https://docs.cloud.google.com/load-balancing/docs/metrics>.
fn folder(service: &BackendService, scope: &Scope) -> Option<&'static str> {
    match (service.load_balancing_scheme.as_ref()?, scope) {
        (Scheme::External | Scheme::ExternalManaged, Scope::Global) => Some("https"),
        (Scheme::ExternalManaged, Scope::Region(_)) => Some("https/external/regional"),
        (Scheme::InternalManaged, _) => Some("https/internal"),
        _ => None,
    }
}

/// Adds what a series tells. Points are known by their ends.
fn add(minutes: &mut Minutes, wanted: Wanted, series: &TimeSeries) {
    let class = series.metric.as_ref().and_then(|metric| metric.labels.get(CLASS));
    let has_failed = class.is_some_and(|class| class == FAILED);
    for point in &series.points {
        let end = point.interval.as_ref().and_then(|interval| interval.end_time.as_ref());
        let value = point.value.as_ref().and_then(|value| read(wanted, value, has_failed));
        if let (Some(end), Some(value)) = (end, value) {
            let known = minutes.entry(end.seconds() - MINUTE);
            known.and_modify(|known| *known = together(*known, value)).or_insert(value);
        }
    }
}

fn read(wanted: Wanted, value: &TypedValue, has_failed: bool) -> Option<MetricValue> {
    match wanted {
        Wanted::Errors => {
            let whole = u64::try_from(*value.int64_value()?).ok()?;
            Some(MetricValue::Ratio { part: if has_failed { whole } else { 0 }, whole })
        }
        Wanted::Latency(part) => percentile(value, part).map(|milliseconds| MetricValue::Gauge(milliseconds / 1000.0)),
    }
}

/// Two values about one minute as one: all requests, or the slowest route.
fn together(one: MetricValue, other: MetricValue) -> MetricValue {
    match (one, other) {
        (MetricValue::Ratio { part: a, whole: b }, MetricValue::Ratio { part: c, whole: d }) => {
            MetricValue::Ratio { part: a.saturating_add(c), whole: b.saturating_add(d) }
        }
        (MetricValue::Gauge(one), MetricValue::Gauge(other)) => MetricValue::Gauge(one.max(other)),
        _ => one,
    }
}

/// The window without what may not be complete: of the newest minutes the requests may be told already and the errors among them not yet, which would
/// look like none.
fn settled(window: Window, now: Timestamp, lag: Duration) -> Window {
    let newest = now.checked_sub(lag).unwrap_or(Timestamp::MIN);
    Window { from: window.from, to: window.to.min(newest) }
}

/// The minutes that are in the window as a whole, in seconds since 1970.
fn whole_minutes(window: Window) -> Option<(i64, i64)> {
    let up = |time: Timestamp| {
        let seconds = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
        seconds.div_euclid(MINUTE) * MINUTE + if seconds.rem_euclid(MINUTE) > 0 { MINUTE } else { 0 }
    };
    let (from, to) = (up(window.from), window.to.as_second().div_euclid(MINUTE) * MINUTE);
    (from < to).then_some((from, to))
}

fn samples(minutes: &Minutes, (from, to): (i64, i64)) -> Vec<MetricSample> {
    let sample = |(at, value): (&i64, &MetricValue)| {
        let (start, end) = (Timestamp::from_second(*at).ok()?, Timestamp::from_second(at + MINUTE).ok()?);
        let is_silence = matches!(value, MetricValue::Ratio { whole: 0, .. });
        let is_whole = at.rem_euclid(MINUTE) == 0;
        (!is_silence && is_whole).then_some(MetricSample { window: Window { from: start, to: end }, value: *value })
    };
    minutes.range(from..to).filter_map(sample).collect()
}

#[cfg(test)]
mod tests;
