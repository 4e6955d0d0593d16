//! A platform that says that there are too many calls: never a failure, and a reason for all rollouts to slow down.

use std::time::Duration;

use immutable_core::engine::{Engine, Event, Hold, Outcome};
use immutable_core::model::ServiceName;
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::ErrorKind;
use immutable_core::testkit::{Behaviour, Operation};

use super::harness::{Stand, events, minutes, outcome, switches, until, until_event, until_waiting};
use super::weather::{CALLS, Outside};

fn other(stand: &Stand, name: &str, strategy: Strategy) -> RolloutSpec {
    let (service, release): (ServiceName, _) = (name.parse().unwrap(), stand.cloud.release(name));
    RolloutSpec::new(service, name.parse().unwrap(), release, strategy).desired(3)
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_throttling_takes_few_calls_and_turns_nothing_back() {
    for switch in switches() {
        for count in [1, 4, 8] {
            let outside = Outside::serving(switch, 3).await;
            let rollout = outside.start("2", Strategy::rolling()).await;
            assert!(until_event(&rollout, count).await);
            outside.weather.fail(&CALLS, ErrorKind::Throttled, None);
            let (calls, entries) = (outside.weather.calls(), outside.stand.entries().await);
            until_waiting(&rollout, "the platform to stop throttling: throttled in").await;
            tokio::time::sleep(Duration::from_hours(1)).await;
            let calls = outside.weather.calls() - calls;
            assert!((40..=90).contains(&calls), "{calls} calls in an hour");
            assert!(outside.stand.entries().await <= entries + 2);
            assert_eq!(rollout.status().going_back, None);
            outside.weather.clear();
            assert_eq!(outcome(&rollout).await, Outcome::Promoted);
            outside.stand.assert_within_budget(&rollout, "throttled");
            outside.stand.assert_only("2", 3, "throttled").await;
            let events = events(&rollout).await;
            let held = |event: &&Event| matches!(event, Event::Held { hold: Hold::Throttled { .. }, .. });
            assert_eq!(events.iter().filter(held).count(), 1, "{events:#?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_platform_tells_to_wait_is_waited() {
    let outside = Outside::serving(switches()[0], 2).await;
    let rollout = outside.start("2", Strategy::rolling().bake(minutes(60))).await;
    until_waiting(&rollout, "the hold").await;
    outside.weather.fail(&CALLS, ErrorKind::Throttled, Some(minutes(5)));
    // What is under way now is told, too.
    tokio::time::sleep(minutes(1)).await;
    let before = outside.weather.calls();
    tokio::time::sleep(minutes(30)).await;
    assert!(outside.weather.calls() - before <= 6, "{} calls", outside.weather.calls() - before);
    outside.weather.clear();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

/// How many calls are made in an hour in which all are throttled, with so many rollouts going on.
async fn calls_in_a_bad_hour(rollouts: usize) -> u64 {
    let (outside, mut baking) = (Outside::of(Stand::new()), Vec::new());
    for name in ["one", "two", "three"].into_iter().take(rollouts) {
        let strategy = Strategy::blue_green().bake(Duration::from_hours(3));
        baking.push(outside.engine.start(other(&outside.stand, name, strategy)).await.unwrap());
    }
    for rollout in &baking {
        until_waiting(rollout, "the hold").await;
    }
    let in_a_minute = async || {
        let before = outside.weather.calls();
        tokio::time::sleep(minutes(10)).await;
        (outside.weather.calls() - before) / 10
    };
    let normal = in_a_minute().await;
    outside.weather.fail(&CALLS, ErrorKind::Throttled, None);
    let before = outside.weather.calls();
    tokio::time::sleep(Duration::from_hours(1)).await;
    let calls = outside.weather.calls() - before;
    outside.weather.clear();
    tokio::time::sleep(minutes(5)).await;
    let recovered = in_a_minute().await;
    assert!(recovered + 1 >= normal && normal >= 30, "{recovered} calls a minute, {normal} before");
    for rollout in &baking {
        assert_eq!(outcome(rollout).await, Outcome::Promoted);
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn all_rollouts_of_an_engine_slow_down_together_and_come_back_to_full_speed() {
    let (one, three) = (calls_in_a_bad_hour(1).await, calls_in_a_bad_hour(3).await);
    assert!(one <= 90 && three <= 120, "{one} calls for one rollout, {three} for three");
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_until_the_platform_no_longer_throttles() {
    let outside = Outside::serving(switches()[0], 2).await;
    outside.weather.fail(&[Operation::ObserveFleets], ErrorKind::Throttled, None);
    let spec = outside.stand.spec("2", Strategy::rolling());
    let start = async |engine: &Engine| outcome(&engine.start(spec.clone()).await.unwrap()).await;
    let clears = async {
        tokio::time::sleep(minutes(20)).await;
        outside.weather.clear();
    };
    let (outcome, ()) = tokio::join!(start(&outside.engine), clears);
    assert_eq!(outcome, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_way_back_is_held_while_the_platform_throttles() {
    let outside = Outside::serving(switches()[0], 3).await;
    let rollout = outside.start("2", Strategy::rolling().bake(minutes(60))).await;
    until_waiting(&rollout, "the hold").await;
    outside.weather.fail(&CALLS, ErrorKind::Throttled, None);
    rollout.abort("enough").await.unwrap();
    until_waiting(&rollout, "the platform to stop throttling").await;
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert_eq!(rollout.status().outcome, None);
    outside.weather.clear();
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }));
    outside.stand.assert_only("1", 3, "back").await;
}

/// The looks were throttled when the last one was made, and then nobody was left to look at.
#[tokio::test(start_paused = true)]
async fn a_hold_does_not_outlive_what_was_throttled() {
    let outside = Outside::serving(switches()[0], 1).await;
    outside.stand.cloud.behave(outside.stand.id("2"), Behaviour::NeverBoots);
    outside.weather.fail(&[Operation::SampleHealth], ErrorKind::Throttled, None);
    let rollout = outside.start("2", Strategy::rolling()).await;
    until_waiting(&rollout, "stop throttling").await;
    assert!(outside.stand.cloud.kill(&outside.stand.ids("1")[0]));
    tokio::time::sleep(minutes(2)).await;
    outside.weather.clear();
    let end = outcome(&rollout).await;
    assert!(!matches!(end, Outcome::Promoted), "{end}");
}

/// The looks at the new release are throttled now and then, for longer than a look counts, in a bake that takes an hour.
#[tokio::test(start_paused = true)]
async fn looks_that_are_missing_interrupt_a_hold_and_do_not_begin_it_anew() {
    let outside = Outside::serving(switches()[0], 3).await;
    let begun = outside.stand.cloud.now();
    let rollout = outside.start("2", Strategy::blue_green().bake(minutes(60))).await;
    until_waiting(&rollout, "the hold").await;
    for _ in 0..12 {
        tokio::time::sleep(minutes(9)).await;
        outside.weather.fail(&[Operation::SampleHealth], ErrorKind::Throttled, None);
        tokio::time::sleep(minutes(2)).await;
        outside.weather.clear();
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    let events = events(&rollout).await;
    let lost = events.iter().filter(|event| matches!(event, Event::GoalLost { .. })).count();
    assert!((5..8).contains(&lost), "{lost}");
    let Some(Event::Ended { at, .. }) = events.last() else { panic!("{events:?}") };
    let took = at.duration_since(begun).as_mins();
    // The time in which nobody could look does not count.
    assert!((70..90).contains(&took), "{took} minutes");
}

#[tokio::test(start_paused = true)]
async fn a_short_throttling_is_not_worth_an_entry() {
    let outside = Outside::serving(switches()[0], 2).await;
    let rollout = outside.start("2", Strategy::rolling()).await;
    until("begun", &rollout, || !outside.stand.ids("2").is_empty()).await;
    outside.weather.fail(&[Operation::ObserveFleets], ErrorKind::Throttled, None);
    tokio::time::sleep(Duration::from_secs(20)).await;
    outside.weather.clear();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    assert!(!events(&rollout).await.iter().any(|event| matches!(event, Event::Held { .. })));
}
