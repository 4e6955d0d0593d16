//! Azure Monitor: metrics of resources, as tests put them in.
//!
//! <https://learn.microsoft.com/rest/api/monitor/metrics/list>. What is known of a minute is aggregated, and nothing else: there are no
//! larger intervals here.

mod filter;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::unknown;
use crate::Fake;
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{World, key};

const MINUTE: i64 = 60;

/// A metric that the fake knows, as the [list](https://learn.microsoft.com/azure/azure-monitor/reference/metrics-index) has it.
struct Metric {
    kind: &'static str,
    name: &'static str,
    unit: &'static str,
    dimensions: &'static [&'static str],
    /// Whether minutes without data are told as zeros; otherwise they are told without a value.
    fills: bool,
}

const GATEWAY: &str = "Microsoft.Network/applicationGateways";
const BACKEND: &[&str] = &["Listener", "BackendServer", "BackendPool", "BackendHttpSetting"];
const ANSWERED: &[&str] = &["BackendServer", "BackendPool", "BackendHttpSetting", "HttpStatusGroup"];

const METRICS: &[Metric] = &[
    Metric {
        kind: GATEWAY,
        name: "BackendFirstByteResponseTime",
        unit: "MilliSeconds",
        dimensions: BACKEND,
        fills: true,
    },
    Metric {
        kind: GATEWAY,
        name: "BackendLastByteResponseTime",
        unit: "MilliSeconds",
        dimensions: BACKEND,
        fills: true,
    },
    Metric { kind: GATEWAY, name: "BackendResponseStatus", unit: "Count", dimensions: ANSWERED, fills: true },
    Metric { kind: GATEWAY, name: "FailedRequests", unit: "Count", dimensions: &["BackendSettingsPool"], fills: true },
    Metric { kind: GATEWAY, name: "TotalRequests", unit: "Count", dimensions: &["BackendSettingsPool"], fills: true },
    Metric {
        kind: "Microsoft.Compute/virtualMachineScaleSets",
        name: "Percentage CPU",
        unit: "Percent",
        dimensions: &["VMName"],
        fills: false,
    },
];

/// What was measured in one minute of one series.
#[derive(Debug)]
pub(crate) struct Measured {
    resource: String,
    metric: &'static str,
    /// By their names in small letters.
    labels: BTreeMap<String, String>,
    minute: i64,
    values: Vec<f64>,
}

impl Fake {
    /// Has Azure Monitor know values of a metric from the minute of a time. All of the metric's dimensions are to be named.
    ///
    /// # Panics
    /// If the metric cannot have them.
    pub fn put_metric(&self, resource: &str, metric: &str, labels: &[(&str, &str)], at: Timestamp, values: &[f64]) {
        self.world(|world| {
            let id = world.id_of(resource);
            let known = METRICS.iter().find(|known| known.name == metric);
            let known = known.unwrap_or_else(|| panic!("the fake knows no metric {metric}"));
            let labels: BTreeMap<String, String> =
                labels.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect();
            let names: BTreeSet<String> = known.dimensions.iter().map(|name| name.to_ascii_lowercase()).collect();
            assert!(labels.keys().eq(&names), "{metric} has the dimensions {:?}", known.dimensions);
            let minute = at.as_second().div_euclid(MINUTE) * MINUTE;
            let (resource, metric, values) = (key(&id), known.name, values.to_vec());
            world.measured.push(Measured { resource, metric, labels, minute, values });
        });
    }
}

/// What a series is told apart by: names and values.
type Labels<'a> = Vec<(&'a str, &'a str)>;

/// What was measured, by the beginnings of minutes.
type Minutes = BTreeMap<i64, Vec<f64>>;

/// A question that is understood.
struct Query {
    metrics: Vec<&'static Metric>,
    aggregations: Vec<String>,
    /// From, inclusive, to, exclusive.
    span: (i64, i64),
    /// The dimensions by which series are told apart, in small letters, with the values that they may have.
    filter: BTreeMap<String, Vec<String>>,
    top: usize,
}

pub(super) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    if call.verb != "GET" {
        return unknown(world, call);
    }
    let foreign = call.queries.iter().find(|(name, _)| {
        let known = ["api-version", "metricnames", "timespan", "interval", "aggregation", "$filter", "top"];
        !known.iter().any(|known| known.eq_ignore_ascii_case(name))
    });
    if foreign.is_some() || call.query("interval") != Some("PT1M") {
        return unknown(world, call);
    }
    world.find(call.id())?;
    let query = match Query::read(call) {
        Ok(query) => query,
        // Unlike other services, this one does not wrap what it says:
        // <https://learn.microsoft.com/azure/azure-monitor/essentials/migrate-to-batch-api#error-response-changes>.
        Err(failure) => return Ok(Answer::new(failure.status, failure.error())),
    };
    let told: Vec<Value> = query.metrics.iter().map(|metric| query.told(world, call.id(), metric)).collect();
    let (from, to) = query.span;
    let namespace = call.kind();
    Ok(Answer::ok(json!({
        "cost": 0,
        "timespan": format!("{}/{}", time(from), time(to)),
        "interval": "PT1M",
        "value": told,
        "namespace": namespace,
        "resourceregion": world.options.location,
    })))
}

