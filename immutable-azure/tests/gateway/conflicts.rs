//! Others who change the gateway, and answers that do not arrive.

use immutable_core::provider::{Effect, ErrorKind, MemberHealth, Progress};
use serde_json::json;

use crate::stand::{GATEWAY, GET, HEALTH, PUT, Stand, all, ips, to, told};

#[tokio::test]
async fn only_the_expected_version_is_changed_and_none_comes_back() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 2).await;
    let mut versions = vec![stand.observe().await.version];
    let (both, one) = (to("web-1", &[&members]), to("web-1", &[&members[..1]]));
    for wanted in [&both, &one, &both, &one] {
        stand.apply(wanted).await.unwrap();
        let version = stand.observe().await.version;
        assert!(!versions.contains(&version), "{version}");
        versions.push(version);
    }
    let (writes, before) = (stand.calls(PUT), stand.settled().await);
    for stale in &versions[..versions.len() - 1] {
        let error = stand.once("stale", &both, stale).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
    }
    assert_eq!((stand.calls(PUT), stand.settled().await), (writes, before));
}

#[tokio::test]
async fn of_two_with_one_version_one_is_told() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 2).await;
    let version = stand.observe().await.version;
    let (one, other) = (to("web-1", &[&members[..1]]), to("web-1", &[&members]));
    let (left, right) =
        futures_util::future::join(stand.once("left", &one, &version), stand.once("right", &other, &version)).await;
    let conflicts = [&left, &right].into_iter().filter_map(|answer| answer.as_ref().err());
    assert_eq!(conflicts.filter(|error| error.kind() == ErrorKind::Conflict).count(), 1, "{left:?} {right:?}");
}

#[tokio::test]
async fn a_change_by_hand_is_a_conflict_and_one_of_another_part_is_none() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    let before = stand.observe().await.version;
    stand.change("/properties/backendAddressPools/1/properties/backendAddresses", json!([]));
    stand.change("/tags/Owner", json!("somebody else"));
    assert_eq!(stand.observe().await.version, before, "none of its business");
    stand.change("/properties/backendAddressPools/0/properties/backendAddresses/0", json!({ "ipAddress": "10.9.9.7" }));
    assert_ne!(stand.observe().await.version, before);
    let error = stand.once("x", &to("", &[]), &before).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
}

#[tokio::test]
async fn a_change_by_hand_between_two_steps_of_a_call_is_a_conflict() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    let (wanted, version) = (to("web-2", &[&new]), stand.observe().await.version);
    stand.once("switch", &wanted, &version).await.unwrap();
    // Still the same call.
    stand.once("switch", &wanted, &version).await.unwrap();
    stand.change("/properties/backendAddressPools/0/properties/backendAddresses", json!([]));
    let error = stand.once("switch", &wanted, &version).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn who_was_late_between_look_and_write_has_no_effect() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    let version = stand.observe().await.version;
    stand.fake.refuse_next(PUT, 412, "PreconditionFailed", "the condition is not met");
    let error = stand.once("x", &to("web-1", &[&members]), &version).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
    stand.apply(&to("web-1", &[&members])).await.unwrap();
}

#[tokio::test]
async fn a_busy_gateway_is_waited_for() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    let (wanted, version) = (to("web-1", &[&members]), stand.observe().await.version);
    for (status, code) in [(429, "AnotherOperationInProgress"), (409, "AnotherOperationInProgress")] {
        stand.fake.refuse_next(PUT, status, code, "another one");
        let waits = stand.once("x", &wanted, &version).await.unwrap();
        assert!(matches!(&waits, Progress::Pending { note, .. } if note.contains("another change")), "{waits:?}");
    }
    stand.fake.change(GATEWAY, |gateway| gateway["properties"]["provisioningState"] = json!("Updating"));
    let writes = stand.calls(PUT);
    let waits = stand.once("x", &wanted, &version).await.unwrap();
    assert!(matches!(waits, Progress::Pending { .. }) && stand.calls(PUT) == writes);
    stand.fake.change(GATEWAY, |gateway| gateway["properties"]["provisioningState"] = json!("Succeeded"));
    while stand.once("x", &wanted, &version).await.unwrap() != Progress::Done(()) {}
    assert_eq!(stand.settled().await.members, all(&[&members], MemberHealth::Healthy));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_goes_on_where_it_was() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    let (wanted, version) = (to("web-2", &[&new]), stand.observe().await.version);
    let writes = stand.calls(PUT);
    let mut lost = 0;
    for step in 0..20 {
        if step < 8 {
            stand.fake.lose_next(PUT);
        }
        match stand.once("switch", &wanted, &version).await {
            Ok(Progress::Done(())) => break,
            Ok(Progress::Pending { .. }) => {}
            Err(error) => {
                assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown));
                lost += 1;
            }
        }
    }
    assert_eq!((lost, stand.calls(PUT) - writes), (2, 2));
    assert_eq!(stand.settled().await.members, all(&[&new], MemberHealth::Healthy));
}

