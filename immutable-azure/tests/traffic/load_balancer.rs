//! Members of a backend pool.

use std::time::Duration;

use immutable_azure::{LoadBalancerSwitch, RoleUse};
use immutable_azure_fake::Options;
use immutable_core::model::{RouteId, Split};
use immutable_core::provider::{
    Assignment, Effect, ErrorKind, MemberHealth, MemberTarget, OpContext, Progress, SwitchKind, TrafficState,
    TrafficSwitch, VersionCheck,
};
use serde_json::{Value, json};

use crate::stand::{BALANCER, PUT_POOL, Stand, again, assignment, call, fleet, healths, look, make, quick, until};
use crate::support::{actions, without};

fn to(members: &[&[MemberTarget]]) -> Assignment {
    assignment(&[], members)
}

fn is(health: MemberHealth, of: &MemberTarget) -> impl Fn(&TrafficState) -> bool {
    move |state| healths(state).get(&of.instance) == Some(&health)
}

async fn open() -> (Stand, LoadBalancerSwitch, RouteId) {
    let stand = Stand::open(quick()).await;
    let (switch, route) = (LoadBalancerSwitch::new(stand.config().build().unwrap()), stand.route("blue"));
    (stand, switch, route)
}

#[tokio::test]
async fn fleets_share_by_their_members_and_nothing_else_changes() {
    let (stand, switch, route) = open().await;
    assert_eq!(switch.capabilities().kind, SwitchKind::Membership);
    assert_eq!(switch.capabilities().version_check, VersionCheck::WithTheChange);
    let before = stand.fake.get(BALANCER).unwrap();
    let state = look(&switch, &route).await;
    assert!(state.split.is_closed() && state.members.is_empty(), "{state:?}");
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    make(&switch, &route, "open", &to(&[&old[..2]])).await.unwrap();
    make(&switch, &route, "share", &to(&[&old[..2], &new[..1]])).await.unwrap();
    let state = until(&switch, &route, is(MemberHealth::Healthy, &new[0])).await;
    let points = |name: &str| state.split.weight(&fleet(name)).points();
    assert_eq!((points("web-old"), points("web-new")), (6667, 3333));
    assert!(healths(&state).values().all(|health| *health == MemberHealth::Healthy), "{state:?}");

    let mut after = stand.fake.get(BALANCER).unwrap();
    let list = "/properties/backendAddressPools/0/properties/loadBalancerBackendAddresses";
    let entries = after.pointer(list).unwrap().as_array().unwrap().clone();
    assert_eq!((entries.len(), &entries[0]), (4, before.pointer(list).unwrap().get(0).unwrap()));
    let network = stand.fake.id("Microsoft.Network/virtualNetworks/net");
    for (entry, machine) in entries[1..].iter().zip([&old[0], &old[1], &new[0]]) {
        let name = entry["name"].as_str().unwrap();
        assert!(name.starts_with(&format!("{}.", machine.instance)), "{name}");
        let said = json!({
            "ipAddress": machine.endpoint.host(),
            "adminState": "None",
            "virtualNetwork": { "id": network },
        });
        assert_eq!(entry["properties"], said);
    }
    *after.pointer_mut(list).unwrap() = before.pointer(list).unwrap().clone();
    assert_eq!(without_etags(after), without_etags(before));
}

/// All but what the server itself changes.
fn without_etags(mut value: Value) -> Value {
    fn clear(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("etag");
                fields.values_mut().for_each(clear);
            }
            Value::Array(items) => items.iter_mut().for_each(clear),
            _ => {}
        }
    }
    clear(&mut value);
    value
}

#[tokio::test]
async fn who_leaves_is_drained_only_when_the_new_ones_are_found_good() {
    let (stand, switch, route) = open().await;
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    make(&switch, &route, "open", &to(&[&old])).await.unwrap();
    for machine in &new {
        ill(&stand, machine, true);
    }
    let expected = look(&switch, &route).await.version;
    for _ in 0..10 {
        let waits = call(&switch, &route, "move", &to(&[&new]), &expected).await.unwrap();
        assert!(matches!(waits, Progress::Pending { .. }));
    }
    let state = look(&switch, &route).await;
    let seen = healths(&state);
    assert!(old.iter().all(|machine| seen[&machine.instance] == MemberHealth::Healthy), "{seen:?}");
    assert!(new.iter().all(|machine| seen[&machine.instance] == MemberHealth::Registering), "{seen:?}");
    ill(&stand, &new[0], false);
    again(&switch, &route, "move", &to(&[&new]), &expected).await.unwrap();
    let state = look(&switch, &route).await;
    let seen = healths(&state);
    assert!(old.iter().all(|machine| seen[&machine.instance] == MemberHealth::Draining), "{seen:?}");
    assert_eq!(state.split, Split::all_to(fleet("web-new")));
    let out = stand.entries("blue").iter().filter(|entry| entry["properties"]["adminState"] == "Down").count();
    assert_eq!((out, stand.writes()), (3, 3));
}

