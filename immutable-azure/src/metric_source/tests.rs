//! Which minutes count, how Azure Monitor is asked, and what is made of its answers.

use std::time::Duration;

use immutable_core::model::RouteId;
use immutable_core::provider::MetricValue;
use serde_json::{Value, json};

use super::declared::{levels, ratios};
use super::question::{Question, Series};
use super::*;
use crate::testing::{Server, reply};

const GATEWAY: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/net/providers/Microsoft.Network/applicationGateways/web";

fn config(server: &Server, routes: &[&str]) -> Config {
    let subnet = GATEWAY.replace("applicationGateways/web", "virtualNetworks/web/subnets/default");
    let routes: Vec<RouteId> = routes.iter().map(|route| route.parse().unwrap()).collect();
    let builder = Config::builder(server.clients(), "01234567-89ab-cdef-0123-456789abcdef", "web", "westeurope");
    builder.vm_size("Standard_D2s_v5").subnet(subnet).routes(routes).build().unwrap()
}

fn question(dimensions: &[(&str, &[&str])]) -> Question {
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    Question {
        resource: GATEWAY.to_owned(),
        metric: "BackendResponseStatus".to_owned(),
        namespace: None,
        aggregation: Aggregation::Total,
        dimensions: dimensions.iter().map(|(name, all)| ((*name).to_owned(), values(all))).collect(),
    }
}

fn told(series: &Value) -> Value {
    json!({ "timespan": "", "interval": "PT1M", "value": [{ "errorCode": "Success", "timeseries": series }] })
}

#[test]
fn minutes_that_may_not_be_complete_are_left_out() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let whole = |now| whole_minutes(settled(Window { from: at(0), to: at(600) }, at(now), Duration::from_mins(4)));
    let ends = [whole(820), whole(839), whole(840), whole(299), whole(300)].map(|span| span.map(|(_, to)| to));
    assert_eq!(ends, [Some(540), Some(540), Some(600), None, Some(60)]);
}

#[test]
fn only_whole_minutes_inside_the_window_count() {
    let cases = [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z", Some(2)),
        ("2026-01-01T00:00:00.000000001Z", "2026-01-01T00:02:00Z", Some(1)),
        ("2026-01-01T00:00:01Z", "2026-01-01T00:02:59Z", Some(1)),
        ("2026-01-01T00:00:01Z", "2026-01-01T00:01:59Z", None),
        ("2026-01-01T00:05:00Z", "2026-01-01T00:00:00Z", None),
        ("1969-12-31T23:58:30Z", "1970-01-01T00:00:30Z", Some(1)),
    ];
    for (from, to, expected) in cases {
        let window = Window { from: from.parse().unwrap(), to: to.parse().unwrap() };
        assert_eq!(whole_minutes(window).map(|(from, to)| (to - from) / 60), expected, "{from} to {to}");
    }
}

#[tokio::test]
async fn a_question_says_exactly_what_is_meant() {
    let server = Server::start([reply(200, &[], &told(&json!([])).to_string())]).await;
    let asked = question(&[("BackendPool", &["im-a", "o'ne"]), ("HttpStatusGroup", &["*"])]);
    let config = config(&server, &[]);
    assert_eq!(asked.ask(&config, (600, 720)).await.unwrap(), []);
    let line = server.only().line;
    let (path, query) = line.split_once('?').unwrap();
    assert_eq!(path, format!("GET {GATEWAY}/providers/Microsoft.Insights/metrics"));
    let parameters = reqwest::Url::parse(&format!("http://a/?{query}")).unwrap();
    let parameters: Vec<(String, String)> = parameters.query_pairs().into_owned().collect();
    let expected = [
        ("api-version", "2024-02-01"),
        ("metricnames", "BackendResponseStatus"),
        ("aggregation", "Total"),
        ("interval", "PT1M"),
        ("timespan", "1970-01-01T00:10:00Z/1970-01-01T00:12:00Z"),
        ("$filter", "BackendPool eq 'im-a' or BackendPool eq 'o''ne' and HttpStatusGroup eq '*'"),
        ("top", "10000"),
    ];
    assert_eq!(parameters, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn what_is_null_or_missing_is_silence_and_no_moment_counts_twice() {
    let point = |at: &str, total: Value| json!({ "timeStamp": format!("1970-01-01T{at}Z"), "total": total });
    let label = json!([{ "name": { "value": "backendpool" }, "value": "IM-A" }]);
    let data = json!([
        point("00:10:00", json!(3.0)),
        point("00:10:00", json!(4.0)),
        point("00:11:00", Value::Null),
        { "timeStamp": "1970-01-01T00:12:00Z" },
        { "timeStamp": "1970-01-01T00:13:00Z", "average": 7.0 },
        point("00:14:30", json!(1.0)),
        point("00:15:00", json!(0.0)),
    ]);
    let answer = serde_json::from_value(told(&json!([{ "metadatavalues": label, "data": data }]))).unwrap();
    let series = question(&[("BackendPool", &["im-a"])]).series(&answer).unwrap();
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].values, BTreeMap::from([(600, 4.0), (900, 0.0)]));
    assert_eq!(series[0].label("backendpool"), "im-a");
}

