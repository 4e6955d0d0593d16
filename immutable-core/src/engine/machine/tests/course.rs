//! The way through the stages and back, and what a step says besides.

use super::*;
use crate::analysis::{Check, Judgement};
use crate::engine::machine::Command;
use crate::model::FleetId;
use crate::provider::Window;

/// Three stages: one dark instance, at a gate; all of the traffic, without a gate; the old ones gone, at another gate.
fn staged(returns_to: Option<Release>) -> Plan {
    let stage = |name: &str, goal: &str, gate| {
        let (_, goal, ..) = case(&format!("2 2 0 step 1: new at 0 [] toward {goal}"));
        Stage { name: name.into(), goal, gate }
    };
    let check = Check::at_most("errors".parse().unwrap(), 0.01);
    let (hold, approval) = (Duration::from_secs(10), Some("boss".parse().unwrap()));
    let stages = vec![
        stage("dark", "new 1@0 old 2@10000", Gate { hold, checks: vec![check], approval }),
        stage("all", "new 2@10000 old 2@0", Gate::default()),
        stage("retire", "new 2@10000", Gate { hold: Duration::from_secs(50), ..Gate::default() }),
    ];
    Plan { stages, previous: returns_to, ..plan(SOME) }
}

fn of(plan: Plan, events: &[Event]) -> Machine {
    let started = Event::Started { rollout: "r-1".parse().unwrap(), plan: Box::new(plan), at: at(0) };
    Machine::replay(std::iter::once(started).chain(events.iter().cloned())).unwrap()
}

fn entered(stage: usize, second: i64) -> Event {
    Event::StageEntered { stage, at: at(second), deadline: at(second + 600) }
}

fn step(machine: &Machine, second: i64, world: &str, judgements: &[Judgement]) -> Step {
    let (world, ..) = case(&format!("2 2 0 step 1: {world} toward nothing"));
    machine.next(at(second), &world, judgements)
}

const DARK: &str = "old at 10000 [S S] new at 0 [S]";
const SWITCHED: &str = "old at 0 [S S] new at 10000 [S S]";
const DONE: &str = "new at 10000 [S S]";

fn passes() -> [Judgement; 1] {
    [Judgement::Pass { evidence: "few".into() }]
}

#[test]
fn each_stage_is_entered_when_the_one_before_is_through_its_gate() {
    let mut machine = of(staged(None), &[]);
    let reached = step(&machine, 5, DARK, &passes());
    assert_eq!(reached.events, [Event::GoalReached { at: at(5), hold_until: at(15) }]);
    assert_eq!((reached.wake, machine.stage()), (Some(at(15)), Some(0)));
    machine.apply(&reached.events[0]);
    let approved = Event::Approved { approval: "boss".parse().unwrap(), at: at(6) };
    let waits = step(&machine, 14, DARK, &[]).waiting;
    let hold = "the hold of stage \"dark\" until 1970-01-01T00:00:15Z";
    assert_eq!(waits, [hold, "the metrics to be read", "somebody to approve boss"]);
    machine.apply(&approved);
    assert_eq!(step(&machine, 14, DARK, &passes()).waiting, [hold]);
    let unknown = [Judgement::NotEnoughData { evidence: "3 of 500".into() }];
    assert_eq!(step(&machine, 15, DARK, &unknown).waiting, ["more data (3 of 500)"]);
    let through = step(&machine, 15, DARK, &passes());
    assert_eq!((&through.events[..], through.wake), (&[entered(1, 15)][..], Some(at(15))));
    machine.apply(&through.events[0]);
    // Nothing of the stage before counts: neither that it was reached nor how far it came.
    assert_eq!(machine.measures(at(16)), None);
    let begun = step(&machine, 16, "old at 10000 [S S] new at 0 [p p]", &[]);
    assert!(matches!(begun.events[..], [Event::Progressed { .. }]), "{begun:?}");
    assert_eq!((begun.actions.len(), begun.wake), (0, Some(at(615))));
    // A stage without a gate is left as soon as it is reached.
    let through = step(&machine, 20, SWITCHED, &[]);
    assert_eq!(through.events, [entered(2, 20)]);
    machine.apply(&through.events[0]);
    let reached = step(&machine, 30, DONE, &[]);
    assert_eq!(reached.events, [Event::GoalReached { at: at(30), hold_until: at(80) }]);
    machine.apply(&reached.events[0]);
    assert_eq!(step(&machine, 79, DONE, &[]).events, []);
    assert_eq!(step(&machine, 80, DONE, &[]).events.iter().map(short).collect::<Vec<_>>(), ["promoted"]);
}