#[tokio::test]
async fn a_change_that_failed_is_told_once_and_sent_again() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    let (wanted, version) = (to("web-1", &[&members]), stand.observe().await.version);
    stand.fake.fail_next_operation(PUT, "ApplicationGatewaySubnetInboundTrafficBlocked", "the subnet is closed");
    assert!(matches!(stand.once("x", &wanted, &version).await, Ok(Progress::Pending { .. })));
    let error = stand.once("x", &wanted, &version).await.unwrap_err();
    assert!(error.to_string().contains("the subnet is closed"), "{error}");
    let writes = stand.calls(PUT);
    assert!(matches!(stand.once("x", &wanted, &version).await, Ok(Progress::Pending { .. })));
    assert_eq!(stand.calls(PUT), writes + 1, "sent again");
    assert_eq!(stand.once("x", &wanted, &version).await.unwrap(), Progress::Done(()));
    assert_eq!(stand.settled().await.members, all(&[&members], MemberHealth::Healthy));
}

#[tokio::test]
async fn a_refusal_and_a_blind_look_have_no_effect() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    let (wanted, version) = (to("web-1", &[&members]), stand.observe().await.version);
    stand.fake.throttle_next(PUT, 7);
    let error = stand.once("x", &wanted, &version).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Throttled, Effect::None));
    stand.fake.lose_next(GET);
    let error = stand.once("x", &wanted, &version).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
    assert_eq!(told(&stand.observe().await).members, vec![]);
    assert!(!stand.pools()["web"].contains(&ips(&members)[0]));
}

#[tokio::test]
async fn a_question_about_members_that_is_refused_is_no_answer_and_no_error() {
    let stand = Stand::by_members();
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.apply(&to("web-1", &[&old])).await.unwrap();
    stand.fake.set_ill(&format!("Microsoft.Compute/virtualMachines/{}", new[0].instance), true);
    let (wanted, version) = (to("web-2", &[&new]), stand.observe().await.version);
    stand.once("x", &wanted, &version).await.unwrap();
    for (status, code) in [(400, "InvalidRequestFormat"), (500, "InternalServerError")] {
        stand.fake.refuse_next(HEALTH, status, code, "no such luck");
        stand.fake.refuse_next(HEALTH, status, code, "no such luck");
        let mut notes = Vec::new();
        for _ in 0..4 {
            assert_eq!(stand.observe().await.members.len(), 2);
            match stand.once("x", &wanted, &version).await.unwrap() {
                Progress::Pending { note, .. } => notes.push(note),
                Progress::Done(()) => break,
            }
        }
        if status == 400 {
            assert!(notes.iter().any(|note| note.contains("(last: ") && note.contains("no such luck")), "{notes:?}");
        }
    }
    stand.fake.refuse_next(HEALTH, 403, "AuthorizationFailed", "you may not");
    let mut refused = None;
    for _ in 0..3 {
        refused = refused.or(stand.switch.observe(&crate::stand::cx("o"), &stand.route).await.err());
    }
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::PermissionDenied));
}

#[tokio::test]
async fn what_was_damaged_is_an_error() {
    let stand = Stand::by_members();
    let members = stand.fleet("web-1", 1).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    let pool = stand.pools().keys().find(|pool| pool.starts_with("im-")).unwrap().clone();
    let whole = stand.fake.get(GATEWAY).unwrap();
    let tag =
        whole["tags"].as_object().unwrap().keys().find(|tag| tag.starts_with("immutable-route-")).unwrap().clone();
    let look = async || stand.switch.observe(&crate::stand::cx("x"), &stand.route).await.map_err(|error| error.kind());
    stand.fake.change(GATEWAY, |gateway| gateway["tags"][&tag] = json!("by hand"));
    assert_eq!(look().await.err(), Some(ErrorKind::Internal));
    stand.fake.change(GATEWAY, |gateway| *gateway = whole.clone());
    assert!(look().await.is_ok());
    stand.fake.change(GATEWAY, |gateway| {
        let pools = gateway["properties"]["backendAddressPools"].as_array_mut().unwrap();
        let found = pools.iter_mut().find(|one| one["name"] == pool.as_str()).unwrap();
        found["properties"]["backendAddresses"] = json!([{ "fqdn": "web.example" }]);
    });
    assert_eq!(look().await.err(), Some(ErrorKind::Internal));
}
