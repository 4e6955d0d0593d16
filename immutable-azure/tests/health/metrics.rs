//! Requests and latencies, as Azure Monitor tells them.

use std::time::Duration;

use immutable_azure::{Aggregation, FleetMetric, FleetSeries, MonitorMetrics};
use immutable_azure_fake::Fake;
use immutable_core::provider::{ErrorKind, MetricSource, MetricValue, OpContext, Window};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::stand::{HOUR, SET, config, fleet, make_set, slow};

const WEB: &str = "Microsoft.Network/applicationGateways/web";
const API: &str = "Microsoft.Network/applicationGateways/api";
const OWN: &str = "im-web-0123456789ab-0f0f";

/// The first second of a minute, long enough ago for all of it to be known.
fn minute(number: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_040 + 60 * number).unwrap()
}

/// What a metric says of four minutes that begin then: the number of each minute, and its value.
async fn told_from(metrics: &MonitorMetrics, metric: &str, from: Timestamp) -> Vec<(i64, MetricValue)> {
    let window = Window { from, to: from + Duration::from_mins(4) };
    let cx = OpContext::standalone("query");
    let samples = metrics.query(&cx, &metric.parse().unwrap(), &fleet(), window).await.unwrap();
    let number = |at: Timestamp| (at.as_second() - from.as_second()) / 60;
    samples.iter().map(|sample| (number(sample.window.from), sample.value)).collect()
}

async fn told(metrics: &MonitorMetrics, metric: &str) -> Vec<(i64, MetricValue)> {
    told_from(metrics, metric, minute(0)).await
}

fn ratio(part: u64, whole: u64) -> MetricValue {
    MetricValue::Ratio { part, whole }
}

/// A gateway with these pools, to each of which a rule leads.
fn put_gateway(fake: &Fake, gateway: &str, pools: &[&str]) {
    let part = |part: &str| json!({ "id": fake.id(&format!("{gateway}/{part}")) });
    let rule = |name: &&str| {
        let pool = part(&format!("backendAddressPools/{name}"));
        let settings = part("backendHttpSettingsCollection/web");
        json!({ "name": name, "properties": { "backendAddressPool": pool, "backendHttpSettings": settings } })
    };
    let rules: Vec<Value> = pools.iter().map(rule).collect();
    let pools: Vec<Value> = pools.iter().map(|name| json!({ "name": name })).collect();
    let settings = json!([{ "name": "web", "properties": { "port": 80, "protocol": "Http" } }]);
    let parts = json!({ "backendAddressPools": pools, "backendHttpSettingsCollection": settings, "requestRoutingRules": rules });
    fake.put(gateway, json!({ "properties": parts }));
}

/// Has a gateway answered so many requests with a status, in a minute.
fn answered(fake: &Fake, gateway: &str, (pool, server): (&str, &str), status: &str, at: Timestamp, requests: f64) {
    let labels =
        [("BackendServer", server), ("BackendPool", pool), ("BackendHttpSetting", "web"), ("HttpStatusGroup", status)];
    fake.put_metric(gateway, "BackendResponseStatus", &labels, at, &[requests]);
}

fn waited(fake: &Fake, gateway: &str, (pool, server): (&str, &str), at: Timestamp, milliseconds: &[f64]) {
    let labels = [("Listener", "web"), ("BackendServer", server), ("BackendPool", pool), ("BackendHttpSetting", "web")];
    fake.put_metric(gateway, "BackendFirstByteResponseTime", &labels, at, milliseconds);
}

/// The metrics on a rule of each of these gateways.
fn on(fake: &Fake, gateways: &[&str]) -> MonitorMetrics {
    let route = |gateway: &&str| format!("{}/requestRoutingRules/web", fake.id(gateway)).parse().unwrap();
    MonitorMetrics::new(config(fake).routes(gateways.iter().map(route)).build().unwrap())
}

