//! Releases that are bad in each way: the old one serves again, and the reason says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::analysis::Check;
use immutable_core::engine::{Engine, Outcome, Reason, StartError};
use immutable_core::model::{Look, Sample};
use immutable_core::plan::{PlanError, StageSpec, Strategy};
use immutable_core::provider::{HealthProbe, OpContext, Platform, ProbeTarget, ProviderError, SwitchKind};
use immutable_core::testkit::{Behaviour, SimCloud, SimOptions};

use super::harness::{Stand, events, minutes, outcome, strategies, switches, until, until_event, until_waiting};

fn errors() -> Check {
    Check::at_most("errors".parse().unwrap(), 0.01)
}

/// Rolls out a release that behaves so, and gives the reason for which it went back.
async fn reason(behaviour: Behaviour, desired: u32, strategy: Strategy, switch: usize) -> Reason {
    let stand = Stand::serving(switches()[switch], desired).await;
    stand.cloud.behave(stand.id("2"), behaviour);
    let rollout = stand.start("2", strategy).await;
    let outcome = outcome(&rollout).await;
    let note = format!("{behaviour:?}: {outcome}");
    let Outcome::RolledBack { to, reason } = outcome else { panic!("{note}") };
    assert_eq!(to, stand.id("1"));
    stand.assert_drained(SimOptions::default().drain_for, &note);
    stand.assert_only("1", desired, &note).await;
    assert!(stand.cloud.peak_instances() <= rollout.plan().budget.ceiling(), "{note}");
    reason
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_never_healthy_gets_no_traffic_and_its_evidence_is_told() {
    for (behaviour, evidence) in
        [(Behaviour::NeverHealthy, "answered 500"), (Behaviour::NeverBoots, "was not ready in time")]
    {
        for switch in [0, 1] {
            for strategy in strategies(3) {
                let stand = Stand::serving(switches()[switch], 3).await;
                stand.cloud.behave(stand.id("2"), behaviour);
                let rollout = stand.start("2", strategy).await;
                let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{behaviour:?}") };
                assert!(matches!(reason, Reason::NoProgress { .. }), "{reason}");
                assert!(reason.to_string().contains(evidence), "{reason}");
                assert!(stand.was_never_routed("2"), "{}", stand.cloud.log().join("\n"));
                stand.assert_within_budget(&rollout, "never healthy");
                stand.assert_only("1", 3, "never healthy").await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_dies_or_falls_ill_while_it_bakes_goes_back() {
    let after = minutes(2);
    for (behaviour, evidence) in
        [(Behaviour::DiesAfter(after), "stopped by itself"), (Behaviour::UnhealthyAfter(after), "answered 500")]
    {
        for switch in [0, 1] {
            for strategy in strategies(3) {
                let reason = reason(behaviour, 3, strategy.bake(Duration::from_hours(2)), switch).await;
                assert!(matches!(reason, Reason::NoProgress { .. }), "{reason}");
                assert!(reason.to_string().contains(evidence), "{reason}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_with_errors_fails_its_check() {
    let behaviour = Behaviour::Errors { per_mille: 200 };
    for switch in [0, 1] {
        let watched = |strategy: Strategy| strategy.bake(minutes(10)).watch([errors()]);
        for strategy in strategies(3) {
            let reason = reason(behaviour, 3, watched(strategy), switch).await;
            let Reason::CheckFailed { evidence } = &reason else { panic!("{reason}") };
            assert!(evidence.starts_with("errors is 0.2"), "{evidence}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_with_errors_never_gets_more_than_its_share() {
    let stand = Stand::serving(switches()[0], 4).await;
    stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille: 200 });
    let step = StageSpec::percent(5).unwrap().check(errors()).hold(minutes(5));
    let rollout = stand.start("2", Strategy::canary([step])).await;
    let mut most = 0;
    while rollout.status().outcome.is_none() {
        most = most.max(stand.cloud.split().weight(&stand.fleet("2")).points());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(most, 500);
    assert!(matches!(outcome(&rollout).await, Outcome::RolledBack { reason: Reason::CheckFailed { .. }, .. }));
}

/// A probe that finds every third look bad, twice in a row now and then.
#[derive(Debug)]
struct Flapping(SimCloud, AtomicU64);

#[async_trait]
impl HealthProbe for Flapping {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let number = self.1.fetch_add(1, Ordering::Relaxed);
        let mut samples = self.0.platform().health.sample(cx, targets).await?;
        if number % 5 < 2 {
            for sample in &mut samples {
                sample.look = Look::Bad;
            }
        }
        Ok(samples)
    }
}

#[tokio::test(start_paused = true)]
async fn health_that_flaps_is_damped() {
    let stand = Stand::new();
    let probe = Flapping(stand.cloud.clone(), AtomicU64::new(0));
    let platform = Platform { health: Arc::new(probe), ..stand.cloud.platform() };
    let engine = Engine::builder(platform).journal(stand.journal.clone()).clock(stand.cloud.clock()).build();
    let spec = stand.spec("1", Strategy::blue_green().bake(minutes(60))).desired(1);
    let rollout = engine.start(spec).await.unwrap();
    until_waiting(&rollout, "hold").await;
    let (log, ids) = (stand.cloud.log(), stand.ids("1"));
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    assert_eq!((stand.cloud.log(), stand.ids("1")), (log, ids));
}

#[tokio::test(start_paused = true)]
async fn a_check_without_data_holds_and_says_so() {
    let options = SimOptions { requests_per_second: 0, ..SimOptions::default() };
    let stand = Stand::with(options);
    stand.install(2).await;
    let rollout = stand.start("2", Strategy::canary([StageSpec::percent(50).unwrap().check(errors())])).await;
    until_waiting(&rollout, "more data (errors: 0 of 100 counted)").await;
    tokio::time::sleep(Duration::from_hours(3)).await;
    assert_eq!(rollout.status().stage, Some((1, "50 %".to_owned())));
    rollout.promote().await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_metric_is_refused_before_anything_is_touched() {
    let stand = Stand::serving(switches()[0], 2).await;
    let log = stand.cloud.log();
    let check = Check::at_most("latency".parse().unwrap(), 1.0);
    let error = stand.engine.start(stand.spec("2", Strategy::rolling().watch([check]))).await.unwrap_err();
    assert!(matches!(&error, StartError::Plan(PlanError::Metric { .. })), "{error}");
    assert!(error.to_string().contains("this source has errors"), "{error}");
    assert_eq!(stand.cloud.log(), log);
    assert_eq!(stand.run(stand.spec("2", Strategy::rolling())).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_broken_old_release_never_blocks_the_fix() {
    for switch in switches() {
        for (index, strategy) in strategies(3).into_iter().enumerate() {
            for dead in [true, false] {
                let note = format!("strategy {index}, {switch:?}, dead {dead}");
                let stand = Stand::serving(switch, 3).await;
                for id in stand.ids("1") {
                    assert!(if dead { stand.cloud.kill(&id) } else { stand.cloud.make_ill(&id) });
                }
                tokio::time::sleep(minutes(2)).await;
                let spec = stand.spec("2", strategy.clone()).desired(3);
                let rollout = stand.engine.start(spec).await.unwrap();
                assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
                assert!(stand.cloud.peak_instances() <= rollout.plan().budget.ceiling(), "{note}");
                stand.assert_only("2", 3, &note).await;
            }
        }
    }
}

/// New instances of it are no better, and on a switch by membership the new release is called in before its stage.
#[tokio::test(start_paused = true)]
async fn an_old_release_that_no_new_start_mends_never_blocks_the_fix() {
    for switch in switches() {
        for (index, strategy) in strategies(3).into_iter().enumerate() {
            let note = format!("strategy {index}, {switch:?}");
            let stand = Stand::serving(switch, 3).await;
            stand.cloud.behave(stand.id("1"), Behaviour::NeverHealthy);
            let rollout = stand.engine.start(stand.spec("2", strategy).desired(3)).await.unwrap();
            // One of the new ones is healthy later than the others.
            until("started", &rollout, || !stand.ids("2").is_empty()).await;
            let slow = stand.ids("2")[0].clone();
            assert!(stand.cloud.make_ill(&slow));
            tokio::time::sleep(minutes(1)).await;
            assert!(stand.cloud.heal(&slow));
            assert_eq!(outcome(&rollout).await, Outcome::Promoted, "{note}");
            stand.assert_only("2", 3, &note).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn instances_that_die_at_any_moment_are_replaced() {
    for switch in switches() {
        for (index, strategy) in strategies(3).into_iter().enumerate() {
            // Of each strategy, the old instances die on one switch and the new ones on the other.
            let turned = (index % 2 == 0) == (switch == SwitchKind::Membership);
            let version = if turned { "1" } else { "2" };
            for count in 1.. {
                let note = format!("strategy {index}, {switch:?}, release {version}, after {count} events");
                let stand = Stand::serving(switch, 3).await;
                let rollout = stand.start("2", strategy.clone()).await;
                if !until_event(&rollout, count).await || rollout.status().outcome.is_some() {
                    break;
                }
                let Some(id) = stand.ids(version).first().cloned() else { continue };
                assert!(stand.cloud.kill(&id));
                let outcome = outcome(&rollout).await;
                assert_eq!(outcome, Outcome::Promoted, "{note}\n{:#?}", events(&rollout).await);
                let (peak, log) = (stand.cloud.peak_instances(), stand.cloud.log().join("\n"));
                // A death between a look and the call that follows is one that no size can take into account.
                assert!(peak <= rollout.plan().budget.ceiling() + 1, "{note}: {peak} existed\n{log}");
                let left = stand.instances("2").into_iter().filter(|instance| instance.is_good).count();
                // The last event may come just before the death, and then nobody looks any more.
                if left == 3 {
                    stand.assert_only("2", 3, &note).await;
                }
                assert!(left >= 2, "{note}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_slow_instance_is_replaced() {
    let stand = Stand::serving(switches()[0], 3).await;
    let strategy = Strategy::blue_green().instance_deadline(minutes(1)).progress_deadline(minutes(5));
    let rollout = stand.start("2", strategy).await;
    until("started", &rollout, || stand.ids("2").len() == 3).await;
    let slow = stand.ids("2")[1].clone();
    assert!(stand.cloud.make_ill(&slow));
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    assert!(!stand.ids("2").contains(&slow));
    stand.assert_only("2", 3, "slow").await;
}
