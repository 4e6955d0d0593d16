//! Which plans have a baseline beside their canary, and what it costs.

use super::*;
use crate::analysis::{Against, Analysis, Compared};

fn analysis() -> Analysis {
    Analysis::of([Compared::new("errors".parse().unwrap())]).minimum_instances(1)
}

/// The stages of a canary that is judged, with short names for the fleets.
fn stages(given: &Given, strategy: Strategy) -> Vec<String> {
    let plan = given.plan("2", strategy, None).unwrap();
    let baseline = plan.baseline.clone().map_or("-".to_owned(), |fleet| fleet.to_string());
    let short = |text: String| {
        let text = text.replace(fleet_of("1").as_str(), "old").replace(fleet_of("2").as_str(), "new");
        text.replace(&baseline, "baseline")
    };
    plan.stages.iter().map(|stage| short(format!("{}: {}", stage.name, stage.goal))).collect()
}

#[test]
fn a_baseline_has_as_many_instances_and_as_much_traffic_as_the_canary() {
    let judged = canary(&[5, 25, 50]).analysis(analysis());
    assert_eq!(
        stages(&given(4), judged.clone()),
        [
            "5 %: 1 x new at 5 %, 1 x baseline at 5 %, 4 x old at 90 %",
            "25 %: 1 x new at 25 %, 1 x baseline at 25 %, 4 x old at 50 %",
            "50 %: 2 x new at 50 %, 1 x baseline at 25 %, 4 x old at 25 %",
            "switch: 4 x new at 100 %, 4 x old at 0 %",
            "retire: 4 x new at 100 %",
        ]
    );
    // One odd host is not to be taken for the release.
    let three = canary(&[5]).analysis(analysis().minimum_instances(3));
    assert_eq!(stages(&given(10), three)[0], "5 %: 3 x new at 5 %, 3 x baseline at 5 %, 10 x old at 90 %");
    // Where members are the weights, a baseline takes the place of old instances.
    let members = Given { switch: SwitchKind::Membership, ..given(4) };
    let fifth = Strategy::canary([StageSpec::percent(20).unwrap().size(Amount::Count(1))]).analysis(analysis());
    assert_eq!(stages(&members, fifth)[0], "20 %: 1 x new at 20 %, 1 x baseline at 20 %, 3 x old at 60 %");
}

#[test]
fn without_room_for_a_baseline_the_old_fleet_is_compared_with() {
    let judged = |strategy: Strategy| strategy.analysis(analysis());
    let check = |given: Given, strategy: Strategy, why: &str| {
        let plan = given.plan("2", strategy, None).unwrap();
        assert_eq!((&plan.baseline, plan.compared_with()), (&None, Some(&fleet_of("1"))), "{why}");
        assert!(plan.to_string().contains(&format!("against {}, as it is", fleet_of("1"))), "{plan}");
    };
    check(given(4), judged(canary(&[80]).max_surge(Amount::Count(1))), "no surge");
    check(Given { max_fleets: Some(2), ..given(4) }, judged(canary(&[25])), "the switch");
    let step = Weight::percent(10).unwrap();
    check(Given { switch: SwitchKind::Weighted { step }, ..given(4) }, judged(canary(&[90])), "half a step");
    check(given(4), canary(&[25]).analysis(analysis().against(Against::OldFleet)), "not wanted");
    check(Given { proven: false, ..given(4) }, judged(canary(&[25])), "a release that nobody can start");
}

#[test]
fn a_baseline_is_a_fleet_of_its_own_for_each_release() {
    let of = |version: &str| given(4).plan(version, canary(&[25]).analysis(analysis()), None).unwrap();
    let (two, three) = (of("2"), of("3"));
    assert_ne!(two.baseline, three.baseline);
    assert_ne!(two.baseline, Some(fleet_of("1")));
    assert_eq!(two.release_of(two.baseline.as_ref().unwrap()).unwrap().id(), release("1").id());
    assert_eq!(two.baseline.unwrap().as_str().len(), fleet_of("1").as_str().len());
}

