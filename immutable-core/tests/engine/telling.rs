//! What a rollout says about itself.

use immutable_core::analysis::Check;
use immutable_core::engine::Outcome;
use immutable_core::model::{LaunchSpec, Release};
use immutable_core::plan::{RolloutSpec, StageSpec, Strategy};
use immutable_core::testkit::{Behaviour, SimOptions};

use super::harness::{Stand, events, minutes, outcome, service, until_waiting};

#[tokio::test(start_paused = true)]
async fn each_wait_says_for_what() {
    let options = SimOptions { requests_per_second: 1, register_after: minutes(1), ..SimOptions::default() };
    let stand = Stand::with(SimOptions { end_after: minutes(1), drain_for: minutes(1), ..options });
    stand.install(2).await;
    let step = StageSpec::percent(50)
        .unwrap()
        .hold(minutes(1))
        .check(Check::at_most("errors".parse().unwrap(), 0.1).min_count(60))
        .approval("half".parse().unwrap());
    let rollout = stand.start("2", Strategy::canary([step])).await;
    let fleet = stand.fleet("2");
    for text in [
        format!("1 instance of {fleet} to start"),
        format!("1 instance of {fleet} to prove healthy"),
        format!("the balancer to use 1 instance of {fleet}"),
        "the hold of stage \"50 %\" until".to_owned(),
        "more data (errors: ".to_owned(),
        "somebody to approve half".to_owned(),
    ] {
        until_waiting(&rollout, &text).await;
        assert_eq!(rollout.status().stage.unwrap().0, 1, "{text}");
    }
    rollout.pause().await.unwrap();
    until_waiting(&rollout, "somebody to resume the rollout").await;
    rollout.resume().await.unwrap();
    rollout.approve("half".parse().unwrap()).await.unwrap();
    let old = stand.fleet("1");
    for text in [format!("2 instances of {old} to drain"), format!("2 instances of {old} to end")] {
        until_waiting(&rollout, &text).await;
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    let status = rollout.status();
    assert!(status.waiting.is_empty() && status.outcome == Some(Outcome::Promoted), "{status:#?}");
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_not_healthy_say_why_and_how_long_to_wait() {
    let stand = Stand::new();
    stand.install(2).await;
    stand.cloud.behave(stand.id("2"), Behaviour::NeverHealthy);
    let strategy = Strategy::rolling().instance_deadline(minutes(1));
    let rollout = stand.start("2", strategy).await;
    until_waiting(&rollout, "answered 500").await;
    until_waiting(&rollout, "room for 1 more").await;
    let Outcome::RolledBack { .. } = outcome(&rollout).await else { panic!("not back") };
    assert!(rollout.status().going_back.unwrap().contains("no progress in time"));
}

#[tokio::test(start_paused = true)]
async fn no_text_has_a_secret() {
    let stand = Stand::new();
    let mut launch = LaunchSpec::default();
    launch.secrets.insert("PASSWORD".parse().unwrap(), "vault/db".parse().unwrap());
    let release = Release::new(stand.cloud.image("1"), launch);
    let spec = RolloutSpec::new(service(), "route".parse().unwrap(), release, Strategy::blue_green()).desired(1);
    let rollout = stand.engine.start(spec).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    // Only the reference is there to be printed; `Display` does not even have that.
    for event in events(&rollout).await {
        assert!(!event.to_string().contains("vault/db"), "{event}");
    }
    assert!(!format!("{:?}", rollout.status()).contains("vault/db"));
}
