//! Blame before rollback: what is as bad for the old release as for the new one is not the new one's fault.

use std::time::Duration;

use immutable_core::analysis::Check;
use immutable_core::engine::{Event, Hold, Outcome, Reason, Rollout, Signal};
use immutable_core::model::Weight;
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::ErrorKind;
use immutable_core::testkit::Behaviour;
use jiff::SignedDuration;

use super::harness::{events, minutes, outcome, switches, until, until_waiting};
use super::weather::Outside;

const AT_FAULT: &str = "the environment to be well again";

/// One new instance beside four old ones, with its share on any switch.
fn one_of_five() -> StageSpec {
    StageSpec::new("one", Weight::percent(20).unwrap()).size(Amount::Count(1))
}

fn canary() -> Strategy {
    let check = Check::at_most("errors".parse().unwrap(), 0.01).min_count(500);
    Strategy::canary([one_of_five().hold(minutes(10)).check(check)])
}

fn silent_canary() -> Strategy {
    Strategy::canary([one_of_five().hold(minutes(10))])
}

/// A canary with a fifth of the traffic.
async fn canary_is_out(outside: &Outside, strategy: Strategy) -> Rollout {
    let rollout = outside.start("2", strategy).await;
    until_waiting(&rollout, "the hold").await;
    tokio::time::sleep(minutes(1)).await;
    rollout
}

fn everybody_is_ill(outside: &Outside, version: &str, ill: bool) {
    for id in outside.stand.ids(version) {
        assert!(if ill { outside.stand.cloud.make_ill(&id) } else { outside.stand.cloud.heal(&id) });
    }
}

async fn holds(rollout: &Rollout) -> Vec<(Signal, String)> {
    let hold = |event: Event| match event {
        Event::Held { hold: Hold::EnvironmentDegraded { signal, evidence }, .. } => Some((signal, evidence)),
        _ => None,
    };
    events(rollout).await.into_iter().filter_map(hold).collect()
}

#[tokio::test(start_paused = true)]
async fn errors_of_both_releases_hold_the_rollout_and_it_goes_on_when_they_are_over() {
    for switch in switches() {
        let outside = Outside::serving(switch, 4).await;
        let rollout = canary_is_out(&outside, canary()).await;
        let (old, new) = (outside.stand.fleet("1"), outside.stand.fleet("2"));
        for fleet in [&old, &new] {
            outside.weather.errors(fleet.clone(), 400);
        }
        until_waiting(&rollout, AT_FAULT).await;
        let (log, entries) = (outside.stand.cloud.log(), outside.stand.entries().await);
        tokio::time::sleep(Duration::from_hours(3)).await;
        assert_eq!((outside.stand.cloud.log(), outside.stand.entries().await), (log, entries));
        assert_eq!(rollout.status().going_back, None);
        for fleet in [&old, &new] {
            outside.weather.errors(fleet.clone(), 0);
        }
        let over = outside.stand.cloud.now();
        until("held no more", &rollout, || !rollout.status().waiting.join("").contains(AT_FAULT)).await;
        // Judged anew from here: the whole hold of the stage is before it.
        assert!(outside.stand.cloud.now().duration_since(over) < SignedDuration::from_mins(3));
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        assert!(outside.stand.cloud.now().duration_since(over) >= SignedDuration::from_mins(10));
        let holds = holds(&rollout).await;
        assert_eq!(holds.len(), 1, "{holds:#?}");
        let (signal, evidence) = &holds[0];
        assert_eq!(*signal, Signal::Checks);
        assert!(evidence.contains("new release: errors is 0.") && evidence.contains(&format!("{old}: errors is 0.")));
    }
}

