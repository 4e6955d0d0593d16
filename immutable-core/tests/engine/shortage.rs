//! No capacity for more instances: a hold with its reason, and nothing healthy is given up for it.

use std::time::Duration;

use immutable_core::engine::{Event, Hold, Outcome, Reason};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::ErrorKind;
use immutable_core::testkit::Operation;

use super::harness::{events, minutes, outcome, strategies, switches, until, until_waiting};
use super::weather::Outside;

const GROWTH: [Operation; 1] = [Operation::EnsureFleet];

#[tokio::test(start_paused = true)]
async fn a_shortage_of_hours_is_held_and_told_and_nothing_healthy_goes_meanwhile() {
    for (kind, words) in [(ErrorKind::Capacity, "no capacity"), (ErrorKind::Quota, "quota reached")] {
        for switch in switches() {
            for (index, strategy) in strategies(4).into_iter().enumerate() {
                let note = format!("{kind:?}, strategy {index}, {switch:?}");
                let outside = Outside::serving(switch, 4).await;
                outside.weather.fail(&GROWTH, kind, None);
                let rollout = outside.start("2", strategy).await;
                until_waiting(&rollout, &format!("{words} in ensure fleet: bad weather; free some")).await;
                // What was begun before anybody could know of the shortage comes to its end.
                tokio::time::sleep(minutes(2)).await;
                let (log, entries) = (outside.stand.cloud.log(), outside.stand.entries().await);
                let (serving, tries) = (outside.stand.cloud.serving(), outside.weather.calls_of(GROWTH[0]));
                tokio::time::sleep(Duration::from_hours(5)).await;
                assert_eq!(outside.stand.cloud.log(), log, "{note}");
                assert_eq!(outside.stand.cloud.serving(), serving, "{note}");
                assert!(outside.stand.entries().await <= entries + 1, "{note}");
                let tries = outside.weather.calls_of(GROWTH[0]) - tries;
                assert!((200..=700).contains(&tries), "{note}: {tries} tries in five hours");
                outside.weather.clear();
                assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
                outside.stand.assert_within_budget(&rollout, &note);
                outside.stand.assert_only("2", 4, &note).await;
                let events = events(&rollout).await;
                let held = |event: &&Event| matches!(event, Event::Held { hold: Hold::Shortage { .. }, .. });
                assert_eq!(events.iter().filter(held).count(), 1, "{note}: {events:#?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn half_of_a_fleet_is_not_given_up_for_instances_that_cannot_be_started() {
    for (switch, early) in switches().into_iter().flat_map(|switch| [(switch, true), (switch, false)]) {
        let outside = Outside::serving(switch, 8).await;
        let half = Strategy::rolling().max_surge(Amount::Count(1)).max_unavailable(Amount::Percent(50));
        if early {
            outside.weather.fail(&GROWTH, ErrorKind::Capacity, None);
        }
        let rollout = outside.start("2", half).await;
        until("begun", &rollout, || early || !outside.stand.ids("2").is_empty()).await;
        outside.weather.fail(&GROWTH, ErrorKind::Capacity, None);
        until_waiting(&rollout, "no capacity").await;
        // Those that were started before become ready meanwhile, and what was drained is still there.
        let good = || outside.stand.cloud.instances().iter().filter(|instance| instance.is_good).count();
        let (mut serving, mut healthy) = (outside.stand.cloud.serving(), good());
        for _ in 0..360 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let log = || outside.stand.cloud.log().join("\n");
            assert!(outside.stand.cloud.serving() >= serving, "{switch:?}: {}", log());
            assert!(good() >= healthy, "{switch:?}: {}", log());
            (serving, healthy) = (outside.stand.cloud.serving(), good());
        }
        outside.weather.clear();
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        outside.stand.assert_only("2", 8, "half").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_in_the_journal_and_its_time_counts_after_a_restart() {
    let mut outside = Outside::serving(switches()[0], 3).await;
    outside.weather.fail(&GROWTH, ErrorKind::Capacity, None);
    let strategy = || Strategy::rolling().progress_deadline(minutes(30));
    let rollout = outside.start("2", strategy()).await;
    until_waiting(&rollout, "no capacity").await;
    for _ in 0..3 {
        tokio::time::sleep(minutes(40)).await;
        outside.restart();
        tokio::time::sleep(minutes(40)).await;
        let next = outside.start("2", strategy()).await;
        assert_eq!(next.id(), rollout.id());
        until_waiting(&next, "no capacity").await;
    }
    outside.weather.clear();
    let last = outside.start("2", strategy()).await;
    assert_eq!(outcome(&last).await, Outcome::Promoted);
    let events = events(&last).await;
    let ends = events.iter().filter_map(|event| match event {
        Event::WentOn { at, deadline } => Some(deadline.duration_since(*at).as_mins()),
        _ => None,
    });
    // As much is left as before: only the first seconds were burnt.
    assert_eq!(ends.collect::<Vec<_>>(), [29]);
}

#[tokio::test(start_paused = true)]
async fn somebody_may_abort_during_a_shortage() {
    let outside = Outside::serving(switches()[0], 3).await;
    outside.weather.fail(&GROWTH, ErrorKind::Quota, None);
    let rollout = outside.start("2", Strategy::rolling()).await;
    until_waiting(&rollout, "quota reached").await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    rollout.abort("enough").await.unwrap();
    let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(matches!(reason, Reason::Asked { .. }), "{reason}");
    outside.stand.assert_only("1", 3, "aborted").await;
}

#[tokio::test(start_paused = true)]
async fn a_way_back_without_capacity_is_held_and_what_serves_is_kept() {
    for switch in switches() {
        let outside = Outside::serving(switch, 3).await;
        let baking = outside.start("2", Strategy::rolling().bake(Duration::from_hours(9))).await;
        until_waiting(&baking, "the hold").await;
        assert!(outside.stand.ids("1").is_empty());
        outside.weather.fail(&GROWTH, ErrorKind::Capacity, None);
        baking.abort("enough").await.unwrap();
        until_waiting(&baking, "no capacity").await;
        outside.stand.cloud.watch();
        tokio::time::sleep(Duration::from_hours(5)).await;
        assert_eq!((outside.stand.cloud.least_serving(), baking.status().outcome), (Some(3), None));
        outside.weather.clear();
        assert!(matches!(outcome(&baking).await, Outcome::RolledBack { .. }));
        outside.stand.assert_only("1", 3, "back").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shortage_that_no_longer_matters_is_over() {
    let outside = Outside::serving(switches()[0], 4).await;
    let one = StageSpec::percent(25).unwrap().hold(minutes(30));
    let rollout = outside.start("2", Strategy::canary([one])).await;
    until_waiting(&rollout, "the hold").await;
    outside.weather.fail(&GROWTH, ErrorKind::Capacity, None);
    // The new fleet loses its only instance, and cannot have another.
    assert!(outside.stand.cloud.kill(&outside.stand.ids("2")[0]));
    until_waiting(&rollout, "no capacity").await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!((rollout.status().going_back, outside.weight("1").points()), (None, 10_000));
    rollout.abort("enough").await.unwrap();
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }));
}
