//! Traffic by the members of a pool.

use std::time::Duration;

use immutable_core::model::Weight;
use immutable_core::provider::MemberHealth::{Draining, Healthy, Registering, Unhealthy};
use immutable_core::provider::{ErrorKind, Progress, SwitchKind, VersionCheck};
use serde_json::json;

use crate::stand::{GATEWAY, PUT, Stand, Told, all, id, ips, to, told};

fn closed() -> Told {
    Told { split: "closed".to_owned(), members: vec![] }
}

#[tokio::test]
async fn a_switch_says_what_it_can() {
    let capabilities = Stand::by_members().switch.capabilities();
    assert_eq!(capabilities.kind, SwitchKind::Membership);
    assert_eq!((capabilities.max_fleets, capabilities.version_check), (None, VersionCheck::WithTheChange));
}

#[tokio::test]
async fn members_come_are_found_good_by_the_gateway_and_go() {
    let stand = Stand::by_members();
    assert_eq!(stand.settled().await, closed(), "addresses of others are none of ours");
    let (old, new) = (stand.fleet("web-1", 2).await, stand.fleet("web-2", 2).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    let expected = Told { split: "web-1 100 %".to_owned(), members: all(&[&old], Healthy) };
    assert_eq!(stand.settled().await, expected);

    stand.apply(&to("web-2", &[&old, &new])).await.unwrap();
    let both = Told { split: "web-1 50 %, web-2 50 %".to_owned(), members: all(&[&old, &new], Healthy) };
    assert_eq!(stand.settled().await, both);

    stand.apply(&to("web-2", &[&new])).await.unwrap();
    let expected = Told { split: "web-2 100 %".to_owned(), members: all(&[&new], Healthy) };
    assert_eq!(stand.settled().await, expected);
    let pool = stand.pools()["web"].clone();
    assert_eq!(pool[..2], ["legacy.example", "10.9.9.9"]);
    assert!(pool.len() == 4 && ips(&new).iter().all(|address| pool.contains(address)), "{pool:?}");

    stand.apply(&to("", &[])).await.unwrap();
    assert_eq!(stand.settled().await, closed());
    assert_eq!(stand.pools()["web"], ["legacy.example", "10.9.9.9"]);
}

#[tokio::test]
async fn new_members_are_good_before_old_ones_go() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    let (wanted, version) = (to("web-2", &[&new]), stand.observe().await.version);
    stand.once("switch", &wanted, &version).await.unwrap();
    let pool = stand.pools()["web"].clone();
    assert!(pool.contains(&ips(&old)[0]) && pool.contains(&ips(&new)[0]), "{pool:?}");
    let writes = stand.calls(PUT);
    // No answer of the gateway that knows the new one yet.
    let waits = stand.once("switch", &wanted, &version).await.unwrap();
    assert!(
        matches!(&waits, Progress::Pending { note, .. } if note.contains("to find members of web-2 good")),
        "{waits:?}"
    );
    assert_eq!(stand.calls(PUT), writes);
    stand.fake.set_ill(&machine(&new[0].instance), false);
    let mut done = waits;
    for _ in 0..6 {
        done = stand.once("switch", &wanted, &version).await.unwrap();
    }
    assert_eq!(done, Progress::Done(()));
    assert!(!stand.pools()["web"].contains(&ips(&old)[0]));
}

fn machine(instance: &immutable_core::model::InstanceId) -> String {
    format!("Microsoft.Compute/virtualMachines/{instance}")
}

#[tokio::test]
async fn an_unhealthy_member_is_shown_and_gets_no_share() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.fake.set_ill(&machine(&new[0].instance), true);
    stand.apply(&to("web-1", &[&old, &new])).await.unwrap();
    let members = vec![(old[0].instance.to_string(), Healthy), (new[0].instance.to_string(), Unhealthy)];
    assert_eq!(stand.probed().await, Told { split: "web-1 100 %".to_owned(), members });
    stand.fake.set_ill(&machine(&old[0].instance), true);
    let members = all(&[&old, &new], Unhealthy);
    assert_eq!(stand.settled().await, Told { split: "web-1 50 %, web-2 50 %".to_owned(), members });
}

#[tokio::test]
async fn what_is_thought_of_a_member_has_the_time_of_the_question_until_the_next_answer() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    assert_eq!(stand.probed().await.members, all(&[&members], Healthy));
    let mut asked = Vec::new();
    for _ in 0..6 {
        asked.push(stand.observe().await.members[0].health_as_of.unwrap());
    }
    assert!(asked.is_sorted(), "{asked:?}");
    let told = asked.len();
    asked.dedup();
    assert!((2..told).contains(&asked.len()), "{asked:?}");
}

