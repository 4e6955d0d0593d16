//! A question to Azure Monitor, and its answer.

use std::collections::{BTreeMap, BTreeSet};

use immutable_core::provider::{ErrorKind, ProviderError};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use super::OPERATION;
use super::minutes::{MINUTE, Span};
use crate::Config;
use crate::client::Request;
use crate::error::unseen;

const VERSION: &str = "2024-02-01";

/// Metrics of the platform are told in [intervals of a minute](https://learn.microsoft.com/azure/azure-monitor/essentials/data-platform-metrics), which
/// is also the shortest that can be asked for.
const INTERVAL: &str = "PT1M";

/// So many series are asked for at most, and an answer with as many is not all: Azure gives ten unless asked for more, and
/// [says nothing of the others](https://learn.microsoft.com/rest/api/monitor/metrics/list).
const MOST: usize = 10_000;

/// How Azure Monitor makes one value of all that it has of a minute:
/// <https://learn.microsoft.com/azure/azure-monitor/essentials/metrics-aggregation-explained>. Which of them a metric has is in the vendor's
/// [list](https://learn.microsoft.com/azure/azure-monitor/reference/metrics-index).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aggregation {
    /// The average of the values.
    Average,
    /// How many values there are.
    Count,
    /// The largest value.
    Maximum,
    /// The smallest value.
    Minimum,
    /// The sum of the values.
    Total,
}

/// What is asked: one metric of one resource.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Its id, from `/subscriptions/` on.
    pub(super) resource: String,
    pub(super) metric: String,
    /// Where the metric is, if not with the resource's own.
    pub(super) namespace: Option<String>,
    pub(super) aggregation: Aggregation,
    /// The dimensions that series are told apart by, each with the values that it may have. `*` is any.
    pub(super) dimensions: BTreeMap<String, Vec<String>>,
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// Its dimensions, both in small letters: Azure writes names as it likes.
    pub(super) labels: BTreeMap<String, String>,
    /// The values by the beginnings of their minutes, in seconds since 1970.
    pub(super) values: BTreeMap<i64, f64>,
}

#[derive(Deserialize)]
pub(super) struct Answer {
    interval: Option<String>,
    value: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    error_code: Option<String>,
    error_message: Option<String>,
    timeseries: Vec<Element>,
}

#[derive(Deserialize)]
struct Element {
    #[serde(default)]
    metadatavalues: Vec<Label>,
    #[serde(default)]
    data: Vec<Point>,
}

#[derive(Deserialize)]
struct Label {
    name: Name,
    value: String,
}

#[derive(Deserialize)]
struct Name {
    value: String,
}

#[derive(Deserialize)]
struct Point {
    #[serde(rename = "timeStamp")]
    at: Timestamp,
    average: Option<f64>,
    count: Option<f64>,
    maximum: Option<f64>,
    minimum: Option<f64>,
    total: Option<f64>,
}

impl Aggregation {
    fn name(self) -> &'static str {
        match self {
            Self::Average => "Average",
            Self::Count => "Count",
            Self::Maximum => "Maximum",
            Self::Minimum => "Minimum",
            Self::Total => "Total",
        }
    }

    fn of(self, point: &Point) -> Option<f64> {
        match self {
            Self::Average => point.average,
            Self::Count => point.count,
            Self::Maximum => point.maximum,
            Self::Minimum => point.minimum,
            Self::Total => point.total,
        }
    }
}

