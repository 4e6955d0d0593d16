//! Providers that fail, lose answers, are slow, or are used by others too.

use std::time::Duration;

use immutable_core::engine::{Event, Outcome, Reason};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::{Assignment, Effect, ErrorKind, MemberTarget, OpContext};
use immutable_core::testkit::{Behaviour, Operation, SimOptions};

use super::harness::{
    Stand, events, minutes, outcome, service, strategies, switches, until, until_event, until_waiting,
};

const OPERATIONS: [Operation; 7] = [
    Operation::EnsureFleet,
    Operation::ObserveFleets,
    Operation::Retire,
    Operation::RemoveFleet,
    Operation::SampleHealth,
    Operation::ObserveRoute,
    Operation::ApplyRoute,
];

const TRANSIENT: [ErrorKind; 8] = [
    ErrorKind::Throttled,
    ErrorKind::Capacity,
    ErrorKind::Quota,
    ErrorKind::Conflict,
    ErrorKind::NotFound,
    ErrorKind::Timeout,
    ErrorKind::Unavailable,
    ErrorKind::Internal,
];

#[tokio::test(start_paused = true)]
async fn transient_failures_change_nothing_about_the_end() {
    for (index, strategy) in strategies(3).into_iter().enumerate() {
        for operation in OPERATIONS {
            // The first two take every path; the others need not take it with every kind.
            let kinds = if index < 2 { &TRANSIENT[..] } else { &TRANSIENT[..1] };
            for &kind in kinds {
                for (effect, times) in
                    [(Effect::None, 1), (Effect::None, 3), (Effect::Unknown, 1), (Effect::Unknown, 3)]
                {
                    let note = format!("strategy {index}: {operation} {kind:?} {effect:?} {times} times");
                    let stand = Stand::serving(switches()[index % 2], 3).await;
                    let rollout = stand.start("2", strategy.clone()).await;
                    stand.fail(operation, kind, effect, times);
                    assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
                    stand.assert_within_budget(&rollout, &note);
                    stand.assert_drained(Duration::from_secs(10), &note);
                    stand.assert_only("2", 3, &note).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_turns_the_rollout_back_and_says_what_is_missing() {
    for operation in [Operation::EnsureFleet, Operation::ApplyRoute, Operation::Retire] {
        let stand = Stand::serving(switches()[0], 3).await;
        let rollout = stand.start("2", Strategy::rolling()).await;
        stand.fail(operation, ErrorKind::PermissionDenied, Effect::None, 1);
        let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{operation}") };
        let Reason::Refused { error } = &reason else { panic!("{reason}") };
        assert!(error.contains(&format!("{operation}: asked for by the test")), "{error}");
        stand.assert_within_budget(&rollout, operation.as_str());
        stand.assert_only("1", 3, operation.as_str()).await;
        // It says nothing against the release.
        assert_eq!(stand.run(stand.spec("2", Strategy::rolling())).await, Outcome::Promoted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_is_not_allowed_ends_stuck_and_goes_on_later() {
    let stand = Stand::serving(switches()[0], 3).await;
    let rollout = stand.start("2", Strategy::blue_green()).await;
    until("ready", &rollout, || stand.cloud.members().len() == 6).await;
    stand.fail(Operation::ApplyRoute, ErrorKind::PermissionDenied, Effect::None, 1);
    rollout.abort("enough").await.unwrap();
    let stuck = outcome(&rollout).await;
    let Outcome::Stuck { reason } = &stuck else { panic!("{stuck}") };
    assert!(reason.contains("asked to: enough; going back was refused: "), "{reason}");
    assert!(reason.contains("asked for by the test"), "{reason}");
    assert_eq!(rollout.status().outcome, Some(stuck.clone()));
    assert!(rollout.abort("again").await.is_ok());
    let back = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap();
    assert_eq!(outcome(&back).await, Outcome::Promoted);
    stand.assert_only("1", 3, "back").await;
}

#[tokio::test(start_paused = true)]
async fn a_route_that_somebody_else_changes_is_observed_again() {
    for switch in switches() {
        for count in 1..12 {
            let stand = Stand::serving(switch, 3).await;
            let rollout = stand.start("2", Strategy::rolling()).await;
            assert!(until_event(&rollout, count).await);
            // One member is thrown out, by hand.
            let (platform, cx, route) =
                (stand.cloud.platform(), OpContext::standalone("test"), "route".parse().unwrap());
            let state = platform.traffic.observe(&cx, &route).await.unwrap();
            let mut members = state.members.iter().map(|member| MemberTarget {
                instance: member.instance.clone(),
                fleet: member.fleet.clone(),
                endpoint: format!("{}:80", member.instance).parse().unwrap(),
            });
            members.next();
            let assignment = Assignment { split: state.split.clone(), members: members.collect() };
            let applied = platform.traffic.apply(&cx, &route, &assignment, &state.version).await;
            assert_eq!(outcome(&rollout).await, Outcome::Promoted, "after {count}: {applied:?}");
            stand.assert_only("2", 3, "changed by hand").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_nothing_can_be_observed_nothing_is_done() {
    for operation in [Operation::ObserveFleets, Operation::ObserveRoute] {
        for count in [2, 4, 6, 8] {
            let stand = Stand::serving(switches()[0], 3).await;
            let rollout = stand.start("2", Strategy::rolling()).await;
            assert!(until_event(&rollout, count).await);
            stand.fail(operation, ErrorKind::Unavailable, Effect::None, 1_000);
            // One turn may be under way.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let log = stand.cloud.log();
            tokio::time::sleep(minutes(1)).await;
            assert_eq!(stand.cloud.log(), log);
            assert!(rollout.status().waiting[0].contains("the platform to answer again"), "{:?}", rollout.status());
            let (platform, cx) = (stand.cloud.platform(), OpContext::standalone("test"));
            for _ in 0..1_000 {
                let _ = match operation {
                    Operation::ObserveFleets => platform.fleets.observe(&cx, &service()).await.is_ok(),
                    _ => platform.traffic.observe(&cx, &"route".parse().unwrap()).await.is_ok(),
                };
            }
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            stand.assert_only("2", 3, "seen again").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_that_is_over_is_not_told_any_more() {
    let stand = Stand::serving(switches()[0], 2).await;
    let rollout = stand.start("2", Strategy::rolling().bake(minutes(60))).await;
    until_waiting(&rollout, "hold").await;
    for (operation, text) in
        [(Operation::ObserveFleets, "to answer again"), (Operation::SampleHealth, "health looks to work again")]
    {
        stand.fail(operation, ErrorKind::Unavailable, Effect::None, 4);
        until_waiting(&rollout, text).await;
        tokio::time::sleep(minutes(1)).await;
        assert_eq!(rollout.status().waiting.len(), 1, "{:?}", rollout.status().waiting);
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn no_progress_turns_back_at_the_deadline_and_progress_puts_it_off() {
    let options = SimOptions { boot: minutes(4), ..SimOptions::default() };
    let stand = Stand::with(options);
    let patient = |strategy: Strategy| strategy.instance_deadline(minutes(30)).progress_deadline(minutes(9));
    let install = stand.spec("1", patient(Strategy::blue_green())).desired(6);
    assert_eq!(stand.run(install).await, Outcome::Promoted);
    // Six times four minutes, and each one in time.
    let one = |strategy: Strategy| patient(strategy).max_surge(Amount::Count(1));
    let begun = stand.cloud.now();
    assert_eq!(stand.run(stand.spec("2", one(Strategy::rolling()))).await, Outcome::Promoted);
    assert!(stand.cloud.now().duration_since(begun).as_mins() >= 24);

    stand.cloud.behave(stand.id("3"), Behaviour::NeverBoots);
    let rollout = stand.start("3", one(Strategy::rolling())).await;
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::NoProgress { .. }, .. }));
    let events = events(&rollout).await;
    let turned = events.iter().find_map(|event| match event {
        Event::TurnedBack { at, .. } => Some(*at),
        _ => None,
    });
    let Event::Started { at, .. } = &events[0] else { panic!("no start") };
    let waited = turned.unwrap().duration_since(*at);
    assert!((9 * 60..9 * 60 + 10).contains(&waited.as_secs()), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_way_back_without_progress_ends_stuck_and_a_start_gets_it_moving() {
    let stand = Stand::serving(switches()[0], 2).await;
    let held = StageSpec::percent(50).unwrap().hold(Duration::from_hours(1));
    let rollout = stand.start("2", Strategy::canary([held])).await;
    until_waiting(&rollout, "hold").await;
    stand.cloud.behave(stand.id("1"), Behaviour::NeverHealthy);
    stand.cloud.behave(stand.id("2"), Behaviour::NeverHealthy);
    let stuck = outcome(&rollout).await;
    let Outcome::Stuck { reason } = &stuck else { panic!("{stuck}") };
    let (why_back, why_stuck) = reason.split_once("going back waits for").unwrap();
    assert!(why_back.contains("answered 500") && why_stuck.contains("answered 500"), "{reason}");
    assert_eq!(stand.run(stand.spec("3", Strategy::rolling()).desired(2)).await, Outcome::Promoted);
    stand.assert_only("3", 2, "moving again").await;
}