#[test]
fn a_promotion_skips_what_exposes_and_the_gates_and_nothing_else() {
    let asked = Event::PromotionAsked { at: at(1) };
    let events = |stage: usize, world: &str| {
        let machine = of(staged(None), &[entered(stage, 0), asked.clone()]);
        step(&machine, 2, world, &[])
            .events
            .into_iter()
            .filter(|event| !matches!(event, Event::Intended { .. }))
            .collect()
    };
    let events: &dyn Fn(usize, &str) -> Vec<Event> = &events;
    assert_eq!(events(0, "old at 10000 [S S]"), [entered(1, 2)]);
    assert!(matches!(events(1, DARK)[..], [Event::Progressed { .. }]));
    assert_eq!(events(1, SWITCHED), [entered(2, 2)]);
    assert!(matches!(events(2, SWITCHED)[..], [Event::Progressed { .. }]));
    assert_eq!(events(2, DONE).iter().map(short).collect::<Vec<_>>(), ["promoted"]);
    // Without it, the first stage is entered and stayed in.
    let stays = step(&of(staged(None), &[]), 2, "old at 10000 [S S]", &[]);
    assert!(matches!(stays.events[..], [Event::Progressed { .. }, Event::Intended { .. }]), "{stays:?}");
}

#[test]
fn a_failed_check_turns_back_unless_the_environment_is_at_fault() {
    let fails = [Judgement::Fail { evidence: "many".into() }];
    let reached = Event::GoalReached { at: at(0), hold_until: at(10) };
    let machine = of(staged(None), std::slice::from_ref(&reached));
    let back = step(&machine, 5, DARK, &fails);
    assert!(matches!(&back.events[..], [Event::TurnedBack { reason: Reason::CheckFailed { .. }, .. }]), "{back:?}");
    assert_eq!(back.wake, Some(at(5)));
    let blamed = of(staged(None), &[reached, held(degraded(Signal::Checks), 1)]);
    assert_eq!(step(&blamed, 50, DARK, &fails).events, []);
}

#[test]
fn checks_are_judged_from_the_first_time_that_their_stage_was_reached() {
    let reached = |second, until| Event::GoalReached { at: at(second), hold_until: at(until) };
    let lost = Event::GoalLost { at: at(7), deadline: at(600) };
    let window =
        |events: &[Event]| of(staged(None), events).measures(at(30)).map(|(checks, window)| (checks.len(), window));
    let expected = Some((1, Window { from: at(5), to: at(30) }));
    assert_eq!(window(&[]), None);
    assert_eq!(window(&[reached(5, 15)]), expected);
    assert_eq!(window(&[reached(5, 15), lost, reached(9, 19)]), expected);
    assert_eq!(window(&[reached(5, 15), Event::PromotionAsked { at: at(6) }]), None);
    assert_eq!(window(&[entered(2, 0), reached(5, 55)]), None, "there is nothing to check");
    let back = Event::TurnedBack { reason: Reason::Asked { note: "no".into() }, at: at(6), deadline: at(600) };
    assert_eq!(window(&[reached(5, 15), back]), None);
}

