//! Nothing is waited for without an end, and nothing that works is given up for want of patience.

use std::time::Duration;

use immutable_core::engine::{DriverError, Event, Outcome};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::{Effect, ErrorKind};
use immutable_core::testkit::{Behaviour, Operation, SimOptions};

use crate::harness::{Stand, events, minutes, outcome, service, switches, until_waiting};

fn one_at_a_time() -> Strategy {
    Strategy::rolling().max_surge(Amount::Count(1))
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_never_ends_is_cut_off_at_its_limit() {
    for switch in switches() {
        let day = Duration::from_hours(24);
        let stand = Stand::with(SimOptions { drain_for: day, switch, ..SimOptions::default() });
        stand.install(2).await;
        let begun = stand.cloud.now();
        let rollout = stand.start("2", one_at_a_time().drain_limit(minutes(3))).await;
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_only("2", 2, "a long drain").await;
        let took = stand.cloud.now().duration_since(begun).unsigned_abs();
        assert!((minutes(6)..minutes(20)).contains(&took), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_over_does_not_turn_a_release_back_that_serves() {
    let slow_end = SimOptions { end_after: Duration::from_hours(24), ..SimOptions::default() };
    let stand = Stand::with(slow_end);
    stand.install(2).await;
    let rollout = stand.start("2", Strategy::blue_green()).await;
    let Outcome::Stuck { reason } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(
        reason.starts_with("the new release of web serves; what is left over waits for 2 instances of"),
        "{reason}"
    );
    assert_eq!(stand.cloud.split().weight(&stand.fleet("2")).points(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_falls_ill_again_and_again_does_not_bake_for_ever() {
    for switch in switches() {
        let stand = Stand::serving(switch, 3).await;
        stand.cloud.behave(stand.id("2"), Behaviour::UnhealthyAfter(Duration::from_secs(90)));
        let rollout = stand.start("2", Strategy::blue_green().bake(minutes(5))).await;
        assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }));
        stand.assert_only("1", 3, "an ill release").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rare_loss_in_a_long_bake_is_forgiven() {
    let stand = Stand::serving(switches()[0], 3).await;
    let rollout = stand.start("2", Strategy::blue_green().bake(minutes(90))).await;
    // The third time only half an hour of the hold is left.
    for _ in 0..4 {
        until_waiting(&rollout, "the hold").await;
        tokio::time::sleep(minutes(60)).await;
        stand.cloud.kill(&stand.ids("2")[0]);
        tokio::time::sleep(minutes(1)).await;
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

/// Somebody dies every 40 minutes, whatever the release is, and the bake takes 50.
#[tokio::test(start_paused = true)]
async fn a_bake_ends_although_instances_die_now_and_then() {
    let stand = Stand::serving(switches()[0], 1).await;
    let begun = stand.cloud.now();
    let rollout = stand.start("2", Strategy::blue_green().bake(minutes(50))).await;
    for _ in 0..20 {
        tokio::time::sleep(minutes(40)).await;
        if let Some(one) = stand.ids("2").first() {
            stand.cloud.kill(one);
        }
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    let events = events(&rollout).await;
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    // Three times it began anew, and the fifth time not much was left of it.
    assert_eq!(count(|event| matches!(event, Event::GoalLost { .. })), 4);
    let Some(Event::Ended { at, .. }) = events.last() else { panic!("{events:?}") };
    let took = at.duration_since(begun).as_mins();
    assert!((170..230).contains(&took), "{took} minutes");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_was_left_is_recovered_and_rolled_back() {
    for resumed in [true, false] {
        let mut stand = Stand::serving(switches()[0], 3).await;
        let held = StageSpec::percent(50).unwrap().approval("half".parse().unwrap());
        let left = stand.start("2", Strategy::canary([held])).await;
        until_waiting(&left, "approve").await;
        stand.restart();
        if resumed {
            let rollout = stand.engine.recover(&service()).await.unwrap().expect("it has not ended");
            rollout.approve("half".parse().unwrap()).await.unwrap();
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            assert!(stand.engine.recover(&service()).await.unwrap().is_none());
        } else {
            let rollout = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap();
            assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }));
            stand.assert_only("1", 3, "rolled back").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_nobody_waits_for_is_refused() {
    let stand = Stand::serving(switches()[0], 2).await;
    let held = StageSpec::percent(50).unwrap().approval("half".parse().unwrap());
    let rollout = stand.start("2", Strategy::canary([held])).await;
    let error = rollout.approve("hlaf".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, DriverError::NoSuchApproval(_)));
    assert_eq!(error.to_string(), "no gate waits for the approval hlaf: see the plan for those that are wanted");
    rollout.approve("half".parse().unwrap()).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_look_is_stuck_and_says_so() {
    let stand = Stand::serving(switches()[0], 2).await;
    let rollout = stand.start("2", one_at_a_time().bake(minutes(30))).await;
    until_waiting(&rollout, "the hold").await;
    stand.fail(Operation::ObserveFleets, ErrorKind::PermissionDenied, Effect::None, 10);
    let Outcome::Stuck { reason } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(reason.contains("permission denied in observe fleets"), "{reason}");
}
