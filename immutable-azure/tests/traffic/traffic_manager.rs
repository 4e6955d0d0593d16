//! Weights of a profile of Traffic Manager.

use std::time::Duration;

use immutable_azure::{RoleUse, Slot, TrafficManagerSwitch};
use immutable_core::model::{RouteId, Split};
use immutable_core::provider::{
    Effect, ErrorKind, MemberHealth, MemberTarget, OpContext, Progress, SwitchKind, TrafficSwitch, VersionCheck,
};
use serde_json::{Value, json};

use crate::stand::{
    PUT_POOL, Stand, again, assignment, call, fleet, healths, look, make, public_address, quick, until,
};
use crate::support::{actions, without};

const PROFILE: &str = "Microsoft.Network/trafficManagerProfiles/web";
const PUT: &str = "PUT Microsoft.Network/trafficManagerProfiles";

/// Two slots, and an endpoint of somebody else's.
fn profile(stand: &Stand, ttl: u64) -> Value {
    let endpoint = |name: &str, pool: &str| {
        let address = public_address(&stand.fake, pool);
        json!({
            "name": name,
            "type": "Microsoft.Network/trafficManagerProfiles/azureEndpoints",
            "properties": { "targetResourceId": address, "endpointStatus": "Disabled", "weight": 5 },
        })
    };
    let legacy = json!({
        "name": "legacy",
        "type": "Microsoft.Network/trafficManagerProfiles/externalEndpoints",
        "properties": { "target": "legacy.example.com", "endpointStatus": "Enabled", "weight": 5 },
    });
    json!({
        "location": "global",
        "tags": { "owner": "somebody" },
        "properties": {
            "trafficRoutingMethod": "Weighted",
            "dnsConfig": { "relativeName": "web", "ttl": ttl },
            "monitorConfig": { "protocol": "HTTP", "port": 80, "path": "/healthz" },
            "endpoints": [endpoint("one", "red"), endpoint("two", "black"), legacy],
        },
    })
}

struct Profile {
    stand: Stand,
    switch: TrafficManagerSwitch,
    route: RouteId,
}

impl Profile {
    async fn open(ttl: u64) -> Self {
        let stand = Stand::open(quick()).await;
        stand.fake.put(PROFILE, profile(&stand, ttl));
        let route = stand.fake.id(PROFILE).parse().unwrap();
        Self { switch: switch(&stand), stand, route }
    }

    /// Status and weight of the endpoints that are slots.
    fn endpoints(&self) -> [(String, u64); 2] {
        let profile = self.stand.fake.get(PROFILE).unwrap();
        [0, 1].map(|index| {
            let said = &profile["properties"]["endpoints"][index]["properties"];
            (said["endpointStatus"].as_str().unwrap().to_owned(), said["weight"].as_u64().unwrap())
        })
    }

    fn tag(&self, name: &str) -> String {
        self.stand.fake.get(PROFILE).unwrap()["tags"][name].as_str().unwrap().to_owned()
    }

    fn writes(&self) -> usize {
        self.stand.fake.calls().get(PUT).copied().unwrap_or_default()
    }

    fn change(&self, path: &str, value: Value) {
        self.stand.fake.change(PROFILE, |profile| *profile.pointer_mut(path).unwrap() = value);
    }
}

/// A switch of a process of its own.
fn switch(stand: &Stand) -> TrafficManagerSwitch {
    let slot = |endpoint: &str, pool| Slot { endpoint: endpoint.into(), pool: stand.route(pool) };
    TrafficManagerSwitch::new(stand.config().build().unwrap(), [slot("one", "red"), slot("two", "black")]).unwrap()
}

const OLD: &[(&str, u16)] = &[("web-old", 10_000)];
const NEW: &[(&str, u16)] = &[("web-new", 10_000)];
const BOTH: &[(&str, u16)] = &[("web-old", 9000), ("web-new", 1000)];

fn enabled(weight: u64) -> (String, u64) {
    ("Enabled".to_owned(), weight)
}

