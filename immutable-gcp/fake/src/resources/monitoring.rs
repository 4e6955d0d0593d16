//! Cloud Monitoring: what load balancers tell of the requests to their backend services.
//!
//! The names of metrics and labels: <https://docs.cloud.google.com/monitoring/api/metrics_gcp_i_o#gcp-loadbalancing> and
//! <https://docs.cloud.google.com/monitoring/api/resources>.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::unknown;
use crate::call::Call;
use crate::failure::Failure;
use crate::fake::Fake;
use crate::world::{World, name};

const MINUTE: i64 = 60;
const DOMAIN: &str = "loadbalancing.googleapis.com/";

/// So many finite buckets have latencies, from 1 ms on, each wider than the one before it by the factor.
const BUCKETS: u16 = 66;
const GROWTH: f64 = 1.4;

/// Requests to one backend service, in one minute, with one class of answers.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// The path of the backend service.
    service: String,
    /// When the minute ends, in seconds since 1970.
    end: i64,
    class: u16,
    milliseconds: Vec<f64>,
}

impl Fake {
    /// Requests to a backend service, such as `global/backendServices/web`, in the minute that begins then: the class of their answers
    /// (200, 300, 400, 500, or 0 where the client did not wait for any), and how long each took, in milliseconds.
    pub fn put_requests(&self, service: &str, minute: Timestamp, class: u16, milliseconds: &[f64]) {
        self.world(|world| {
            let (service, end) = (world.path_of(service), minute.as_second() + MINUTE);
            world.measured.push(Measured { service, end, class, milliseconds: milliseconds.to_vec() });
        });
    }
}

/// A question that is understood.
struct Query {
    /// Where the metric is: `https/internal`.
    folder: String,
    /// What is measured: `request_count`.
    metric: String,
    /// What labels have to be.
    labels: BTreeMap<String, String>,
    /// The labels of the metric that are not added up.
    kept: Vec<String>,
    /// The first moment that is not asked about, and the last that is, in seconds since 1970.
    span: (i64, i64),
}

/// The latencies of all requests, by the labels that are kept and by the end of the minute.
type Series = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, Vec<f64>>>;

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "list" => list(world, call),
        _ => unknown(world, call),
    }
}

fn list(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let query = Query::read(call).map_err(|why| {
        world.violation(format!("{}: {why}", call.method));
        Failure::new(400, "badRequest", why)
    })?;
    if call.param("name") != world.project() {
        return Err(Failure::new(403, "forbidden", format!("Permission denied on {}.", call.param("name"))));
    }
    let kinds = ["https", "https/external/regional", "https/internal"];
    let metrics = ["request_count", "backend_latencies"];
    if !kinds.contains(&query.folder.as_str()) || !metrics.contains(&query.metric.as_str()) {
        let what = format!("{DOMAIN}{}/{}", query.folder, query.metric);
        return Err(Failure::new(404, "notFound", format!("Cannot find metric(s) that match type = \"{what}\".")));
    }
    let series = query.series(world);
    // A page has so many points, the newest of each series first.
    let all: Vec<_> =
        series.iter().flat_map(|(labels, points)| points.iter().rev().map(move |at| (labels, at))).collect();
    let begin = call.query("pageToken").and_then(|token| token.parse().ok()).unwrap_or(0).min(all.len());
    let end = all.len().min(begin + world.options.page.max(1));
    let mut answer = json!({ "unit": query.unit(), "timeSeries": [] });
    for (labels, (at, latencies)) in &all[begin..end] {
        let told = answer["timeSeries"].as_array_mut().expect("invariant: made above");
        let head = query.head(&world.options.project, labels);
        if told.last().is_none_or(|last| last["metric"] != head["metric"]) {
            told.push(head);
        }
        let points = told.last_mut().and_then(|last| last["points"].as_array_mut());
        points.expect("invariant: a head has them").push(query.point(**at, latencies));
    }
    if end < all.len() {
        answer["nextPageToken"] = end.to_string().into();
    }
    Ok(answer)
}

impl Query {
    /// # Errors
    /// What is not understood.
    fn read(call: &Call) -> Result<Self, String> {
        let given = |name: &str| call.query(name).filter(|text| !text.is_empty());
        // By their names or numbers: <https://docs.cloud.google.com/monitoring/api/ref_v3/rest/v3/Aggregation>.
        for (parameter, known) in [
            ("view", &["FULL", "0"] as &[&str]),
            ("aggregation.perSeriesAligner", &["ALIGN_SUM", "14"]),
            ("aggregation.crossSeriesReducer", &["REDUCE_SUM", "4"]),
            ("aggregation.alignmentPeriod", &["60s"]),
        ] {
            let value = given(parameter).unwrap_or_default();
            if !known.contains(&value) {
                return Err(format!("the fake does not do {parameter} '{value}'"));
            }
        }
        let seconds = |name: &str| {
            let time = given(name).and_then(|text| text.parse::<Timestamp>().ok());
            time.map(Timestamp::as_second).ok_or_else(|| format!("there is no {name}"))
        };
        let span = (seconds("interval.startTime")?, seconds("interval.endTime")?);
        if span.0 >= span.1 {
            return Err("the interval ends before it begins".to_owned());
        }
        let mut labels = conditions(given("filter").unwrap_or_default())?;
        let metric = labels.remove("metric.type").ok_or("the filter names no metric.type")?;
        let metric = metric.strip_prefix(DOMAIN).unwrap_or(&metric);
        let (folder, metric) = metric.rsplit_once('/').unwrap_or_default();
        let kept = call.queries.iter().filter(|(name, _)| name == "aggregation.groupByFields");
        let kept = kept.map(|(_, field)| match field.as_str() {
            "metric.labels.response_code_class" => Ok("response_code_class".to_owned()),
            _ => Err(format!("the fake does not group by {field}")),
        });
        let kept = kept.collect::<Result<_, _>>()?;
        Ok(Self { folder: folder.to_owned(), metric: metric.to_owned(), labels, kept, span })
    }