#[tokio::test]
async fn who_is_not_probed_yet_is_not_bad() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    assert_eq!(stand.probed().await.members, all(&[&old], Healthy));
    stand.fake.set(|options| options.second = Duration::from_secs(1));
    let (wanted, version) = (to("web-2", &[&new]), stand.observe().await.version);
    stand.once("switch", &wanted, &version).await.unwrap();
    let members = vec![(old[0].instance.to_string(), Healthy), (new[0].instance.to_string(), Registering)];
    assert_eq!(sorted(stand.settled().await.members), sorted(members));
    let found = loop {
        if stand.once("switch", &wanted, &version).await.unwrap() == Progress::Done(()) {
            break stand.settled().await.members;
        }
        stand.answering();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(found, all(&[&new], Healthy));
}

#[tokio::test]
async fn nobody_who_is_good_goes_as_long_as_nobody_who_stays_is() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    stand.fake.set_ill(&machine(&new[0].instance), true);
    let (wanted, version) = (to("web-2", &[&new]), stand.observe().await.version);
    stand.once("switch", &wanted, &version).await.unwrap();
    let members = vec![(old[0].instance.to_string(), Healthy), (new[0].instance.to_string(), Unhealthy)];
    assert_eq!(sorted(stand.probed().await.members), sorted(members));
    for _ in 0..10 {
        let waits = stand.once("switch", &wanted, &version).await.unwrap();
        assert!(matches!(waits, Progress::Pending { .. }), "{waits:?}");
    }
    assert!(stand.pools()["web"].contains(&ips(&old)[0]));
    stand.fake.set_ill(&machine(&new[0].instance), false);
    while stand.once("switch", &wanted, &version).await.unwrap() != Progress::Done(()) {}
    assert_eq!(stand.settled().await.members, all(&[&new], Healthy));
}

#[tokio::test]
async fn what_is_written_is_in_effect_when_the_gateway_has_taken_it_in() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    stand.apply(&to("web-1", &[&old, &new])).await.unwrap();
    stand.settled().await;
    stand.slow();
    let (wanted, version) = (to("web-2", &[&new]), stand.observe().await.version);
    for _ in 0..4 {
        stand.pass();
        stand.once("leave", &wanted, &version).await.unwrap();
        if stand.pools().keys().any(|pool| pool.contains("-out-")) {
            break;
        }
    }
    let during = stand.observe().await;
    assert_eq!(during.split.weight(&id("web-1")), Weight::percent(50).unwrap(), "{during:?}");
    let health = |state: &immutable_core::provider::TrafficState| {
        state.members.iter().find(|member| member.fleet == id("web-1")).map(|member| member.health)
    };
    // Its time to finish, which is none here, begins when the change is in effect.
    assert_eq!(health(&during), Some(Draining));
    stand.pass();
    let after = stand.observe().await;
    assert_eq!(health(&after), None, "{after:?}");
    assert_eq!(after.split.to_string(), "web-2 100 %");
}

#[tokio::test]
async fn who_leaves_drains_as_long_as_the_settings_say_and_every_process_knows() {
    let mut stand = Stand::by_members();
    let members = stand.fleet("web-1", 2).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    let draining = json!({ "enabled": true, "drainTimeoutInSec": 2 });
    let settings = "/properties/backendHttpSettingsCollection/0/properties";
    stand
        .fake
        .change(GATEWAY, |gateway| gateway.pointer_mut(settings).unwrap()["connectionDraining"] = draining.clone());
    stand.apply(&to("web-1", &[&members[1..]])).await.unwrap();
    let expected = |state: &str| match state {
        "draining" => vec![(members[0].instance.to_string(), Draining), (members[1].instance.to_string(), Healthy)],
        _ => vec![(members[1].instance.to_string(), Healthy)],
    };
    assert_eq!(sorted(stand.settled().await.members), sorted(expected("draining")));
    stand.reopen(|config| config);
    assert_eq!(sorted(stand.settled().await.members), sorted(expected("draining")));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let writes = stand.calls(PUT);
    assert_eq!(stand.settled().await.members, expected("out"));
    // The next change of the route forgets it.
    let outs = |stand: &Stand| stand.pools().keys().filter(|pool| pool.contains("-out-")).count();
    assert_eq!((stand.calls(PUT), outs(&stand)), (writes, 1));
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    assert_eq!(outs(&stand), 0);
}

fn sorted(
    mut members: Vec<(String, immutable_core::provider::MemberHealth)>,
) -> Vec<(String, immutable_core::provider::MemberHealth)> {
    members.sort_by(|one, other| one.0.cmp(&other.0));
    members
}

#[tokio::test]
async fn who_drains_can_come_back() {
    let mut stand = Stand::by_members();
    stand.reopen(|config| config.drain_time(Duration::from_mins(5)));
    let members = stand.fleet("web-1", 2).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    stand.apply(&to("web-1", &[&members[1..]])).await.unwrap();
    assert_eq!(stand.settled().await.members.len(), 2);
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    assert_eq!(stand.settled().await.members, all(&[&members], Healthy));
}

