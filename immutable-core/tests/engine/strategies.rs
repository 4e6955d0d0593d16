//! Each strategy ends with the new release alone, and keeps the budget on the way.

use immutable_core::engine::Outcome;
use immutable_core::plan::Strategy;
use immutable_core::provider::SwitchKind;
use immutable_core::testkit::SimOptions;

use super::harness::{Stand, minutes, outcome, strategies, switches};

async fn check(switch: SwitchKind, desired: u32, index: usize, strategy: Strategy) {
    let note = format!("{desired} instances, strategy {index}, {switch:?}");
    let stand = Stand::serving(switch, desired).await;
    let rollout = stand.start("2", strategy).await;
    assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
    stand.assert_within_budget(&rollout, &note);
    stand.assert_drained(SimOptions::default().drain_for, &note);
    stand.assert_only("2", desired, &note).await;
}

#[tokio::test(start_paused = true)]
async fn every_strategy_replaces_every_size_within_its_budget() {
    for switch in switches() {
        for desired in 1..=12 {
            for (index, strategy) in strategies(desired).into_iter().enumerate() {
                check(switch, desired, index, strategy).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_time_of_ones_own_is_kept() {
    for switch in switches() {
        for strategy in strategies(3) {
            let stand = Stand::serving(switch, 3).await;
            let rollout = stand.start("2", strategy.drain_time(minutes(2))).await;
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            stand.assert_drained(minutes(2), "two minutes");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_install_opens_the_route_when_all_are_proven() {
    for switch in switches() {
        for strategy in strategies(3) {
            let stand = Stand::on(switch);
            let rollout = stand.engine.start(stand.spec("1", strategy).desired(3)).await.unwrap();
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            assert!(stand.cloud.peak_instances() <= 3);
            stand.assert_only("1", 3, "first install").await;
        }
    }
}