#[test]
fn the_way_back_ends_with_the_release_before_alone_and_is_stuck_without_progress() {
    let release = plan(SOME).release;
    let plan = staged(Some(release.clone()));
    let previous = plan.previous_fleet().unwrap();
    let turned = Event::TurnedBack { reason: Reason::Asked { note: "no".into() }, at: at(100), deadline: at(700) };
    let mut machine = of(plan, &[turned]);
    let reason = Reason::Asked { note: "no".into() };
    assert_eq!((machine.stage(), machine.reason()), (None, Some(&reason)));
    assert_eq!(machine.pursued(), Some(previous.clone()));
    let old = |world: &str| world.replace("old", previous.as_str());
    let begun = step(&machine, 101, &old("old at 0 [S] new at 10000 [S S]"), &[]);
    assert!(
        !begun.actions.is_empty() && matches!(begun.events[..], [Event::Progressed { .. }, Event::Intended { .. }])
    );
    // Nothing is to be done, and it is not there yet.
    let joining = old("old at 10000 [S j]");
    let waits = step(&machine, 101, &joining, &[]);
    assert_eq!((waits.actions.len(), waits.events.len()), (0, 1), "{waits:?}");
    let back = Event::Ended { outcome: Outcome::RolledBack { to: release.id(), reason }, at: at(101) };
    assert_eq!(step(&machine, 101, &old("old at 10000 [S S]"), &[]).events, [back]);
    // The first look says what progress is measured against; then the time can run out.
    machine.apply(&waits.events[0]);
    assert_eq!(step(&machine, 699, &joining, &[]).events, []);
    let mut held_up = machine.clone();
    held_up.apply(&held(throttled(), 600));
    assert_eq!(step(&held_up, 700, &joining, &[]).events, []);
    assert_eq!(told(&mut machine.clone(), &step(&machine, 700, &joining, &[]).events), ["stuck"]);
}

#[test]
fn without_a_release_that_was_proven_there_is_no_way_back_and_without_any_nothing_is_left() {
    let turned = Event::TurnedBack { reason: Reason::Asked { note: "no".into() }, at: at(0), deadline: at(600) };
    let unproven = of(staged(None), std::slice::from_ref(&turned));
    assert_eq!(step(&unproven, 1, DARK, &[]).events.iter().map(short).collect::<Vec<_>>(), ["stuck"]);
    assert_eq!(unproven.pursued(), None);
    let first = of(Plan { replaces: None, ..staged(None) }, &[turned]);
    for (world, left) in [("new at 10000 [S S]", 2), ("new at 0 [D e e]", 3)] {
        let going = step(&first, 1, world, &[]);
        let expected = Event::Progressed { deadline: at(600), score: u64::MAX - left };
        assert_eq!((&going.events[0], going.actions.len()), (&expected, 1));
    }
    let aborted = Outcome::Aborted { reason: Reason::Asked { note: "no".into() } };
    assert_eq!(step(&first, 1, "~new at 0 []", &[]).events, [Event::Ended { outcome: aborted, at: at(1) }]);
}

#[test]
fn a_refusal_turns_back_and_is_the_end_on_the_way_back() {
    let later = Event::Started { rollout: "r-1".parse().unwrap(), plan: Box::new(staged(None)), at: at(3) };
    let mut machine = Machine::replay([later]).unwrap();
    assert_eq!((machine.started_at(), machine.pursued()), (at(3), Some("new".parse().unwrap())));
    let back = machine.refused(at(5), "not allowed".into());
    let reason = Reason::Refused { error: "not allowed".into() };
    assert_eq!(back, [Event::TurnedBack { reason: reason.clone(), at: at(5), deadline: at(605) }]);
    machine.apply(&back[0]);
    assert_eq!(machine.reason(), Some(&reason));
    let end = machine.refused(at(6), "nor this".into());
    assert_eq!(end.iter().map(short).collect::<Vec<_>>(), ["stuck"]);
    machine.apply(&end[0]);
    assert_eq!(machine.refused(at(7), "nor that".into()), []);
}

#[test]
fn whom_it_put_into_traffic_and_took_out_is_known() {
    let route = |text: &str| {
        let actions = vec![crate::decide::tests::notation::action(text)];
        Event::Intended { actions, at: at(1) }
    };
    let machine = of(staged(None), &[route("route new=10000 +a +b -c"), route("route new=10000 +c -a")]);
    let known = |id: &str| (machine.has_routed(&id.parse().unwrap()), machine.has_drained(&id.parse().unwrap()));
    assert_eq!(["a", "b", "c", "d"].map(known), [(true, true), (true, false), (true, false), (false, false)]);
}