#[tokio::test]
async fn a_member_whose_machine_is_gone_is_bad_and_goes_with_the_next_change() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 2).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    for interface in stand.fake.list("Microsoft.Network/networkInterfaces").into_values() {
        if interface["properties"]["virtualMachine"]["id"]
            .as_str()
            .unwrap()
            .to_ascii_lowercase()
            .ends_with(members[0].instance.as_str())
        {
            stand.fake.remove(interface["id"].as_str().unwrap());
        }
    }
    let gone = format!("address:{}", ips(&members)[0]);
    let expected = vec![(gone, Unhealthy), (members[1].instance.to_string(), Healthy)];
    assert_eq!(sorted(stand.settled().await.members), sorted(expected));
    stand.apply(&to("web-1", &[&members[1..]])).await.unwrap();
    assert_eq!(stand.settled().await.members, all(&[&members[1..]], Healthy));
}

#[tokio::test]
async fn a_member_is_registering_until_the_gateway_has_answered() {
    let mut stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    stand.reopen(|config| config);
    let first = stand.observe().await;
    let expected = Told { split: "web-1 100 %".to_owned(), members: all(&[&members], Registering) };
    assert_eq!(told(&first), expected);
    let now = jiff::Timestamp::now();
    for _ in 0..4 {
        stand.observe().await;
    }
    let later = stand.observe().await;
    assert_eq!(told(&later).members, all(&[&members], Healthy));
    assert!(later.as_of >= now && later.as_of <= jiff::Timestamp::now());
    // The gateway takes its time: what it said before counts, and the rest is as new as ever.
    stand.fake.set(|options| options.operation_time = crate::stand::HOUR);
    for _ in 0..3 {
        let now = jiff::Timestamp::now();
        let later = stand.observe().await;
        assert_eq!(told(&later).members, all(&[&members], Healthy));
        assert!(later.as_of >= now, "who leaves and who is in is read anew");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    let version = stand.observe().await.version;
    let mut named = to("web-1", &[&members]);
    named.members[0].endpoint = "web.example:80".parse().unwrap();
    let mut twice = to("web-1", &[&members, &members]);
    twice.members[1].fleet = id("web-2");
    for (wanted, words) in [(named, "no IP address"), (twice, "member of fleet web-1 and of fleet web-2")] {
        let error = stand.once("x", &wanted, &version).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidRequest && error.to_string().contains(words), "{error}");
    }
    for wrong in [
        "conformance-no-such-route",
        &stand.route.as_str().replace("/web", "/none"),
        &stand.fake.id(&format!("{GATEWAY}/requestRoutingRules/web")),
    ] {
        let cx = crate::stand::cx("observe");
        let error = stand.switch.observe(&cx, &wrong.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{wrong}: {error}");
    }
    assert_eq!(stand.calls(PUT), 0);
}

#[tokio::test]
async fn a_gateway_that_would_be_too_large_is_refused_and_pools_of_those_who_leave_are_merged() {
    let mut stand = Stand::by_members();
    stand.reopen(|config| config.drain_time(Duration::from_mins(5)));
    let members = stand.fleet("web-1", 3).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    let fill = |count: usize| {
        stand.fake.change(GATEWAY, |gateway| {
            let pools = gateway["properties"]["backendAddressPools"].as_array_mut().unwrap();
            pools.retain(|pool| !pool["name"].as_str().unwrap().starts_with("filler"));
            let missing = count.saturating_sub(pools.len());
            pools.extend((0..missing).map(|index| json!({ "name": format!("filler-{index}"), "properties": {} })));
        });
    };
    // Room for one pool of those who leave.
    fill(99);
    stand.apply(&to("web-1", &[&members[1..]])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    stand.apply(&to("web-1", &[&members[2..]])).await.unwrap();
    let pools = stand.pools();
    let out: Vec<_> =
        pools.iter().filter(|(pool, _)| pool.contains("-out-")).map(|(_, targets)| targets.len()).collect();
    assert_eq!((pools.len(), out), (100, vec![2]));
    stand.fake.change(GATEWAY, |gateway| {
        let pools = gateway["properties"]["backendAddressPools"].as_array_mut().unwrap();
        pools.retain(|pool| !pool["name"].as_str().unwrap().contains("-out-"));
    });
    fill(100);
    let error = stand.apply(&to("web-1", &[])).await.err();
    // The fleet's own pool goes as that of those who leave comes.
    assert!(error.is_none(), "{error:?}");
    fill(101);
    let error = stand.apply(&to("web-1", &[&members])).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Quota && error.to_string().contains("at most 100 backend pools"), "{error}");
}