impl Question {
    /// The series that there are, by one request; none of a resource that is not there.
    ///
    /// # Errors
    /// When Azure cannot be asked, and for an answer that is not all or not what was asked for.
    pub(super) async fn ask(&self, config: &Config, span: Span) -> Result<Vec<Series>, ProviderError> {
        let answer = config.clients.send(self.request(span)).await.and_then(|answer| answer.json::<Answer>());
        match answer.map_err(|failure| unseen(OPERATION, failure)) {
            Ok(answer) => self.series(&answer),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn request(&self, (from, to): Span) -> Request {
        let at = |second| Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        let path = format!("{}/providers/Microsoft.Insights/metrics", self.resource);
        let mut request = Request::new(Method::GET, &path, VERSION)
            .query("metricnames", &self.metric)
            .query("aggregation", self.aggregation.name())
            .query("interval", INTERVAL)
            .query("timespan", format!("{}/{}", at(from), at(to)));
        if let Some(namespace) = &self.namespace {
            request = request.query("metricnamespace", namespace);
        }
        if self.dimensions.is_empty() {
            return request;
        }
        request.query("$filter", self.filter()).query("top", MOST.to_string())
    }

    /// The filter: values of one dimension are joined by `or`, and dimensions by `and`.
    fn filter(&self) -> String {
        let quoted = |value: &String| format!("'{}'", value.replace('\'', "''"));
        let condition = |(name, values): (&String, &Vec<String>)| {
            let all: Vec<_> = values.iter().map(|value| format!("{name} eq {}", quoted(value))).collect();
            all.join(" or ")
        };
        self.dimensions.iter().map(condition).collect::<Vec<_>>().join(" and ")
    }

    /// What an answer tells.
    pub(super) fn series(&self, answer: &Answer) -> Result<Vec<Series>, ProviderError> {
        let wrong = |kind, problem: String| Err(ProviderError::new(kind, OPERATION, problem).without_effect());
        let name = &self.metric;
        if answer.interval.as_deref().is_some_and(|interval| interval != INTERVAL) {
            return wrong(ErrorKind::Internal, format!("Azure Monitor tells {name} in other intervals than minutes"));
        }
        let [metric] = answer.value.as_slice() else {
            return wrong(ErrorKind::Internal, format!("Azure Monitor did not tell {name} alone: ask again"));
        };
        if let Some(code) = metric.error_code.as_deref().filter(|code| !code.eq_ignore_ascii_case("Success")) {
            let why = metric.error_message.as_deref().unwrap_or("without a reason");
            let words: String = format!("{code}: {why}").chars().filter(|c| !c.is_control()).take(500).collect();
            return wrong(ErrorKind::Unavailable, format!("Azure Monitor could not tell {name}: {words}"));
        }
        if !self.dimensions.is_empty() && metric.timeseries.len() >= MOST {
            return wrong(ErrorKind::Internal, format!("{name} has more series than Azure Monitor tells at once"));
        }
        metric.timeseries.iter().map(|element| self.one(element)).collect()
    }

    fn one(&self, element: &Element) -> Result<Series, ProviderError> {
        let small = |label: &Label| (label.name.value.to_ascii_lowercase(), label.value.to_ascii_lowercase());
        let labels: BTreeMap<_, _> = element.metadatavalues.iter().map(small).collect();
        // One that was not asked for is of others as well.
        let is_asked = |(name, values): (&String, &Vec<String>)| {
            let found = labels.get(&name.to_ascii_lowercase());
            found.is_some_and(|found| values.iter().any(|value| value == "*" || value.eq_ignore_ascii_case(found)))
        };
        if !self.dimensions.iter().all(is_asked) {
            let problem = format!("Azure Monitor told {} of more than was asked for: ask again", self.metric);
            return Err(ProviderError::new(ErrorKind::Internal, OPERATION, problem).without_effect());
        }
        let known = element.data.iter().filter_map(|point| {
            let value = self.aggregation.of(point).filter(|value| value.is_finite())?;
            let second = point.at.as_second();
            (second.rem_euclid(MINUTE) == 0).then_some((second, value))
        });
        Ok(Series { values: known.collect(), labels })
    }
}

impl Series {
    /// The value of a dimension.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The moments that any of these series knows.
pub(super) fn moments<'a>(all: impl IntoIterator<Item = &'a Series>) -> BTreeSet<i64> {
    all.into_iter().flat_map(|series| series.values.keys().copied()).collect()
}
