//! Metrics that users declare.

use std::collections::BTreeMap;

use immutable_core::model::FleetId;
use immutable_core::provider::{MetricKind, MetricValue, ProviderError};

use super::OPERATION;
use super::minutes::{Minutes, Span, add, ratio};
use super::question::{Aggregation, Question, Series, moments};
use crate::{Config, ConfigError, ownership};

/// What stands for the fleet.
const FLEET: &str = "{fleet}";

/// A metric that Azure Monitor has of each fleet, by [series](FleetSeries) that tell the fleet apart from others.
#[derive(Debug, Clone)]
#[must_use]
pub struct FleetMetric(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Gauge { series: FleetSeries, has_zeros: bool },
    Ratio { part: FleetSeries, whole: FleetSeries },
}

/// One metric of one resource in Azure Monitor. In the id of the resource and in the values of dimensions, `{fleet}` is the id of the fleet, such as
/// `web-0123456789ab`; its scale set is named `im-{fleet}`.
#[derive(Debug, Clone)]
#[must_use]
pub struct FleetSeries {
    resource: String,
    metric: String,
    namespace: Option<String>,
    aggregation: Aggregation,
    dimensions: BTreeMap<String, Vec<String>>,
}

impl FleetMetric {
    /// A level: the value of a series for each minute, in its own unit. Of several series, such as of dimensions that may have several values, the highest
    /// counts.
    ///
    /// Zeros are silence, as Azure Monitor fills minutes of which it knows nothing with zeros for many metrics, and does not say so. A metric for
    /// which it does not do so can be declared [with zeros](Self::with_zeros).
    pub fn gauge(series: FleetSeries) -> Self {
        Self(Kind::Gauge { series, has_zeros: false })
    }

    /// A ratio: what one series counts, of what another one counts, such as failed requests of all. Several series are added up.
    ///
    /// A minute in which nothing was counted at all is silence. One in which only the part is missing has none of it. The aggregation
    /// of both should be [`Total`](Aggregation::Total) or [`Count`](Aggregation::Count).
    ///
    /// **A part that is declared wrongly looks like a part of which there is none.** Of a dimension that never has the value that was named, Azure Monitor tells
    /// an empty series and no error, so that a ratio of failures is 0 in every minute and every release passes. See a value other than 0 once before you
    /// rely on it.
    pub fn ratio(part: FleetSeries, whole: FleetSeries) -> Self {
        Self(Kind::Ratio { part, whole })
    }

    /// Zeros of this level are values like others.
    pub fn with_zeros(mut self) -> Self {
        if let Kind::Gauge { has_zeros, .. } = &mut self.0 {
            *has_zeros = true;
        }
        self
    }

    pub(super) fn kind(&self) -> MetricKind {
        match self.0 {
            Kind::Gauge { .. } => MetricKind::Gauge,
            Kind::Ratio { .. } => MetricKind::Ratio,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.0 {
            Kind::Gauge { series, .. } => series.check(),
            Kind::Ratio { part, whole } => part.check().and_then(|()| whole.check()),
        }
    }

    pub(super) async fn minutes(&self, config: &Config, fleet: &FleetId, span: Span) -> Result<Minutes, ProviderError> {
        // An id that is a name has nothing in it that could mean something else in a path or in a filter.
        ownership::name(OPERATION, fleet)?;
        Ok(match &self.0 {
            Kind::Gauge { series, has_zeros } => levels(&series.of(fleet).ask(config, span).await?, *has_zeros),
            Kind::Ratio { part, whole } => {
                let whole = whole.of(fleet).ask(config, span).await?;
                ratios(&part.of(fleet).ask(config, span).await?, &whole)
            }
        })
    }
}

impl FleetSeries {
    /// A metric of a resource, by the name that the [REST API](https://learn.microsoft.com/azure/azure-monitor/reference/metrics-index) has for it.
    pub fn new(resource: impl Into<String>, metric: impl Into<String>, aggregation: Aggregation) -> Self {
        let (resource, metric, dimensions) = (resource.into(), metric.into(), BTreeMap::new());
        Self { resource, metric, namespace: None, aggregation, dimensions }
    }

    /// The namespace of the metric, such as that of custom metrics. That of the resource unless said otherwise.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only what has this value of a dimension, in letters of either size. A dimension that is named several times may have each of these values.
    pub fn dimension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.dimensions.entry(name.into()).or_default().push(value.into());
        self
    }

    fn of(&self, fleet: &FleetId) -> Question {
        let filled = |text: &String| text.replace(FLEET, fleet.as_str());
        let dimension = |(name, values): (&String, &Vec<String>)| (name.clone(), values.iter().map(filled).collect());
        Question {
            resource: filled(&self.resource),
            metric: self.metric.clone(),
            namespace: self.namespace.clone(),
            aggregation: self.aggregation,
            dimensions: self.dimensions.iter().map(dimension).collect(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let hold = |field, holds, problem: &str| if holds { Ok(()) } else { Err(ConfigError::new(field, problem)) };
        let is_resource = self.resource.starts_with("/subscriptions/") && self.resource.contains("/providers/");
        hold("resource", is_resource, "must look like \"/subscriptions/.../providers/...\"")?;
        let is_plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || "',".contains(c));
        hold("metric", is_plain(&self.metric), "must be the name of one metric, such as \"Percentage CPU\"")?;
        let namespace = self.namespace.as_deref();
        hold("namespace", namespace.is_none_or(is_plain), "must be the name of a namespace of metrics")?;
        let names = self.dimensions.keys().all(|name| is_plain(name));
        hold("dimension", names, "must be the name of a dimension, such as \"cloud/roleName\"")?;
        let is_value = |value: &String| !value.is_empty() && !value.contains(char::is_control);
        let values = self.dimensions.values().flatten().all(is_value);
        hold("dimension", values, "must have a value, such as \"{fleet}\"")?;
        let tells = self.dimensions.values().flatten().chain([&self.resource]).any(|text| text.contains(FLEET));
        hold("metric", tells, "must tell fleets apart: put {fleet} into the resource or into the value of a dimension")
    }
}

pub(super) fn levels(all: &[Series], has_zeros: bool) -> Minutes {
    let mut minutes = Minutes::new();
    for (at, value) in all.iter().flat_map(|series| &series.values) {
        if has_zeros || *value != 0.0 {
            add(&mut minutes, *at, MetricValue::Gauge(*value));
        }
    }
    minutes
}

pub(super) fn ratios(part: &[Series], whole: &[Series]) -> Minutes {
    let sum = |all: &[Series], at: i64| all.iter().filter_map(|series| series.values.get(&at)).sum::<f64>();
    moments(whole).into_iter().map(|at| (at, ratio(sum(part, at), sum(whole, at)))).collect()
}
