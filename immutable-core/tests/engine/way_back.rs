//! An image that going back would need, and that somebody deletes.

use immutable_core::engine::{Engine, Event, Hold, Outcome, StartError};
use immutable_core::model::Weight;
use immutable_core::plan::{PlanError, StageSpec, Strategy};
use immutable_core::provider::{Effect, ErrorKind, Platform};
use immutable_core::testkit::Operation;

use super::harness::{Stand, events, minutes, outcome, service, strategies, switches, until_waiting};

const GONE: &str = "could not be gone back to without it";

fn canary() -> Strategy {
    let share = Weight::basis_points(2_000).unwrap();
    Strategy::canary([StageSpec::new("fifth", share).hold(minutes(30))])
}

#[tokio::test(start_paused = true)]
async fn a_deleted_rollback_image_is_noticed_before_anything_is_touched() {
    for (switch, strategy) in
        switches().into_iter().flat_map(|switch| strategies(4).into_iter().map(move |s| (switch, s)))
    {
        let note = format!("{switch:?} {strategy:?}");
        let stand = Stand::serving(switch, 4).await;
        stand.cloud.delete_image("1");
        let (log, entries) = (stand.cloud.log(), stand.entries().await);
        let refused = stand.engine.start(stand.spec("2", strategy.clone())).await.expect_err(&note);
        let StartError::Plan(PlanError::NoWayBack { release, .. }) = &refused else { panic!("{note}: {refused}") };
        assert_eq!(*release, stand.id("1"), "{note}");
        assert!(refused.to_string().contains("waive the way back"), "{refused}");
        assert_eq!((stand.cloud.log(), stand.entries().await), (log, entries), "{note}");

        let waived = stand.spec("2", strategy).waive_way_back();
        assert!(stand.engine.plan(&waived).await.unwrap().to_string().contains("as long as it lives"), "{note}");
        assert_eq!(stand.run(waived).await, Outcome::Promoted, "{note}");
        stand.assert_only("2", 4, &note).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_image_deleted_on_the_way_holds_the_rollout_before_traffic_moves_on() {
    for (switch, strategy) in
        switches().into_iter().flat_map(|switch| strategies(4).into_iter().map(move |s| (switch, s)))
    {
        let note = format!("{switch:?} {strategy:?}");
        let stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", strategy.clone().progress_deadline(minutes(20))).await;
        stand.cloud.delete_image("1");
        until_waiting(&rollout, GONE).await;
        // Longer than its deadline, which does not pass meanwhile.
        tokio::time::sleep(minutes(60)).await;
        assert!(stand.was_never_routed("2") || stand.cloud.split().weight(&stand.fleet("2")).is_none(), "{note}");
        let entries = stand.entries().await;
        tokio::time::sleep(minutes(60)).await;
        assert_eq!(stand.entries().await, entries, "{note}: waiting writes nothing");
        stand.cloud.restore_image("1");
        assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
        let held = |event: &&Event| matches!(event, Event::Held { hold: Hold::NoWayBack { .. }, .. });
        assert_eq!(events(&rollout).await.iter().filter(held).count(), 1, "{note}");
        stand.assert_only("2", 4, &note).await;
        stand.assert_within_budget(&rollout, &note);
    }
}

#[tokio::test(start_paused = true)]
async fn every_stage_looks_anew_and_a_driver_that_takes_over_does_too() {
    for switch in switches() {
        let note = format!("{switch:?}");
        let mut stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", canary()).await;
        until_waiting(&rollout, "hold").await;
        stand.cloud.delete_image("1");
        until_waiting(&rollout, GONE).await;
        stand.restart();
        let rollout = stand.engine.recover(&service()).await.unwrap().unwrap();
        tokio::time::sleep(minutes(60)).await;
        assert_eq!(stand.cloud.split().weight(&stand.fleet("2")).points(), 2_000, "{note}");
        assert!(
            rollout.status().waiting.iter().any(|waiting| waiting.contains(GONE)),
            "{note}: {:?}",
            rollout.status()
        );
        stand.cloud.restore_image("1");
        assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
    }
}

#[tokio::test(start_paused = true)]
async fn held_for_want_of_a_way_back_it_can_be_promoted_or_aborted() {
    for switch in switches() {
        for promote in [true, false] {
            let note = format!("{switch:?}, promote: {promote}");
            let stand = Stand::serving(switch, 4).await;
            let rollout = stand.start("2", canary()).await;
            stand.cloud.delete_image("1");
            until_waiting(&rollout, GONE).await;
            if promote {
                rollout.promote().await.unwrap();
                assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
                stand.assert_only("2", 4, &note).await;
            } else {
                rollout.abort("no way back").await.unwrap();
                assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }), "{note}");
                stand.assert_only("1", 4, &note).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_fleet_that_is_ill_is_not_kept_in_traffic_for_the_sake_of_its_image() {
    for switch in switches() {
        let note = format!("{switch:?}");
        let stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", Strategy::blue_green()).await;
        stand.cloud.delete_image("1");
        until_waiting(&rollout, GONE).await;
        for id in stand.ids("1") {
            stand.cloud.make_ill(&id);
        }
        assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
        stand.assert_only("2", 4, &note).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_without_its_image_is_not_started_and_a_way_back_needs_no_other() {
    let stand = Stand::serving(switches()[0], 2).await;
    stand.cloud.release("2");
    stand.cloud.delete_image("2");
    let refused = stand.engine.start(stand.spec("2", Strategy::rolling())).await.unwrap_err();
    assert!(matches!(refused, StartError::Plan(PlanError::ImageGone { .. })), "{refused}");
    stand.cloud.restore_image("2");
    assert_eq!(stand.run(stand.spec("2", Strategy::rolling())).await, Outcome::Promoted);
    // Going back goes away from a release whose image may be gone, and to one whose image may not.
    stand.cloud.delete_image("1");
    let refused = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap_err();
    assert!(matches!(refused, StartError::Plan(PlanError::ImageGone { .. })), "{refused}");
    stand.cloud.restore_image("1");
    stand.cloud.delete_image("2");
    let back = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap();
    assert_eq!(outcome(&back).await, Outcome::Promoted);
    stand.assert_only("1", 2, "back").await;
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_knows_none_of_the_images_holds_nothing_up() {
    for switch in switches() {
        let stand = Stand::serving(switch, 4).await;
        let elsewhere = Platform { images: Stand::new().cloud.platform().images, ..stand.cloud.platform() };
        let engine = Engine::builder(elsewhere).journal(stand.journal.clone()).clock(stand.cloud.clock()).build();
        let rollout = engine.start(stand.spec("2", canary())).await.unwrap();
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        let back = engine.roll_back(&service(), &stand.id("1")).await.unwrap();
        assert_eq!(outcome(&back).await, Outcome::Promoted);
        stand.assert_only("1", 4, "elsewhere").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_cannot_look_holds_nothing_up_and_one_that_may_not_stops_the_rollout() {
    for (kind, times) in [(ErrorKind::Unsupported, 9), (ErrorKind::Unavailable, 3), (ErrorKind::Throttled, 3)] {
        let stand = Stand::serving(switches()[0], 2).await;
        let rollout = stand.start("2", Strategy::rolling()).await;
        stand.fail(Operation::FindImage, kind, Effect::None, times);
        assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{kind:?}");
    }
    let stand = Stand::serving(switches()[0], 2).await;
    let rollout = stand.start("2", Strategy::rolling()).await;
    stand.fail(Operation::FindImage, ErrorKind::PermissionDenied, Effect::None, 1);
    let ended = outcome(&rollout).await;
    assert!(
        matches!(&ended, Outcome::RolledBack { reason, .. } if reason.to_string().contains("find image")),
        "{ended}"
    );
    stand.assert_only("1", 2, "refused").await;
}
