//! Rollouts by the real engine on the emulated AWS, and what an independent client finds afterwards.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stand;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use immutable_aws::Fleets;
use immutable_core::engine::{DriverError, Engine, Outcome};
use immutable_core::plan::{StageSpec, Strategy};
use immutable_core::provider::{Pace, Platform};
use stand::Stand;
use support::Options;

/// Each of these with both ways to keep fleets.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod auto_scaling {
            $(#[tokio::test] async fn $name() { super::$name(super::Fleets::AutoScaling).await })+
        }
        mod instances {
            $(#[tokio::test] async fn $name() { super::$name(super::Fleets::Instances).await })+
        }
    };
}

on_both!(
    a_release_replaces_another_by_each_strategy_and_nothing_is_left,
    a_canary_that_falls_ill_goes_back_and_nothing_is_left,
    a_driver_that_dies_is_followed_by_another,
    of_two_drivers_one_does_it,
    lost_answers_throttling_and_a_shortage_are_got_over,
    lists_that_lag_mislead_nobody,
);

fn canary() -> Strategy {
    Strategy::canary([StageSpec::percent(10).unwrap(), StageSpec::percent(50).unwrap()])
}

async fn a_release_replaces_another_by_each_strategy_and_nothing_is_left(kind: Fleets) {
    let stand = Stand::new(kind, Options::default()).await;
    for (number, strategy) in [Strategy::blue_green(), Strategy::rolling(), canary()].into_iter().enumerate() {
        assert_eq!(stand.roll_out(number % 2, strategy, 3).await, Outcome::Promoted);
        stand.assert_only(number % 2, 3).await;
    }
}

