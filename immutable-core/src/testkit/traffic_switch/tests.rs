use super::super::fixture::{after, apply, assignment, cx, fleet_id, id, observe, quick, ready, route, weighted};
use super::*;

fn healths(state: &TrafficState) -> Vec<(&str, MemberHealth)> {
    state.members.iter().map(|member| (member.instance.as_str(), member.health)).collect()
}

#[tokio::test(start_paused = true)]
async fn t1_a_member_is_what_the_balancer_thinks_of_it() {
    use MemberHealth::{Draining, Healthy, Registering, Unhealthy};
    let cloud = SimCloud::default();
    ready(&cloud, "1", 2).await;
    assert_eq!((observe(&cloud).await.split, observe(&cloud).await.members), (Split::closed(), vec![]));
    apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
    assert_eq!(healths(&observe(&cloud).await), [("sim-1", Registering), ("sim-2", Registering)]);
    after(5).await;
    cloud.kill(&id("sim-2"));
    assert_eq!(healths(&observe(&cloud).await), [("sim-1", Healthy), ("sim-2", Unhealthy)]);
    apply(&cloud, &["sim-1"], &[("1", 100)]).await.unwrap();
    assert_eq!(healths(&observe(&cloud).await), [("sim-1", Healthy), ("sim-2", Draining)]);
    after(10).await;
    assert_eq!(healths(&observe(&cloud).await), [("sim-1", Healthy)]);
    assert_eq!(cloud.split(), Split::all_to(fleet_id("1")));
}

#[tokio::test(start_paused = true)]
async fn t2_only_the_expected_version_is_changed() {
    let cloud = SimCloud::default();
    ready(&cloud, "1", 1).await;
    let traffic = cloud.platform().traffic;
    let (wanted, before) = (assignment(&cloud, &["sim-1"], &[("1", 100)]), observe(&cloud).await.version);
    traffic.apply(&cx(), &route(), &wanted, &before).await.unwrap();
    let changed = observe(&cloud).await;
    assert_ne!(changed.version, before);
    let nothing = assignment(&cloud, &[], &[]);
    let error = traffic.apply(&cx(), &route(), &nothing, &before).await.expect_err("an old version");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let after = observe(&cloud).await;
    assert_eq!((after.version, after.split), (changed.version, changed.split));
}

#[tokio::test(start_paused = true)]
async fn t2_a_version_is_changed_by_each_change_and_by_nothing_else() {
    let cloud = SimCloud::default();
    ready(&cloud, "1", 2).await;
    let mut version = observe(&cloud).await.version;
    for (members, percent, changes) in [
        (vec!["sim-1", "sim-2"], 100, true),
        (vec!["sim-2", "sim-1"], 100, false),
        (vec!["sim-1"], 100, true),
        (vec!["sim-1", "sim-2"], 100, true),
        (vec!["sim-1", "sim-2"], 0, true),
    ] {
        apply(&cloud, &members, &[("1", percent)]).await.unwrap();
        let now = observe(&cloud).await.version;
        assert_eq!(now != version, changes, "{members:?} with {percent} %");
        version = now;
    }
}