impl Query {
    fn read(call: &Call) -> Result<Self, Failure> {
        let names: Vec<&str> = call.query("metricnames").unwrap_or_default().split(',').collect();
        let metrics: Vec<_> = names.iter().map(|name| metric(call, name)).collect::<Result<_, _>>()?;
        let aggregations: Vec<String> = match call.query("aggregation") {
            Some(all) => all.split(',').map(|one| one.trim().to_ascii_lowercase()).collect(),
            None => vec!["average".to_owned()],
        };
        let known = ["average", "count", "maximum", "minimum", "total"];
        if let Some(wrong) = aggregations.iter().find(|one| !known.contains(&one.as_str())) {
            return Err(bad(format!("Detect invalid value: {wrong} for query parameter: 'aggregation'.")));
        }
        let filter = call.query("$filter").map(filter::read).transpose()?.unwrap_or_default();
        for metric in &metrics {
            let has = |name: &String| metric.dimensions.iter().any(|own| own.eq_ignore_ascii_case(name));
            if !filter.keys().all(has) {
                let asked: Vec<_> = filter.keys().map(String::as_str).collect();
                return Err(bad(format!(
                    "Metric: {} does not support requested dimension combination: {}, supported ones are: {}",
                    metric.name,
                    asked.join(","),
                    metric.dimensions.join(",")
                )));
            }
        }
        let top = match call.query("top") {
            Some(_) if filter.is_empty() => return Err(bad("The top parameter is valid only with a $filter.")),
            Some(top) => {
                top.parse().map_err(|_| bad(format!("Detected invalid TopN value {top}, should be Int value.")))?
            }
            None => 10,
        };
        Ok(Self { metrics, aggregations, span: span(call)?, filter, top })
    }

    /// What there is of a metric: a series for each combination of what the filter names.
    fn told(&self, world: &World, resource: &str, metric: &Metric) -> Value {
        let (from, to) = self.span;
        let mut series: BTreeMap<Labels<'_>, Minutes> = BTreeMap::new();
        if self.filter.is_empty() {
            series.entry(Vec::new()).or_default();
        }
        for measured in &world.measured {
            let is_meant = measured.resource == key(resource)
                && measured.metric == metric.name
                && (from..to).contains(&measured.minute)
                && self.filter.iter().all(|(name, values)| {
                    values.iter().any(|value| value == "*" || value.eq_ignore_ascii_case(&measured.labels[name]))
                });
            if is_meant {
                let labels = self.filter.keys().map(|name| (name.as_str(), measured.labels[name].as_str())).collect();
                let minutes = series.entry(labels).or_default();
                minutes.entry(measured.minute).or_default().extend(&measured.values);
            }
        }
        let told: Vec<Value> =
            series.iter().take(self.top).map(|(labels, known)| self.one(metric, labels, known)).collect();
        let name = metric.name;
        json!({
            "id": format!("{resource}/providers/Microsoft.Insights/metrics/{name}"),
            "type": "Microsoft.Insights/metrics",
            "name": { "value": name, "localizedValue": name },
            "displayDescription": name,
            "unit": metric.unit,
            "timeseries": told,
            "errorCode": "Success",
        })
    }

    /// A series, with a point for each minute that is asked about.
    fn one(&self, metric: &Metric, labels: &Labels<'_>, known: &Minutes) -> Value {
        let labels: Vec<Value> = labels
            .iter()
            .map(|(name, value)| json!({ "name": { "value": name, "localizedValue": name }, "value": value }))
            .collect();
        let (from, to) = self.span;
        let mut data = Vec::new();
        let mut minute = from.div_euclid(MINUTE) * MINUTE;
        while minute < to {
            let mut point = json!({ "timeStamp": time(minute) });
            for aggregation in &self.aggregations {
                match known.get(&minute) {
                    Some(values) => point[aggregation] = aggregated(aggregation, values).into(),
                    None if metric.fills => point[aggregation] = 0.0.into(),
                    None => {}
                }
            }
            data.push(point);
            minute += MINUTE;
        }
        json!({ "metadatavalues": labels, "data": data })
    }
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(400, "BadRequest", message)
}

fn metric(call: &Call, name: &str) -> Result<&'static Metric, Failure> {
    let of_kind = || METRICS.iter().filter(|metric| metric.kind == call.kind());
    of_kind().find(|metric| metric.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let valid: Vec<_> = of_kind().map(|metric| metric.name).collect();
        let (provider, kind) = call.kind().split_once('/').unwrap_or_default();
        bad(format!(
            "Failed to find metric configuration for provider: {provider}, resource Type: {kind}, metric: {name}, Valid metrics: {}",
            valid.join(",")
        ))
    })
}

/// The moments between which a question is about, in seconds since 1970.
fn span(call: &Call) -> Result<(i64, i64), Failure> {
    let text = call.query("timespan").unwrap_or_default();
    let wrong = || bad(format!("Detect invalid value: {text} for query parameter: 'timespan'."));
    let (from, to) = text.split_once('/').ok_or_else(wrong)?;
    let second = |text: &str| text.parse::<Timestamp>().map(Timestamp::as_second).map_err(|_| wrong());
    let (from, to) = (second(from)?, second(to)?);
    if from < to { Ok((from, to)) } else { Err(wrong()) }
}

#[expect(clippy::cast_precision_loss, reason = "a test puts in few")]
fn aggregated(aggregation: &str, values: &[f64]) -> f64 {
    let total: f64 = values.iter().sum();
    match aggregation {
        "count" => values.len() as f64,
        "maximum" => values.iter().copied().fold(f64::MIN, f64::max),
        "minimum" => values.iter().copied().fold(f64::MAX, f64::min),
        "total" => total,
        _ => total / values.len().max(1) as f64,
    }
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}
