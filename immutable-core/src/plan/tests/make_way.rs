//! Who has to leave before a rollout that takes the place of another one begins.

use super::*;

/// The first stage of a plan for release 3, while the canary of 2 and its baseline have some of the traffic of 1.
fn first_stage(given: &Given, strategy: &Strategy, has_baseline: bool) -> String {
    let judged = Analysis::of([Compared::new("errors".parse().unwrap())]).minimum_instances(1);
    let baseline = FleetId::baseline_of(&"web".parse().unwrap(), &release("1").id(), &release("2").id());
    let instance = |id: &FleetId, number: usize| ObservedInstance {
        id: format!("{id}-{number}").parse().unwrap(),
        lifecycle: Lifecycle::Running,
        image: None,
        endpoint: None,
        started_at: jiff::Timestamp::UNIX_EPOCH,
    };
    let mut parts = vec![(fleet_of("1"), "1", 8, 80), (fleet_of("2"), "2", 1, 20)];
    if has_baseline {
        parts[1].3 = 10;
        parts.push((baseline, "1", 1, 10));
    }
    let fleets = parts.iter().map(|(id, version, size, _)| ObservedFleet {
        id: id.clone(),
        release: release(version).id(),
        instances: (0..*size).map(|number| instance(id, number)).collect(),
        wanted: None,
    });
    let fleets = FleetsState { as_of: jiff::Timestamp::UNIX_EPOCH, fleets: fleets.collect() };
    let split = parts.iter().map(|(id, _, _, percent)| (id.clone(), Weight::percent(*percent).unwrap()));
    let strategy = if has_baseline { strategy.clone().analysis(judged) } else { strategy.clone() };
    let plan = given.plan_in(&fleets, &Split::new(split).unwrap(), "3", strategy, Some(8)).unwrap();
    let Stage { name, goal, .. } = &plan.stages[0];
    format!("{name}: {goal}").replace(fleet_of("1").as_str(), "old")
}

#[test]
fn what_is_superseded_leaves_first_where_the_switch_has_no_room_for_all() {
    let limited = |max_fleets| Given { max_fleets, ..given(8) };
    let makes_way = |given: &Given, strategy: &Strategy, has_baseline| {
        let first = first_stage(given, strategy, has_baseline);
        assert_eq!(first.starts_with("make way"), first == "make way: 8 x old at 100 %", "{first}");
        first.starts_with("make way")
    };
    // The old fleet, two that leave, and two that come.
    for (limit, expected) in [(Some(3), true), (Some(4), true), (Some(5), false), (None, false)] {
        assert_eq!(makes_way(&limited(limit), &canary(&[25]), true), expected, "{limit:?}");
    }
    for strategy in [canary(&[25]), Strategy::rolling(), Strategy::blue_green()] {
        for (limit, expected) in [(Some(2), true), (Some(3), false), (None, false)] {
            assert_eq!(makes_way(&limited(limit), &strategy, false), expected, "{limit:?} {strategy:?}");
        }
    }
    // Nothing is ever shared; and of a release that is not known nothing can be started.
    assert!(!makes_way(&limited(Some(1)), &Strategy::blue_green(), false));
    assert!(!makes_way(&Given { proven: false, ..limited(Some(2)) }, &canary(&[25]), false));
    // Nothing leaves.
    let alone = limited(Some(2)).plan("3", canary(&[25]), None).unwrap();
    assert_eq!(alone.stages[0].name, "25 %");
}