fn ill(stand: &Stand, machine: &MemberTarget, ill: bool) {
    let machines = stand.fake.list("Microsoft.Compute/virtualMachines");
    let id = machines.into_keys().find(|id| id.ends_with(machine.instance.as_str())).unwrap();
    stand.fake.set_ill(&id, ill);
}

#[tokio::test]
async fn who_was_drained_is_out_and_the_next_write_removes_the_entry() {
    let (stand, _, route) = open().await;
    let config = |seconds| stand.config().drain_time(Duration::from_secs(seconds)).build().unwrap();
    let (slow, quick) = (LoadBalancerSwitch::new(config(3600)), LoadBalancerSwitch::new(config(0)));
    let old = stand.machines("web-old");
    make(&slow, &route, "open", &to(&[&old])).await.unwrap();
    make(&slow, &route, "shrink", &to(&[&old[..1]])).await.unwrap();
    let drained = look(&slow, &route).await;
    assert_eq!(healths(&drained)[&old[2].instance], MemberHealth::Draining);
    let state = look(&quick, &route).await;
    assert_eq!((state.members.len(), &state.version), (1, &drained.version), "no write, no other version");
    stand.change("/properties/backendAddressPools/0/properties", {
        let mut pool = stand.fake.get(BALANCER).unwrap()["properties"]["backendAddressPools"][0]["properties"].clone();
        pool["drainPeriodInSeconds"] = json!(3600);
        pool
    });
    assert_eq!(look(&quick, &route).await.members.len(), 3, "the pool says more than the settings");
    stand.change("/properties/backendAddressPools/0/properties/drainPeriodInSeconds", json!(0));

    // One comes back and loses its mark; the entry of the other goes with that write.
    make(&quick, &route, "grow", &to(&[&old[..2]])).await.unwrap();
    let names: Vec<Value> =
        stand.entries("blue").iter().map(|entry| entry["properties"]["adminState"].clone()).collect();
    assert_eq!(names, [Value::Null, json!("None"), json!("None")]);
    let state = until(&quick, &route, is(MemberHealth::Healthy, &old[1])).await;
    assert_eq!(state.members.len(), 2);
    make(&quick, &route, "close", &to(&[])).await.unwrap();
    let state = look(&quick, &route).await;
    assert!(state.split.is_closed() && state.members.is_empty(), "{state:?}");
}

#[tokio::test]
async fn every_change_is_another_version_and_an_old_one_is_a_conflict() {
    let (stand, switch, route) = open().await;
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    let mut versions = vec![look(&switch, &route).await.version];
    for (index, wanted) in [&old[..], &new[..], &old[..1], &old[..], &new[..]].into_iter().enumerate() {
        make(&switch, &route, &format!("change {index}"), &to(&[wanted])).await.unwrap();
        let version = look(&switch, &route).await.version;
        assert!(!versions.contains(&version), "{version} was there before");
        versions.push(version);
    }
    // A change by hand is one as well.
    stand.change("/properties/backendAddressPools/0/properties/loadBalancerBackendAddresses/0/name", json!("else"));
    let before = (look(&switch, &route).await.version, stand.entries("blue"));
    for stale in versions {
        let error = call(&switch, &route, "late", &to(&[&old]), &stale).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    }
    assert_eq!((look(&switch, &route).await.version, stand.entries("blue")), before);
}

#[tokio::test]
async fn a_change_of_another_pool_is_none_of_this_one() {
    let (stand, switch, route) = open().await;
    let (old, other) = (stand.machines("web-old"), stand.route("red"));
    make(&switch, &other, "the other", &to(&[&old[..1]])).await.unwrap();
    let before = until(&switch, &other, is(MemberHealth::Healthy, &old[0])).await;
    let version = look(&switch, &route).await.version;
    make(&switch, &route, "this one", &to(&[&old])).await.unwrap();
    assert_ne!(look(&switch, &route).await.version, version);
    let after = look(&switch, &other).await;
    assert_eq!(healths(&after), healths(&before));
    assert_eq!((after.version, after.split), (before.version, before.split));
}

