//! Traffic by the pool that a rule leads to.

use immutable_azure::RoutingRuleSwitch;
use immutable_core::model::{Split, Weight};
use immutable_core::provider::MemberHealth::{Draining, Healthy, Unhealthy, Untold};
use immutable_core::provider::{Assignment, ErrorKind, Progress, SwitchKind};
use serde_json::json;

use crate::stand::{GATEWAY, HEALTH, ON_DEMAND, PUT, Stand, Told, all, id, to, told};

fn pool_of(stand: &Stand, fleet: &str) -> Option<String> {
    stand.pools().into_keys().find(|pool| pool.starts_with(&format!("im-{fleet}-")) && !pool.contains("-out-"))
}

#[tokio::test]
async fn a_rule_leads_to_one_fleet_and_then_to_another_and_back_again() {
    let stand = Stand::by_rule();
    assert_eq!(stand.settled().await, Told { split: "closed".to_owned(), members: vec![] });
    let (old, new) = (stand.fleet("web-1", 2).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    assert_eq!(stand.led_to(), pool_of(&stand, "web-1").unwrap());
    let expected = Told { split: "web-1 100 %".to_owned(), members: all(&[&old], Healthy) };
    assert_eq!(stand.settled().await, expected);

    stand.apply(&to("web-2", &[&old, &new])).await.unwrap();
    assert_eq!(stand.led_to(), pool_of(&stand, "web-2").unwrap());
    let expected = Told { split: "web-2 100 %".to_owned(), members: all(&[&old, &new], Healthy) };
    assert_eq!(stand.settled().await, expected, "the old pool stays, and is probed on demand");

    stand.apply(&to("web-1", &[&old, &new])).await.unwrap();
    stand.apply(&to("web-2", &[&new])).await.unwrap();
    let expected = Told { split: "web-2 100 %".to_owned(), members: all(&[&new], Healthy) };
    assert_eq!(stand.settled().await, expected);
    assert_eq!(pool_of(&stand, "web-1"), None);

    stand.apply(&to("", &[])).await.unwrap();
    assert_eq!(stand.led_to(), "web", "where it led before");
    assert_eq!(stand.settled().await, Told { split: "closed".to_owned(), members: vec![] });
    let tags = stand.fake.get(GATEWAY).unwrap()["tags"].clone();
    assert!(!tags.to_string().contains("original"), "{tags}");
}

#[tokio::test]
async fn members_without_traffic_are_in_their_pool_and_the_rule_stays() {
    let stand = Stand::by_rule();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("", &[&members])).await.unwrap();
    assert_eq!(stand.led_to(), "web");
    let expected = Told { split: "closed".to_owned(), members: all(&[&members], Healthy) };
    assert_eq!(stand.settled().await, expected);
    assert!(stand.calls(ON_DEMAND) > 0);
}

#[tokio::test]
async fn a_rule_is_led_to_a_pool_when_the_gateway_has_found_it_good() {
    let stand = Stand::by_rule();
    let members = stand.fleet("web-1", 1).await;
    let (wanted, version) = (to("web-1", &[&members]), stand.observe().await.version);
    stand.once("x", &wanted, &version).await.unwrap();
    let waits = stand.once("x", &wanted, &version).await.unwrap();
    assert!(matches!(&waits, Progress::Pending { note, .. } if note.contains("members of web-1 good")), "{waits:?}");
    assert_eq!(stand.led_to(), "web");
    while stand.once("x", &wanted, &version).await.unwrap() != Progress::Done(()) {}
    assert_ne!(stand.led_to(), "web");
    assert!(stand.calls(ON_DEMAND) > 0);
}

#[tokio::test]
async fn who_was_found_good_before_stays_so_until_the_gateway_has_probed_the_pool() {
    let stand = Stand::by_rule();
    // It never gets round to it.
    stand.fake.set(|options| options.second = crate::stand::HOUR);
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    assert_eq!(stand.settled().await.members, all(&[&members], Healthy));
    assert_eq!(stand.probed().await.members, all(&[&members], Unhealthy));
}

