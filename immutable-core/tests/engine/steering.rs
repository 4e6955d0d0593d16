//! Pause, resume, approve, promote, abort: at any moment.

use std::time::Duration;

use immutable_core::engine::{Event, Outcome, Reason};
use immutable_core::model::ApprovalName;
use immutable_core::plan::{StageSpec, Strategy};
use immutable_core::testkit::Behaviour;

use super::harness::{Stand, events, minutes, outcome, strategies, switches, until, until_event, until_waiting};

fn half() -> ApprovalName {
    "half".parse().unwrap()
}

fn asked() -> Reason {
    Reason::Asked { note: "enough".into() }
}

#[tokio::test(start_paused = true)]
async fn an_abort_after_any_event_leaves_the_old_fleet_as_before() {
    for switch in switches() {
        for (index, strategy) in strategies(3).into_iter().enumerate() {
            for count in 1.. {
                let note = format!("strategy {index}, {switch:?}, after {count} events");
                let stand = Stand::serving(switch, 3).await;
                let rollout = stand.start("2", strategy.clone()).await;
                if !until_event(&rollout, count).await {
                    break;
                }
                rollout.abort("enough").await.unwrap();
                let outcome = outcome(&rollout).await;
                if outcome != Outcome::Promoted {
                    assert_eq!(outcome, Outcome::RolledBack { to: stand.id("1"), reason: asked() }, "{note}");
                    stand.assert_only("1", 3, &note).await;
                }
                stand.assert_within_budget(&rollout, &note);
                stand.assert_drained(Duration::from_secs(10), &note);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_of_a_first_install_leaves_nothing() {
    for switch in switches() {
        for count in 1.. {
            let stand = Stand::on(switch);
            let spec = stand.spec("1", Strategy::blue_green().approval_before_traffic(half())).desired(3);
            let rollout = stand.engine.start(spec).await.unwrap();
            rollout.approve(half()).await.unwrap();
            if !until_event(&rollout, count).await {
                break;
            }
            rollout.abort("enough").await.unwrap();
            let outcome = outcome(&rollout).await;
            if outcome != Outcome::Promoted {
                assert_eq!(outcome, Outcome::Aborted { reason: asked() });
                stand.assert_nothing(&format!("{switch:?}, after {count} events")).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_after_the_old_fleet_went_starts_its_image_anew() {
    for switch in switches() {
        let stand = Stand::serving(switch, 3).await;
        let old = stand.ids("1");
        let rollout = stand.start("2", Strategy::rolling().bake(minutes(60))).await;
        until_waiting(&rollout, "hold").await;
        assert!(stand.instances("1").is_empty());
        rollout.abort("enough").await.unwrap();
        assert_eq!(outcome(&rollout).await, Outcome::RolledBack { to: stand.id("1"), reason: asked() });
        stand.assert_within_budget(&rollout, "back");
        stand.assert_only("1", 3, "back").await;
        assert!(stand.ids("1").iter().all(|id| !old.contains(id)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_after_any_event_stops_everything_and_burns_no_deadline() {
    for switch in switches() {
        for (index, strategy) in strategies(3).into_iter().enumerate() {
            for count in 1.. {
                let note = format!("strategy {index}, {switch:?}, after {count} events");
                let stand = Stand::serving(switch, 3).await;
                let rollout = stand.start("2", strategy.clone()).await;
                if !until_event(&rollout, count).await {
                    break;
                }
                rollout.pause().await.unwrap();
                rollout.pause().await.unwrap();
                if rollout.status().outcome.is_some() {
                    continue;
                }
                assert!(rollout.status().paused, "{note}");
                let (log, entries) = (stand.cloud.log(), stand.entries().await);
                tokio::time::sleep(minutes(12)).await;
                assert_eq!(stand.cloud.log(), log, "{note}");
                assert_eq!(stand.entries().await, entries, "{note}");
                assert_eq!(rollout.status().waiting, ["somebody to resume the rollout"], "{note}");
                rollout.resume().await.unwrap();
                rollout.resume().await.unwrap();
                assert!(!rollout.status().paused, "{note}");
                assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
                stand.assert_within_budget(&rollout, &note);
                stand.assert_only("2", 3, &note).await;
                let pauses = events(&rollout).await.into_iter().filter(|event| matches!(event, Event::Paused { .. }));
                assert_eq!(pauses.count(), 1, "{note}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_with_an_abort() {
    let stand = Stand::serving(switches()[0], 3).await;
    let rollout = stand.start("2", Strategy::rolling()).await;
    assert!(until_event(&rollout, 4).await);
    rollout.pause().await.unwrap();
    tokio::time::sleep(minutes(30)).await;
    rollout.abort("enough").await.unwrap();
    assert!(!rollout.status().paused);
    assert_eq!(outcome(&rollout).await, Outcome::RolledBack { to: stand.id("1"), reason: asked() });
    stand.assert_only("1", 3, "back").await;
}

#[tokio::test(start_paused = true)]
async fn an_approval_counts_at_its_gate_and_before_it() {
    for early in [true, false] {
        let stand = Stand::serving(switches()[0], 2).await;
        let begun = stand.cloud.now();
        let rollout = stand.start("2", Strategy::canary([StageSpec::percent(50).unwrap().approval(half())])).await;
        if early {
            rollout.approve(half()).await.unwrap();
        } else {
            until_waiting(&rollout, "somebody to approve half").await;
            tokio::time::sleep(Duration::from_hours(48)).await;
            assert_eq!(rollout.status().stage, Some((1, "50 %".to_owned())));
            rollout.approve(half()).await.unwrap();
        }
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        let hours = stand.cloud.now().duration_since(begun).as_hours();
        assert_eq!(hours, if early { 0 } else { 48 });
        stand.assert_only("2", 2, "approved").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_bake_burns_no_deadline_and_writes_nothing() {
    for switch in switches() {
        let stand = Stand::serving(switch, 3).await;
        let begun = stand.cloud.now();
        let rollout = stand.start("2", Strategy::rolling().bake(Duration::from_hours(24))).await;
        until_waiting(&rollout, "hold").await;
        let (entries, log) = (stand.entries().await, stand.cloud.log());
        tokio::time::sleep(Duration::from_hours(23)).await;
        assert_eq!((stand.entries().await, stand.cloud.log()), (entries, log));
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        let took = stand.cloud.now().duration_since(begun);
        assert!((24 * 60..24 * 60 + 10).contains(&took.as_mins()), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn promote_skips_the_exposure_and_never_the_proof() {
    let stand = Stand::serving(switches()[0], 4).await;
    let held = StageSpec::percent(25).unwrap().hold(Duration::from_hours(24));
    let rollout = stand.start("2", Strategy::canary([held.clone(), held]).bake(Duration::from_hours(24))).await;
    until_waiting(&rollout, "hold").await;
    stand.cloud.behave(stand.id("2"), Behaviour::NeverHealthy);
    rollout.promote().await.unwrap();
    rollout.promote().await.unwrap();
    tokio::time::sleep(minutes(3)).await;
    assert!(stand.cloud.split().weight(&stand.fleet("2")).is_none());
    assert_eq!(rollout.status().outcome, None);
    stand.cloud.behave(stand.id("2"), Behaviour::Good);
    until("all of the traffic", &rollout, || stand.cloud.split().weight(&stand.fleet("2")).points() == 10_000).await;
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    assert!(stand.cloud.now().duration_since(immutable_core::testkit::VirtualClock::START).as_hours() < 1);
    stand.assert_within_budget(&rollout, "promoted");
    stand.assert_only("2", 4, "promoted").await;
}
