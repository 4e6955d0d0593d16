//! The steps of a change, their order, and what may come in between.

use super::*;

#[tokio::test]
async fn members_come_and_go_a_hundred_at_a_time() {
    let (old, new) = (group("old"), group("new"));
    let names = |of: &str| (0..250).map(|n| format!("i-{of}{n}")).collect::<Vec<_>>();
    let (leaving, joining) = (names("a"), names("b"));
    let there: Vec<(&str, &str)> = leaving.iter().map(|id| (id.as_str(), "healthy")).collect();
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&old, 0, Some("old"), &there), (&new, 0, Some("new"), &[])];
    let world = World::new(groups);
    let version = world.version().await;
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    for action in ["RegisterTargets", "DeregisterTargets"] {
        script.answer(action, "").answer(action, "").answer(action, "");
    }
    let members: Vec<_> = joining.iter().map(|id| ("new", id.as_str())).collect();
    let (answer, sent) = apply(&script, &world, &assignment(&[], &members), &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let counts = |action: &str| -> Vec<(usize, String)> {
        let sent = sent.iter().filter(|sent| sent.action == action);
        sent.map(|sent| (sent.count(".Id"), sent.get("TargetGroupArn").unwrap().to_owned())).collect()
    };
    assert_eq!(counts("RegisterTargets"), [100, 100, 50].map(|count| (count, new.clone())));
    assert_eq!(counts("DeregisterTargets"), [100, 100, 50].map(|count| (count, old.clone())));
}

#[tokio::test]
async fn another_version_changes_nothing() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World::new(groups);
    let script = Script::default();
    world.read(&script);
    let wanted = assignment(&[("new", 10_000)], &[("new", "i-1")]);
    let (answer, sent) = apply(&script, &world, &wanted, &"7-a-b".parse().unwrap()).await;
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert!(actions(&sent).iter().all(|action| action.starts_with("Describe")), "{sent:?}");
}

#[tokio::test]
async fn whoever_finds_another_name_in_the_tag_goes_no_further() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World::new(groups);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-1")]));
    let script = Script::default();
    world.read(&script);
    let other = world.claimed("somebody else").await;
    script.answer("AddTags", "");
    script.answer("DescribeTags", &tags(&[(&world.route, vec![("immutable:route-version", &other)])]));
    let (answer, sent) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Conflict);
    let ours = world.claimed("apply").await;
    let add = sent.iter().find(|sent| sent.action == "AddTags").unwrap();
    assert_eq!((add.get("ResourceArns.member.1"), add.get("Tags.member.1.Value")), (Some(&*world.route), Some(&*ours)));
}

#[tokio::test]
async fn a_change_by_hand_in_the_meantime_is_not_written_over() {
    let new = group("new");
    let targets: &[(&str, &str)] = &[("i-1", "healthy")];
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), targets)];
    let world = World::new(groups);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-1")]));
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    World { groups: &[(ORIGINAL, 7, None, &[]), (&new, 0, Some("new"), targets)], ..world.clone() }.told(&script);
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn a_lost_answer_may_have_had_an_effect_and_a_lost_look_has_none() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World::new(groups);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-1")]));
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.lose("ModifyListener");
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().effect(), Effect::Unknown);
    world.read(&script);
    script.lose("AddTags");
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().effect(), Effect::Unknown);
    script.lose("DescribeListeners");
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().effect(), Effect::None);
}

