//! The kill switch: nothing advances while the engine is frozen, and going back goes on.

use immutable_core::engine::{Engine, Event, Outcome, StartError};
use immutable_core::plan::{StageSpec, Strategy};

use super::harness::{Stand, events, minutes, outcome, service, strategies, switches, until_event, until_waiting};

fn other_engine(stand: &Stand) -> Engine {
    Engine::builder(stand.cloud.platform()).journal(stand.journal.clone()).clock(stand.cloud.clock()).build()
}

#[tokio::test(start_paused = true)]
async fn nothing_advances_while_it_is_frozen_and_no_deadline_passes() {
    for strategy in strategies(3) {
        for count in [2, 3, 4, 6, 8, 12, 16] {
            let stand = Stand::serving(switches()[0], 3).await;
            let rollout = stand.start("2", strategy.clone()).await;
            if !until_event(&rollout, count).await {
                break;
            }
            stand.engine.freeze("an incident").await;
            if rollout.status().outcome.is_some() || rollout.status().going_back.is_some() {
                break;
            }
            until_waiting(&rollout, "the freeze to be lifted: an incident").await;
            let (log, entries) = (stand.cloud.log().len(), stand.entries().await);
            tokio::time::sleep(minutes(300)).await;
            assert_eq!((stand.cloud.log().len(), stand.entries().await), (log, entries), "{strategy:?} at {count}");
            assert_eq!(rollout.status().frozen.as_deref(), Some("an incident"));
            stand.engine.thaw().await;
            assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{strategy:?} at {count}");
            stand.assert_within_budget(&rollout, "thawed");
            stand.assert_only("2", 3, "thawed").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn going_back_goes_on_while_it_is_frozen() {
    let stand = Stand::serving(switches()[0], 3).await;
    assert_eq!(stand.run(stand.spec("2", Strategy::rolling())).await, Outcome::Promoted);
    let rollout = stand.start("3", Strategy::rolling().bake(minutes(60))).await;
    until_waiting(&rollout, "the hold").await;
    stand.engine.freeze("an incident").await;
    let refused = stand.engine.supersede(stand.spec("4", Strategy::rolling())).await.unwrap_err();
    assert!(matches!(&refused, StartError::Frozen { reason } if reason == "an incident"), "{refused}");
    rollout.abort("enough").await.unwrap();
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { .. }));
    stand.assert_only("2", 3, "aborted").await;

    let refused = stand.engine.start(stand.spec("4", Strategy::rolling())).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rollouts are frozen (an incident): only a release that was proven may be gone back to; thaw the engine first"
    );
    let back = stand.engine.roll_back(&service(), &stand.id("1")).await.unwrap();
    assert_eq!(outcome(&back).await, Outcome::Promoted);
    stand.assert_only("1", 3, "back").await;
    stand.engine.thaw().await;
    assert_eq!(stand.run(stand.spec("4", Strategy::rolling())).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_freeze_is_found_by_whoever_takes_over_and_a_pause_outlasts_it() {
    let stand = Stand::serving(switches()[0], 3).await;
    let rollout = stand.start("2", Strategy::rolling().bake(minutes(60))).await;
    until_waiting(&rollout, "the hold").await;
    let begun = stand.cloud.now();
    stand.engine.freeze("an incident").await;
    tokio::time::sleep(minutes(60)).await;
    let other = other_engine(&stand);
    let next = other.recover(&service()).await.unwrap().unwrap();
    until_waiting(&next, "the freeze to be lifted: an incident").await;
    next.pause().await.unwrap();
    tokio::time::sleep(minutes(60)).await;
    other.thaw().await;
    until_waiting(&next, "somebody to resume").await;
    assert_eq!(next.status().frozen, None);
    tokio::time::sleep(minutes(60)).await;
    next.resume().await.unwrap();
    assert_eq!(outcome(&next).await, Outcome::Promoted);
    let events = events(&next).await;
    let Some(Event::Ended { at, .. }) = events.last() else { panic!("{events:?}") };
    // Three hours in which it stood still, counted once, and the hour of the bake.
    let took = at.duration_since(begun).as_mins();
    assert!((238..250).contains(&took), "{took} minutes");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_frozen_freezes_what_it_takes_over() {
    let stand = Stand::serving(switches()[0], 3).await;
    let half = StageSpec::percent(50).unwrap().hold(minutes(5)).replacing_old();
    let rollout = stand.start("2", Strategy::canary([half])).await;
    until_waiting(&rollout, "the hold").await;
    let other = other_engine(&stand);
    other.freeze("an incident").await;
    let next = other.recover(&service()).await.unwrap().unwrap();
    until_waiting(&next, "the freeze to be lifted: an incident").await;
    tokio::time::sleep(minutes(120)).await;
    assert_eq!(next.status().outcome, None);
    other.thaw().await;
    assert_eq!(outcome(&next).await, Outcome::Promoted);
}
