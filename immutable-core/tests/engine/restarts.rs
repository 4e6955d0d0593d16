//! Drivers that stop in the middle, the journal that they leave, and the events that tell of it.

use std::time::Duration;

use futures_util::StreamExt;
use immutable_core::decide::{FleetView, InstanceView, Phase, World};
use immutable_core::engine::{DriverError, Event, Machine, Outcome};
use immutable_core::model::Split;
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::{Assignment, OpContext};
use immutable_core::testkit::{Behaviour, SimOptions};

use super::harness::{
    Stand, events, minutes, outcome, service, strategies, switches, until, until_event, until_waiting,
};

#[tokio::test(start_paused = true)]
async fn a_driver_that_stops_after_any_event_is_followed_by_another() {
    for switch in switches() {
        for (index, strategy) in strategies(3).into_iter().enumerate() {
            for (count, pause) in (1..).map(|count| (count, minutes(u64::from(count % 2 == 0) * 15))) {
                let note = format!("strategy {index}, {switch:?}, after {count} events");
                let mut stand = Stand::serving(switch, 3).await;
                let rollout = stand.start("2", strategy.clone()).await;
                if !until_event(&rollout, count).await || rollout.status().outcome.is_some() {
                    break;
                }
                stand.restart();
                assert!(matches!(rollout.wait().await, Err(DriverError::Dropped)), "{note}");
                assert!(matches!(rollout.pause().await, Err(DriverError::Dropped)), "{note}");
                assert!(events(&rollout).await.len() >= count, "{note}");
                // Now and then nobody drives for longer than the progress deadline.
                tokio::time::sleep(pause).await;
                let next = stand.start("2", strategy.clone()).await;
                assert_eq!(next.id(), rollout.id(), "{note}");
                let outcome = outcome(&next).await;
                assert_eq!(outcome, Outcome::Promoted, "{note}\n{}", stand.cloud.log().join("\n"));
                stand.assert_within_budget(&rollout, &note);
                stand.assert_drained(Duration::from_secs(10), &note);
                stand.assert_only("2", 3, &note).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_way_back_goes_on_after_a_restart() {
    for count in 1..8 {
        let mut stand = Stand::serving(switches()[0], 3).await;
        let rollout = stand.start("2", Strategy::rolling().bake(minutes(30))).await;
        until_waiting(&rollout, "hold").await;
        let before = events_so_far(&rollout).await.len();
        rollout.abort("enough").await.unwrap();
        assert!(until_event(&rollout, before + count).await);
        stand.restart();
        let next = stand.start("2", Strategy::rolling()).await;
        assert!(matches!(outcome(&next).await, Outcome::RolledBack { .. }));
        stand.assert_only("1", 3, "back").await;
    }
}

async fn events_so_far(rollout: &immutable_core::engine::Rollout) -> Vec<Event> {
    let mut all = Vec::new();
    let mut events = rollout.events();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(1), events.next()).await {
        all.push(event);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn every_subscriber_gets_every_event_in_order() {
    let stand = Stand::serving(switches()[0], 3).await;
    let rollout = stand.start("2", Strategy::rolling()).await;
    let slow = async {
        let (mut events, mut all) = (rollout.events(), Vec::new());
        while let Some(event) = events.next().await {
            all.push(event);
            tokio::time::sleep(minutes(1)).await;
        }
        all
    };
    let (quick, slow) = tokio::join!(events(&rollout), slow);
    let late = events(&rollout).await;
    assert_eq!(quick, slow);
    assert_eq!(quick, late);
    assert_eq!(quick, stand.engine.history(&super::harness::service()).await.unwrap().last_rollout());
    assert!(matches!((quick.first(), quick.last()), (Some(Event::Started { .. }), Some(Event::Ended { .. }))));
}

#[tokio::test(start_paused = true)]
async fn every_event_survives_its_text() {
    let stand = Stand::serving(switches()[0], 3).await;
    let held = StageSpec::percent(50).unwrap().approval("half".parse().unwrap()).hold(minutes(5));
    let rollout = stand.start("2", Strategy::canary([held]).bake(minutes(30))).await;
    until_waiting(&rollout, "approve").await;
    stand.cloud.kill(&stand.ids("2")[0]);
    tokio::time::sleep(minutes(10)).await;
    rollout.pause().await.unwrap();
    rollout.resume().await.unwrap();
    rollout.approve("half".parse().unwrap()).await.unwrap();
    rollout.promote().await.unwrap();
    until_waiting(&rollout, "to start").await;
    rollout.abort("enough").await.unwrap();
    outcome(&rollout).await;
    let events = events(&rollout).await;
    let mut kinds = std::collections::BTreeSet::new();
    for event in &events {
        let value = serde_json::to_value(event).unwrap();
        kinds.insert(value["event"].as_str().unwrap().to_owned());
        assert_eq!(&serde_json::from_value::<Event>(value).unwrap(), event);
    }
    // All but the one that it takes a stopped driver to see.
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

/// Worlds from nothing at all to the end, whatever the plan is.
fn worlds(stand: &Stand) -> Vec<World> {
    let instance = |version: &str, number: usize, phase| InstanceView {
        id: format!("{version}-{number}").parse().unwrap(),
        phase,
        replace: false,
        dead: false,
        endpoint: Some("host:80".parse().unwrap()),
    };
    let fleet = |version: &str, size: usize, phase| FleetView {
        id: stand.fleet(version),
        instances: (0..size).map(|number| instance(version, number, phase)).collect(),
        hold_growth: false,
    };
    let world = |fleets, split| World { as_of: stand.cloud.now(), fleets, split, version: "1".parse().unwrap() };
    let all = |version: &str| Split::all_to(stand.fleet(version));
    vec![
        world(vec![], Split::closed()),
        world(vec![fleet("1", 3, Phase::Serving)], all("1")),
        world(vec![fleet("1", 3, Phase::Serving), fleet("2", 3, Phase::Proven)], all("1")),
        world(vec![fleet("1", 3, Phase::Serving), fleet("2", 3, Phase::Serving)], all("2")),
        world(vec![fleet("1", 3, Phase::Drained), fleet("2", 3, Phase::Serving)], all("2")),
        world(vec![fleet("2", 3, Phase::Serving)], all("2")),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_events_alone_say_where_a_rollout_stands() {
    for abort in [false, true] {
        for strategy in strategies(3) {
            let stand = Stand::serving(switches()[0], 3).await;
            let rollout = stand.start("2", strategy.bake(minutes(1))).await;
            assert!(until_event(&rollout, 5).await);
            if abort {
                rollout.abort("enough").await.unwrap();
            }
            outcome(&rollout).await;
            let (events, worlds) = (events(&rollout).await, worlds(&stand));
            let mut live = Machine::replay(events[..1].to_vec()).unwrap();
            for count in 1..=events.len() {
                // Asking changes nothing, however often it is done on the way.
                let replayed = Machine::replay(events[..count].to_vec()).unwrap();
                for world in &worlds {
                    let now = stand.cloud.now();
                    assert_eq!(live.next(now, world, &[]), replayed.next(now, world, &[]));
                }
                assert_eq!((live.outcome(), live.stage()), (replayed.outcome(), replayed.stage()));
                if let Some(event) = events.get(count) {
                    live.apply(event);
                }
            }
            assert_eq!(live.outcome(), Some(&outcome(&rollout).await));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_writes_a_few_entries_for_each_step() {
    let stand = Stand::serving(switches()[0], 20).await;
    let before = stand.entries().await;
    let strategy = Strategy::rolling().max_surge(Amount::Count(5));
    assert_eq!(stand.run(stand.spec("2", strategy)).await, Outcome::Promoted);
    // Four steps: start, register, shift, drain, end, and once in a while progress; then start, remove and the end.
    let entries = stand.entries().await - before;
    assert!(entries <= 4 * 8 + 4, "{entries} entries");
}

#[tokio::test(start_paused = true)]
async fn nobody_can_follow_more_than_what_is_in_the_journal() {
    let stand = Stand::with(SimOptions { boot: minutes(3), ..SimOptions::default() });
    let rollout = stand.engine.start(stand.spec("1", Strategy::blue_green()).desired(5)).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    assert!(events(&rollout).await.len() < 12);
}

#[tokio::test(start_paused = true)]
async fn whoever_empties_the_route_costs_no_instance() {
    for switch in switches() {
        for (index, strategy) in strategies(3).into_iter().enumerate() {
            for restarts in [false, true] {
                let note = format!("strategy {index}, {switch:?}, a new driver: {restarts}");
                let mut stand = Stand::serving(switch, 3).await;
                stand.cloud.behave(stand.id("2"), Behaviour::NeverHealthy);
                let strategy = strategy.clone().progress_deadline(minutes(20));
                let rollout = stand.start("2", strategy).await;
                until("started", &rollout, || !stand.ids("2").is_empty()).await;
                let old = stand.ids("1");
                let needed = old.len().min(rollout.plan().budget.required());
                if restarts {
                    stand.restart();
                }
                // As a proxy that is started anew does, or a person.
                let (platform, route) = (stand.cloud.platform(), "route".parse().unwrap());
                let cx = OpContext::standalone("test");
                let version = platform.traffic.observe(&cx, &route).await.unwrap().version;
                let closed = Assignment { split: Split::closed(), members: Vec::new() };
                platform.traffic.apply(&cx, &route, &closed, &version).await.unwrap();
                assert_eq!(stand.cloud.serving(), 0, "{note}");
                let rollout = stand.engine.recover(&service()).await.unwrap().unwrap();
                until("serving", &rollout, || stand.cloud.serving() >= needed).await;
                assert_eq!(rollout.status().going_back, None, "{note}");
                assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }), "{note}");
                let now = stand.ids("1");
                assert!(
                    old.iter().filter(|id| now.contains(id)).count() >= needed,
                    "{note}\n{}",
                    stand.cloud.log().join("\n")
                );
                stand.assert_only("1", 3, &note).await;
            }
        }
    }
}
