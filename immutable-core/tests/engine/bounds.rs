//! A release that is judged by bounds of its own, with nothing beside it.

use std::time::Duration;

use immutable_core::analysis::{Analysis, Judge, Threshold};
use immutable_core::engine::{Event, Outcome, Reason, Rollout};
use immutable_core::model::Weight;
use immutable_core::plan::Strategy;
use immutable_core::provider::ErrorKind;
use immutable_core::testkit::{Behaviour, SimOptions};

use super::harness::{Stand, events, minutes, outcome, switches, until_waiting};
use super::judging::{errors, one};
use super::weather::Outside;

fn bounded() -> Analysis {
    Analysis::of([errors().at_most(0.01)]).minimum_instances(1)
}

/// A release of which so many requests of a thousand fail.
fn fails(stand: &Stand, version: &str, per_mille: u32) {
    stand.cloud.behave(stand.id(version), Behaviour::Errors { per_mille });
}

async fn turned_back(rollout: &Rollout) -> String {
    match outcome(rollout).await {
        Outcome::RolledBack { reason: Reason::CheckFailed { evidence }, .. }
        | Outcome::Aborted { reason: Reason::CheckFailed { evidence } } => evidence,
        other => panic!("{other}"),
    }
}

/// How long after its goal was reached the stage of this number was left.
async fn took(rollout: &Rollout, stage: usize) -> Duration {
    let mut at = Vec::new();
    for event in events(rollout).await {
        match event {
            Event::GoalReached { at: reached, .. } => at.push((reached, None)),
            Event::StageEntered { at: left, .. } | Event::Ended { at: left, .. } => {
                if let Some((_, until @ None)) = at.last_mut() {
                    *until = Some(left);
                }
            }
            _ => {}
        }
    }
    let (reached, left) = at[stage];
    left.unwrap().duration_since(reached).unsigned_abs()
}

#[tokio::test(start_paused = true)]
async fn the_first_release_of_a_service_is_judged_once_it_has_traffic() {
    for (per_mille, is_good) in [(2, true), (200, false)] {
        let stand = Stand::on(switches()[0]);
        fails(&stand, "1", per_mille);
        let spec = stand.spec("1", Strategy::blue_green().analysis(bounded())).desired(4);
        let rollout = stand.engine.start(spec).await.unwrap();
        if is_good {
            until_waiting(&rollout, "errors: ").await;
            assert_eq!(stand.cloud.split().weight(&stand.fleet("1")), Weight::FULL);
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            assert!(took(&rollout, 0).await >= minutes(5));
            stand.assert_only("1", 4, "good").await;
        } else {
            let evidence = turned_back(&rollout).await;
            assert!(evidence.starts_with("errors is 0.2000, at most 0.01 is wanted"), "{evidence}");
            stand.assert_nothing("bad").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_holds_with_all_of_the_traffic_and_starts_no_baseline() {
    for (switch, per_mille) in switches().into_iter().flat_map(|switch| [(switch, 2), (switch, 100)]) {
        let stand = Stand::serving(switch, 4).await;
        fails(&stand, "2", per_mille);
        let rollout = stand.start("2", Strategy::blue_green().analysis(bounded())).await;
        assert_eq!(rollout.plan().baseline, None);
        let told = rollout.plan().to_string();
        assert!(told.contains("judged:   errors less than 1.5 times 0.01; by itself"), "{told}");
        if per_mille == 2 {
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            assert!(took(&rollout, 0).await >= minutes(5));
        } else {
            turned_back(&rollout).await;
            stand.assert_only("1", 4, "bad").await;
        }
        stand.assert_within_budget(&rollout, "bounded");
    }
}

#[tokio::test(start_paused = true)]
async fn what_all_suffer_from_counts_against_a_bound() {
    let stand = Stand::serving(switches()[0], 4).await;
    fails(&stand, "1", 100);
    fails(&stand, "2", 100);
    let rollout = stand.start("2", Strategy::canary([one()]).analysis(bounded())).await;
    turned_back(&rollout).await;
}

/// It is compared with nothing, so that nothing else has to be read.
#[tokio::test(start_paused = true)]
async fn an_old_fleet_that_cannot_be_read_is_no_matter_for_a_bound() {
    let outside = Outside::serving(switches()[0], 4).await;
    let rollout = outside.start("2", Strategy::canary([one()]).analysis(bounded())).await;
    outside.weather.unread(outside.stand.fleet("1"), Some(ErrorKind::PermissionDenied));
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

/// An old fleet of which nothing is known is no reason not to fix it.
#[tokio::test(start_paused = true)]
async fn a_silent_old_fleet_is_told_and_not_refused_for_a_bound() {
    let options = SimOptions { requests_per_second: 0, ..SimOptions::default() };
    let stand = Stand::with(options);
    stand.install(4).await;
    let plan = stand.engine.plan(&stand.spec("2", Strategy::blue_green().analysis(bounded()))).await.unwrap();
    assert!(plan.to_string().contains("errors: says nothing about web-"), "{plan}");
}

/// Argo's failure limit has no say of the old release in it, and so needs none.
#[tokio::test(start_paused = true)]
async fn a_threshold_needs_nothing_beside_it() {
    for (per_mille, is_good) in [(2, true), (200, false)] {
        let stand = Stand::on(switches()[0]);
        fails(&stand, "1", per_mille);
        let threshold = Analysis::of([errors().acceptable(0.01)]).judge_by(Judge::Threshold(Threshold::of(40)));
        let spec = stand.spec("1", Strategy::blue_green().analysis(threshold)).desired(4);
        let rollout = stand.engine.start(spec).await.unwrap();
        assert_eq!(outcome(&rollout).await == Outcome::Promoted, is_good);
        if is_good {
            assert!(took(&rollout, 0).await >= Duration::from_secs(400));
        }
    }
}
