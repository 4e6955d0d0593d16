//! An answer that was lost: what opposes it waits, and a wait that takes long is told as a hold.

use std::time::Duration;

use immutable_core::engine::{Event, Hold, Outcome};
use immutable_core::plan::Strategy;
use immutable_core::provider::{Effect, ErrorKind};
use immutable_core::testkit::Operation;

use super::harness::{Stand, events, minutes, outcome, switches};

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_lost_answer_is_a_hold_where_it_is_long_for_the_rollout() {
    for (progress_deadline, expected) in [(minutes(10), 1), (Duration::from_hours(10), 0)] {
        let stand = Stand::serving(switches()[0], 2).await;
        stand.fail(Operation::EnsureFleet, ErrorKind::Timeout, Effect::Unknown, 1);
        let rollout = stand.start("2", Strategy::rolling().progress_deadline(progress_deadline)).await;
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        let events = events(&rollout).await;
        let held = |event: &&Event| matches!(event, Event::Held { hold: Hold::AnswerLost { .. }, .. });
        let went_on = |event: &&Event| matches!(event, Event::WentOn { .. });
        let counts = (events.iter().filter(held).count(), events.iter().filter(went_on).count());
        assert_eq!(counts, (expected, expected), "{events:#?}");
        stand.assert_only("2", 2, "settled").await;
    }
}