#[tokio::test(start_paused = true)]
async fn errors_that_stay_with_the_new_release_alone_turn_it_back() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, canary()).await;
    let (old, new) = (outside.stand.fleet("1"), outside.stand.fleet("2"));
    outside.weather.errors(old.clone(), 400);
    outside.weather.errors(new, 400);
    until_waiting(&rollout, AT_FAULT).await;
    tokio::time::sleep(minutes(20)).await;
    outside.weather.errors(old, 0);
    let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(matches!(reason, Reason::CheckFailed { .. }), "{reason}");
    assert_eq!(holds(&rollout).await.len(), 1);
    outside.stand.assert_only("1", 4, "back").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_release_that_is_well_is_not_held_up_by_what_stays_bad() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, canary()).await;
    let (old, new) = (outside.stand.fleet("1"), outside.stand.fleet("2"));
    outside.weather.errors(old, 400);
    outside.weather.errors(new.clone(), 400);
    until_waiting(&rollout, AT_FAULT).await;
    outside.weather.errors(new, 0);
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_blamed_before_the_old_release_can_be_asked() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, canary()).await;
    let (old, new) = (outside.stand.fleet("1"), outside.stand.fleet("2"));
    outside.weather.unread(old.clone(), Some(ErrorKind::Throttled));
    outside.weather.errors(old.clone(), 400);
    outside.weather.errors(new.clone(), 400);
    until_waiting(&rollout, "fails it, too, is not known yet").await;
    tokio::time::sleep(minutes(30)).await;
    let status = rollout.status();
    assert!(status.going_back.is_none() && !status.waiting.join("").contains(AT_FAULT), "{status:#?}");
    outside.weather.unread(old.clone(), None);
    until_waiting(&rollout, AT_FAULT).await;
    for fleet in [old, new] {
        outside.weather.errors(fleet, 0);
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn an_old_release_that_cannot_be_read_is_no_excuse() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, canary()).await;
    outside.weather.unread(outside.stand.fleet("1"), Some(ErrorKind::Unavailable));
    outside.weather.errors(outside.stand.fleet("2"), 400);
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::CheckFailed { .. }, .. }));
    assert!(holds(&rollout).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_new_release_alone_turn_it_back_at_once() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, canary()).await;
    outside.weather.errors(outside.stand.fleet("2"), 400);
    let begun = outside.stand.cloud.now();
    until("back", &rollout, || rollout.status().going_back.is_some()).await;
    assert!(outside.stand.cloud.now().duration_since(begun) < SignedDuration::from_mins(1));
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::CheckFailed { .. }, .. }));
    assert!(holds(&rollout).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_release_that_was_broken_before_is_no_excuse_for_errors() {
    let outside = Outside::serving(switches()[0], 4).await;
    outside.weather.errors(outside.stand.fleet("1"), 400);
    tokio::time::sleep(minutes(30)).await;
    outside.weather.errors(outside.stand.fleet("2"), 400);
    let rollout = outside.start("2", canary()).await;
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::CheckFailed { .. }, .. }));
    assert!(holds(&rollout).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_traffic_to_the_old_release_there_is_nothing_to_compare_with() {
    let outside = Outside::serving(switches()[0], 4).await;
    let check = Check::at_most("errors".parse().unwrap(), 0.01).min_count(500);
    let strategy = Strategy::blue_green().bake(minutes(30)).watch([check]);
    let rollout = outside.start("2", strategy).await;
    until_waiting(&rollout, "the hold").await;
    for version in ["1", "2"] {
        outside.weather.errors(outside.stand.fleet(version), 400);
    }
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::CheckFailed { .. }, .. }));
}

#[tokio::test(start_paused = true)]
async fn somebody_may_abort_while_the_environment_is_at_fault() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, canary()).await;
    for version in ["1", "2"] {
        outside.weather.errors(outside.stand.fleet(version), 400);
    }
    until_waiting(&rollout, AT_FAULT).await;
    rollout.abort("enough").await.unwrap();
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::Asked { .. }, .. }));
    outside.stand.assert_only("1", 4, "aborted").await;
}