#[test]
fn an_analysis_that_cannot_be_is_refused_in_words_that_say_what_to_do() {
    let check = |strategy: Strategy, words: &str| {
        let error = given(4).plan("2", strategy, None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let errors = || Compared::new("errors".parse().unwrap());
    let of = |compared: Compared| canary(&[25]).analysis(Analysis::of([compared]));
    check(canary(&[25]).analysis(Analysis::of([])), "analysis: metrics: there are none");
    check(canary(&[25]).analysis(Analysis::of([errors(), errors()])), "metric errors: is named twice");
    check(canary(&[25]).analysis(analysis().alpha(0.0)), "analysis: alpha: 0 is not between 0 and 0.5");
    check(canary(&[25]).analysis(analysis().beta(f64::NAN)), "analysis: beta: NaN");
    check(canary(&[25]).analysis(analysis().interval(Duration::ZERO)), "analysis: interval: must be longer");
    check(canary(&[25]).analysis(analysis().interval(Duration::from_nanos(1))), "interval: 1ns is shorter than 100ms");
    check(canary(&[25]).analysis(analysis().minimum_time(Duration::from_hours(2))), "deadline: 3600s is not longer");
    check(canary(&[25]).analysis(analysis().minimum_instances(0)), "minimum_instances: give at least 1");
    check(of(errors().tolerance(1.0)), "metric errors: tolerance: 1 is not above 1");
    check(of(errors().margin(-0.1)), "metric errors: margin: -0.1");
    check(of(errors().weight(0.0)), "metric errors: weight");
    check(of(errors().hard_stop(0.5, Duration::ZERO)), "metric errors: hard_stop: must last longer");
    check(Strategy::rolling().analysis(analysis()), "nothing to compare");
    let stops = Analysis::of([errors().hard_stop(0.5, Duration::from_secs(30))]);
    assert!(given(4).plan("2", Strategy::rolling().analysis(stops), None).is_ok());
    // There is nothing to compare with yet.
    assert!(given(0).plan("2", canary(&[25]).analysis(analysis()), Some(4)).is_ok());
}

#[test]
fn a_judged_strategy_survives_its_text() {
    let strategy = canary(&[25]).analysis(analysis());
    let text = serde_json::to_string(&strategy).unwrap();
    assert_eq!(text.parse::<Strategy>().unwrap(), strategy);
    let error = text.replace("\"alpha\"", "\"aplha\"").parse::<Strategy>().unwrap_err().to_string();
    assert!(error.starts_with("strategy: analysis"), "{error}");
}

/// A rollout that was left in the middle: its baseline has as much traffic as what serves.
#[test]
fn a_baseline_that_was_left_over_is_not_taken_for_what_serves() {
    // Baselines have other names for other releases: some come before the old fleet's, some after it.
    for newer in ["2", "3", "4", "5", "6", "7"] {
        let left = given(4).plan(newer, canary(&[50]).analysis(analysis()), None).unwrap();
        let baseline = left.baseline.unwrap();
        let fleet = |id: &FleetId, release: &Release| ObservedFleet {
            id: id.clone(),
            release: release.id(),
            instances: vec![],
            wanted: None,
        };
        let fleets = vec![fleet(&fleet_of("1"), &release("1")), fleet(&baseline, &release("1"))];
        let half = Weight::percent(50).unwrap();
        let split = Split::new([(fleet_of("1"), half), (baseline, half)]).unwrap();
        let state = FleetsState { as_of: jiff::Timestamp::UNIX_EPOCH, fleets };
        let plan = given(4).plan_in(&state, &split, "9", Strategy::blue_green(), Some(4)).unwrap();
        assert_eq!((plan.replaces, plan.previous), (Some(fleet_of("1")), Some(release("1"))), "{newer}");
    }
}