async fn a_canary_that_falls_ill_goes_back_and_nothing_is_left(kind: Fleets) {
    let stand = Stand::new(kind, Options::default()).await;
    assert_eq!(stand.roll_out(0, Strategy::blue_green(), 3).await, Outcome::Promoted);
    let engine = stand.engine();
    let stages = [StageSpec::percent(10).unwrap().hold(Duration::from_mins(1))];
    let strategy = Strategy::canary(stages).progress_deadline(Duration::from_secs(20));
    let strategy = strategy.instance_deadline(Duration::from_secs(2));
    let rollout = engine.start(stand.spec(1, strategy, 3)).await.unwrap();
    // Whoever is started in their place is ill as well, from the moment that the first has traffic.
    let fall_ill = async {
        stand.until_routed(1).await;
        while rollout.status().outcome.is_none() {
            for id in stand.instances(1).await {
                stand.account.proxy.set_ill(&id, true);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let (outcome, ()) = tokio::join!(stand.end(&rollout), fall_ill);
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    stand.assert_only(0, 3).await;
}

async fn a_driver_that_dies_is_followed_by_another(kind: Fleets) {
    let stand = Stand::new(kind, Options::default()).await;
    assert_eq!(stand.roll_out(0, Strategy::blue_green(), 2).await, Outcome::Promoted);
    // A driver dies after each few events, until one comes to the end.
    let (mut outcome, mut events) = (None, 0);
    while outcome.is_none() {
        let engine = stand.engine();
        let rollout = engine.start(stand.spec(1, Strategy::rolling(), 2)).await.unwrap();
        events += rollout.events().skip(events).take(4).count().await;
        outcome = rollout.status().outcome;
    }
    assert_eq!(outcome, Some(Outcome::Promoted));
    stand.assert_only(1, 2).await;
}

async fn of_two_drivers_one_does_it(kind: Fleets) {
    let stand = Stand::new(kind, Options::default()).await;
    assert_eq!(stand.roll_out(0, Strategy::blue_green(), 2).await, Outcome::Promoted);
    let (one, other) = (stand.engine(), stand.engine());
    let first = one.start(stand.spec(1, Strategy::blue_green(), 2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let second = other.start(stand.spec(1, Strategy::blue_green(), 2)).await.unwrap();
    assert_eq!(second.id(), first.id());
    assert_eq!(stand.end(&second).await, Outcome::Promoted);
    assert!(matches!(first.wait().await, Err(DriverError::Journal(_))));
    stand.assert_only(1, 2).await;
}

/// Each of these happens once, to the requests that a rollout stands or falls with.
async fn lost_answers_throttling_and_a_shortage_are_got_over(kind: Fleets) {
    let stand = Stand::new(kind, Options::default()).await;
    assert_eq!(stand.roll_out(0, Strategy::blue_green(), 2).await, Outcome::Promoted);
    let proxy = &stand.account.proxy;
    let before = proxy.calls();
    let lost = [
        "CreateLaunchTemplate",
        "CreateTargetGroup",
        "RegisterTargets",
        "ModifyListener",
        "DeregisterTargets",
        "DeleteTargetGroup",
        "DeleteLaunchTemplate",
    ];
    let of_fleets = match kind {
        Fleets::AutoScaling => ["CreateAutoScalingGroup", "TerminateInstanceInAutoScalingGroup"],
        _ => ["CreateFleet", "TerminateInstances"],
    };
    for action in lost.iter().chain(&of_fleets) {
        proxy.lose_next(&[action]);
    }
    for action in ["DescribeInstances", "DescribeListeners", "DescribeTargetHealth"] {
        proxy.throttle_next(&[action]);
    }
    proxy.refuse_next(&["CreateFleet"], "InsufficientInstanceCapacity");
    assert_eq!(stand.roll_out(1, Strategy::rolling(), 2).await, Outcome::Promoted);
    let calls = proxy.calls();
    for action in lost.iter().chain(&of_fleets) {
        assert!(calls.get(*action) > before.get(*action), "{action} was not called: {calls:?}");
    }
    stand.assert_only(1, 2).await;
}

async fn lists_that_lag_mislead_nobody(kind: Fleets) {
    let lag = Duration::from_millis(700);
    let stand = Stand::new(kind, Options { lag, ..Options::default() }).await;
    let config = stand.account.config().fleets(kind).list_lag(lag).build().unwrap();
    let platform = stand::platform(&config);
    let pace = Pace { list_lag: lag, ..platform.pace };
    let engine = Engine::builder(Platform { pace, ..platform }).journal(stand.journal.clone()).build();
    for (number, strategy) in [Strategy::blue_green(), Strategy::rolling()].into_iter().enumerate() {
        let rollout = engine.start(stand.spec(number, strategy, 3)).await.unwrap();
        assert_eq!(stand.end(&rollout).await, Outcome::Promoted);
    }
    stand.assert_only(1, 3).await;
}

/// The most requests for each instance that is replaced, of all kinds: 3.3 were measured on an idle machine, and 3.5 on a busy one, where more is looked.
const CALLS_PER_INSTANCE: usize = 4;
/// The most that is changed for each hundred instances that are replaced: each is ended by a request of its own.
const CHANGES_PER_HUNDRED: usize = 125;
/// The most that is asked each time that the engine looks, of both fleets, the route and four hundred instances: 14.4 were measured.
const READS_PER_LOOK: usize = 16;

#[tokio::test]
#[allow(clippy::print_stdout, reason = "the figure is what people want to see of it")]
async fn two_hundred_instances_are_replaced_with_few_calls() {
    const SIZE: u32 = 200;
    // Pages as large as those of AWS, and looks as often as the pace for AWS has them.
    let stand = Stand::new(Fleets::AutoScaling, Options { page: 1000, ..Options::default() }).await;
    let platform = stand.platform();
    let seconds = Duration::from_secs(5);
    let pace = Pace { observe: seconds, probe_starting: seconds, probe_running: seconds, ..platform.pace };
    let engine = Engine::builder(Platform { pace, ..platform }).journal(stand.journal.clone()).build();
    let mut before = BTreeMap::new();
    for number in [0, 1] {
        before = stand.account.proxy.calls();
        // The emulator takes its time with so many instances.
        let strategy = Strategy::blue_green().instance_deadline(Duration::from_mins(30));
        let strategy = strategy.progress_deadline(Duration::from_mins(30));
        let rollout = engine.start(stand.spec(number, strategy, SIZE)).await.unwrap();
        assert_eq!(rollout.wait().await.unwrap(), Outcome::Promoted);
    }
    let calls = stand.account.proxy.calls();
    let made = |action: &str| calls[action] - before.get(action).copied().unwrap_or(0);
    let (reads, changes): (Vec<_>, Vec<_>) = calls.keys().partition(|action| action.starts_with("Describe"));
    let sum = |actions: &[&String]| actions.iter().map(|action| made(action)).sum::<usize>();
    let (reads, changes, looks) = (sum(&reads), sum(&changes), made("DescribeListeners"));
    println!("{changes} changes, and {reads} reads in {looks} looks, replaced {SIZE} instances: {calls:?}");
    assert!(changes + reads <= CALLS_PER_INSTANCE * SIZE as usize, "{changes} changes, {reads} reads: {calls:?}");
    assert!(changes * 100 <= CHANGES_PER_HUNDRED * SIZE as usize, "{changes} changes: {calls:?}");
    assert!(reads <= READS_PER_LOOK * looks, "{reads} reads in {looks} looks: {calls:?}");
}