#[tokio::test(start_paused = true)]
async fn instances_of_both_releases_that_fall_ill_hold_the_rollout_and_it_goes_on_when_they_are_well() {
    for switch in switches() {
        let mut outside = Outside::serving(switch, 4).await;
        let mut rollout = canary_is_out(&outside, silent_canary()).await;
        let bad = |outside: &Outside, behaviour| {
            for version in ["1", "2"] {
                outside.stand.cloud.behave(outside.stand.id(version), behaviour);
            }
        };
        bad(&outside, Behaviour::NeverHealthy);
        until_waiting(&rollout, AT_FAULT).await;
        tokio::time::sleep(Duration::from_hours(2)).await;
        assert_eq!((rollout.status().going_back, rollout.status().outcome), (None, None));
        // The next driver knows it from the journal.
        outside.restart();
        rollout = outside.start("2", silent_canary()).await;
        tokio::time::sleep(Duration::from_hours(2)).await;
        assert!(rollout.status().waiting.join("").contains(AT_FAULT), "{:#?}", rollout.status());
        bad(&outside, Behaviour::Good);
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        let holds = holds(&rollout).await;
        assert_eq!(holds.len(), 1, "{holds:#?}");
        assert_eq!(holds[0].0, Signal::Instances);
        assert!(holds[0].1.contains("that were healthy are ill") && holds[0].1.contains("answered 500"), "{holds:?}");
        outside.stand.assert_only("2", 4, "well again").await;
    }
}

#[tokio::test(start_paused = true)]
async fn instances_of_the_new_release_that_stay_ill_alone_turn_it_back() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, silent_canary()).await;
    outside.stand.cloud.behave(outside.stand.id("2"), Behaviour::NeverHealthy);
    everybody_is_ill(&outside, "1", true);
    until_waiting(&rollout, AT_FAULT).await;
    tokio::time::sleep(minutes(30)).await;
    everybody_is_ill(&outside, "1", false);
    let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(matches!(reason, Reason::NoProgress { .. }), "{reason}");
    outside.stand.assert_only("1", 4, "back").await;
}

#[tokio::test(start_paused = true)]
async fn an_old_release_that_was_ill_from_the_start_is_no_excuse_for_ill_instances() {
    let outside = Outside::serving(switches()[0], 4).await;
    everybody_is_ill(&outside, "1", true);
    tokio::time::sleep(minutes(2)).await;
    outside.stand.cloud.behave(outside.stand.id("2"), Behaviour::NeverHealthy);
    let rollout = outside.start("2", silent_canary()).await;
    let end = outcome(&rollout).await;
    // It does not wait for ever, and there is no well release to go back to.
    assert!(matches!(end, Outcome::Stuck { .. } | Outcome::RolledBack { .. }), "{end}");
    assert!(holds(&rollout).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_release_that_falls_ill_does_not_hold_up_a_new_one_that_is_well() {
    for switch in switches() {
        let outside = Outside::serving(switch, 4).await;
        let rollout = canary_is_out(&outside, silent_canary()).await;
        everybody_is_ill(&outside, "1", true);
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        outside.stand.assert_only("2", 4, "the fix").await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_ill_instance_of_many_old_ones_is_no_excuse() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, silent_canary()).await;
    assert!(outside.stand.cloud.make_ill(&outside.stand.ids("1")[0]));
    outside.stand.cloud.behave(outside.stand.id("2"), Behaviour::NeverHealthy);
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::NoProgress { .. }, .. }));
    assert!(holds(&rollout).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_release_that_flaps_puts_off_the_end_only_once() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = canary_is_out(&outside, silent_canary()).await;
    outside.stand.cloud.behave(outside.stand.id("2"), Behaviour::NeverHealthy);
    let mut ill = false;
    for _ in 0..200 {
        ill = !ill;
        let behaviour = if ill { Behaviour::NeverHealthy } else { Behaviour::Good };
        outside.stand.cloud.behave(outside.stand.id("1"), behaviour);
        tokio::time::sleep(minutes(2)).await;
        if rollout.status().going_back.is_some() {
            break;
        }
    }
    outside.stand.cloud.behave(outside.stand.id("1"), Behaviour::Good);
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }));
    assert!(holds(&rollout).await.len() < 50);
}
