//! What is counted for which stage.

use super::*;
use crate::analysis::{Analysis, AtDeadline, Compared, Evidence, Pair};
use crate::provider::MetricValue;

const SHARED: &str = "2 2 0 step 1: old at 10000 [S S] toward new 1@1000 old 2@9000";

/// Two stages that share the traffic, judged by a bound in intervals of ten seconds.
fn judged() -> Machine {
    let mut plan = plan(SHARED);
    plan.stages.push(plan.stages[0].clone());
    let errors = Compared::new("errors".parse().unwrap()).at_most(0.05);
    plan.analysis = Some(Analysis::of([errors]).at_deadline(AtDeadline::GoBack));
    let started = Event::Started { rollout: "r-1".parse().unwrap(), plan: Box::new(plan), at: at(0) };
    Machine::replay([started]).unwrap()
}

/// What is known when all intervals until then were counted, each without an error.
fn good_until(machine: &Machine, second: i64) -> Evidence {
    let judging = machine.judging(at(second)).unwrap();
    let mut evidence = machine.evidence().clone();
    let value = Some(MetricValue::Ratio { part: 0, whole: 1_000 });
    for interval in judging.due(&evidence, 0) {
        evidence.count(judging.stage.analysis, interval, &[Pair { canary: value, baseline: None }]);
    }
    evidence
}

fn reached(second: i64) -> Event {
    Event::GoalReached { at: at(second), hold_until: at(second) }
}

fn entered(second: i64) -> Event {
    Event::StageEntered { stage: 1, at: at(second), deadline: at(second + 600) }
}

/// Whether it goes back for want of a judgement when it is asked then.
fn gives_up(machine: &Machine, second: i64) -> bool {
    !machine.give_up(at(second), "nothing").is_empty()
}

#[test]
fn what_is_counted_on_the_way_to_a_stage_makes_no_pass_of_it() {
    let mut machine = judged();
    machine.apply(&reached(100));
    let evidence = good_until(&machine, 500);
    machine.apply(&Event::Judged { evidence, at: at(500) });
    assert!(!gives_up(&machine, 5_000), "it passed");
    machine.apply(&entered(500));
    let evidence = good_until(&machine, 530);
    machine.apply(&Event::Judged { evidence, at: at(530) });
    machine.apply(&reached(530));
    assert!(gives_up(&machine, 530 + 3_600) && !gives_up(&machine, 530 + 3_599));
}

#[test]
fn what_is_still_to_be_read_makes_no_pass_of_what_was() {
    let mut machine = judged();
    machine.apply(&reached(100));
    let evidence = good_until(&machine, 500);
    machine.apply(&Event::Judged { evidence, at: at(900) });
    assert!(gives_up(&machine, 5_000));
}

#[test]
fn a_fault_of_the_environment_on_the_way_to_a_stage_is_not_counted() {
    let mut machine = judged();
    machine.apply(&reached(100));
    machine.apply(&entered(500));
    let hold = Hold::EnvironmentDegraded { signal: Signal::Instances, evidence: "all".into() };
    machine.apply(&Event::Held { hold, at: at(510) });
    assert_eq!(machine.judging(at(600)), None);
    machine.apply(&Event::WentOn { at: at(700), deadline: at(1_300) });
    let judging = machine.judging(at(800)).unwrap();
    assert_eq!(judging.due(machine.evidence(), 0), 71..80);
}

/// It passed, and waits for somebody while the environment is at fault, again and again.
#[test]
fn what_passed_has_all_of_its_time_to_pass_once_more() {
    let mut machine = judged();
    machine.apply(&reached(100));
    let mut passed = 500;
    for fault in [20_000, 40_000] {
        let evidence = good_until(&machine, passed);
        machine.apply(&Event::Judged { evidence, at: at(passed) });
        assert!(machine.has_passed() && !gives_up(&machine, fault));
        let hold = Hold::EnvironmentDegraded { signal: Signal::Checks, evidence: "all".into() };
        machine.apply(&Event::Held { hold, at: at(fault) });
        machine.apply(&Event::WentOn { at: at(fault + 60), deadline: at(fault + 660) });
        assert!(!machine.has_passed() && !gives_up(&machine, fault + 60 + 3_599));
        passed = fault + 560;
    }
    assert!(gives_up(&machine, 40_060 + 3_600), "not for ever");
}
