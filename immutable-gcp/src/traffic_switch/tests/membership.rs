//! Members of one backend service.

use immutable_core::provider::{Effect, ErrorKind, SwitchKind};

use super::*;

const PROXY: &str = "regions/europe-west1/backendServices/proxy";

/// A proxy balancer with a group of somebody else's.
async fn stand() -> Stand {
    let mut stand = Stand::open().await;
    stand.fake.put(PROXY, service("web", "EXTERNAL_MANAGED", "TCP"));
    stand.route = PROXY.parse().unwrap();
    stand
}

fn to(members: &[&[MemberTarget]]) -> Assignment {
    assignment(&[], members)
}

#[tokio::test]
async fn fleets_share_by_their_members_and_nothing_else_changes() {
    let stand = stand().await;
    let switch = stand.membership();
    assert_eq!(switch.capabilities().kind, SwitchKind::Membership);
    assert_eq!(switch.capabilities().max_fleets, Some(25));
    let before = stand.fake.get(PROXY).unwrap();
    let state = stand.look(&switch).await;
    assert!(state.split.is_closed() && state.members.is_empty());
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    stand.until_done(&switch, "open", &to(&[&old]), || {}).await.unwrap();
    stand.until_done(&switch, "share", &to(&[&old, &new[..1]]), || {}).await.unwrap();
    let state = stand.look(&switch).await;
    let points = |name: &str| state.split.weight(&fleet(name)).points();
    assert_eq!((points("web-old"), points("web-new")), (6667, 3333));
    assert!(healths(&state).values().all(|health| *health == MemberHealth::Healthy), "{state:?}");
    let mut after = stand.fake.get(PROXY).unwrap();
    let backends = after["backends"].as_array().cloned().unwrap();
    assert_eq!((backends.len(), &backends[0]), (1 + 2 * ZONES.len(), &before["backends"][0]));
    assert!(backends.iter().all(|backend| backend["maxConnectionsPerEndpoint"] == 70), "{backends:?}");
    for field in ["backends", "fingerprint"] {
        after[field] = before[field].clone();
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn new_members_are_good_before_old_ones_are_drained() {
    let stand = stand().await;
    stand.fake.change(|options| options.second = Duration::from_secs(1));
    let switch = stand.membership();
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    let lost = || assert!(stand.fake.request(PROXY).is_ok(), "a request was lost");
    stand.until_done(&switch, "open", &to(&[&old]), lost).await.unwrap();
    let mut seen = Vec::new();
    let expected = stand.look(&switch).await.version;
    for _ in 0..MOST_STEPS {
        let answer = stand.call(&switch, "move", &to(&[&new]), &expected).await.unwrap();
        lost();
        seen.push(healths(&stand.look(&switch).await));
        if answer == Progress::Done(()) {
            break;
        }
    }
    let is = |healths: &BTreeMap<InstanceId, MemberHealth>, member: &MemberTarget, health| {
        healths.get(&member.instance) == Some(&health)
    };
    let drained = seen.iter().find(|healths| is(healths, &old[0], MemberHealth::Draining)).unwrap();
    assert!(new.iter().any(|member| is(drained, member, MemberHealth::Healthy)), "{drained:?}");
    stand.fake.skip(Duration::from_secs(31));
    let state = stand.look(&switch).await;
    assert_eq!((healths(&state).len(), &state.split), (2, &Split::all_to(fleet("web-new"))));
}

#[tokio::test]
async fn passthrough_balancers_get_endpoints_without_ports() {
    let mut stand = Stand::open().await;
    let path = "regions/europe-west1/backendServices/inside";
    let mut service = service("web", "INTERNAL", "TCP");
    service["backends"] = json!([]);
    stand.fake.put(path, service);
    stand.route = path.parse().unwrap();
    let new = stand.pair("web-new");
    stand.until_done(&stand.membership(), "open", &to(&[&new]), || {}).await.unwrap();
    let group = format!("zones/{}/networkEndpointGroups/{}", ZONES[0], stand.name("web-new"));
    assert_eq!(stand.fake.get(&group).unwrap()["networkEndpointType"], "GCE_VM_IP");
    let backend = stand.fake.get(path).unwrap()["backends"][0].clone();
    assert_eq!((&backend["balancingMode"], backend.get("maxConnectionsPerEndpoint")), (&json!("CONNECTION"), None));
    assert!(stand.fake.request(path).unwrap().contains("/web-new-"));
}

#[tokio::test]
async fn of_two_who_saw_the_same_version_one_is_told_here_too() {
    let stand = stand().await;
    let switch = stand.membership();
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    let closed = stand.look(&switch).await.version;
    stand.until_done(&switch, "open", &to(&[&old]), || {}).await.unwrap();
    let error = stand.call(&switch, "stale", &to(&[&new]), &closed).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    let expected = stand.look(&switch).await.version;
    let mut told = 0;
    for _ in 0..20 {
        for (key, wanted) in [("left", to(&[&new])), ("right", to(&[&old, &new]))] {
            if let Err(error) = stand.call(&switch, key, &wanted, &expected).await {
                assert_eq!((key, error.kind()), ("right", ErrorKind::Conflict), "{error}");
                told += 1;
            }
        }
    }
    assert!(told > 0);
    stand.fake.skip(Duration::from_secs(1));
    assert_eq!(stand.look(&switch).await.split, Split::all_to(fleet("web-new")));
}

#[tokio::test]
async fn instance_groups_are_refused_and_a_removal_leaves_the_backends_as_they_were() {
    let stand = stand().await;
    let switch = stand.membership();
    let before = stand.fake.get(PROXY).unwrap();
    let new = stand.pair("web-new");
    stand.until_done(&switch, "open", &to(&[&new]), || {}).await.unwrap();
    let error = removal::remove(&stand, "time 0", "web-new").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    stand.until_done(&switch, "close", &to(&[]), || {}).await.unwrap();
    stand.fake.skip(Duration::from_secs(1));
    removal::remove(&stand, "time 1", "web-new").await.unwrap();
    assert_eq!(stand.fake.get(PROXY).unwrap()["backends"], before["backends"]);
    let groups = stand.fake.list("").into_keys().filter(|path| path.contains("/im-")).count();
    assert_eq!(groups, 0);
    let mut service = before;
    service["backends"] = json!([{ "group": format!("{LINK}zones/{}/instanceGroups/web", ZONES[0]) }]);
    stand.fake.put(PROXY, service);
    let error = stand.until_done(&switch, "open again", &to(&[&new]), || {}).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
}

#[tokio::test]
async fn the_last_backends_can_go_as_well() {
    let stand = stand().await;
    let mut service = stand.fake.get(PROXY).unwrap();
    service["backends"] = json!([]);
    stand.fake.put(PROXY, service);
    let new = stand.pair("web-new");
    stand.until_done(&stand.membership(), "open", &to(&[&new]), || {}).await.unwrap();
    stand.until_done(&stand.membership(), "close", &to(&[]), || {}).await.unwrap();
    stand.fake.skip(Duration::from_secs(1));
    removal::remove(&stand, "time 2", "web-new").await.unwrap();
    let after = stand.fake.get(PROXY).unwrap();
    assert!(after["backends"].as_array().is_none_or(Vec::is_empty), "{after}");
    assert_eq!(after["timeoutSec"], 17);
}
