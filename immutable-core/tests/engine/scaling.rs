//! Somebody else, such as an autoscaler, who changes the size of a fleet in the middle of a rollout.

use std::time::Duration;

use immutable_core::engine::{Event, Outcome, Rollout};
use immutable_core::model::{FleetId, Weight};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::OpContext;
use immutable_core::testkit::Faults;

use super::harness::{Stand, events, minutes, outcome, service, strategies, switches, until, until_waiting};

async fn wanted(stand: &Stand, fleet: &FleetId) -> u32 {
    let state = stand.cloud.platform().fleets.observe(&OpContext::standalone("test"), &service()).await.unwrap();
    state.fleets.into_iter().find(|observed| observed.id == *fleet).and_then(|fleet| fleet.wanted).unwrap_or(0)
}

/// What an autoscaler does every half minute: a fleet whose share of the load needs more instances gets them. Says how often it had
/// to do something until the rollout ended.
async fn autoscaled(stand: &Stand, rollout: &Rollout, load: u32) -> (Outcome, u32) {
    let ended = outcome(rollout);
    tokio::pin!(ended);
    let mut corrections = 0;
    loop {
        tokio::select! {
            ended = &mut ended => return (ended, corrections),
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
        }
        for (fleet, weight) in stand.cloud.split().iter() {
            let needed = (load * u32::from(weight.points())).div_ceil(u32::from(Weight::FULL.points()));
            if wanted(stand, fleet).await < needed {
                stand.cloud.scale(fleet, needed);
                corrections += 1;
            }
        }
    }
}

fn resizes(events: &[Event]) -> Vec<u32> {
    let desired = |event: &Event| if let Event::Resized { desired, .. } = event { Some(*desired) } else { None };
    events.iter().filter_map(desired).collect()
}

/// A driver that begins takes all sizes as they are, for as long as lists may lag.
async fn once_sizes_are_known() {
    tokio::time::sleep(Duration::from_secs(15)).await;
}