#[tokio::test]
async fn a_pool_of_its_own_tells_all_of_a_fleet_and_what_the_gateway_answered_for_it() {
    let fake = slow();
    put_gateway(&fake, WEB, &["users", OWN]);
    put_gateway(&fake, API, &[OWN]);
    let (own, other) = ((OWN, "10.0.0.4:80"), ("users", "10.0.0.9:80"));
    for number in [0, 1, 3, 4, -1] {
        answered(&fake, WEB, own, "2xx", minute(number), 8.0);
        answered(&fake, WEB, other, "5xx", minute(number), 99.0);
    }
    answered(&fake, WEB, own, "5xx", minute(1), 2.0);
    answered(&fake, API, own, "4xx", minute(1), 5.0);
    for (pool, failures) in [(OWN, 5.0), ("users", 99.0)] {
        let labels = format!("{pool}~web");
        fake.put_metric(WEB, "FailedRequests", &[("BackendSettingsPool", &labels)], minute(1), &[failures]);
    }
    let metrics = on(&fake, &[WEB, API, "Microsoft.Network/applicationGateways/nobodys"]);
    assert_eq!(told(&metrics, "errors").await, [(0, ratio(0, 8)), (1, ratio(5, 18)), (3, ratio(0, 8))]);

    waited(&fake, WEB, own, minute(2), &[100.0, 300.0]);
    waited(&fake, API, own, minute(2), &[250.0, 250.0]);
    waited(&fake, WEB, other, minute(2), &[9000.0]);
    assert_eq!(told(&metrics, "latency_average").await, [(2, MetricValue::Gauge(0.25))]);
    assert_eq!(told(&metrics, "latency_max").await, [(2, MetricValue::Gauge(0.3))]);
}