#[tokio::test(start_paused = true)]
async fn t3_moving_all_traffic_loses_no_capacity_once_the_new_members_are_healthy() {
    let cloud = SimCloud::default();
    ready(&cloud, "1", 2).await;
    ready(&cloud, "2", 2).await;
    apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
    after(5).await;
    cloud.watch();
    apply(&cloud, &["sim-1", "sim-2", "sim-3", "sim-4"], &[("1", 100)]).await.unwrap();
    after(5).await;
    apply(&cloud, &["sim-3", "sim-4"], &[("2", 100)]).await.unwrap();
    after(60).await;
    assert_eq!((cloud.serving(), cloud.least_serving(), cloud.peak_instances()), (2, Some(2), 4));
    // Too early: the balancer does not use the first fleet's members again at once.
    apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
    after(60).await;
    assert_eq!((cloud.serving(), cloud.least_serving()), (2, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn t4_a_member_can_come_back_while_it_drains_and_is_out_when_its_instance_is_gone() {
    let cloud = quick(weighted());
    ready(&cloud, "1", 2).await;
    apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
    apply(&cloud, &["sim-1"], &[("1", 100)]).await.unwrap();
    apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
    after(60).await;
    assert_eq!(cloud.members().len(), 2);
    let version = observe(&cloud).await.version;
    cloud.with(|state| state.machines.get_mut("sim-2").unwrap().ended = Some(state.now));
    after(10).await;
    assert_eq!(healths(&observe(&cloud).await), [("sim-1", MemberHealth::Healthy)]);
    assert_ne!(observe(&cloud).await.version, version);
}

#[tokio::test(start_paused = true)]
async fn t5_other_routes_stay_as_they_were() {
    let cloud = SimCloud::default();
    ready(&cloud, "1", 1).await;
    apply(&cloud, &["sim-1"], &[("1", 100)]).await.unwrap();
    let (traffic, other) = (cloud.platform().traffic, "z-route".parse().unwrap());
    let before = observe(&cloud).await;
    let unused = traffic.observe(&cx(), &other).await.unwrap();
    traffic.apply(&cx(), &other, &assignment(&cloud, &[], &[("2", 100)]), &unused.version).await.unwrap();
    let after = observe(&cloud).await;
    assert_eq!((after.version, after.split, after.members), (before.version, before.split, before.members));
    assert_eq!(traffic.observe(&cx(), &other).await.unwrap().split, Split::all_to(fleet_id("2")));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused() {
    let cloud = quick(SwitchKind::Weighted { step: Weight::percent(10).unwrap() });
    ready(&cloud, "1", 1).await;
    let (kind, _) = apply(&cloud, &["sim-1"], &[("1", 95), ("2", 5)]).await.expect_err("no multiple");
    assert_eq!(kind, ErrorKind::InvalidRequest);
    let (traffic, version) = (cloud.platform().traffic, observe(&cloud).await.version);
    let check = async |change: fn(&mut Assignment), expected| {
        let mut wanted = assignment(&cloud, &["sim-1"], &[("1", 100)]);
        change(&mut wanted);
        let error = traffic.apply(&cx(), &route(), &wanted, &version).await.expect_err("cannot be");
        assert_eq!(error.kind(), expected);
    };
    check(|wanted| wanted.members[0].instance = id("sim-9"), ErrorKind::Conflict).await;
    check(|wanted| wanted.members[0].fleet = fleet_id("2"), ErrorKind::InvalidRequest).await;
    assert!(cloud.members().is_empty());
}

#[tokio::test(start_paused = true)]
async fn by_membership_the_split_is_the_shares_of_the_healthy_members() {
    let cloud = quick(SwitchKind::Membership);
    ready(&cloud, "1", 2).await;
    ready(&cloud, "2", 1).await;
    apply(&cloud, &["sim-1", "sim-2", "sim-3"], &[]).await.unwrap();
    assert_eq!(cloud.split().to_string(), "web-1 66.67 %, web-2 33.33 %");
    cloud.kill(&id("sim-1"));
    assert_eq!(cloud.split().to_string(), "web-1 50 %, web-2 50 %");
    cloud.kill(&id("sim-3"));
    assert_eq!(cloud.split(), Split::all_to(fleet_id("1")));
    cloud.kill(&id("sim-2"));
    assert_eq!(cloud.split().to_string(), "web-1 66.67 %, web-2 33.33 %", "nobody is healthy");
    assert_eq!(cloud.serving(), 0);
    apply(&cloud, &[], &[]).await.unwrap();
    assert_eq!(cloud.split(), Split::closed());
}

#[test]
fn shares_are_the_whole_in_sum() {
    let check = |counts: &[u32], expected: &[u16]| {
        let counts = counts.iter().enumerate().map(|(index, count)| (fleet_id(&index.to_string()), *count));
        let split = shares(counts.collect());
        assert_eq!(split.iter().map(|(_, weight)| weight.points()).collect::<Vec<_>>(), expected);
    };
    check(&[], &[]);
    check(&[5], &[10_000]);
    check(&[1, 1, 1], &[3_334, 3_333, 3_333]);
    check(&[3, 2, 1], &[5_000, 3_333, 1_667]);
    check(&[1, 6], &[1_429, 8_571]);
    check(&[1, 1, 1, 1, 1, 1, 1], &[1_429, 1_429, 1_429, 1_429, 1_428, 1_428, 1_428]);
}
