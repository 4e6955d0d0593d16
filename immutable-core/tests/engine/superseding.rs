//! A rollout that takes the place of another: V1, V2, V3.

use immutable_core::engine::{Engine, Outcome, StartError};
use immutable_core::model::{Release, Weight};
use immutable_core::plan::Strategy;
use immutable_core::testkit::Behaviour;
use jiff::Timestamp;

use super::harness::{Stand, minutes, outcome, service, strategies, switches, until, until_event};

fn other_engine(stand: &Stand) -> Engine {
    Engine::builder(stand.cloud.platform()).journal(stand.journal.clone()).clock(stand.cloud.clock()).build()
}

/// At every point of every strategy: nothing of release 2 is left, and release 1 carried the traffic until 3 could.
#[tokio::test(start_paused = true)]
async fn release_3_takes_the_place_of_2_wherever_that_is() {
    for switch in switches() {
        for strategy in strategies(3) {
            for count in [1, 2, 3, 4, 5, 7, 9, 12, 15, 20] {
                let note = format!("{switch:?}, {strategy:?}, after {count} events");
                let stand = Stand::serving(switch, 3).await;
                let second = stand.start("2", strategy.clone()).await;
                if !until_event(&second, count).await || second.status().outcome.is_some() {
                    break;
                }
                let third = stand.engine.supersede(stand.spec("3", Strategy::rolling())).await.unwrap();
                assert_eq!(outcome(&second).await, Outcome::Superseded { by: third.id() }, "{note}");
                assert_eq!(third.plan().previous.as_ref().map(Release::id), Some(stand.id("1")), "{note}");
                assert_eq!(
                    outcome(&third).await,
                    Outcome::Promoted,
                    "{note}\n{}\n{}",
                    stand.cloud.log().join("\n"),
                    stand.journal_text().await
                );
                let least = stand.cloud.least_serving().unwrap();
                assert!(
                    least >= third.plan().budget.required().min(second.plan().budget.required()),
                    "{note}: {least}"
                );
                stand.assert_only("3", 3, &note).await;
                let history = stand.engine.history(&service()).await.unwrap();
                let proven: Vec<_> = history.proven().iter().map(Release::id).collect();
                assert_eq!(proven, [stand.id("1"), stand.id("3")], "{note}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_3_that_fails_goes_back_to_1_and_never_to_2() {
    for count in [3, 6, 10, 14] {
        let stand = Stand::serving(switches()[0], 3).await;
        stand.cloud.behave(stand.id("3"), Behaviour::NeverHealthy);
        let second = stand.start("2", Strategy::rolling().bake(minutes(30))).await;
        assert!(until_event(&second, count).await);
        let third = stand.engine.supersede(stand.spec("3", Strategy::rolling())).await.unwrap();
        let Outcome::RolledBack { to, .. } = outcome(&third).await else { panic!("{:?}", third.status()) };
        assert_eq!(to, stand.id("1"));
        stand.assert_only("1", 3, "back").await;
        assert!(stand.was_never_routed("3"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_driver_left_is_superseded_once_nothing_of_it_can_land() {
    for count in [1, 3, 6, 10] {
        let mut stand = Stand::serving(switches()[0], 3).await;
        let second = stand.start("2", Strategy::rolling()).await;
        assert!(until_event(&second, count).await);
        stand.restart();
        let third = stand.engine.supersede(stand.spec("3", Strategy::rolling())).await.unwrap();
        let left: Timestamp = stand.cloud.now();
        let log = stand.cloud.log().len();
        assert_eq!(outcome(&third).await, Outcome::Promoted);
        if count > 1 {
            let first = stand.cloud.log()[log].split_once(' ').unwrap().0.parse::<Timestamp>().unwrap();
            assert!(first.duration_since(left) >= jiff::SignedDuration::from_mins(5), "{count}: {first}");
        }
        stand.assert_only("3", 3, "left").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_rollout_that_nobody_drives_is_recovered() {
    let stand = Stand::serving(switches()[0], 3).await;
    let second = stand.start("2", Strategy::rolling().bake(minutes(30))).await;
    assert!(until_event(&second, 8).await);
    let third = stand.engine.supersede(stand.spec("3", Strategy::rolling())).await.unwrap();
    let other = other_engine(&stand);
    let next = other.recover(&service()).await.unwrap().unwrap();
    assert_eq!((next.id(), outcome(&next).await), (third.id(), Outcome::Promoted));
    stand.assert_only("3", 3, "recovered").await;
}

#[tokio::test(start_paused = true)]
async fn superseding_is_repeatable_and_needs_nothing_to_supersede() {
    let stand = Stand::serving(switches()[0], 3).await;
    let second = stand.engine.supersede(stand.spec("2", Strategy::rolling().bake(minutes(9)))).await.unwrap();
    let again = stand.engine.supersede(stand.spec("2", Strategy::blue_green())).await.unwrap();
    assert_eq!(second.id(), again.id());
    // A plan that cannot work is refused, and what goes on goes on.
    let error = stand.engine.supersede(stand.spec("3", Strategy::rolling()).desired(0)).await.unwrap_err();
    assert!(matches!(error, StartError::Plan(_)), "{error}");
    let error = stand.engine.start(stand.spec("3", Strategy::rolling())).await.unwrap_err();
    assert!(error.to_string().contains(&format!("rollout {} of web", second.id())), "{error}");
    assert_eq!(outcome(&second).await, Outcome::Promoted);
    // Back to release 1 in the middle of 3.
    let third = stand.start("3", Strategy::rolling().bake(minutes(9))).await;
    assert!(until_event(&third, 8).await);
    let back = stand.engine.supersede(stand.spec("1", Strategy::rolling())).await.unwrap();
    assert_eq!(outcome(&back).await, Outcome::Promoted);
    stand.assert_only("1", 3, "back").await;
}

/// Release 1 is taken back in the middle of 2, and cannot come up again: what serves goes on to serve.
#[tokio::test(start_paused = true)]
async fn a_way_back_that_fails_leaves_what_serves() {
    for strategy in [Strategy::rolling(), Strategy::blue_green()] {
        let stand = Stand::serving(switches()[0], 3).await;
        let second = stand.start("2", Strategy::rolling().bake(minutes(30))).await;
        until("all of the traffic", &second, || stand.cloud.split().weight(&stand.fleet("2")) == Weight::FULL).await;
        stand.cloud.behave(stand.id("1"), Behaviour::NeverHealthy);
        let back = stand.engine.supersede(stand.spec("1", strategy)).await.unwrap();
        assert_eq!(back.plan().previous.as_ref().map(Release::id), Some(stand.id("1")));
        let end = outcome(&back).await;
        assert!(matches!(end, Outcome::Stuck { .. }), "{end}");
        assert!(!stand.cloud.split().is_closed(), "{end}");
        assert!(stand.cloud.least_serving().unwrap() >= 3, "{end}");
    }
}