/// How many instances were ever started.
fn started(stand: &Stand) -> usize {
    let log = stand.cloud.log();
    let names = log.iter().filter_map(|line| line.split_once("started ")?.1.split(", ended").next().map(String::from));
    names
        .flat_map(|names| names.split(", ").map(String::from).collect::<Vec<_>>())
        .filter(|name| name != "none")
        .count()
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_makes_the_service_larger_in_mid_rollout_is_followed_without_oscillation() {
    for (load, switch) in [5, 6, 8].into_iter().flat_map(|load| switches().map(|switch| (load, switch))) {
        for strategy in strategies(4) {
            let stand = Stand::serving(switch, 4).await;
            let rollout = stand.start("2", strategy.clone()).await;
            let (ended, corrections) = autoscaled(&stand, &rollout, load).await;
            let resized = resizes(&events(&rollout).await);
            let (started, size) = (started(&stand), stand.instances("2").len());
            let note = format!(
                "load {load}, {switch:?} {strategy:?}: {resized:?}, {corrections} corrections, {started} started\n{}",
                stand.cloud.log().join("\n")
            );
            assert_eq!(ended, Outcome::Promoted, "{note}");
            assert!((load as usize..=load as usize + 2).contains(&size), "{size} {note}");
            // Where the budget lets instances be missing that the autoscaler wants, it says so once for each that is replaced.
            let missing = if rollout.plan().budget.max_unavailable > 0 { load } else { 0 };
            assert!(corrections <= 3 + missing, "{note}");
            // Those of before, those that the load needs of either release, and no others that come and go.
            assert!(started <= 2 * (load as usize + 2) + missing as usize, "{note}");
            stand.assert_only("2", u32::try_from(size).unwrap(), &note).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_makes_the_service_smaller_before_traffic_moves_is_followed() {
    for switch in switches() {
        for strategy in strategies(4) {
            let stand = Stand::serving(switch, 4).await;
            let (old, log) = (stand.fleet("1"), stand.cloud.log().len());
            let rollout = stand.start("2", strategy.clone()).await;
            once_sizes_are_known().await;
            stand.cloud.scale(&old, 3);
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            let size = stand.instances("2").len();
            let log = stand.cloud.log().split_off(log);
            let note = format!("{switch:?} {strategy:?}: {size}\n{}", log.join("\n"));
            assert!((3..=4).contains(&size), "{note}");
            assert!(!log.iter().any(|line| line.contains(&format!("ensure fleet {old}"))), "grown against it: {note}");
            stand.assert_only("2", u32::try_from(size).unwrap(), &note).await;
        }
    }
}

fn half() -> Strategy {
    let half = Weight::percent(50).unwrap();
    Strategy::stages("half", [StageSpec::new("half", half).size(Amount::Percent(100)).hold(minutes(30))])
        .max_surge(Amount::Percent(100))
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_shrinks_because_its_traffic_went_to_the_other_makes_the_service_no_smaller() {
    for switch in switches() {
        for abort in [false, true] {
            let stand = Stand::serving(switch, 4).await;
            let rollout = stand.start("2", half()).await;
            until_waiting(&rollout, "hold").await;
            stand.cloud.scale(&stand.fleet("1"), 2);
            until("followed", &rollout, || rollout.status().waiting.iter().all(|waiting| !waiting.contains("scale")))
                .await;
            tokio::time::sleep(minutes(1)).await;
            if abort {
                rollout.abort("test").await.unwrap();
            }
            let ended = outcome(&rollout).await;
            let winner = if abort { "1" } else { "2" };
            assert_eq!(abort, matches!(ended, Outcome::RolledBack { .. }), "{ended}");
            assert_eq!(resizes(&events(&rollout).await), [4], "{switch:?}");
            stand.assert_only(winner, 4, &format!("{switch:?} {abort}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_autoscaler_made_of_the_service_is_in_the_journal_and_holds_on_the_way_back() {
    for switch in switches() {
        let mut stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", half()).await;
        once_sizes_are_known().await;
        stand.cloud.scale(&stand.fleet("1"), 6);
        until_waiting(&rollout, "hold").await;
        stand.restart();
        let rollout = stand.engine.recover(&service()).await.unwrap().unwrap();
        tokio::time::sleep(minutes(10)).await;
        assert_eq!(stand.instances("2").len(), 6, "{switch:?}");
        rollout.abort("test").await.unwrap();
        assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }), "{switch:?}");
        assert_eq!(resizes(&events(&rollout).await), [6], "{switch:?}");
        stand.assert_only("1", 6, &format!("{switch:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_rollout_does_itself_is_never_taken_for_an_autoscaler() {
    for switch in switches() {
        for strategy in strategies(4) {
            for abort in [false, true] {
                let faults = Faults {
                    lagging: 500,
                    lag_by: Duration::from_secs(8),
                    partial: 500,
                    lost: 100,
                    doubled: 200,
                    dies: 100,
                    lifetime: minutes(5),
                    ..Faults::default()
                };
                let stand = Stand::serving(switch, 4).await;
                stand.cloud.set_faults(faults);
                let rollout = stand.start("2", strategy.clone()).await;
                if abort {
                    until("routed", &rollout, || !stand.was_never_routed("2")).await;
                    rollout.abort("test").await.unwrap();
                }
                outcome(&rollout).await;
                assert_eq!(resizes(&events(&rollout).await), [] as [u32; 0], "{switch:?} {strategy:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_fleet_that_shrinks_for_want_of_traffic_is_proven_whole_all_the_same() {
    for switch in switches() {
        let stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", Strategy::blue_green()).await;
        once_sizes_are_known().await;
        stand.cloud.scale(&stand.fleet("2"), 1);
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_only("2", 4, &format!("{switch:?}")).await;
        stand.assert_within_budget(&rollout, &format!("{switch:?}"));
    }
}
