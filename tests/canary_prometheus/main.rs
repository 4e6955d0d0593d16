//! Canaries of real processes under real load, judged by what a real server of Prometheus says of the local proxy's counters.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "how soon is worth seeing")]

mod exporter;
#[path = "../processes/mod.rs"]
mod processes;
#[path = "../../immutable-prometheus/tests/support/mod.rs"]
mod scraping;
mod stand;
#[path = "../../examples/support/mod.rs"]
mod support;

use immutable_core::engine::{Event, Outcome, Reason, StartError};
use immutable_core::plan::PlanError;
use serde_json::Value;

use stand::{ERRORS, INTERVAL, MALFORMED, SILENT, Stand, canary};
use support::service::Behaviour;

/// At 100 requests a second with a fifth of errors in the one fleet, and none in the other, eight or nine are enough.
const INTERVALS: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_release_is_promoted_and_one_with_errors_goes_back() {
    let stand = Stand::open().await;
    let load = stand.load().await;
    let good = stand.release(&Behaviour::of("2")).await;
    let rollout = stand.engine.start(stand.spec(good.clone(), canary(ERRORS))).await.unwrap();
    assert!(rollout.plan().baseline.is_some(), "{}", rollout.plan());
    assert_eq!(rollout.wait().await.unwrap(), Outcome::Promoted);

    let before = load.mark();
    let bad = stand.release(&Behaviour { error_percent: 20, ..Behaviour::of("3") }).await;
    let outcome = stand.roll_out(bad, canary(ERRORS)).await;
    let events = stand.events().await;
    let Outcome::RolledBack { to, reason: Reason::CheckFailed { evidence } } = &outcome else {
        panic!("{outcome}: {events:?}")
    };
    assert_eq!(*to, good.id());
    assert!(evidence.ends_with("against no worse"), "{evidence}");
    // It never had more than the first quarter of the traffic.
    assert!(!events.iter().any(|event| matches!(event, Event::StageEntered { .. })), "{events:?}");
    let known = known(&events);
    let intervals = known["intervals"].as_u64().unwrap();
    assert!(intervals <= INTERVALS, "{intervals} intervals of {INTERVAL:?}: {known}");
    // What Prometheus knows is what the clients have seen.
    let (errors, requests) = (known["canary"]["part"].as_f64().unwrap(), known["canary"]["whole"].as_f64().unwrap());
    assert!((0.15..0.25).contains(&(errors / requests)), "{known}");
    assert_eq!(known["baseline"]["part"].as_f64(), Some(0.0), "{known}");
    let seen = load.mark().since(&before).release("3");
    println!("{outcome} after {intervals} intervals; {seen:?}");
    let answered = f64::from(u32::try_from(seen.ok + seen.failed).unwrap());
    assert!(requests <= 1.1 * answered, "{requests} of {answered}");

    let counts = load.stop().await;
    stand.close().await;
    assert_eq!(counts.failed(), counts.release("3").failed, "{counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_says_nothing_is_refused_before_anything_is_touched() {
    let stand = Stand::open().await;
    let load = stand.load().await;
    let second = stand.release(&Behaviour::of("2")).await;
    let before = stand.world().await;
    for (name, words) in [
        (SILENT, "which serves now, in the last 5m: nothing could be compared with it"),
        (MALFORMED, "the server refuses the query: 1:"),
        ("unheard_of", "no metric unheard_of"),
    ] {
        let refused = stand.engine.start(stand.spec(second.clone(), canary(name))).await.unwrap_err();
        let StartError::Plan(PlanError::Metric { metric, problem }) = &refused else { panic!("{name}: {refused}") };
        assert!(metric.as_str() == name && problem.contains(words), "{refused}");
    }
    assert_eq!(stand.world().await, before);
    // All else is as it has to be.
    let plan = stand.engine.plan(&stand.spec(second, canary(ERRORS))).await.unwrap();
    assert!(plan.outlook.is_some(), "{plan}");
    let counts = load.stop().await;
    stand.close().await;
    assert_eq!(counts.failed(), 0, "{counts}");
}

/// What the journal has of the one metric when the rollout went back.
fn known(events: &[Event]) -> Value {
    let judged = events.iter().rev().find_map(|event| match event {
        Event::Judged { evidence, .. } => Some(serde_json::to_value(evidence).unwrap()),
        _ => None,
    });
    judged.expect("it was judged")["metrics"][0].clone()
}
