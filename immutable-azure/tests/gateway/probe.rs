//! What the gateway finds of instances.

use immutable_azure::GatewayHealthProbe;
use immutable_core::model::Look;
use immutable_core::provider::{ErrorKind, HealthProbe, MemberTarget, ProbeTarget};

use crate::stand::{GATEWAY, HEALTH, Stand, config, cx, to};

fn targets(members: &[MemberTarget]) -> Vec<ProbeTarget> {
    let target = |member: &MemberTarget| ProbeTarget {
        instance: member.instance.clone(),
        fleet: member.fleet.clone(),
        endpoint: Some(member.endpoint.clone()),
    };
    members.iter().map(target).collect()
}

async fn looks(probe: &GatewayHealthProbe, targets: &[ProbeTarget]) -> Vec<(String, Look)> {
    let samples = probe.sample(&cx("look"), targets).await.unwrap();
    samples.into_iter().map(|sample| (sample.instance.to_string(), sample.look)).collect()
}

#[tokio::test]
async fn each_member_has_one_look_as_soon_as_the_gateway_has_answered() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 2).await;
    let strangers = stand.fleet("web-2", 1).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    let ill =
        |is_ill| stand.fake.set_ill(&format!("Microsoft.Compute/virtualMachines/{}", members[1].instance), is_ill);
    for id in [GATEWAY.to_owned(), format!("{GATEWAY}/backendAddressPools/web")] {
        let probe = GatewayHealthProbe::new(config(&stand.fake).build().unwrap(), &stand.fake.id(&id)).unwrap();
        let mut asked = targets(&[members.clone(), strangers.clone()].concat());
        ill(false);
        let first = looks(&probe, &asked).await;
        assert!(first.len() == 3 && first.iter().all(|(_, look)| *look == Look::Unknown), "{first:?}");
        let good = [(members[0].instance.to_string(), Look::Good), (members[1].instance.to_string(), Look::Good)];
        assert_eq!(looks(&probe, &asked).await, good);
        ill(true);
        // Every other call asks anew.
        looks(&probe, &asked).await;
        let expected = [(members[0].instance.to_string(), Look::Good), (members[1].instance.to_string(), Look::Bad)];
        assert_eq!(looks(&probe, &asked).await, expected, "whom no rule leads to it does not know");
        asked[0].endpoint = None;
        assert_eq!(looks(&probe, &asked).await, expected[1..]);
        assert_eq!(looks(&probe, &[]).await, []);
    }
    let probe = GatewayHealthProbe::new(
        config(&stand.fake).build().unwrap(),
        &stand.fake.id(&format!("{GATEWAY}/backendAddressPools/other")),
    )
    .unwrap();
    looks(&probe, &targets(&members)).await;
    assert_eq!(looks(&probe, &targets(&members)).await, [], "they are in another pool");
}

#[tokio::test]
async fn who_was_not_probed_yet_is_not_bad() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    let probe = GatewayHealthProbe::new(config(&stand.fake).build().unwrap(), &stand.fake.id(GATEWAY)).unwrap();
    stand.fake.set(|options| options.second = crate::stand::HOUR);
    let version = stand.observe().await.version;
    stand.once("join", &to("web-1", &[&members]), &version).await.unwrap();
    for _ in 0..4 {
        let found = looks(&probe, &targets(&members)).await;
        assert_eq!(found, [(members[0].instance.to_string(), Look::Unknown)]);
    }
}

#[tokio::test]
async fn a_probe_that_cannot_look_says_so() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    let probe = GatewayHealthProbe::new(config(&stand.fake).build().unwrap(), &stand.fake.id(GATEWAY)).unwrap();
    stand.fake.throttle_next(HEALTH, 5);
    let error = probe.sample(&cx("look"), &targets(&members)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    stand.fake.refuse_next(HEALTH, 503, "ServiceUnavailable", "not now");
    let error = probe.sample(&cx("look"), &targets(&members)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for wrong in [
        "",
        "web",
        &stand.fake.id(&format!("{GATEWAY}/requestRoutingRules/web")),
        &stand.fake.id("Microsoft.Network/loadBalancers/web"),
    ] {
        let error = GatewayHealthProbe::new(config(&stand.fake).build().unwrap(), wrong).unwrap_err();
        assert_eq!(error.field(), "gateway", "{wrong}");
    }
}
