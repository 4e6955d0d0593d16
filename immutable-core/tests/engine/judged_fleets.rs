//! What others do to the fleets of a canary that is judged beside a baseline.

use std::time::Duration;

use immutable_core::analysis::{Analysis, Compared};
use immutable_core::engine::{Event, Outcome, Rollout};
use immutable_core::model::{FleetId, Weight};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::{OpContext, SwitchKind};
use immutable_core::testkit::{Behaviour, SimOptions};

use super::harness::{Stand, events, outcome, service, switches, until, until_event, until_waiting};

pub(crate) fn analysis() -> Analysis {
    Analysis::of([Compared::new("errors".parse().unwrap())]).minimum_instances(1)
}

/// A canary of one instance beside four old ones, or in the place of one of five.
fn canary(switch: SwitchKind) -> Strategy {
    let points = if switch == SwitchKind::Membership { 2_000 } else { 1_000 };
    let step = StageSpec::new("one", Weight::basis_points(points).unwrap()).size(Amount::Count(1));
    Strategy::canary([step]).analysis(analysis())
}

fn live(stand: &Stand, fleet: &FleetId) -> usize {
    stand.cloud.instances().iter().filter(|instance| instance.fleet == *fleet).count()
}

async fn resizes(rollout: &Rollout) -> Vec<(FleetId, u32)> {
    let resize = |event| if let Event::Resized { fleet, desired, .. } = event { Some((fleet, desired)) } else { None };
    events(rollout).await.into_iter().filter_map(resize).collect()
}

#[tokio::test(start_paused = true)]
async fn a_baseline_grows_with_the_canary_that_somebody_else_scales() {
    for switch in switches() {
        let stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", canary(switch)).await;
        let (canary, baseline) = (stand.fleet("2"), rollout.plan().baseline.clone().unwrap());
        until_waiting(&rollout, "errors: ").await;
        stand.cloud.scale(&canary, 2);
        until("as large", &rollout, || live(&stand, &baseline) == 2).await;
        assert_eq!(live(&stand, &canary), 2, "{switch:?}");
        assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{switch:?}");
        assert_eq!(resizes(&rollout).await, [(canary, 4)], "{switch:?}");
        stand.assert_within_budget(&rollout, "grown");
        stand.assert_drained(SimOptions::default().drain_for, "grown");
        stand.assert_only("2", 4, "grown").await;
    }
}

/// An autoscaler that keeps two instances of whatever there is, zone by zone.
#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_wants_more_of_a_baseline_is_not_fought() {
    for switch in switches() {
        let stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", canary(switch)).await;
        let (canary, baseline) = (stand.fleet("2"), rollout.plan().baseline.clone().unwrap());
        until_waiting(&rollout, "errors: ").await;
        let mut corrections = 0;
        while rollout.status().outcome.is_none() {
            let context = OpContext::standalone("test");
            let state = stand.cloud.platform().fleets.observe(&context, &service()).await.unwrap();
            let wanted = state.fleets.iter().find(|fleet| fleet.id == baseline).and_then(|fleet| fleet.wanted);
            if wanted == Some(1) {
                stand.cloud.scale(&baseline, 2);
                corrections += 1;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
            if switch != SwitchKind::Membership && live(&stand, &baseline) == 2 {
                until("as large", &rollout, || live(&stand, &canary) >= 2).await;
            }
        }
        assert_eq!((outcome(&rollout).await, corrections), (Outcome::Promoted, 1), "{switch:?}");
        assert_eq!(resizes(&rollout).await, [(baseline, 4)], "{switch:?}");
        stand.assert_within_budget(&rollout, "followed");
        stand.assert_only("2", 4, "followed").await;
    }
}

/// On a switch that can do just as many fleets as one rollout needs: what was superseded leaves before anything new comes in, also
/// where somebody skips the stages.
#[tokio::test(start_paused = true)]
async fn superseding_never_asks_for_more_fleets_with_traffic_than_the_switch_can_do() {
    let judged = || Strategy::canary([StageSpec::percent(30).unwrap()]).analysis(analysis());
    let plain = |percent| Strategy::canary([StageSpec::percent(percent).unwrap()]);
    // A canary on a switch by membership has the share that its members make.
    let (weighted, both) = (&switches()[..1], &switches()[..]);
    let cases = [
        (3, judged(), judged(), weighted),
        (3, judged(), Strategy::rolling(), weighted),
        (2, plain(30), plain(50), weighted),
        (2, Strategy::rolling(), Strategy::rolling(), both),
        (2, Strategy::rolling(), Strategy::blue_green(), both),
    ];
    for (max_fleets, second, third, switches) in cases {
        for (switch, count) in switches.iter().flat_map(|switch| [1, 4, 6, 8, 11].map(|count| (*switch, count))) {
            let note = format!("{max_fleets} of {switch:?}: {third:?} for {second:?} after {count} events");
            let stand = Stand::with(SimOptions { switch, max_fleets: Some(max_fleets), ..SimOptions::default() });
            stand.install(10).await;
            let before = stand.start("2", second.clone()).await;
            if !until_event(&before, count).await || before.status().outcome.is_some() {
                break;
            }
            let rollout = stand.engine.supersede(stand.spec("3", third.clone())).await.unwrap();
            if count % 2 == 0 {
                rollout.promote().await.unwrap();
            }
            assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}\n{}", stand.cloud.log().join("\n"));
            assert!(stand.cloud.least_serving().unwrap() >= 10, "{note}");
            stand.assert_only("3", 10, &note).await;
        }
    }
}

/// The old release was replaced long ago, and does not come up any more.
#[tokio::test(start_paused = true)]
async fn a_broken_old_release_does_not_hold_up_who_comes_where_there_is_no_room() {
    let stand = Stand::with(SimOptions { max_fleets: Some(2), ..SimOptions::default() });
    stand.install(3).await;
    let second = stand.start("2", Strategy::rolling().bake(Duration::from_hours(2))).await;
    until("all of the traffic", &second, || stand.cloud.split().weight(&stand.fleet("2")) == Weight::FULL).await;
    stand.cloud.behave(stand.id("1"), Behaviour::NeverHealthy);
    let third = stand.engine.supersede(stand.spec("3", Strategy::rolling())).await.unwrap();
    assert_eq!(third.plan().stages[0].name, "make way");
    assert_eq!(outcome(&third).await, Outcome::Promoted);
    stand.assert_only("3", 3, "the fix").await;
}
