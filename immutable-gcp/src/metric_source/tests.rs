//! Which minutes count, and what is made of what is told of them.

use google_cloud_compute_v1::model::BackendService;
use immutable_core::model::RouteId;
use serde_json::json;

use super::*;
use crate::config::tests::builder;

fn window(from: &str, to: &str) -> Window {
    Window { from: from.parse().unwrap(), to: to.parse().unwrap() }
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
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", None),
        ("2026-01-01T00:05:00Z", "2026-01-01T00:00:00Z", None),
        ("1969-12-31T23:58:30Z", "1970-01-01T00:00:30Z", Some(1)),
    ];
    for (from, to, expected) in cases {
        let minutes = whole_minutes(window(from, to)).map(|(from, to)| (to - from) / MINUTE);
        assert_eq!(minutes, expected, "{from} to {to}");
    }
}

/// A series of requests of one class, with so many in the minutes that end then.
fn requests(class: &str, points: &[(i64, i64)]) -> TimeSeries {
    let points: Vec<_> = points
        .iter()
        .map(|(end, count)| {
            let end = Timestamp::from_second(*end).unwrap().to_string();
            json!({ "interval": { "endTime": end }, "value": { "int64Value": count.to_string() } })
        })
        .collect();
    serde_json::from_value(json!({ "metric": { "labels": { CLASS: class } }, "points": points })).unwrap()
}

#[test]
fn requests_of_all_classes_are_added_up_and_no_requests_are_silence() {
    let mut minutes = Minutes::new();
    for series in [
        requests("200", &[(660, 7), (720, 5), (780, 0)]),
        requests("500", &[(660, 3)]),
        // The client was gone before there was an answer.
        requests("0", &[(720, 1)]),
        requests("500", &[(840, 2), (600, 9)]),
    ] {
        add(&mut minutes, Wanted::Errors, &series);
    }
    let told = samples(&minutes, (600, 840));
    let told: Vec<_> = told.iter().map(|sample| (sample.window.from.as_second(), sample.value)).collect();
    let expected = [
        (600, MetricValue::Ratio { part: 3, whole: 10 }),
        (660, MetricValue::Ratio { part: 0, whole: 6 }),
        (780, MetricValue::Ratio { part: 2, whole: 2 }),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_slowest_route_counts() {
    let gauge = MetricValue::Gauge;
    assert_eq!(together(gauge(0.2), gauge(0.3)), gauge(0.3));
    assert_eq!(together(gauge(0.3), gauge(0.2)), gauge(0.3));
}

#[test]
fn each_kind_of_balancer_has_metrics_of_its_own() {
    let region = || Scope::Region("us-east1".to_owned());
    let cases = [
        ("EXTERNAL", Scope::Global, Some("https")),
        ("EXTERNAL_MANAGED", Scope::Global, Some("https")),
        ("INTERNAL_MANAGED", Scope::Global, Some("https/internal")),
        ("EXTERNAL_MANAGED", region(), Some("https/external/regional")),
        ("INTERNAL_MANAGED", region(), Some("https/internal")),
        ("EXTERNAL", region(), None),
        ("INTERNAL_SELF_MANAGED", Scope::Global, None),
    ];
    for (scheme, scope, expected) in cases {
        let service = BackendService::new().set_load_balancing_scheme(scheme);
        assert_eq!(folder(&service, &scope), expected, "{scheme} {scope:?}");
    }
}

#[tokio::test]
async fn what_is_no_metric_and_what_nobody_measures_are_told_before_a_rollout() {
    let route = |route: &str| vec![route.parse::<RouteId>().unwrap()];
    let describe = async |routes: Vec<RouteId>, metric: &str| {
        let metrics = MonitoringMetrics::new(builder().await.routes(routes).build().unwrap());
        metrics.describe(&OpContext::standalone("describe"), &metric.parse().unwrap()).await
    };
    let good = route("global/urlMaps/web");
    assert_eq!(describe(good.clone(), "errors").await.unwrap(), MetricKind::Ratio);
    assert_eq!(describe(good.clone(), "latency_p99").await.unwrap(), MetricKind::Gauge);
    assert_eq!(describe(good, "latency_p42").await.unwrap_err().kind(), ErrorKind::NotFound);
    for nobodys in [Vec::new(), route("global/backendServices/web")] {
        assert_eq!(describe(nobodys, "errors").await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_part_of_an_answer_is_none() {
    let page = |errors| serde_json::from_value(json!({ "executionErrors": errors })).unwrap();
    assert!(whole(&page(json!([]))).is_ok());
    assert_eq!(whole(&page(json!([{ "code": 4 }]))).unwrap_err().kind(), ErrorKind::Unavailable);
}