#[test]
fn a_step_says_what_stops_it_and_what_the_world_is_to_become() {
    let stopped = [Event::Paused { at: at(1) }, Event::Frozen { reason: "night".into(), at: at(2) }];
    let says = step(&of(staged(None), &stopped), 3, DARK, &[]);
    assert_eq!(says.waiting, ["the freeze to be lifted: night", "somebody to resume the rollout"]);
    assert_eq!((says.events.len(), says.actions.len()), (0, 0));
    let last = of(staged(None), &[entered(2, 0)]);
    let says = step(&last, 1, "old at 0 [] new at 10000 [S S]", &[]);
    assert_eq!((says.waiting, says.actions.len()), (vec!["the world to become: 2 x new at 100 %".to_owned()], 1));
    assert_eq!(step(&last, 1, DONE, &[]).waiting, Vec::<String>::new());
    let says = step(&last, 1, "old at 0 [d] new at 10000 [S S]", &[]);
    assert_eq!(says.waiting, ["1 instance of old to drain"]);
    // A shortage that does not matter any more is over at once, and the rest is decided without it.
    let moot = of(staged(None), &[entered(2, 0), held(short_of("new"), 0)]);
    let says = step(&moot, 9, "old at 0 [d] new at 10000 [S S]", &[]);
    assert_eq!(
        (says.events.iter().map(short).collect::<Vec<_>>(), says.wake),
        (vec!["went on, deadline 609".into()], Some(at(9)))
    );
}

#[test]
fn no_action_names_more_instances_than_an_entry_can_hold() {
    let many = |phase: &str| format!("{phase} ").repeat(5_001);
    let text = format!("6000 6000 0 step 1: old at 10000 [S] new at 0 [{}] toward new 6000@10000", many("P"));
    let (world, ..) = case(&text);
    let named = |machine: &Machine, world: &crate::decide::World| {
        let counts = machine.next(at(1), world, &[]).actions.into_iter().map(|action| match action {
            crate::decide::Action::Route(change) => (change.register.len(), change.drain.len()),
            crate::decide::Action::End { instances, .. } => (instances.len(), 0),
            _ => (0, 0),
        });
        counts.collect::<Vec<_>>()
    };
    assert!(named(&machine(&text, &[]), &world).contains(&(5_000, 0)));
    let text = format!("2 6000 0 step 1: old at 0 [{}] new at 10000 [S S] toward new 2@10000", many("D"));
    let (world, ..) = case(&text);
    assert_eq!(named(&machine(&text, &[]), &world), [(5_000, 0)]);
    let text = format!("2 6000 2 step 1: old at 0 [{}] new at 10000 [S S] toward new 2@10000", many("a"));
    let (world, ..) = case(&text);
    assert_eq!(named(&machine(&text, &[]), &world), [(0, 5_000)]);
}

#[test]
fn a_machine_needs_a_start_and_events_that_fit_its_plan() {
    assert!(Machine::replay([]).is_none());
    assert!(Machine::replay([entered(0, 0)]).is_none());
    let empty = Box::new(Plan { stages: vec![], ..staged(None) });
    assert!(Machine::replay([Event::Started { rollout: "r-1".parse().unwrap(), plan: empty, at: at(0) }]).is_none());
    let started = Event::Started { rollout: "r-1".parse().unwrap(), plan: Box::new(staged(None)), at: at(0) };
    assert!(Machine::replay([started.clone(), entered(2, 1)]).is_some());
    assert!(Machine::replay([started, entered(3, 1)]).is_none());
    let target: FleetId = "new".parse().unwrap();
    assert_eq!(of(staged(None), &[]).plan().target, target);
    assert_eq!(of(staged(None), &[]).command(at(1), Command::Resume), []);
}
