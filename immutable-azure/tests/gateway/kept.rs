//! All else of a gateway stays as it was.

use immutable_azure::{GatewayPoolSwitch, RoutingRuleSwitch};
use immutable_core::provider::{ErrorKind, MemberHealth, Progress, TrafficSwitch as _};
use serde_json::Value;

use crate::stand::{GATEWAY, PUT, Stand, all, config, cx, to};

/// The gateway without what is ours and what Azure says of it.
fn rest(stand: &Stand) -> Value {
    let mut gateway = stand.fake.get(GATEWAY).unwrap();
    strip(&mut gateway);
    gateway["tags"].as_object_mut().unwrap().retain(|tag, _| !tag.starts_with("immutable-"));
    let pools = gateway["properties"]["backendAddressPools"].as_array_mut().unwrap();
    pools.retain(|pool| !pool["name"].as_str().unwrap().starts_with("im-"));
    gateway
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|field, _| field != "etag" && field != "resourceGuid");
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[tokio::test]
async fn the_rest_of_the_gateway_is_as_it_was_certificates_included() {
    for stand in [Stand::by_members(), Stand::by_rule()] {
        let (old, new) = (stand.fleet("web-1", 2).await, stand.fleet("web-2", 1).await);
        let before = rest(&stand);
        assert_eq!(before["properties"]["sslCertificates"][0]["properties"]["password"], "hunter2");
        for wanted in [to("web-1", &[&old]), to("web-2", &[&old, &new]), to("web-2", &[&new]), to("", &[])] {
            stand.apply(&wanted).await.unwrap();
        }
        assert_eq!(rest(&stand), before);
        let sent = stand.fake.exchanges().into_iter().filter(|exchange| exchange.operation == PUT);
        assert!(sent.count() >= 4);
    }
}

#[tokio::test]
async fn another_route_of_the_same_gateway_stays_and_keeps_its_version() {
    let stand = Stand::by_members();
    let (one, other) = (stand.fleet("web-1", 1).await, stand.fleet("api-1", 1).await);
    let beside = Stand {
        route: stand
            .route
            .as_str()
            .replace("/web/backendAddressPools/web", "/web/backendAddressPools/other")
            .parse()
            .unwrap(),
        ..stand
    };
    beside.apply(&to("api-1", &[&other])).await.unwrap();
    let before = beside.settled().await;
    let version = beside.observe().await.version;
    let route = beside.route.clone();
    let stand = Stand { route: route.as_str().replace("Pools/other", "Pools/web").parse().unwrap(), ..beside };
    stand.apply(&to("web-1", &[&one])).await.unwrap();
    stand.apply(&to("", &[])).await.unwrap();
    let beside = Stand { route, ..stand };
    assert_eq!(beside.observe().await.version, version);
    assert_eq!(beside.settled().await, before);
    assert_eq!(before.members, all(&[&other], MemberHealth::Healthy));
}

#[tokio::test]
async fn a_rule_and_a_pool_of_one_gateway_are_changed_side_by_side() {
    let stand = Stand::by_members();
    let (one, other) = (stand.fleet("web-1", 1).await, stand.fleet("api-1", 1).await);
    let switch = RoutingRuleSwitch::new(config(&stand.fake).build().unwrap());
    let by_members = GatewayPoolSwitch::new(config(&stand.fake).build().unwrap());
    let rule = stand.fake.id(&format!("{GATEWAY}/urlPathMaps/paths")).parse().unwrap();
    let version = by_members.observe(&cx("o"), &stand.route).await.unwrap().version;
    let rule_version = switch.observe(&cx("o"), &rule).await.unwrap().version;
    let (mut first, mut second) = (false, false);
    for _ in 0..40 {
        let (left, right) = (to("web-1", &[&one]), to("api-1", &[&other]));
        let (left_cx, right_cx) = (cx("left"), cx("right"));
        let (left, right) = futures_util::future::join(
            by_members.apply(&left_cx, &stand.route, &left, &version),
            switch.apply(&right_cx, &rule, &right, &rule_version),
        )
        .await;
        // Who was late finds nothing changed on its own route, and goes on.
        for (answer, done) in [(left, &mut first), (right, &mut second)] {
            match answer {
                Ok(progress) => *done = progress == Progress::Done(()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        if first && second {
            return;
        }
    }
    panic!("never done: {first} {second}");
}
