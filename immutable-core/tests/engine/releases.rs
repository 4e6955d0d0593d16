//! Which release may be started when, and what starting the same one again does.

use immutable_core::engine::{Outcome, Reason, StartError};
use immutable_core::plan::{Amount, PlanError, Strategy};
use immutable_core::testkit::Behaviour;

use super::harness::{Stand, minutes, outcome, service, strategies, switches, until_event};

#[tokio::test(start_paused = true)]
async fn the_same_release_again_changes_nothing_where_all_is_well() {
    for switch in switches() {
        for strategy in strategies(3) {
            let stand = Stand::serving(switch, 3).await;
            let (log, ids) = (stand.cloud.log(), stand.ids("1"));
            assert_eq!(stand.run(stand.spec("1", strategy)).await, Outcome::Promoted);
            assert_eq!(stand.cloud.log(), log);
            assert_eq!(stand.ids("1"), ids);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_release_again_replaces_what_drifted_and_what_died() {
    for switch in switches() {
        for strategy in strategies(4) {
            let stand = Stand::serving(switch, 4).await;
            let ids = stand.ids("1");
            stand.cloud.drift(&ids[0]);
            stand.cloud.kill(&ids[1]);
            assert_eq!(stand.run(stand.spec("1", strategy).desired(4)).await, Outcome::Promoted);
            stand.assert_only("1", 4, "again").await;
            let kept = stand.ids("1");
            assert!(!kept.contains(&ids[0]) && !kept.contains(&ids[1]));
            assert!(kept.contains(&ids[2]) && kept.contains(&ids[3]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn starting_a_release_twice_gives_the_same_rollout() {
    let stand = Stand::serving(switches()[0], 2).await;
    let start = || stand.start("2", Strategy::blue_green());
    let (first, second) = tokio::join!(start(), start());
    let third = start().await;
    assert_eq!(first.id(), second.id());
    assert_eq!(first.id(), third.id());
    assert_eq!(outcome(&first).await, Outcome::Promoted);
    stand.assert_only("2", 2, "twice").await;
}

#[tokio::test(start_paused = true)]
async fn another_release_has_to_wait_for_the_rollout_that_goes_on() {
    let mut stand = Stand::serving(switches()[0], 2).await;
    let rollout = stand.start("2", Strategy::blue_green()).await;
    for _ in 0..2 {
        let error = stand.engine.start(stand.spec("3", Strategy::blue_green())).await.unwrap_err();
        let StartError::Live { rollout: live, release, .. } = &error else { panic!("{error}") };
        assert_eq!((live, *release), (&rollout.id(), stand.id("2")));
        assert!(error.to_string().contains(rollout.id().as_str()), "{error}");
        // The second time the engine knows it from its journal alone.
        stand.restart();
    }
    assert_eq!(outcome(&stand.start("2", Strategy::blue_green()).await).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_proven_release_is_gone_back_to_when_its_fleet_is_long_gone() {
    for switch in switches() {
        let stand = Stand::serving(switch, 3).await;
        for version in ["2", "3"] {
            assert_eq!(stand.run(stand.spec(version, Strategy::rolling())).await, Outcome::Promoted);
        }
        let rollout = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap();
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_within_budget(&rollout, "there and back");
        stand.assert_only("1", 3, "back").await;
    }
}

#[tokio::test(start_paused = true)]
async fn going_back_restores_the_size_though_most_instances_died() {
    for switch in switches() {
        let stand = Stand::serving(switch, 4).await;
        assert_eq!(stand.run(stand.spec("2", Strategy::rolling())).await, Outcome::Promoted);
        for id in &stand.ids("2")[1..] {
            stand.cloud.kill(id);
        }
        let rollout = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap();
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_only("1", 4, "back").await;
    }
}

#[tokio::test(start_paused = true)]
async fn going_back_keeps_the_limits_and_the_size_that_the_service_has_by_now() {
    for switch in switches() {
        let stand = Stand::serving(switch, 3).await;
        let patient = Strategy::rolling().drain_time(minutes(2)).instance_deadline(minutes(9)).quorum_percent(80);
        assert_eq!(stand.run(stand.spec("2", patient.max_unavailable(Amount::Count(1)))).await, Outcome::Promoted);
        stand.cloud.scale(&stand.fleet("2"), 5);
        let rollout = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap();
        let limits = &rollout.plan().limits;
        let (drain, instance) = (limits.drain_time, limits.instance_deadline);
        assert_eq!((drain, instance, limits.quorum_percent), (minutes(2), minutes(9), 100));
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_only("1", 5, "back").await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_proven_release_can_be_gone_back_to() {
    let stand = Stand::serving(switches()[0], 2).await;
    stand.cloud.behave(stand.id("2"), Behaviour::NeverHealthy);
    let back = stand.run(stand.spec("2", Strategy::rolling())).await;
    assert!(matches!(back, Outcome::RolledBack { .. }), "{back}");
    let log = stand.cloud.log();
    let refused = async |version: &str| match stand.engine.roll_back(&service(), &stand.id(version)).await {
        Err(StartError::Plan(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("2").await, PlanError::NotProven(stand.id("2")));
    assert_eq!(refused("9").await, PlanError::UnknownRelease(stand.id("9")));
    assert_eq!(stand.cloud.log(), log);
}

#[tokio::test(start_paused = true)]
async fn going_back_while_a_rollout_goes_on_aborts_it_or_says_that_it_is_live() {
    let stand = Stand::serving(switches()[0], 2).await;
    assert_eq!(stand.run(stand.spec("2", Strategy::rolling())).await, Outcome::Promoted);
    let rollout = stand.start("3", Strategy::rolling().bake(minutes(30))).await;
    assert!(until_event(&rollout, 3).await);
    let error = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap_err();
    assert!(matches!(error, StartError::Live { .. }), "{error}");
    let same = stand.engine.roll_back(&service(), &stand.id("2")).await.unwrap();
    assert_eq!(same.id(), rollout.id());
    let reason = Reason::Asked { note: "asked to roll back".into() };
    assert_eq!(outcome(&rollout).await, Outcome::RolledBack { to: stand.id("2"), reason });
    stand.assert_only("2", 2, "back").await;
}
