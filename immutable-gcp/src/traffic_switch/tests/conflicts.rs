//! Two at once, changes by hand, and answers that are lost.

use immutable_core::provider::{Effect, ErrorKind};

use super::*;

#[tokio::test]
async fn another_version_changes_nothing() {
    let stand = Stand::open().await;
    let switch = stand.switch();
    let new = stand.pair("web-new");
    let wanted = assignment(&[("web-new", 100)], &[&new]);
    let closed = stand.look(&switch).await.version;
    stand.apply("open", &wanted).await;
    let before = stand.look(&switch).await;
    for stale in [closed, "7-a-b".parse().unwrap()] {
        let error = stand.call(&switch, "stale", &assignment(&[], &[]), &stale).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    }
    let after = stand.look(&switch).await;
    assert_eq!((after.version, after.split, after.members), (before.version, before.split, before.members));
}

/// Two callers, in turns, until both know: the kinds of those that failed.
async fn race(stand: &Stand, switch: &dyn TrafficSwitch, left: &Assignment, right: &Assignment) -> Vec<ErrorKind> {
    let expected = stand.look(switch).await.version;
    let keys = ["left", "right"].map(|side| format!("{side} of {expected}"));
    let (mut failed, mut open) = (Vec::new(), vec![(&keys[0], left), (&keys[1], right)]);
    for _ in 0..MOST_STEPS {
        let mut still = Vec::new();
        for (key, wanted) in open {
            match stand.call(switch, key, wanted, &expected).await {
                Ok(Progress::Done(())) => {}
                Ok(Progress::Pending { .. }) => still.push((key, wanted)),
                Err(error) => failed.push(error.kind()),
            }
        }
        open = still;
        if open.is_empty() {
            return failed;
        }
    }
    panic!("two at once wait for each other")
}

#[tokio::test]
async fn of_two_who_saw_the_same_version_one_is_told() {
    for operation_time in [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(400)] {
        let stand = Stand::open_with(Options { operation_time, ..Options::default() }).await;
        let switch = stand.switch();
        let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
        let to = |name, members: &[MemberTarget]| assignment(&[(name, 100)], &[members]);
        let wanted = [to("web-old", &old), to("web-new", &new), to("web-old", &old[..1])];
        // At first nothing of ours is there, and then all is.
        for round in 0..wanted.len() {
            let failed = race(&stand, &switch, &wanted[round], &wanted[(round + 1) % wanted.len()]).await;
            assert_eq!(failed, [ErrorKind::Conflict], "round {round}, {operation_time:?}");
        }
        // Members only, whose groups know no versions.
        stand.apply("both", &assignment(&[("web-old", 100)], &[&old, &new])).await;
        let (less, none) =
            (assignment(&[("web-old", 100)], &[&old, &new[..1]]), assignment(&[("web-old", 100)], &[&old]));
        assert_eq!(race(&stand, &switch, &less, &none).await, [ErrorKind::Conflict], "{operation_time:?}");
    }
}

#[tokio::test]
async fn what_was_changed_and_changed_back_has_another_version() {
    let stand = Stand::open().await;
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    let (to_old, to_new) = (assignment(&[("web-old", 100)], &[&old]), assignment(&[("web-new", 100)], &[&new]));
    let mut versions = Vec::new();
    for (index, wanted) in [&to_old, &to_new, &to_old, &to_new, &to_old].into_iter().enumerate() {
        stand.apply(&format!("change {index}"), wanted).await;
        stand.fake.skip(Duration::from_secs(1));
        let version = stand.look(&stand.switch()).await.version;
        assert!(!versions.contains(&version), "{version}");
        versions.push(version);
    }
}

