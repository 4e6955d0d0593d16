//! What Prometheus tells of a fleet.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{
    ErrorKind, MetricKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};
use jiff::Timestamp;
use prometheus_http_query::response::RangeVector;

use crate::client::{Question, Server};
use crate::query::{Kind, LEVEL, PART, WHOLE};
use crate::steps::Steps;
use crate::template::Template;
use crate::value;

const DESCRIBE: &str = "describe metric";
const QUERY: &str = "query metric";

/// On so many samples a query is tried: one of them may be missing, or just not be over.
const TRIED: u64 = 30;

/// Metrics by [queries](crate::Query) to Prometheus.
///
/// A sample is about as much time as the [resolution](crate::MetricsBuilder::resolution) says, and ends at a multiple of that since 1970.
/// Only those are told of that lie in the window as a whole, and that ended before the [lag](crate::MetricsBuilder::lag); so it is best to
/// ask for windows that begin and end at such multiples. A window is one request for each query, or one for every 11,000 samples.
///
/// # No data
/// Prometheus has no series for what never happened, and none for what it does not see. Both are an empty answer, so it takes a rule:
///
/// * **No whole is silence.** Where the whole of a ratio is missing, or rounds to zero, there is no sample, whatever the part says.
/// * **No part of some whole is zero.** Where there is a whole and no part, nothing of it happened: no error, usually, before the first. So
///   both must come from the same exporter. Where they do not, let the whole depend on what the part comes from:
///   `sum(increase(…)) and on() (sum(up{job="errors"}) > 0)`.
/// * **What cannot be is no data**, and never a pass: a value that is not a number, infinite, or negative where it counts; and a part that is
///   more than the whole. By one more it may be, from rounding, and counts as the whole.
/// * A level that is missing is silence.
///
/// Counts are rounded to the nearest whole number: `increase` guesses what happened between the last scrape and the end, and has
/// fractions. It does not see what a counter had when it was first seen: let exporters begin with all counters at zero, also that of errors.
/// A counter that begins anew is known by its fall, and is no negative count.
///
/// # Errors
/// `NotFound` for a metric that was not configured. `InvalidRequest` for a query that the server refuses, with what it says, for one that comes
/// to several series, and at the start for one that tells nothing of the [fleet that has data](crate::MetricsBuilder::sample_fleet).
/// `PermissionDenied` for refused credentials, `Throttled` where there are too many requests, `Timeout` and `Unavailable` for a server that
/// does not answer, does not work, or warns that its answer is not whole. None has an effect, and none contains a credential.
///
/// # Cancellation
/// Dropping a future leaves nothing behind.
pub struct PrometheusMetrics {
    pub(crate) server: Server,
    pub(crate) metrics: BTreeMap<MetricName, Kind<Template>>,
    /// In seconds.
    pub(crate) resolution: i64,
    pub(crate) lag: Duration,
    pub(crate) sample_fleet: Option<FleetId>,
}

impl fmt::Debug for PrometheusMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.metrics.keys().collect();
        let debug = &mut f.debug_struct("PrometheusMetrics");
        debug.field("server", &self.server).field("metrics", &names).finish_non_exhaustive()
    }
}

/// Numbers by the moment that they end at, in seconds since 1970.
type Numbers = BTreeMap<i64, f64>;

/// Who wants to know, and what of.
#[derive(Clone, Copy)]
struct Asked<'a> {
    operation: &'static str,
    metric: &'a MetricName,
    fleet: &'a FleetId,
    timeout: Duration,
}

impl Asked<'_> {
    /// What is wrong with a query of the metric, whoever answers it.
    fn error(&self, query: &str, problem: &str) -> ProviderError {
        let message = format!("metric {}, {query}: {problem}", self.metric);
        ProviderError::new(ErrorKind::InvalidRequest, self.operation, message).without_effect()
    }
}

#[async_trait]
impl MetricSource for PrometheusMetrics {
    fn lag(&self) -> Duration {
        self.lag
    }

