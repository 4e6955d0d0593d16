//! Requests and latencies, as Cloud Monitoring tells them.

use std::time::Duration;

use immutable_core::provider::{MetricSource, MetricValue, OpContext, Window};
use immutable_gcp::MonitoringMetrics;
use immutable_gcp_fake::{Fake, Options};
use jiff::Timestamp;
use serde_json::json;

use crate::{config, fleet, name_on, routes};

/// The first second of a minute, long enough ago for all of it to be known.
fn minute(number: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_040 + 60 * number).unwrap()
}

/// What a metric says of four minutes: the number of each minute, and its value.
async fn told(metrics: &MonitoringMetrics, metric: &str) -> Vec<(i64, MetricValue)> {
    let window = Window { from: minute(0), to: minute(4) };
    let cx = OpContext::standalone("query");
    let samples = metrics.query(&cx, &metric.parse().unwrap(), &fleet(), window).await.unwrap();
    let number = |at: Timestamp| (at.as_second() - minute(0).as_second()) / 60;
    samples.iter().map(|sample| (number(sample.window.from), sample.value)).collect()
}

#[tokio::test]
async fn requests_are_counted_by_minute_and_route_and_no_requests_are_silence() {
    let fake = Fake::start(Options::default());
    let on = ["global/urlMaps/web", "regions/europe-west1/urlMaps/web", "regions/europe-west1/urlMaps/api"];
    let services = [
        (format!("global/backendServices/{}", name_on(on[0])), "EXTERNAL_MANAGED"),
        (format!("regions/europe-west1/backendServices/{}", name_on(on[1])), "EXTERNAL_MANAGED"),
        (format!("regions/europe-west1/backendServices/{}", name_on(on[2])), "INTERNAL_MANAGED"),
        ("global/backendServices/users".to_owned(), "EXTERNAL_MANAGED"),
    ];
    for (service, scheme) in &services {
        fake.put(service, json!({ "protocol": "HTTP", "loadBalancingScheme": scheme }));
    }
    let [global, external, internal, users] = services.map(|(service, _)| service);
    let put = |service: &str, number, class, count| {
        fake.put_requests(service, minute(number), class, &vec![5.0; count]);
    };
    for number in [0, 1, 3, 4] {
        put(&global, number, 200, 10);
        put(&users, number, 500, 99);
    }
    put(&global, 1, 500, 2);
    put(&external, 1, 400, 3);
    put(&internal, 3, 500, 4);
    put(&global, -1, 500, 1);
    // A route on which the fleet has nothing yet has nothing to tell.
    let on = routes(&[&on[..], &["global/urlMaps/other"]].concat());
    let metrics = MonitoringMetrics::new(config(&fake).await.routes(on).build().unwrap());
    let ratio = |part, whole| MetricValue::Ratio { part, whole };
    let expected = [(0, ratio(0, 10)), (1, ratio(2, 15)), (3, ratio(4, 14))];
    assert_eq!(told(&metrics, "errors").await, expected);
    // Two points on a page: all pages are read.
    assert!(fake.calls()["monitoring.projects.timeSeries.list"] > 3);
}

#[tokio::test]
async fn the_slowest_of_the_routes_is_told_in_seconds() {
    let fake = Fake::start(Options::default());
    let on = ["global/urlMaps/web", "global/urlMaps/api"];
    for (route, milliseconds) in on.iter().zip([[10.0, 10.0, 10.0, 400.0], [200.0; 4]]) {
        let service = format!("global/backendServices/{}", name_on(route));
        fake.put(&service, json!({ "protocol": "HTTP", "loadBalancingScheme": "EXTERNAL_MANAGED" }));
        fake.put_requests(&service, minute(2), 200, &milliseconds);
    }
    let metrics = MonitoringMetrics::new(config(&fake).await.routes(routes(&on)).build().unwrap());
    for (metric, expected) in [("latency_p50", 0.2), ("latency_p99", 0.4)] {
        let [(2, MetricValue::Gauge(seconds))] = told(&metrics, metric).await[..] else { panic!("{metric}") };
        // A bucket is 1.4 times as wide as the one before it.
        assert!(seconds > expected / 1.4 && seconds < expected * 1.4, "{metric}: {seconds}");
    }
    assert_eq!(told(&metrics, "errors").await, [(2, MetricValue::Ratio { part: 0, whole: 8 })]);
}

#[tokio::test]
async fn the_newest_minutes_are_not_told_before_they_are_complete() {
    let fake = Fake::start(Options::default());
    let route = "global/urlMaps/web";
    let service = format!("global/backendServices/{}", name_on(route));
    fake.put(&service, json!({ "protocol": "HTTP", "loadBalancingScheme": "EXTERNAL_MANAGED" }));
    let now = Timestamp::now();
    let this = Timestamp::from_second(now.as_second().div_euclid(60) * 60).unwrap();
    let ago = |minutes: u64| this - Duration::from_mins(minutes);
    for minutes in 0..8 {
        fake.put_requests(&service, ago(minutes), 200, &[1.0]);
    }
    let config = config(&fake).await.routes(routes(&[route])).metric_lag(Duration::from_mins(4)).build().unwrap();
    let window = Window { from: ago(8), to: now };
    let (cx, errors) = (OpContext::standalone("query"), "errors".parse().unwrap());
    let samples = MonitoringMetrics::new(config).query(&cx, &errors, &fleet(), window).await.unwrap();
    assert_eq!(samples.first().unwrap().window.from, ago(7));
    // Another minute may have begun meanwhile.
    let last = samples.last().unwrap().window.to;
    assert!([ago(4), ago(3)].contains(&last), "{last} is not {}", ago(4));
}