#[tokio::test]
async fn a_url_map_that_somebody_else_changes_is_not_written_over() {
    let stand = Stand::open().await;
    let switch = stand.switch();
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    stand.apply("open", &assignment(&[("web-old", 100)], &[&old, &new])).await;
    stand.apply("prepare", &assignment(&[("web-new", 50), ("web-old", 50)], &[&old, &new])).await;
    let before = stand.weights();
    let wanted = assignment(&[("web-new", 100)], &[&old, &new]);
    // Between the look and the change.
    stand.fake.refuse_next("compute.urlMaps.update", 412, "conditionNotMet", "Invalid fingerprint.");
    let error = stand.until_done(&switch, "move", &wanted, || {}).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    // After the change was accepted.
    stand.fake.fail_next_operation("compute.urlMaps.update", "CONDITION_NOT_MET", "Invalid fingerprint.");
    let error = stand.until_done(&switch, "move again", &wanted, || {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(stand.weights(), before);
    // By hand, after the route was claimed: nobody undoes that under an old version.
    let expected = stand.look(&switch).await.version;
    stand.call(&switch, "a third time", &wanted, &expected).await.unwrap();
    let mut map = stand.fake.get(ROUTE).unwrap();
    map["defaultRouteAction"]["weightedBackendServices"][0]["weight"] = 7.into();
    stand.fake.put(ROUTE, map);
    let error = stand.call(&switch, "a third time", &wanted, &expected).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert_eq!(stand.weights()["web"], 7);
}

#[tokio::test]
async fn a_lost_answer_of_any_request_may_have_had_an_effect_and_the_same_call_goes_on() {
    let writes = [
        "compute.networkEndpointGroups.insert",
        "compute.backendServices.insert",
        "compute.backendServices.setSecurityPolicy",
        "compute.backendServices.patch",
        "compute.urlMaps.update",
        "compute.networkEndpointGroups.attachNetworkEndpoints",
        "compute.networkEndpointGroups.detachNetworkEndpoints",
    ];
    let looks = [
        "compute.urlMaps.get",
        "compute.backendServices.get",
        "compute.networkEndpointGroups.listNetworkEndpoints",
        "compute.instances.aggregatedList",
        "compute.globalOperations.list",
        "compute.zoneOperations.list",
    ];
    for (method, effect) in
        writes.map(|method| (method, Effect::Unknown)).into_iter().chain(looks.map(|method| (method, Effect::None)))
    {
        let stand = Stand::open().await;
        let mut original = stand.fake.get(ORIGINAL).unwrap();
        original["securityPolicy"] = format!("{LINK}global/securityPolicies/guard").into();
        stand.fake.put(ORIGINAL, original);
        let switch = stand.switch();
        let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
        stand.apply("open", &assignment(&[("web-old", 100)], &[&old])).await;
        let expected = stand.look(&switch).await.version;
        stand.fake.lose_next(method);
        let (wanted, mut lost, mut done) = (assignment(&[("web-new", 100)], &[&new]), Vec::new(), false);
        for _ in 0..MOST_STEPS {
            match stand.call(&switch, "move", &wanted, &expected).await {
                Ok(Progress::Done(())) => {
                    done = true;
                    break;
                }
                Ok(Progress::Pending { .. }) => {}
                Err(error) => lost.push(error.effect()),
            }
        }
        assert!(done, "{method}");
        assert_eq!(lost, [effect], "{method}");
        let state = stand.look(&switch).await;
        assert_eq!(state.split, wanted.split, "{method}");
        assert_eq!(stand.fake.list("global/backendServices").len(), 3, "{method}");
    }
}

#[tokio::test]
async fn a_machine_that_is_another_one_by_now_makes_the_engine_look_again() {
    let stand = Stand::open().await;
    let switch = stand.switch();
    let mut members = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&members[..1]])).await;
    // What was seen of the second is over.
    members[1].endpoint = Endpoint::new("10.9.9.9", 80).unwrap();
    let expected = stand.look(&switch).await.version;
    let wanted = assignment(&[("web-new", 100)], &[&members]);
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(stand.call(&switch, "more", &wanted, &expected).await);
    }
    let error = answers.into_iter().find_map(Result::err).expect("the address is not that of the machine");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert!(error.to_string().contains("does not belong"), "{error}");
}