#[tokio::test]
async fn a_rule_stays_with_who_is_good_as_long_as_nobody_of_the_other_fleet_is() {
    let stand = Stand::by_rule();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    let machine = format!("Microsoft.Compute/virtualMachines/{}", new[0].instance);
    stand.fake.set_ill(&machine, true);
    let (wanted, version) = (to("web-2", &[&old, &new]), stand.observe().await.version);
    for _ in 0..10 {
        let waits = stand.once("switch", &wanted, &version).await.unwrap();
        assert!(matches!(waits, Progress::Pending { .. }), "{waits:?}");
    }
    assert_eq!(stand.led_to(), pool_of(&stand, "web-1").unwrap());
    stand.fake.set_ill(&machine, false);
    while stand.once("switch", &wanted, &version).await.unwrap() != Progress::Done(()) {}
    assert_eq!(stand.led_to(), pool_of(&stand, "web-2").unwrap());
}

#[tokio::test]
async fn a_gateway_that_cannot_probe_on_demand_is_no_judge_of_a_pool_without_a_rule() {
    let stand = Stand::by_rule();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("", &[&members])).await.unwrap();
    for _ in 0..3 {
        stand.fake.refuse_next(
            ON_DEMAND,
            400,
            "ApplicationGatewayBackendHealthOnDemandNotSupported",
            "no rule leads there",
        );
    }
    let mut looks = Vec::new();
    for _ in 0..6 {
        looks.push(told(&stand.observe().await).members);
    }
    assert!(looks.contains(&all(&[&members], Untold)), "{looks:?}");
}

#[tokio::test]
async fn a_weight_that_is_written_and_not_in_effect_is_not_shown() {
    let mut stand = Stand::by_rule();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    stand.apply(&to("web-1", &[&old, &new])).await.unwrap();
    stand.settled().await;
    let (wanted, version) = (to("web-2", &[&old, &new]), stand.observe().await.version);
    stand.slow();
    while stand.led_to() != pool_of(&stand, "web-2").unwrap() {
        stand.pass();
        stand.once("switch", &wanted, &version).await.unwrap();
    }
    let split = async |stand: &Stand| stand.observe().await.split.to_string();
    assert_eq!(split(&stand).await, "web-1 100 %");
    let asked = stand.calls(HEALTH) + stand.calls(ON_DEMAND);
    assert_eq!(told(&stand.observe().await).members, all(&[&old, &new], Healthy), "as they were found before");
    assert_eq!(stand.calls(HEALTH) + stand.calls(ON_DEMAND), asked, "a gateway that changes is not asked");
    stand.reopen(|config| config);
    assert_eq!(split(&stand).await, "web-1 100 %", "to every process");
    let waits = stand.once("switch", &wanted, &version).await.unwrap();
    assert!(matches!(waits, Progress::Pending { .. }));
    stand.pass();
    assert_eq!(split(&stand).await, "web-2 100 %");
    // Somebody else's change does not bring the old weights back.
    stand.fake.change(GATEWAY, |gateway| gateway["properties"]["provisioningState"] = json!("Updating"));
    assert_eq!(split(&stand).await, "web-2 100 %");
}

#[tokio::test]
async fn a_change_that_failed_is_not_in_effect_until_it_was_sent_again() {
    let stand = Stand::by_rule();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("", &[&members])).await.unwrap();
    stand.settled().await;
    let (wanted, version) = (to("web-1", &[&members]), stand.observe().await.version);
    stand.fake.fail_next_operation(PUT, "InternalServerError", "try again");
    while stand.led_to() == "web" {
        stand.once("x", &wanted, &version).await.unwrap();
    }
    assert_eq!(stand.observe().await.split, Split::closed());
    assert!(stand.once("x", &wanted, &version).await.is_err());
    while stand.once("x", &wanted, &version).await.unwrap() != Progress::Done(()) {}
    assert_eq!(stand.observe().await.split, Split::all_to(id("web-1")));
}