#[tokio::test]
async fn of_two_who_saw_the_same_version_one_is_told() {
    let (stand, switch, route) = open().await;
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    make(&switch, &route, "open", &to(&[&new])).await.unwrap();
    for round in 0..5 {
        let expected = look(&switch, &route).await.version;
        let (left, right) = (format!("left {round}"), format!("right {round}"));
        let (one, two) = (to(&[&old[..=round % 2]]), to(&[&new, &old[..=round % 2 + 1]]));
        let (left, right) = futures_util::future::join(
            call(&switch, &route, &left, &one, &expected),
            call(&switch, &route, &right, &two, &expected),
        )
        .await;
        let told = [&left, &right].into_iter().filter_map(|answer| answer.as_ref().err());
        let kinds: Vec<_> = told.map(|error| (error.kind(), error.effect())).collect();
        assert_eq!(kinds, [(ErrorKind::Conflict, Effect::None)], "{left:?} {right:?}");
        make(&switch, &route, &format!("back {round}"), &to(&[&new])).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_goes_on_after_its_own_write_and_not_after_that_of_another() {
    let (stand, switch, route) = open().await;
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    make(&switch, &route, "open", &to(&[&old])).await.unwrap();
    let expected = look(&switch, &route).await.version;
    stand.fake.lose_next(PUT_POOL);
    let lost = call(&switch, &route, "move", &to(&[&new]), &expected).await.unwrap_err();
    assert_eq!((lost.kind(), lost.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{lost}");
    // Another process goes on.
    let other = LoadBalancerSwitch::new(stand.config().build().unwrap());
    for _ in 0..3 {
        call(&other, &route, "move", &to(&[&new]), &expected).await.unwrap();
    }
    let error = call(&other, &route, "another", &to(&[&new]), &expected).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    again(&other, &route, "move", &to(&[&new]), &expected).await.unwrap();
    // And somebody else's change in between is one.
    let expected = look(&switch, &route).await.version;
    let waits = call(&switch, &route, "back", &to(&[&old]), &expected).await.unwrap();
    assert!(matches!(waits, Progress::Pending { .. }));
    stand.change("/properties/backendAddressPools/0/properties/loadBalancerBackendAddresses/0/name", json!("else"));
    let error = call(&switch, &route, "back", &to(&[&old]), &expected).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
}

#[tokio::test]
async fn what_is_written_and_not_in_effect_is_not_shown_as_such() {
    let hour = Duration::from_hours(1);
    let (stand, switch, route) = open().await;
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    make(&switch, &route, "open", &to(&[&old])).await.unwrap();
    until(&switch, &route, is(MemberHealth::Healthy, &old[0])).await;
    stand.fake.set(|options| options.operation_time = hour);
    let expected = look(&switch, &route).await.version;
    call(&switch, &route, "add", &to(&[&old, &new]), &expected).await.unwrap();
    let state = look(&switch, &route).await;
    let seen = healths(&state);
    assert_eq!((seen[&old[0].instance], seen[&new[0].instance]), (MemberHealth::Healthy, MemberHealth::Registering));
    assert_eq!(state.split, Split::all_to(fleet("web-old")));
    let busy = call(&switch, &route, "add", &to(&[&old, &new]), &expected).await.unwrap();
    assert!(matches!(&busy, Progress::Pending { note, .. } if note.contains("loadBalancers/web")), "{busy:?}");
    assert_eq!(stand.writes(), 2);
    stand.fake.skip(hour);
    stand.fake.set(|options| options.operation_time = Duration::ZERO);
    let state = until(&switch, &route, is(MemberHealth::Healthy, &new[0])).await;
    assert_eq!(state.split.weight(&fleet("web-new")).points(), 5000);

    // Somebody begins a change between the look and the write.
    let code = "AnotherOperationInProgress";
    stand.fake.refuse_next(PUT_POOL, 429, code, "Another operation on this or dependent resource is in progress.");
    let expected = look(&switch, &route).await.version;
    let busy = call(&switch, &route, "shrink", &to(&[&old]), &expected).await.unwrap();
    assert!(matches!(busy, Progress::Pending { .. }));
    again(&switch, &route, "shrink", &to(&[&old]), &expected).await.unwrap();
}

#[tokio::test]
async fn what_was_refused_and_what_failed_is_told_and_sent_again() {
    let (stand, switch, route) = open().await;
    let old = stand.machines("web-old");
    let expected = look(&switch, &route).await.version;
    for (code, status, kind) in [
        ("AuthorizationFailed", 403, ErrorKind::PermissionDenied),
        ("TooManyRequests", 429, ErrorKind::Throttled),
        ("PreconditionFailed", 412, ErrorKind::Conflict),
        ("InvalidRequestFormat", 400, ErrorKind::InvalidRequest),
    ] {
        stand.fake.refuse_next(PUT_POOL, status, code, "m");
        let error = call(&switch, &route, "open", &to(&[&old]), &expected).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{error}");
    }
    stand.fake.fail_next_operation(PUT_POOL, "InternalServerError", "m");
    call(&switch, &route, "open", &to(&[&old]), &expected).await.unwrap();
    again(&switch, &route, "open", &to(&[&old]), &expected).await.unwrap();
    assert_eq!(stand.fake.get(BALANCER).unwrap()["properties"]["provisioningState"], "Succeeded");
    let state = until(&switch, &route, is(MemberHealth::Healthy, &old[0])).await;
    assert_eq!(state.split, Split::all_to(fleet("web-old")));
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_written() {
    let (stand, switch, route) = open().await;
    let old = stand.machines("web-old");
    let taken = MemberTarget { endpoint: "10.0.0.9:8080".parse().unwrap(), ..old[0].clone() };
    let named = MemberTarget { endpoint: "web.example:8080".parse().unwrap(), ..old[0].clone() };
    let long = MemberTarget { instance: format!("im-{}_0a1b2c3d", "a".repeat(60)).parse().unwrap(), ..old[0].clone() };
    let expected = look(&switch, &route).await.version;
    for (target, problem) in [(taken, "somebody else"), (named, "no IP address"), (long, "too long")] {
        let error = call(&switch, &route, "open", &to(&[&[target]]), &expected).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    }
    let short = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/loadBalancers/web";
    for other in ["web".parse().unwrap(), short.parse().unwrap(), stand.route("no")] {
        let error = switch.observe(&OpContext::standalone("look"), &other).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::NotFound, Effect::None), "{other}");
    }
    let path = "/properties/backendAddressPools/0/properties/loadBalancerBackendAddresses/0/properties/ipAddress";
    stand.change(path, Value::Null);
    let expected = look(&switch, &route).await.version;
    let error = call(&switch, &route, "open", &to(&[&old]), &expected).await.unwrap_err();
    assert!(error.to_string().contains("by network interface"), "{error}");
    stand.change("/properties/loadBalancingRules/1/properties/probe", Value::Null);
    let red = stand.route("red");
    let expected = look(&switch, &red).await.version;
    let error = call(&switch, &red, "open", &to(&[&old]), &expected).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
    assert!(error.to_string().contains("no probe"), "{error}");
    assert_eq!(stand.writes(), 0);
}

#[tokio::test]
async fn the_order_of_members_is_no_part_of_the_version() {
    let (stand, switch, route) = open().await;
    make(&switch, &route, "open", &to(&[&stand.machines("web-old")])).await.unwrap();
    let before = look(&switch, &route).await.version;
    let mut entries = stand.entries("blue");
    entries.reverse();
    stand.change("/properties/backendAddressPools/0/properties/loadBalancerBackendAddresses", entries.into());
    assert_eq!(look(&switch, &route).await.version, before);
}

#[tokio::test]
async fn a_question_about_members_that_is_refused_is_no_answer_and_no_error() {
    const HEALTH: &str = "POST Microsoft.Network/loadBalancers/loadBalancingRules/health";
    let (stand, switch, route) = open().await;
    let old = stand.machines("web-old");
    make(&switch, &route, "open", &to(&[&old])).await.unwrap();
    let state = |health| old.iter().map(|one| (one.instance.clone(), health)).collect();
    let other = LoadBalancerSwitch::new(stand.config().build().unwrap());
    for code in ["InvalidRequestFormat", "SomethingNew"] {
        stand.fake.refuse_next(HEALTH, 400, code, "no such luck");
        assert_eq!(healths(&look(&other, &route).await), state(MemberHealth::Registering), "{code}");
    }
    until(&other, &route, is(MemberHealth::Healthy, &old[0])).await;
    stand.fake.refuse_next(HEALTH, 403, "AuthorizationFailed", "you may not");
    let refused = async || switch.observe(&OpContext::standalone("look"), &route).await.err().map(|error| error.kind());
    assert_eq!(refused().await.or(refused().await), Some(ErrorKind::PermissionDenied));
}

#[tokio::test]
async fn what_is_thought_of_a_member_has_the_time_of_the_question_until_the_next_answer() {
    let (stand, switch, route) = open().await;
    let old = stand.machines("web-old");
    make(&switch, &route, "open", &to(&[&old])).await.unwrap();
    until(&switch, &route, is(MemberHealth::Healthy, &old[0])).await;
    let mut asked = Vec::new();
    for _ in 0..6 {
        asked.push(look(&switch, &route).await.members[0].health_as_of.unwrap());
    }
    assert!(asked.is_sorted(), "{asked:?}");
    let told = asked.len();
    asked.dedup();
    assert!((2..told).contains(&asked.len()), "{asked:?}");
}

#[tokio::test]
async fn nobody_looks_at_the_members_of_a_pool_without_a_rule() {
    let (stand, switch, _) = open().await;
    let (old, green) = (stand.machines("web-old"), stand.route("green"));
    make(&switch, &green, "open", &to(&[&old])).await.unwrap();
    let state = look(&switch, &green).await;
    assert!(healths(&state).values().all(|health| *health == MemberHealth::Untold), "{state:?}");
}

#[tokio::test]
async fn a_machine_takes_the_place_of_one_that_had_its_address() {
    let (stand, switch, route) = open().await;
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    make(&switch, &route, "open", &to(&[&old])).await.unwrap();
    let heir = MemberTarget { endpoint: old[0].endpoint.clone(), ..new[0].clone() };
    make(&switch, &route, "heir", &to(&[&old[1..], std::slice::from_ref(&heir)])).await.unwrap();
    let addresses: Vec<_> =
        stand.entries("blue").iter().map(|entry| entry["properties"]["ipAddress"].clone()).collect();
    assert_eq!(addresses.len(), 4);
    let state = until(&switch, &route, is(MemberHealth::Healthy, &heir)).await;
    assert!(!healths(&state).contains_key(&old[0].instance), "{state:?}");
}

#[tokio::test]
async fn a_steady_pool_is_not_written() {
    let stand = Stand::open(Options { page: 1, ..quick() }).await;
    let (switch, route) = (LoadBalancerSwitch::new(stand.config().build().unwrap()), stand.route("blue"));
    let old = stand.machines("web-old");
    make(&switch, &route, "open", &to(&[&old])).await.unwrap();
    let writes = stand.writes();
    for key in ["open", "again", "once more"] {
        make(&switch, &route, key, &to(&[&old])).await.unwrap();
    }
    assert_eq!(stand.writes(), writes);
}

#[tokio::test]
async fn no_request_is_lost_when_all_members_change_and_those_in_flight_are_finished() {
    let stand = Stand::open(Options { operation_time: Duration::from_millis(30), ..quick() }).await;
    let (switch, red) = (LoadBalancerSwitch::new(stand.config().build().unwrap()), stand.route("red"));
    let (old, new) = (stand.machines("web-old"), stand.machines("web-new"));
    make(&switch, &red, "open", &to(&[&old])).await.unwrap();
    stand.fake.begin_request(red.as_str()).unwrap();
    let expected = look(&switch, &red).await.version;
    while call(&switch, &red, "move", &to(&[&new]), &expected).await.unwrap() != Progress::Done(()) {
        stand.fake.request(red.as_str()).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..6 {
        assert!(stand.fake.request(red.as_str()).unwrap().contains("im-web-new_"));
    }
    stand.fake.finish_request().unwrap();
}

#[tokio::test]
async fn the_role_for_load_balancers_is_enough_and_each_of_it_is_needed() {
    let all = actions([RoleUse::LoadBalancers]);
    for missing in [None].into_iter().chain(all.iter().map(Some)) {
        let (stand, switch, route) = open().await;
        let allowed = missing.map_or_else(|| all.clone(), |action| without(&all, action));
        stand.fake.set(|options| options.actions = Some(allowed));
        let wanted = to(&[&stand.machines("web-old")]);
        let expected = switch.observe(&OpContext::standalone("look"), &route).await.map(|state| state.version);
        let done = match expected {
            Ok(expected) => again(&switch, &route, "open", &wanted, &expected).await,
            Err(error) => Err(error),
        };
        let expected = missing.map_or(Ok(()), |_| Err(ErrorKind::PermissionDenied));
        assert_eq!(done.map_err(|error| error.kind()), expected, "{missing:?}");
    }
}