#[tokio::test]
async fn members_leave_a_group_that_loses_its_traffic_when_the_same_call_comes_again() {
    let (old, new) = (group("old"), group("new"));
    let (out, into) = ([("i-1", "healthy")], [("i-2", "healthy")]);
    let before: &[Told<'_>] =
        &[(ORIGINAL, 0, None, &[]), (&old, 999, Some("old"), &out), (&new, 0, Some("new"), &into)];
    let after: &[Told<'_>] = &[(ORIGINAL, 0, None, &[]), (&old, 0, Some("old"), &out), (&new, 999, Some("new"), &into)];
    let world = World::new(before);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-2")]));
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.answer("ModifyListener", "");
    let (answer, sent) = apply(&script, &world, &wanted, &version).await;
    assert!(is_pending(&answer), "{answer:?}");
    assert_eq!(sent.last().unwrap().action, "ModifyListener");
    // Again: the route has a version of its own by now, and the tag says whose.
    let claim = world.claimed("apply").await;
    let again = World { claim: Some(&claim), ..World::new(after) };
    again.read(&script);
    script.answer("DeregisterTargets", "");
    let (answer, sent) = apply(&script, &again, &wanted, &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let left = sent.last().unwrap();
    assert_eq!((left.get("TargetGroupArn"), left.get("Targets.member.1.Id")), (Some(&*old), Some("i-1")));
    // A third time there is nothing to do.
    let drained: &[Told<'_>] =
        &[(ORIGINAL, 0, None, &[]), (&old, 0, Some("old"), &[("i-1", "draining")]), (&new, 999, Some("new"), &into)];
    World { claim: Some(&claim), ..World::new(drained) }.read(&script);
    let (answer, _) = apply(&script, &again, &wanted, &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    // Somebody moved the traffic by hand in between: that is not to be undone under an old version.
    let by_hand: &[Told<'_>] = &[(ORIGINAL, 5, None, &[]), (&old, 0, Some("old"), &out), (&new, 5, Some("new"), &into)];
    World { claim: Some(&claim), ..World::new(by_hand) }.read(&script);
    let (answer, _) = apply(&script, &again, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn traffic_waits_until_one_of_the_new_members_can_take_it() {
    let (old, new) = (group("old"), group("new"));
    let wanted = assignment(&[("new", 10_000)], &[("old", "i-1"), ("new", "i-2")]);
    // When all are bad there is nothing to wait for; the balancer then sends requests to all.
    for (state, waits) in [("initial", true), ("healthy", false), ("unhealthy", false), ("unavailable", false)] {
        let targets = [("i-2", state)];
        let groups: &[Told<'_>] = &[(&old, 999, Some("old"), &[("i-1", "healthy")]), (&new, 0, Some("new"), &targets)];
        let world = World::new(groups);
        let version = world.version().await;
        let script = Script::default();
        world.read(&script);
        if !waits {
            world.take(&script, "apply").await;
            world.told(&script);
            script.answer("ModifyListener", "");
        }
        let (answer, _) = apply(&script, &world, &wanted, &version).await;
        assert_eq!(is_pending(&answer), waits, "{state}: {answer:?}");
    }
}

#[tokio::test]
async fn a_route_that_is_closed_leads_to_where_it_led_before() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(&new, 999, Some("new"), &[])];
    let world = World::new(groups);
    let (version, script) = (world.version().await, Script::default());
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.answer("ModifyListener", "");
    let (answer, sent) = apply(&script, &world, &assignment(&[], &[]), &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let told = sent.last().unwrap();
    let group = |n: u32, what: &str| {
        told.get(&format!("DefaultActions.member.1.ForwardConfig.TargetGroups.member.{n}.{what}")).map(str::to_owned)
    };
    assert_eq!((group(1, "TargetGroupArn"), group(1, "Weight")), (Some(new.clone()), Some("0".to_owned())));
    assert_eq!((group(2, "TargetGroupArn"), group(2, "Weight")), (Some(ORIGINAL.to_owned()), Some("1".to_owned())));
}

#[tokio::test]
async fn somebody_elses_traffic_beside_ours_is_seen_and_none_of_it_makes_an_open_route() {
    let new = group("new");
    let targets: &[(&str, &str)] = &[("i-1", "healthy"), ("i-2", "draining")];
    let shared: &[Told<'_>] = &[(ORIGINAL, 30, None, &[]), (&new, 10, Some("new"), targets)];
    let state = World::new(shared).observe().await;
    let split =
        [("web", 7500), ("new", 2500)].map(|(name, points)| (fleet(name), Weight::basis_points(points).unwrap()));
    assert_eq!(state.split, Split::new(split).unwrap());
    let member =
        |id: &str, health| Member { instance: id.parse().unwrap(), fleet: fleet("new"), health, health_as_of: None };
    assert_eq!(state.members, [member("i-1", MemberHealth::Healthy), member("i-2", MemberHealth::Draining)]);
    let closed: &[Told<'_>] = &[(ORIGINAL, 30, None, &[]), (&new, 0, Some("new"), targets)];
    let state = World::new(closed).observe().await;
    assert!(state.split.is_closed());
    assert_eq!(state.members.len(), 2);
    // A group of another route is somebody else's here.
    let elsewhere = World { route: RULE.to_owned(), ..World::new(shared) };
    let script = Script::default();
    elsewhere.told(&script);
    let other = listener();
    let of = vec![("immutable:fleet", "new"), ("immutable:route", other.as_str())];
    script.answer("DescribeTags", &tags(&[(ORIGINAL, vec![]), (&new, of)]));
    let switch = ElbSwitch::new(script.config());
    let state = switch.observe(&cx("observe"), &RULE.parse().unwrap()).await.unwrap();
    assert!(state.split.is_closed() && state.members.is_empty());
}

#[tokio::test]
async fn empty_groups_of_nobody_make_room_and_draining_ones_are_waited_for() {
    let names: Vec<String> = (0..5).map(|n| format!("f{n}")).collect();
    let groups: Vec<String> = names.iter().map(|name| group(name)).collect();
    let draining: &[(&str, &str)] = &[("i-9", "draining")];
    let told: Vec<Told<'_>> = (0..5)
        .map(|n| {
            (
                groups[n].as_str(),
                if n == 0 { 999 } else { 0 },
                Some(names[n].as_str()),
                if n == 0 { &[][..] } else { draining },
            )
        })
        .collect();
    let world = World::new(&told);
    let (version, script) = (world.version().await, Script::default());
    world.read(&script);
    let wanted = assignment(&[("f0", 10_000)], &[("f9", "i-1")]);
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert!(is_pending(&answer), "{answer:?}");
    // Two of them are drained.
    let told: Vec<Told<'_>> =
        told.iter().enumerate().map(|(n, one)| (one.0, one.1, one.2, if n < 3 { &[][..] } else { one.3 })).collect();
    let world = World::new(&told);
    let (version, wanted) = (world.version().await, assignment(&[("f0", 10_000)], &[]));
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.answer("ModifyListener", "");
    let (answer, sent) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let left: Vec<&str> = sent
        .last()
        .unwrap()
        .parameters
        .values()
        .map(String::as_str)
        .filter(|value| value.contains("targetgroup"))
        .collect();
    assert_eq!(left, [&*groups[0], &*groups[3], &*groups[4]]);
}

#[tokio::test]
async fn a_tag_that_is_shown_late_is_waited_for_and_not_written_again() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World::new(groups);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-1")]));
    let script = Script::default();
    world.read(&script);
    script.answer("AddTags", "").answer("DescribeTags", &tags(&[(&world.route, vec![])]));
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert!(is_pending(&answer), "{answer:?}");
    // By now it is shown. The call comes again for the version that it saw, or for the one that the route has now.
    let claim = world.claimed("apply").await;
    let shown = World { claim: Some(&claim), ..world.clone() };
    for seen in [version, shown.version().await] {
        shown.read(&script);
        shown.told(&script);
        script.answer("ModifyListener", "");
        let (answer, _) = apply(&script, &shown, &wanted, &seen).await;
        assert_eq!(answer.unwrap(), Progress::Done(()));
    }
}
