//! A canary beside its baseline, judged by what traffic says about both.

use std::time::Duration;

use immutable_core::analysis::{Against, Analysis, AtDeadline, Compared, Evidence, Pair};
use immutable_core::engine::{Event, Outcome, Reason, Rollout, StartError};
use immutable_core::model::{FleetId, Weight};
use immutable_core::plan::{Amount, PlanError, StageSpec, Strategy};
use immutable_core::provider::{Effect, ErrorKind, OpContext, SwitchKind, Window};
use immutable_core::testkit::{Behaviour, Operation, SimOptions};
use jiff::Timestamp;

use super::harness::{Stand, events, minutes, outcome, switches, until_event, until_waiting};

pub(crate) fn errors() -> Compared {
    Compared::new("errors".parse().unwrap())
}

fn analysis() -> Analysis {
    Analysis::of([errors()]).minimum_instances(1)
}

/// Four instances of release 1, and a canary of one: a tenth of the traffic, or as much as one of six members gets.
fn canary(switch: SwitchKind, analysis: Analysis) -> Strategy {
    let points = if switch == SwitchKind::Membership { 2_000 } else { 1_000 };
    let step = StageSpec::new("one", Weight::basis_points(points).unwrap()).size(Amount::Count(1));
    Strategy::canary([step]).analysis(analysis)
}

/// One instance with a tenth of the traffic.
pub(crate) fn one() -> StageSpec {
    StageSpec::percent(10).unwrap().size(Amount::Count(1))
}