    /// Tries every query of the metric on what is newest, so that one that cannot be judged is known before anything is touched.
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        let kind = self.kind(DESCRIBE, metric)?;
        let to = self.newest();
        let tried = Duration::from_secs(TRIED * self.resolution.unsigned_abs());
        let window = Window { from: to.checked_sub(tried).unwrap_or(Timestamp::MIN), to };
        let nobody = nobody();
        let fleet = self.sample_fleet.as_ref().unwrap_or(&nobody);
        let asked = Asked { operation: DESCRIBE, metric, fleet, timeout: cx.timeout };
        let Some(steps) = Steps::within(window, self.resolution) else { return Ok(kind.of_metric()) };
        for (name, query) in kind.queries() {
            let numbers = self.numbers(asked, name, query, steps).await?;
            // A part may well be missing: there was no error.
            if self.sample_fleet.is_some() && name != PART && !numbers.values().any(|number| number.is_finite()) {
                let problem =
                    format!("comes to no number for fleet {fleet}, which should have some: is there such a series?");
                return Err(asked.error(name, &problem));
            }
        }
        Ok(kind.of_metric())
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let kind = self.kind(QUERY, metric)?;
        let window = Window { to: window.to.min(self.newest()), ..window };
        let Some(steps) = Steps::within(window, self.resolution) else { return Ok(Vec::new()) };
        let asked = Asked { operation: QUERY, metric, fleet, timeout: cx.timeout };
        let values = match kind {
            Kind::Gauge(query) => {
                let levels = self.numbers(asked, LEVEL, query, steps).await?;
                levels.into_iter().map(|(at, level)| (at, value::gauge(level))).collect()
            }
            Kind::Ratio { part, whole } => self.ratios(asked, part, whole, steps).await?,
        };
        let sample =
            |(at, value): (i64, Option<MetricValue>)| Some(MetricSample { window: steps.window(at)?, value: value? });
        Ok(values.into_iter().filter_map(sample).collect())
    }
}

impl PrometheusMetrics {
    fn kind(&self, operation: &'static str, metric: &MetricName) -> Result<&Kind<Template>, ProviderError> {
        self.metrics.get(metric).ok_or_else(|| {
            let known: Vec<_> = self.metrics.keys().map(MetricName::as_str).collect();
            let message = format!("no metric {metric}; this source has {}", known.join(", "));
            ProviderError::new(ErrorKind::NotFound, operation, message).without_effect()
        })
    }

    /// The last moment that the server has all of.
    fn newest(&self) -> Timestamp {
        Timestamp::now().checked_sub(self.lag).unwrap_or(Timestamp::MIN)
    }

    async fn ratios(
        &self,
        asked: Asked<'_>,
        part: &Template,
        whole: &Template,
        steps: Steps,
    ) -> Result<Vec<(i64, Option<MetricValue>)>, ProviderError> {
        // In this order: what comes in between is a part too many, and not one that is missing.
        let wholes = self.numbers(asked, WHOLE, whole, steps).await?;
        if wholes.is_empty() {
            return Ok(Vec::new());
        }
        let parts = self.numbers(asked, PART, part, steps).await?;
        Ok(wholes.into_iter().map(|(at, whole)| (at, value::ratio(parts.get(&at).copied(), whole))).collect())
    }

    /// What a query comes to at each moment where it comes to something.
    async fn numbers(
        &self,
        asked: Asked<'_>,
        name: &str,
        query: &Template,
        steps: Steps,
    ) -> Result<Numbers, ProviderError> {
        let query = query.fill(asked.fleet, self.resolution);
        let query = query.map_err(|problem| asked.error(name, &problem))?;
        let name = format!("metric {}, {name}", asked.metric);
        let mut found: Option<RangeVector> = None;
        let mut numbers = Numbers::new();
        for steps in steps.chunks() {
            let Asked { operation, timeout, .. } = asked;
            let question = Question { operation, name: &name, query: &query, steps, timeout };
            for series in self.server.ask(question).await? {
                numbers.extend(
                    series.samples().iter().filter_map(|one| Some((steps.find(one.timestamp())?, one.value()))),
                );
                if let Some(other) = found.replace(series)
                    && found.as_ref().is_some_and(|series| series.metric() != other.metric())
                {
                    return Err(
                        question.error(ErrorKind::InvalidRequest, "comes to several series: aggregate with sum()")
                    );
                }
            }
        }
        Ok(numbers)
    }
}

/// A fleet that does not exist.
fn nobody() -> FleetId {
    FleetId::new("immutable-nobody").expect("invariant: letters and a hyphen are a fleet id")
}