#[tokio::test]
async fn in_a_shared_pool_a_fleet_is_told_by_the_addresses_that_its_instances_have() {
    for mode in ["Flexible", "Uniform"] {
        let fake = slow();
        put_gateway(&fake, WEB, &["shared"]);
        let metrics = on(&fake, &[WEB]);
        assert_eq!(told(&metrics, "errors").await, [], "there is no fleet yet");
        make_set(&fake, mode, 3, None).await;
        fake.skip(HOUR);
        let all = fake.list("Microsoft.");
        let interfaces = all.iter().filter(|(id, _)| id.rsplit('/').nth(1) == Some("networkinterfaces"));
        let addresses: Vec<String> = interfaces
            .map(|(_, one)| {
                one["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(addresses.len(), 3);

        // The instances were made just now, and metrics are known of what was before that.
        let now = Timestamp::now();
        let from = Timestamp::from_second(now.as_second().div_euclid(60) * 60 - 600).unwrap();
        let at = |number: u64| from + Duration::from_mins(number);
        for (id, _) in all.iter().filter(|(id, _)| id.rsplit('/').nth(1) == Some("virtualmachines")) {
            fake.change(id, |machine| {
                machine["properties"]["timeCreated"] = (at(1) + Duration::from_secs(1)).to_string().into();
            });
        }
        for number in 0..4 {
            answered(&fake, WEB, ("shared", &format!("{}:80", addresses[0])), "2xx", at(number), 3.0);
            answered(&fake, WEB, ("shared", &format!("{}:80", addresses[2])), "5xx", at(number), 1.0);
            answered(&fake, WEB, ("shared", "10.200.0.1:80"), "5xx", at(number), 50.0);
        }
        waited(&fake, WEB, ("shared", &addresses[1]), at(3), &[40.0, 60.0]);
        waited(&fake, WEB, ("shared", &addresses[2]), at(3), &[20.0]);
        let errors = told_from(&metrics, "errors", from).await;
        assert_eq!(errors, [(2, ratio(1, 4)), (3, ratio(1, 4))], "{mode}: not of who had the addresses before");
        assert_eq!(told_from(&metrics, "latency_average", from).await, [(3, MetricValue::Gauge(0.05))]);
    }
}

#[tokio::test]
async fn the_newest_minutes_are_not_told_before_they_are_complete() {
    let fake = slow();
    put_gateway(&fake, WEB, &[OWN]);
    let now = Timestamp::now();
    let this = Timestamp::from_second(now.as_second().div_euclid(60) * 60).unwrap();
    let ago = |minutes: u64| this - Duration::from_mins(minutes);
    for minutes in 0..10 {
        answered(&fake, WEB, (OWN, "10.0.0.4:80"), "2xx", ago(minutes), 1.0);
    }
    let window = Window { from: ago(8), to: now };
    let (cx, errors) = (OpContext::standalone("query"), "errors".parse().unwrap());
    let samples = on(&fake, &[WEB]).query(&cx, &errors, &fleet(), window).await.unwrap();
    assert_eq!(samples.first().unwrap().window.from, ago(8));
    // Another minute may have begun meanwhile.
    let last = samples.last().unwrap().window.to;
    assert!([ago(4), ago(3)].contains(&last), "{last} is not {}", ago(4));
}

#[tokio::test]
async fn a_metric_that_somebody_declares_is_told_of_each_fleet() {
    let fake = slow();
    make_set(&fake, "Flexible", 2, None).await;
    let on = |aggregation| {
        FleetSeries::new(fake.id(SET).replace("web-0123456789ab", "{fleet}"), "Percentage CPU", aggregation)
    };
    for (name, at, values) in [("a", 0, &[10.0, 30.0] as &[f64]), ("b", 0, &[80.0]), ("b", 2, &[5.0]), ("a", 3, &[0.0])]
    {
        fake.put_metric(SET, "Percentage CPU", &[("VMName", name)], minute(at), values);
    }
    let metric = |name: &str| name.parse().unwrap();
    let gauge = FleetMetric::gauge(on(Aggregation::Maximum));
    let of_a = FleetMetric::gauge(on(Aggregation::Average).dimension("VMName", "a"));
    let shares = FleetMetric::ratio(on(Aggregation::Count).dimension("VMName", "a"), on(Aggregation::Count));
    let metrics = MonitorMetrics::new(config(&fake).build().unwrap())
        .metric(metric("cpu"), gauge.clone())
        .and_then(|metrics| metrics.metric(metric("cpu_with_zeros"), gauge.with_zeros()))
        .and_then(|metrics| metrics.metric(metric("cpu_of_a"), of_a))
        .and_then(|metrics| metrics.metric(metric("share"), shares))
        .unwrap();
    let level = MetricValue::Gauge;
    assert_eq!(told(&metrics, "cpu").await, [(0, level(80.0)), (2, level(5.0))]);
    assert_eq!(told(&metrics, "cpu_with_zeros").await, [(0, level(80.0)), (2, level(5.0)), (3, level(0.0))]);
    assert_eq!(told(&metrics, "cpu_of_a").await, [(0, level(20.0))]);
    assert_eq!(told(&metrics, "share").await, [(0, ratio(2, 3)), (2, ratio(0, 1)), (3, ratio(1, 1))]);
    let (cx, window) = (OpContext::standalone("query"), Window { from: minute(0), to: minute(4) });
    let nobodys = metrics.query(&cx, &metric("cpu"), &"web-ba9876543210".parse().unwrap(), window).await.unwrap();
    assert_eq!(nobodys, [], "there is no such fleet");
    let error = metrics.query(&cx, &metric("memory"), &fleet(), window).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_metric_that_azure_does_not_have_is_an_error_that_names_those_that_it_has() {
    let fake = slow();
    make_set(&fake, "Flexible", 1, None).await;
    let series = FleetSeries::new(fake.id(SET).replace("web-0123456789ab", "{fleet}"), "CPU", Aggregation::Average);
    let metrics = MonitorMetrics::new(config(&fake).build().unwrap());
    let metrics = metrics.metric("cpu".parse().unwrap(), FleetMetric::gauge(series)).unwrap();
    let (cx, window) = (OpContext::standalone("query"), Window { from: minute(0), to: minute(4) });
    let error = metrics.query(&cx, &"cpu".parse().unwrap(), &fleet(), window).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("Valid metrics: Percentage CPU"), "{error}");
}