#[tokio::test]
async fn rules_by_path_and_their_default_are_routes_of_their_own() {
    for route in ["urlPathMaps/paths", "urlPathMaps/paths/pathRules/api"] {
        let stand = Stand::new(route, |config| Box::new(RoutingRuleSwitch::new(config)));
        let members = stand.fleet("web-1", 1).await;
        let before = stand.fake.get(GATEWAY).unwrap()["properties"]["urlPathMaps"].clone();
        stand.apply(&to("web-1", &[&members])).await.unwrap();
        let expected = Told { split: "web-1 100 %".to_owned(), members: all(&[&members], Healthy) };
        assert_eq!(stand.settled().await, expected, "{route}");
        let map = stand.fake.get(GATEWAY).unwrap()["properties"]["urlPathMaps"][0]["properties"].clone();
        let led = |id: &serde_json::Value| id.as_str().unwrap().contains("/im-web-1-");
        let found = [
            led(&map["defaultBackendAddressPool"]["id"]),
            led(&map["pathRules"][0]["properties"]["backendAddressPool"]["id"]),
        ];
        assert_eq!(found, [route.ends_with("paths"), route.ends_with("api")], "{route}");
        stand.apply(&to("", &[])).await.unwrap();
        let mut after = stand.fake.get(GATEWAY).unwrap()["properties"]["urlPathMaps"].clone();
        after[0]["etag"] = before[0]["etag"].clone();
        assert_eq!(after, before, "{route}");
    }
}

#[tokio::test]
async fn what_a_rule_cannot_do_is_refused() {
    let stand = Stand::by_rule();
    let capabilities = stand.switch.capabilities();
    assert_eq!((capabilities.kind, capabilities.max_fleets), (SwitchKind::Weighted { step: Weight::FULL }, Some(1)));
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    let version = stand.observe().await.version;
    let half = Weight::percent(50).unwrap();
    let shared = Split::new([(id("web-1"), half), (id("web-2"), half)]).unwrap();
    let shared = Assignment { split: shared, members: [old.clone(), new].concat() };
    for (wanted, kind) in [(shared, ErrorKind::Unsupported), (to("web-2", &[&old]), ErrorKind::InvalidRequest)] {
        let error = stand.once("x", &wanted, &version).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    for (route, kind) in [
        ("requestRoutingRules/away", ErrorKind::InvalidRequest),
        ("requestRoutingRules/paths", ErrorKind::InvalidRequest),
        ("requestRoutingRules/none", ErrorKind::NotFound),
        ("urlPathMaps/paths/pathRules/none", ErrorKind::NotFound),
        ("backendAddressPools/web", ErrorKind::NotFound),
    ] {
        let route = stand.fake.id(&format!("{GATEWAY}/{route}")).parse().unwrap();
        let error = stand.switch.observe(&crate::stand::cx("x"), &route).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{route}: {error}");
    }
    assert_eq!(stand.calls(PUT), 0);
}

#[tokio::test]
async fn a_route_whose_past_is_lost_cannot_be_closed() {
    let stand = Stand::by_rule();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    stand.fake.change(GATEWAY, |gateway| {
        gateway["tags"].as_object_mut().unwrap().retain(|tag, _| !tag.starts_with("immutable-original-"));
    });
    let error = stand.apply(&to("", &[])).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidRequest && error.to_string().contains("led before"), "{error}");
}

#[tokio::test]
async fn who_leaves_drains() {
    let mut stand = Stand::by_rule();
    stand.reopen(|config| config.drain_time(std::time::Duration::from_mins(5)));
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    stand.apply(&to("web-2", &[&new])).await.unwrap();
    let members = vec![(old[0].instance.to_string(), Draining), (new[0].instance.to_string(), Healthy)];
    assert_eq!(stand.settled().await, Told { split: "web-2 100 %".to_owned(), members });
}