#[test]
fn an_answer_that_is_not_all_or_not_what_was_asked_for_is_none() {
    let series = |name: &str, value: &str| json!({ "metadatavalues": [{ "name": { "value": name }, "value": value }] });
    let asked = question(&[("BackendPool", &["im-a"])]);
    let failed = |code: &str| json!({ "value": [{ "errorCode": code, "errorMessage": "m\nm", "timeseries": [] }] });
    let many = vec![series("backendpool", "im-a"); 10_000];
    for (answer, expected) in [
        (failed("InternalError"), ErrorKind::Unavailable),
        (json!({ "value": [] }), ErrorKind::Internal),
        (json!({ "interval": "PT5M", "value": [{ "timeseries": [] }] }), ErrorKind::Internal),
        (told(&json!([series("backendpool", "im-b")])), ErrorKind::Internal),
        (told(&json!([series("backendserver", "im-a")])), ErrorKind::Internal),
        (told(&json!([{}])), ErrorKind::Internal),
        (told(&many.into()), ErrorKind::Internal),
    ] {
        let error = asked.series(&serde_json::from_value(answer).unwrap()).unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert!(asked.series(&serde_json::from_value(failed("Success")).unwrap()).is_ok());
}

#[tokio::test]
async fn what_is_no_metric_and_what_nobody_measures_are_told_before_a_rollout() {
    let server = Server::start([]).await;
    let describe = async |routes: &[&str], metric: &str| {
        let metrics = MonitorMetrics::new(config(&server, routes));
        metrics.describe(&OpContext::standalone("describe"), &metric.parse().unwrap()).await
    };
    let rule = format!("{GATEWAY}/requestRoutingRules/web");
    assert_eq!(describe(&[&rule], "errors").await.unwrap(), MetricKind::Ratio);
    assert_eq!(describe(&[GATEWAY], "latency_max").await.unwrap(), MetricKind::Gauge);
    let error = describe(&[&rule], "latency_p99").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("latency_average"), "{error}");
    for nobodys in [&[] as &[&str], &[&rule.replace("applicationGateways", "loadBalancers")]] {
        assert_eq!(describe(nobodys, "errors").await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_gateway_is_asked_once_however_many_routes_are_on_it() {
    let server = Server::start([]).await;
    let (one, other) = (format!("{GATEWAY}/requestRoutingRules/a"), GATEWAY.to_uppercase());
    let shouted = format!("{}/urlPathMaps/b", other.replace("/SUBSCRIPTIONS", "/subscriptions"));
    assert_eq!(gateway::gateways(&config(&server, &[&one, &shouted])), [GATEWAY.to_owned()].into());
}

#[test]
fn declared_levels_leave_zeros_out_unless_they_are_values() {
    let series = |values: &[(i64, f64)]| Series { labels: BTreeMap::new(), values: values.iter().copied().collect() };
    let all = [series(&[(0, 0.0), (60, 3.0)]), series(&[(60, 5.0), (120, -1.0)])];
    let gauge = MetricValue::Gauge;
    assert_eq!(levels(&all, false), BTreeMap::from([(60, gauge(5.0)), (120, gauge(-1.0))]));
    assert_eq!(levels(&all, true)[&0], gauge(0.0));

    let (part, whole) =
        ([series(&[(0, 2.0), (180, 9.0)])], [series(&[(0, 3.0), (60, 4.0), (120, 0.0)]), series(&[(0, 1.0)])]);
    let told = samples(&ratios(&part, &whole), (0, 240));
    let told: Vec<_> = told.iter().map(|sample| (sample.window.from.as_second(), sample.value)).collect();
    let ratio = |part, whole| MetricValue::Ratio { part, whole };
    assert_eq!(told, [(0, ratio(2, 4)), (60, ratio(0, 4))]);
}

#[tokio::test]
async fn what_can_be_no_metric_is_refused_as_it_is_declared() {
    let server = Server::start([]).await;
    let metrics = MonitorMetrics::new(config(&server, &[]));
    let set = format!(
        "{}/im-{{fleet}}",
        GATEWAY.replace("Network/applicationGateways/web", "Compute/virtualMachineScaleSets")
    );
    let on = |resource: &str, metric: &str| FleetSeries::new(resource, metric, Aggregation::Average);
    let refused = |name: &str, metric: FleetMetric| {
        metrics.clone().metric(name.parse().unwrap(), metric).err().map(|error| error.to_string())
    };
    let gauge = |series| FleetMetric::gauge(series);
    assert_eq!(refused("cpu", gauge(on(&set, "Percentage CPU"))), None);
    assert_eq!(refused("cpu", gauge(on(GATEWAY, "m").dimension("a", "{fleet}"))), None);
    for (name, metric, problem) in [
        ("errors", gauge(on(&set, "m")), "metric: there is a metric errors already: give it another name"),
        ("cpu", gauge(on("web", "m")), "resource: must look like \"/subscriptions/.../providers/...\""),
        ("cpu", gauge(on(&set, "a,b")), "metric: must be the name of one metric, such as \"Percentage CPU\""),
        ("cpu", gauge(on(&set, "m").namespace("")), "namespace: must be the name of a namespace of metrics"),
        (
            "cpu",
            FleetMetric::ratio(on(&set, "m"), on(&set, "m").dimension("a'b", "c")),
            "dimension: must be the name of a dimension, such as \"cloud/roleName\"",
        ),
        ("cpu", gauge(on(&set, "m").dimension("a", "")), "dimension: must have a value, such as \"{fleet}\""),
        (
            "cpu",
            gauge(on(GATEWAY, "m").dimension("a", "b")),
            "metric: must tell fleets apart: put {fleet} into the resource or into the value of a dimension",
        ),
    ] {
        assert_eq!(refused(name, metric).as_deref(), Some(problem));
    }
    let twice = metrics.metric("cpu".parse().unwrap(), gauge(on(&set, "m"))).unwrap();
    assert_eq!(
        twice.describe(&OpContext::standalone("describe"), &"cpu".parse().unwrap()).await.unwrap(),
        MetricKind::Gauge
    );
    assert!(twice.metric("cpu".parse().unwrap(), gauge(on(&set, "m"))).is_err());
}