    /// What is asked for of what there is.
    fn series(&self, world: &World) -> Series {
        let mut series = Series::new();
        for requests in &world.measured {
            let (from, to) = self.span;
            let labels = labels(world, requests);
            let is_meant = folder(world, &requests.service) == Some(self.folder.as_str())
                && self.labels.iter().all(|(name, wanted)| labels.get(name) == Some(wanted));
            if !is_meant || requests.end <= from || requests.end > to {
                continue;
            }
            let kept = self.kept.iter().map(|name| (name.clone(), labels[&format!("metric.labels.{name}")].clone()));
            // Minutes end where the interval does, and a whole number of minutes before it.
            let end = to - (to - requests.end) / MINUTE * MINUTE;
            let points = series.entry(kept.collect()).or_default();
            points.entry(end).or_default().extend(&requests.milliseconds);
        }
        series
    }

    fn unit(&self) -> &'static str {
        if self.metric == "request_count" { "1" } else { "ms" }
    }

    /// A series without points.
    fn head(&self, project: &str, labels: &BTreeMap<String, String>) -> Value {
        let resource = match self.folder.as_str() {
            "https" => "https_lb_rule",
            "https/internal" => "internal_http_lb_rule",
            _ => "http_external_regional_lb_rule",
        };
        json!({
            "metric": { "type": format!("{DOMAIN}{}/{}", self.folder, self.metric), "labels": labels },
            "resource": { "type": resource, "labels": { "project_id": project } },
            "metricKind": "DELTA",
            "valueType": if self.metric == "request_count" { "INT64" } else { "DISTRIBUTION" },
            "points": [],
        })
    }

    fn point(&self, end: i64, latencies: &[f64]) -> Value {
        let value = match self.metric.as_str() {
            "request_count" => json!({ "int64Value": latencies.len().to_string() }),
            _ => json!({ "distributionValue": distribution(latencies) }),
        };
        json!({ "interval": { "startTime": time(end - MINUTE), "endTime": time(end) }, "value": value })
    }
}

/// The conditions of a filter, joined by `AND`: that a field is equal to a text in quotes.
fn conditions(filter: &str) -> Result<BTreeMap<String, String>, String> {
    let known = ["metric.type", "metric.labels.response_code_class", "resource.labels.backend_target_name"];
    let condition = |text: &str| {
        let (field, value) = text.split_once('=').ok_or_else(|| format!("the fake does not understand '{text}'"))?;
        let (field, value) = (field.trim(), value.trim());
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = value.filter(|value| !value.contains('"') && known.contains(&field));
        Ok((field.to_owned(), value.ok_or_else(|| format!("the fake does not understand '{text}'"))?.to_owned()))
    };
    filter.split(" AND ").map(condition).collect()
}

fn labels(world: &World, requests: &Measured) -> BTreeMap<String, String> {
    let label = |field: &str, value: &str| (field.to_owned(), value.to_owned());
    BTreeMap::from([
        label("metric.labels.response_code_class", &requests.class.to_string()),
        label("resource.labels.backend_target_name", name(&requests.service)),
        label("resource.labels.project_id", &world.options.project),
    ])
}

/// Where the metrics of the load balancer are that a backend service is of, if it has any of its own:
/// <https://docs.cloud.google.com/load-balancing/docs/metrics>.
fn folder(world: &World, service: &str) -> Option<&'static str> {
    let is_regional = service.contains("/regions/");
    match (world.get(service)?["loadBalancingScheme"].as_str()?, is_regional) {
        ("EXTERNAL" | "EXTERNAL_MANAGED", false) => Some("https"),
        ("EXTERNAL_MANAGED", true) => Some("https/external/regional"),
        ("INTERNAL_MANAGED", _) => Some("https/internal"),
        _ => None,
    }
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

#[expect(clippy::cast_precision_loss, reason = "a test puts in few")]
fn distribution(values: &[f64]) -> Value {
    let bounds: Vec<f64> = (0..=i32::from(BUCKETS)).map(|n| GROWTH.powi(n)).collect();
    let mut counts = vec![0_u64; bounds.len() + 1];
    for value in values {
        counts[bounds.partition_point(|bound| bound <= value)] += 1;
    }
    // Empty buckets at the end are left out.
    counts.truncate(counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let deviation: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    json!({
        "count": values.len().to_string(),
        "mean": mean,
        "sumOfSquaredDeviation": deviation,
        "bucketOptions": {
            "exponentialBuckets": { "numFiniteBuckets": BUCKETS, "growthFactor": GROWTH, "scale": 1.0 },
        },
        "bucketCounts": counts.iter().map(u64::to_string).collect::<Vec<_>>(),
    })
}
