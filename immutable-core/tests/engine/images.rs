//! Building an image through an engine: what is tried again, how often, and what is not.

use std::time::Duration;

use immutable_core::engine::StartError;
use immutable_core::model::Image;
use immutable_core::provider::{Effect, ErrorKind, ImageSpec, Recipe};
use immutable_core::testkit::{Operation, SimOptions};
use jiff::SignedDuration;

use super::harness::Stand;

async fn built(stand: &Stand) -> Result<Image, StartError> {
    let recipe = Recipe { base: None, layers: Vec::new(), command: vec!["app".into()] };
    let spec = ImageSpec { service: super::harness::service(), recipe, version: "1".into(), commit: None };
    stand.engine.image(&spec).await
}

#[tokio::test(start_paused = true)]
async fn a_build_is_tried_again_while_that_can_help() {
    let cases = [
        (ErrorKind::Throttled, 0, true),
        // That there are too many calls is no failure.
        (ErrorKind::Throttled, 30, true),
        (ErrorKind::Unavailable, 10, true),
        (ErrorKind::Unavailable, 11, false),
        (ErrorKind::PermissionDenied, 1, false),
    ];
    for (kind, times, expected) in cases {
        let stand = Stand::new();
        stand.fail(Operation::EnsureImage, kind, Effect::None, times);
        let begun = stand.cloud.now();
        let answer = built(&stand).await;
        assert_eq!(answer.is_ok(), expected, "{kind:?}, {times} times: {answer:?}");
        let pauses = stand.cloud.now().duration_since(begun);
        // 0.2, 0.4, 0.8 … 30 seconds after ten failures in a row.
        assert_eq!(pauses > SignedDuration::from_secs(80), times >= 10, "{kind:?}, {times} times: {pauses}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_that_goes_on_is_waited_for_and_done_once() {
    let stand = Stand::with(SimOptions { build_for: Duration::from_mins(7), ..SimOptions::default() });
    let begun = stand.cloud.now();
    let image = built(&stand).await.unwrap();
    let time = stand.cloud.now().duration_since(begun);
    assert!((SignedDuration::from_mins(7)..SignedDuration::from_mins(8)).contains(&time), "{time}");
    assert_eq!(built(&stand).await.unwrap(), image);
    assert!(stand.cloud.now().duration_since(begun) - time < SignedDuration::from_secs(1));
}