async fn judged(rollout: &Rollout) -> Vec<Evidence> {
    let events = events(rollout).await;
    events
        .into_iter()
        .filter_map(|event| if let Event::Judged { evidence, .. } = event { Some(evidence) } else { None })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_good_release_passes_beside_a_baseline_of_which_nothing_is_left() {
    for switch in switches() {
        let stand = Stand::serving(switch, 4).await;
        let rollout = stand.start("2", canary(switch, analysis())).await;
        let baseline = rollout.plan().baseline.clone().unwrap();
        until_waiting(&rollout, "errors: ").await;
        let (split, canary) = (stand.cloud.split(), stand.fleet("2"));
        assert_eq!(split.weight(&baseline), split.weight(&canary), "{split:?}");
        assert_eq!(stand.instances("1").len(), if switch == SwitchKind::Membership { 4 } else { 5 });
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_within_budget(&rollout, "good");
        stand.assert_drained(SimOptions::default().drain_for, "good");
        stand.assert_only("2", 4, "good").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_with_errors_goes_back_on_a_few_looks() {
    for (switch, against) in
        switches().into_iter().flat_map(|switch| [(switch, Against::Baseline), (switch, Against::OldFleet)])
    {
        let stand = Stand::serving(switch, 4).await;
        stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille: 200 });
        let rollout = stand.start("2", canary(switch, analysis().against(against))).await;
        let Outcome::RolledBack { reason: Reason::CheckFailed { evidence }, .. } = outcome(&rollout).await else {
            panic!("{:?}", rollout.status())
        };
        assert!(evidence.starts_with("errors is 0.2"), "{evidence}");
        let events = events(&rollout).await;
        let reached =
            events.iter().find_map(|event| if let Event::GoalReached { at, .. } = event { Some(*at) } else { None });
        let turned =
            events.iter().find_map(|event| if let Event::TurnedBack { at, .. } = event { Some(*at) } else { None });
        let took = turned.unwrap().duration_since(reached.unwrap()).unsigned_abs();
        assert!(took < minutes(3), "{took:?}");
        stand.assert_drained(SimOptions::default().drain_for, "bad");
        stand.assert_only("1", 4, "bad").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_disturbs_both_releases_is_not_the_fault_of_one() {
    let stand = Stand::serving(switches()[0], 4).await;
    for version in ["1", "2"] {
        stand.cloud.behave(stand.id(version), Behaviour::Errors { per_mille: 200 });
    }
    let hard = analysis_with_hard_stop();
    assert_eq!(stand.run(stand.spec("2", canary(switches()[0], hard))).await, Outcome::Promoted);
}

fn analysis_with_hard_stop() -> Analysis {
    Analysis::of([errors().hard_stop(0.5, Duration::from_secs(30))]).minimum_instances(1)
}

#[tokio::test(start_paused = true)]
async fn a_baseline_that_does_not_come_up_holds_nothing_up() {
    let stand = Stand::serving(switches()[0], 4).await;
    let strategy = canary(switches()[0], analysis().at_deadline(AtDeadline::GoBack));
    let rollout = stand.start("2", strategy).await;
    let baseline = rollout.plan().baseline.clone().unwrap();
    while rollout.status().outcome.is_none() {
        let instances = stand.cloud.instances().into_iter().filter(|instance| instance.fleet == baseline);
        instances.for_each(|instance| assert!(stand.cloud.kill(&instance.id)));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    stand.assert_only("2", 4, "promoted").await;
}

#[tokio::test(start_paused = true)]
async fn a_hard_stop_holds_while_there_is_nothing_to_compare_with() {
    let stand = Stand::serving(switches()[0], 4).await;
    let strategy = canary(switches()[0], analysis_with_hard_stop()).bake(minutes(30));
    let rollout = stand.start("2", strategy).await;
    until_waiting(&rollout, "the hold of stage \"switch\"").await;
    tokio::time::sleep(minutes(5)).await;
    stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille: 900 });
    let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(reason.to_string().contains("hard stop"), "{reason}");
    stand.assert_only("1", 4, "back").await;
}

#[tokio::test(start_paused = true)]
async fn instances_that_crash_in_a_loop_end_the_rollout() {
    let stand = Stand::serving(switches()[0], 4).await;
    stand.cloud.behave(stand.id("2"), Behaviour::DiesAfter(minutes(1)));
    let rollout = stand.start("2", canary(switches()[0], analysis().max_crashes(3))).await;
    let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(reason.to_string().contains("3 instances of the new release died"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_what_its_analysis_can_see_at_this_traffic() {
    for (requests_per_second, sees) in [(2_000, true), (2, false)] {
        let stand = Stand::with(SimOptions { requests_per_second, ..SimOptions::default() });
        stand.install(4).await;
        stand.cloud.behave(stand.id("1"), Behaviour::Errors { per_mille: 10 });
        tokio::time::sleep(minutes(10)).await;
        let plan = stand.engine.plan(&stand.spec("2", canary(switches()[0], analysis()))).await.unwrap().to_string();
        assert_eq!(plan.contains("cannot see twice as many"), !sees, "{plan}");
        assert!(plan.contains("against baseline web-"), "{plan}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_is_silent_about_what_serves_is_refused_at_the_start() {
    let options = SimOptions { requests_per_second: 0, ..SimOptions::default() };
    let stand = Stand::with(options);
    stand.install(4).await;
    let log = stand.cloud.log();
    let error = stand.engine.start(stand.spec("2", canary(switches()[0], analysis()))).await.unwrap_err();
    assert!(matches!(&error, StartError::Plan(PlanError::Metric { .. })), "{error}");
    assert!(error.to_string().contains("says nothing about"), "{error}");
    assert_eq!(stand.cloud.log(), log);
}

#[tokio::test(start_paused = true)]
async fn without_enough_data_it_holds_or_goes_back_and_never_goes_on() {
    let few = || SimOptions { requests_per_second: 2, ..SimOptions::default() };
    let patient = |what| analysis().deadline(minutes(30)).at_deadline(what);
    let stand = Stand::with(few());
    stand.install(4).await;
    let rollout = stand.start("2", canary(switches()[0], patient(AtDeadline::Hold))).await;
    until_waiting(&rollout, "somebody to promote or abort it").await;
    tokio::time::sleep(minutes(30)).await;
    assert_eq!(rollout.status().stage, Some((1, "one".to_owned())), "{:?}", rollout.status());
    rollout.promote().await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);

    let stand = Stand::with(few());
    stand.install(4).await;
    let rollout = stand.start("2", canary(switches()[0], patient(AtDeadline::GoBack))).await;
    let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(matches!(reason, Reason::NotJudged { .. }), "{reason}");
    stand.assert_only("1", 4, "back").await;
}

/// Whoever comes back after the deadline counts what was measured meanwhile, before anything is said about it.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_unseen_is_no_reason_to_go_back() {
    let mut stand = Stand::serving(switches()[0], 4).await;
    let patient = || analysis().deadline(minutes(30)).at_deadline(AtDeadline::GoBack);
    let rollout = stand.start("2", canary(switches()[0], patient())).await;
    until_waiting(&rollout, "errors: ").await;
    stand.restart();
    tokio::time::sleep(minutes(60)).await;
    let next = stand.start("2", canary(switches()[0], patient())).await;
    assert_eq!(outcome(&next).await, Outcome::Promoted);
}

/// A stage that passed and waits for somebody is not turned back because a metric cannot be read later.
#[tokio::test(start_paused = true)]
async fn a_stage_that_passed_outlives_its_deadline() {
    let stand = Stand::serving(switches()[0], 4).await;
    let step = one().approval("more".parse().unwrap());
    let analysis = analysis().deadline(minutes(30)).at_deadline(AtDeadline::GoBack);
    let rollout = stand.start("2", Strategy::canary([step]).analysis(analysis)).await;
    until_waiting(&rollout, "somebody to approve more").await;
    tokio::time::sleep(minutes(40)).await;
    stand.fail(Operation::QueryMetric, ErrorKind::Timeout, Effect::None, 20);
    tokio::time::sleep(minutes(10)).await;
    assert_eq!(rollout.status().going_back, None);
    rollout.approve("more".parse().unwrap()).await.unwrap();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn every_stage_has_to_pass_by_itself() {
    let stand = Stand::serving(switches()[0], 4).await;
    let steps = [10, 25].map(|percent| StageSpec::percent(percent).unwrap());
    let rollout = stand.start("2", Strategy::canary(steps).analysis(analysis())).await;
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    let events = events(&rollout).await;
    let reached =
        events.iter().filter_map(|event| if let Event::GoalReached { at, .. } = event { Some(*at) } else { None });
    let entered =
        events.iter().filter_map(|event| if let Event::StageEntered { at, .. } = event { Some(*at) } else { None });
    for (reached, entered) in reached.take(2).zip(entered.take(2)) {
        let took = entered.duration_since(reached).unsigned_abs();
        assert!(took >= minutes(5), "{took:?}");
    }
}

/// Whatever drivers count, and whenever they stop: what is in the journal is what one look at each interval gives.
#[tokio::test(start_paused = true)]
async fn evidence_is_neither_lost_nor_counted_twice_when_drivers_stop() {
    let analysis = || analysis().deadline(Duration::from_hours(10));
    let strategy = || canary(switches()[0], analysis());
    let mut most = 0;
    for stop in [0, 2, 3, 4, 5] {
        let mut stand = Stand::serving(switches()[0], 4).await;
        stand.cloud.behave(stand.id("1"), Behaviour::Errors { per_mille: 20 });
        stand.cloud.behave(stand.id("2"), Behaviour::Errors { per_mille: 22 });
        let mut rollout = stand.start("2", strategy()).await;
        for restarts in 1..4 {
            if stop == 0 || !until_event(&rollout, 6 + stop * restarts).await || rollout.status().outcome.is_some() {
                break;
            }
            stand.restart();
            rollout = stand.start("2", strategy()).await;
        }
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        let judged = judged(&rollout).await;
        assert!(judged.len() > 1, "{}", judged.len());
        most = most.max(judged.len());
        for evidence in judged {
            assert_eq!(evidence, counted_once(&stand, &rollout, &analysis(), evidence.next()).await, "stop {stop}");
        }
    }
    assert!(most > 3, "{most}");
}

/// One look at each interval from the one after the canary was reached.
async fn counted_once(stand: &Stand, rollout: &Rollout, analysis: &Analysis, end: u64) -> Evidence {
    const INTERVAL: i64 = 10;
    let events = events(rollout).await;
    let reached = events.iter().find_map(|event| match event {
        Event::GoalReached { at, .. } => Some(at.as_second()),
        _ => None,
    });
    let first = u64::try_from(reached.unwrap() / INTERVAL + 1).unwrap();
    let (cloud, plan, context) = (stand.cloud.platform(), rollout.plan(), OpContext::standalone("test"));
    let mut evidence = Evidence::default();
    for interval in first..end {
        let at = |number| Timestamp::from_second(i64::try_from(number).unwrap() * INTERVAL).unwrap();
        let window = Window { from: at(interval), to: at(interval + 1) };
        let value = async |fleet: &FleetId| {
            let samples = cloud.metrics.query(&context, errors().metric(), fleet, window).await.unwrap();
            samples.first().map(|sample| sample.value)
        };
        let pair = Pair { canary: value(&plan.target).await, baseline: value(plan.baseline.as_ref().unwrap()).await };
        evidence.count(analysis, interval, &[pair]);
    }
    evidence
}
