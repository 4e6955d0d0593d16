//! What is measured where a switch has put a fleet.

use std::time::Duration;

use immutable_azure::MonitorMetrics;
use immutable_core::provider::{MetricSource as _, MetricValue, Window};
use jiff::Timestamp;

use crate::stand::{GATEWAY, Stand, config, cx, id, ips, to};

const MACHINES: &str = "Microsoft.Compute/virtualMachines";

/// The errors of the fleet `web-2` after a rollout to it, in a minute in which both fleets, and the gateway itself, have answered in these pools.
async fn errors(stand: &Stand, new: &[String], old: &[String], (pool, old_pool): (&str, &str)) -> Vec<MetricValue> {
    let minute = Timestamp::from_second(1_700_000_040).unwrap();
    for machine in stand.fake.list(MACHINES).into_keys() {
        stand.fake.change(&machine, |one| one["properties"]["timeCreated"] = "2020-01-01T00:00:00Z".into());
    }
    for (pool, address, status, count) in
        [(pool, &new[0], "2xx", 7.0), (pool, &new[0], "5xx", 1.0), (old_pool, &old[0], "5xx", 50.0)]
    {
        let server = format!("{address}:8080");
        let setting = ("BackendHttpSetting", "web");
        let labels = [("BackendServer", server.as_str()), ("BackendPool", pool), setting, ("HttpStatusGroup", status)];
        stand.fake.put_metric(GATEWAY, "BackendResponseStatus", &labels, minute, &[count]);
    }
    let labels = format!("{pool}~web");
    stand.fake.put_metric(GATEWAY, "FailedRequests", &[("BackendSettingsPool", &labels)], minute, &[3.0]);
    let metrics = MonitorMetrics::new(config(&stand.fake).routes([stand.route.clone()]).build().unwrap());
    let window = Window { from: minute, to: minute + Duration::from_mins(1) };
    let told = metrics.query(&cx("query"), &"errors".parse().unwrap(), &id("web-2"), window).await.unwrap();
    told.into_iter().map(|sample| sample.value).collect()
}

/// A rollout from `web-1` to `web-2`, of which both have a pool of ours afterwards.
async fn rolled_out(stand: &Stand) -> (Vec<String>, Vec<String>) {
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    for wanted in [to("web-1", &[&old]), to("web-1", &[&old, &new]), to("web-2", &[&new])] {
        stand.apply(&wanted).await.unwrap();
    }
    let ours = stand.pools().into_keys().filter(|pool| pool.starts_with("im-"));
    assert_eq!(ours.count(), 2, "{:?}", stand.pools());
    (ips(&new), ips(&old))
}

#[tokio::test]
async fn of_a_shared_pool_a_fleet_has_what_its_members_have_answered() {
    let stand = Stand::by_members();
    let (new, old) = rolled_out(&stand).await;
    assert_eq!(errors(&stand, &new, &old, ("web", "web")).await, [MetricValue::Ratio { part: 1, whole: 8 }]);
}

#[tokio::test]
async fn of_the_pool_that_its_rule_leads_to_a_fleet_has_all() {
    let stand = Stand::by_rule();
    let (new, old) = rolled_out(&stand).await;
    let pool = stand.led_to();
    assert!(pool.starts_with("im-web-2-"), "{pool}");
    let told = errors(&stand, &new, &old, (&pool, "web")).await;
    assert_eq!(told, [MetricValue::Ratio { part: 3, whole: 10 }], "two of them are of the gateway itself");
}
