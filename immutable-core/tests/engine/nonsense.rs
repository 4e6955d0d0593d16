//! Journals whose records are whole and make no sense all the same.

use immutable_core::engine::{Event, Machine, StartError};
use immutable_core::journal::{Journal, JournalError};
use immutable_core::plan::Strategy;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::harness::{Stand, events, service, switches, until_event};

/// The journal of a rollout that was left by its driver, with the last record replaced by the caller's own.
async fn left_with(body: impl Fn(Value) -> Value) -> (Stand, u64) {
    let mut stand = Stand::serving(switches()[0], 2).await;
    let rollout = stand.start("2", Strategy::blue_green()).await;
    assert!(until_event(&rollout, 2).await);
    stand.restart();
    let started = serde_json::to_value(&events(&rollout).await[0]).unwrap();
    let (lease, entries) = stand.journal.take_over(&service(), &"other".parse().unwrap()).await.unwrap();
    let seq = entries.len() as u64 + 1;
    stand
        .journal
        .append(&lease, seq, Timestamp::UNIX_EPOCH, &json!({ "version": 1, "events": body(started) }))
        .await
        .unwrap();
    stand.journal.release(lease).await.unwrap();
    (stand, seq)
}

async fn expect_refused(body: impl Fn(Value) -> Value, problem: &str) {
    let (stand, seq) = left_with(body).await;
    let error = stand.engine.recover(&service()).await.unwrap_err();
    assert!(matches!(&error, StartError::Journal(JournalError::Corrupt { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains(problem) && text.contains(&format!("entry {seq}")), "{text}");
}

fn stage_entered(stage: u64) -> Value {
    json!({ "event": "stage_entered", "stage": stage, "at": Timestamp::UNIX_EPOCH, "deadline": Timestamp::UNIX_EPOCH })
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_the_plan_does_not_have_is_corrupt() {
    expect_refused(|_| json!([stage_entered(99)]), "stage 99").await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_stages_is_corrupt() {
    let without_stages = |mut started: Value| {
        started["plan"]["stages"] = json!([]);
        json!([started])
    };
    expect_refused(without_stages, "no stages").await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_not_made_of_events_that_make_no_sense() {
    let (stand, _) = left_with(|started| json!([started])).await;
    let entries = stand.journal.list(&service()).await.unwrap();
    let body = entries.into_iter().next_back().unwrap().body;
    let [started]: [Event; 1] = serde_json::from_value(body["events"].clone()).unwrap();
    let entered = serde_json::from_value(stage_entered(99)).unwrap();
    assert!(Machine::replay([started.clone()]).is_some());
    assert!(Machine::replay([started, entered]).is_none());
}