#[tokio::test]
async fn fleets_share_by_weights_each_in_a_slot_of_its_own_and_nothing_else_changes() {
    let at = Profile::open(0).await;
    let (switch, route) = (&at.switch, &at.route);
    let capabilities = switch.capabilities();
    assert!(matches!(capabilities.kind, SwitchKind::Weighted { step } if step.points() == 10));
    assert_eq!((capabilities.max_fleets, capabilities.version_check), (Some(2), VersionCheck::BeforeTheChange));
    let before = at.stand.fake.get(PROFILE).unwrap();
    let state = look(switch, route).await;
    assert!(state.split.is_closed() && state.members.is_empty(), "{state:?}");
    let (old, new) = (at.stand.machines("web-old"), at.stand.machines("web-new"));
    make(switch, route, "open", &assignment(OLD, &[&old])).await.unwrap();
    assert_eq!(look(switch, route).await.split, Split::all_to(fleet("web-old")));
    make(switch, route, "share", &assignment(BOTH, &[&old, &new])).await.unwrap();
    let state = look(switch, route).await;
    assert_eq!(state.split, assignment(BOTH, &[]).split);
    assert_eq!((state.members.len(), at.endpoints()), (6, [enabled(900), enabled(100)]));
    assert_eq!((at.stand.entries("red").len(), at.stand.entries("black").len()), (3, 3));

    make(switch, route, "close", &assignment(&[], &[])).await.unwrap();
    let state = look(switch, route).await;
    assert!(state.split.is_closed() && healths(&state).values().all(|health| *health == MemberHealth::Draining));
    let mut after = at.stand.fake.get(PROFILE).unwrap();
    for index in [0, 1] {
        let own = &mut after["properties"]["endpoints"][index]["properties"];
        assert_eq!(own["endpointStatus"], "Disabled");
        own["weight"] = json!(5);
        // The fake says so only of what was written.
        own.as_object_mut().unwrap().remove("endpointMonitorStatus");
    }
    let tags = after["tags"].as_object_mut().unwrap();
    tags.retain(|name, _| !name.starts_with("immutable-"));
    for (name, field) in
        [("profileStatus", "properties"), ("fqdn", "dnsConfig"), ("profileMonitorStatus", "monitorConfig")]
    {
        let place = if field == "properties" { "/properties".to_owned() } else { format!("/properties/{field}") };
        after.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(name);
    }
    for endpoint in after["properties"]["endpoints"].as_array_mut().unwrap() {
        endpoint.as_object_mut().unwrap().remove("id");
        endpoint["properties"].as_object_mut().unwrap().remove("endpointMonitorStatus");
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn no_answer_leads_to_nobody_on_the_way() {
    let at = Profile::open(0).await;
    let (switch, route) = (&at.switch, &at.route);
    let (old, new) = (at.stand.machines("web-old"), at.stand.machines("web-new"));
    make(switch, route, "open", &assignment(OLD, &[&old])).await.unwrap();
    let expected = look(switch, route).await.version;
    let (mut seen, wanted) = (vec![at.endpoints()], assignment(NEW, &[&new]));
    loop {
        let answer = call(switch, route, "move", &wanted, &expected).await.unwrap();
        let now = at.endpoints();
        if seen.last() != Some(&now) {
            // Answers lead to the new one, and it is not known yet to be online.
            if now[0].0 == "Enabled" {
                at.change("/properties/endpoints/1/properties/endpointMonitorStatus", json!("CheckingEndpoint"));
                for _ in 0..3 {
                    let waits = call(switch, route, "move", &wanted, &expected).await.unwrap();
                    assert!(matches!(&waits, Progress::Pending { note, .. } if note.contains("online")), "{waits:?}");
                }
                let members = healths(&look(switch, route).await);
                assert_eq!(members[&new[0].instance], MemberHealth::Registering);
                at.change("/properties/endpoints/1/properties/endpointMonitorStatus", json!("Online"));
            }
            seen.push(now);
        }
        if answer == Progress::Done(()) {
            break;
        }
    }
    let disabled = ("Disabled".to_owned(), 1000);
    assert_eq!(
        seen,
        [[enabled(1000), ("Disabled".to_owned(), 5)], [enabled(1000), enabled(1)], [disabled, enabled(1000)]]
    );
    at.change("/properties/endpoints/1/properties/endpointMonitorStatus", json!("Degraded"));
    let state = look(switch, route).await;
    assert_eq!(healths(&state)[&new[0].instance], MemberHealth::Unhealthy);
}

#[tokio::test]
async fn earlier_weights_are_in_effect_until_their_time_to_live_is_over() {
    let at = Profile::open(1).await;
    let (switch, route) = (&at.switch, &at.route);
    let (old, new) = (at.stand.machines("web-old"), at.stand.machines("web-new"));
    make(switch, route, "open", &assignment(OLD, &[&old])).await.unwrap();
    assert!(look(switch, route).await.split.is_closed(), "nobody may have asked since");
    until(switch, route, |state| state.split == Split::all_to(fleet("web-old"))).await;

    at.change("/properties/dnsConfig/ttl", json!(3600));
    let expected = look(switch, route).await.version;
    let wanted = assignment(NEW, &[&new]);
    let mut last = Progress::Done(());
    for _ in 0..200 {
        last = call(switch, route, "move", &wanted, &expected).await.unwrap();
        if matches!(&last, Progress::Pending { note, .. } if note.contains("time to live")) {
            break;
        }
        // What the balancer says of a member counts from the next whole second on.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Progress::Pending { retry_after, ref note } = last else { panic!("{last:?}") };
    assert!(note.contains("time to live") && retry_after > Duration::from_mins(50), "{retry_after:?} {note}");
    assert_eq!(at.endpoints()[1], enabled(1000));
    // Another process sees the same.
    let state = look(&self::switch(&at.stand), route).await;
    assert_eq!(state.split.weight(&fleet("web-old")).points(), 9990);
    let seen = healths(&state);
    assert!(old.iter().all(|machine| seen[&machine.instance] != MemberHealth::Draining), "{seen:?}");
    assert_eq!(at.tag("immutable-before"), "one=1000,two=1");

    // Going back at once still reckons with who was told of the new one.
    let expected = state.version;
    for _ in 0..20 {
        last = call(switch, route, "back", &assignment(OLD, &[&old]), &expected).await.unwrap();
    }
    assert!(matches!(last, Progress::Pending { .. }));
    assert_eq!((at.endpoints()[0].clone(), at.tag("immutable-before")), (enabled(1000), "one=1000,two=1000".into()));
    let state = look(switch, route).await;
    assert_eq!(state.split.weight(&fleet("web-new")).points(), 5000);
    at.change("/properties/dnsConfig/ttl", json!(0));
    let state = look(switch, route).await;
    assert_eq!(state.split, Split::all_to(fleet("web-old")));
    make(switch, route, "back", &assignment(OLD, &[&old])).await.unwrap();
    let seen = healths(&look(switch, route).await);
    assert!(new.iter().all(|machine| seen[&machine.instance] == MemberHealth::Draining), "{seen:?}");
}

#[tokio::test]
async fn every_change_is_another_version_and_an_old_one_is_a_conflict() {
    let at = Profile::open(0).await;
    let (switch, route) = (&at.switch, &at.route);
    let (old, new) = (at.stand.machines("web-old"), at.stand.machines("web-new"));
    let wanted = [
        assignment(OLD, &[&old]),
        assignment(BOTH, &[&old, &new]),
        assignment(OLD, &[&old]),
        assignment(OLD, &[&old[..1]]),
        assignment(OLD, &[&old]),
    ];
    let mut versions = vec![look(switch, route).await.version];
    for (index, wanted) in wanted.iter().enumerate() {
        make(switch, route, &format!("change {index}"), wanted).await.unwrap();
        let version = look(switch, route).await.version;
        assert!(!versions.contains(&version), "{version} was there before");
        versions.push(version);
    }
    at.change("/properties/endpoints/2/properties/weight", json!(6));
    let before = (look(switch, route).await.version, at.writes(), at.stand.writes());
    for stale in versions {
        let error = call(switch, route, "late", &assignment(NEW, &[&new]), &stale).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    }
    assert_eq!((look(switch, route).await.version, at.writes(), at.stand.writes()), before);
    // What is steady is not written.
    make(switch, route, "again", &wanted[4]).await.unwrap();
    assert_eq!((at.writes(), at.stand.writes()), (before.1, before.2));
}

#[tokio::test]
async fn of_two_who_saw_the_same_version_one_is_told() {
    let at = Profile::open(0).await;
    let (switch, route) = (&at.switch, &at.route);
    let (old, new) = (at.stand.machines("web-old"), at.stand.machines("web-new"));
    let (one, two) = (assignment(OLD, &[&old]), assignment(NEW, &[&new]));
    let expected = look(switch, route).await.version;
    let (left, right) = futures_util::future::join(
        call(switch, route, "left", &one, &expected),
        call(switch, route, "right", &two, &expected),
    )
    .await;
    let told = [&left, &right].into_iter().filter_map(|answer| answer.as_ref().err());
    let kinds: Vec<_> = told.map(|error| (error.kind(), error.effect())).collect();
    assert_eq!(kinds, [(ErrorKind::Conflict, Effect::None)], "{left:?} {right:?}");
    // Of two processes, who claims first goes on, also when its answers are lost.
    let (wins, wanted) = if left.is_ok() { ("left", &one) } else { ("right", &two) };
    let other = self::switch(&at.stand);
    assert_eq!(call(&other, route, "third", &one, &expected).await.unwrap_err().kind(), ErrorKind::Conflict);
    for operation in [PUT_POOL, PUT] {
        at.stand.fake.lose_next(operation);
        loop {
            match call(&other, route, wins, wanted, &expected).await {
                Ok(Progress::Done(())) => panic!("nothing of {operation} was lost"),
                Ok(Progress::Pending { .. }) => {}
                Err(error) => {
                    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{error}");
                    break;
                }
            }
        }
    }
    again(switch, route, wins, wanted, &expected).await.unwrap();
    assert_eq!(look(switch, route).await.split, wanted.split);
}

#[tokio::test]
async fn somebody_elses_change_in_between_is_a_conflict() {
    for path in ["/properties/endpoints/2/properties/weight", "/properties/dnsConfig/ttl"] {
        let at = Profile::open(0).await;
        let (switch, route, old) = (&at.switch, &at.route, at.stand.machines("web-old"));
        let (expected, wanted) = (look(switch, route).await.version, assignment(OLD, &[&old]));
        for _ in 0..2 {
            assert!(matches!(call(switch, route, "open", &wanted, &expected).await, Ok(Progress::Pending { .. })));
        }
        at.change(path, json!(7));
        let error = call(switch, route, "open", &wanted, &expected).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
        make(switch, route, "open", &wanted).await.unwrap();
        assert_eq!(at.stand.fake.get(PROFILE).unwrap().pointer(path), Some(&json!(7)));
    }
}

#[tokio::test]
async fn a_slot_is_free_when_its_members_are_out() {
    let at = Profile::open(0).await;
    let (switch, route) = (&at.switch, &at.route);
    let (old, new) = (at.stand.machines("web-old"), at.stand.machines("web-new"));
    let third: Vec<MemberTarget> = old[2..]
        .iter()
        .map(|one| MemberTarget { fleet: fleet("web-3"), instance: "im-web-3_1".parse().unwrap(), ..one.clone() })
        .collect();
    let (old, wanted) = (&old[..2], assignment(&[("web-3", 10_000)], &[&third]));
    make(switch, route, "share", &assignment(BOTH, &[old, &new])).await.unwrap();
    let expected = look(switch, route).await.version;
    let error = call(switch, route, "third", &wanted, &expected).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
    make(switch, route, "shrink", &assignment(NEW, &[&new])).await.unwrap();
    let expected = look(switch, route).await.version;
    let waits = call(switch, route, "third", &wanted, &expected).await.unwrap();
    assert!(matches!(&waits, Progress::Pending { note, .. } if note.contains("slot")), "{waits:?}");
    let config = at.stand.config().drain_time(Duration::ZERO).build().unwrap();
    let slot = |endpoint: &str, pool| Slot { endpoint: endpoint.into(), pool: at.stand.route(pool) };
    let switch = TrafficManagerSwitch::new(config, [slot("one", "red"), slot("two", "black")]).unwrap();
    make(&switch, route, "third", &wanted).await.unwrap();
    assert_eq!(look(&switch, route).await.split, wanted.split);
    let addresses: Vec<_> =
        at.stand.entries("black").iter().map(|entry| entry["properties"]["ipAddress"].clone()).collect();
    assert_eq!(addresses, [third[0].endpoint.host()]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_written() {
    let at = Profile::open(0).await;
    let (switch, route, cx) = (&at.switch, &at.route, OpContext::standalone("look"));
    for other in
        ["web", at.stand.route("red").as_str(), &at.stand.fake.id("Microsoft.Network/trafficManagerProfiles/no")]
    {
        let error = switch.observe(&cx, &other.parse().unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::NotFound, Effect::None), "{other}");
    }
    let expected = look(switch, route).await.version;
    let error = call(switch, route, "open", &assignment(OLD, &[]), &expected).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    at.stand.fake.refuse_next(PUT, 403, "AuthorizationFailed", "m");
    let wanted = assignment(OLD, &[&at.stand.machines("web-old")]);
    let error = call(switch, route, "open", &wanted, &expected).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::PermissionDenied, Effect::None), "{error}");
    for (path, value, kind) in [
        ("/tags", json!({ "immutable-before": "x" }), ErrorKind::Internal),
        ("/tags", json!({ "IMMUTABLE-SINCE": "yesterday" }), ErrorKind::Internal),
        ("/properties/trafficRoutingMethod", json!("Priority"), ErrorKind::InvalidRequest),
        ("/properties/endpoints/1/name", json!("three"), ErrorKind::InvalidRequest),
    ] {
        let before = at.stand.fake.get(PROFILE).unwrap();
        at.change(path, value);
        let error = switch.observe(&cx, route).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{error}");
        at.change("", before);
    }
    assert_eq!(at.stand.writes(), 0);
}

#[tokio::test]
async fn slots_that_cannot_work_are_no_switch() {
    let stand = Stand::open(quick()).await;
    let (red, green) = (stand.route("red"), stand.route("green"));
    let slot = |endpoint: &str, pool: &RouteId| Slot { endpoint: endpoint.into(), pool: pool.clone() };
    let elsewhere = "red".parse().unwrap();
    let long = "a".repeat(250);
    for (slots, problem) in [
        (vec![slot("one", &red)], "from 2 to 10"),
        (vec![slot("one", &red), slot("ONE", &green)], "of its own"),
        (vec![slot("one", &red), slot("two", &red)], "of its own"),
        (vec![slot("one", &red), slot("two", &elsewhere)], "a pool must look like"),
        (vec![slot("one", &red), slot("a=b", &green)], "an endpoint must be a name"),
        (vec![slot("one", &red), slot(&long, &green)], "256 characters"),
    ] {
        let error = TrafficManagerSwitch::new(stand.config().build().unwrap(), slots).unwrap_err();
        assert_eq!(error.field(), "slots");
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[tokio::test]
async fn no_request_is_lost_when_all_traffic_moves() {
    let at = Profile::open(1).await;
    let (switch, route) = (&at.switch, &at.route);
    at.change("/properties/endpoints/2/properties/endpointStatus", json!("Disabled"));
    let (old, new) = (at.stand.machines("web-old"), at.stand.machines("web-new"));
    make(switch, route, "open", &assignment(OLD, &[&old])).await.unwrap();
    let (expected, wanted) = (look(switch, route).await.version, assignment(NEW, &[&new]));
    let answered = || {
        for _ in 0..8 {
            at.stand.fake.request(PROFILE).unwrap();
        }
    };
    while call(switch, route, "move", &wanted, &expected).await.unwrap() != Progress::Done(()) {
        answered();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    answered();
    assert_eq!(look(switch, route).await.split, wanted.split);
}

#[tokio::test]
async fn the_role_for_profiles_is_enough_and_each_of_it_is_needed() {
    let all = actions([RoleUse::TrafficManager]);
    for missing in [None].into_iter().chain(all.iter().map(Some)) {
        let at = Profile::open(0).await;
        let allowed = missing.map_or_else(|| all.clone(), |action| without(&all, action));
        at.stand.fake.set(|options| options.actions = Some(allowed));
        let wanted = assignment(OLD, &[&at.stand.machines("web-old")]);
        let expected = at.switch.observe(&OpContext::standalone("look"), &at.route).await.map(|state| state.version);
        let done = match expected {
            Ok(expected) => again(&at.switch, &at.route, "open", &wanted, &expected).await,
            Err(error) => Err(error),
        };
        assert_eq!(done.map_err(|error| error.kind()), missing.map_or(Ok(()), |_| Err(ErrorKind::PermissionDenied)));
    }
}
