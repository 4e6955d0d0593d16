//! The machine by itself: what it says after these events, in this world. Times are seconds; the limits are the defaults: 600
//! without progress, 300 for an instance.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod course;
mod holds;
mod judging;
mod pace;

use std::time::Duration;

use jiff::Timestamp;

use super::{Machine, Step};
use crate::decide::tests::notation::{case, written};
use crate::engine::event::{Event, Outcome, Reason};
use crate::engine::hold::{Hold, Signal};
use crate::model::{Fingerprint, Image, ImageLabels, LaunchSpec, Release};
use crate::plan::{Gate, Limits, Plan, Stage};

pub(in crate::engine) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(in crate::engine) fn release(version: &str) -> Release {
    let labels = ImageLabels { version: version.into(), commit: None, built_at: Timestamp::UNIX_EPOCH };
    let image = Image { id: "image".parse().unwrap(), fingerprint: Fingerprint::of(version), parents: vec![], labels };
    Release::new(image, LaunchSpec::default())
}

/// A plan for two instances of another version.
pub(in crate::engine) fn plan_of(version: &str) -> Plan {
    Plan { release: release(version), ..plan(SOME) }
}

/// A plan of one stage, which holds for 100 seconds; budget, switch and goal as in the text, which begins with a world.
fn plan(text: &str) -> Plan {
    let (_, goal, budget, switch) = case(text);
    let gate = Gate { hold: Duration::from_secs(100), ..Gate::default() };
    Plan {
        service: "web".parse().unwrap(),
        route: "route".parse().unwrap(),
        strategy: "own".into(),
        target: "new".parse().unwrap(),
        release: release("2"),
        replaces: Some("old".parse().unwrap()),
        previous: None,
        previous_size: 0,
        returns: false,
        way_back_waived: false,
        budget,
        switch,
        analysis: None,
        baseline: None,
        outlook: None,
        limits: Limits::default(),
        stages: vec![Stage { name: "all".into(), goal, gate }],
    }
}

const SOME: &str = "2 2 0 step 1: old at 10000 [S S] toward new 2@10000";

/// A machine that began at 0.
fn machine(text: &str, events: &[Event]) -> Machine {
    let started = Event::Started { rollout: "r-1".parse().unwrap(), plan: Box::new(plan(text)), at: at(0) };
    Machine::replay(std::iter::once(started).chain(events.iter().cloned())).unwrap()
}

/// Applies what it says, and gives it back in short.
fn told(machine: &mut Machine, events: &[Event]) -> Vec<String> {
    for event in events {
        machine.apply(event);
    }
    events.iter().map(short).collect()
}

/// What comes next in the world of the text, in short; its events are applied.
fn next(machine: &mut Machine, second: i64, text: &str) -> Vec<String> {
    let (world, ..) = case(text);
    let Step { events, actions, .. } = machine.next(at(second), &world, &[]);
    let mut words = told(machine, &events);
    words.retain(|word| !word.starts_with("intended"));
    words.extend(actions.iter().map(written));
    words
}

fn short(event: &Event) -> String {
    match event {
        Event::Progressed { deadline, score } => format!("progressed {score}, deadline {}", deadline.as_second()),
        Event::LookedAgain { deadline, .. } => format!("looked again, deadline {}", deadline.as_second()),
        Event::TakenOver { until, deadline, .. } => {
            format!("taken over until {}, deadline {}", until.as_second(), deadline.as_second())
        }
        Event::Intended { .. } => "intended".into(),
        Event::GoalReached { hold_until, .. } => format!("reached until {}", hold_until.as_second()),
        Event::GoalLost { deadline, .. } => format!("lost, deadline {}", deadline.as_second()),
        Event::Held { hold, at } => format!("held by {} since {}", name(hold), at.as_second()),
        Event::WentOn { deadline, .. } => format!("went on, deadline {}", deadline.as_second()),
        Event::TurnedBack { reason: Reason::NoProgress { .. }, .. } => "turned back for want of progress".into(),
        Event::Ended { outcome: Outcome::Promoted, .. } => "promoted".into(),
        Event::Ended { outcome: Outcome::Stuck { .. }, .. } => "stuck".into(),
        other => panic!("no word for {other:?}"),
    }
}

fn name(hold: &Hold) -> &'static str {
    match hold {
        Hold::Throttled { .. } => "throttling",
        Hold::AnswerLost { .. } => "a lost answer",
        Hold::Shortage { .. } => "a shortage",
        Hold::NoWayBack { .. } => "a missing image",
        Hold::EnvironmentDegraded { signal: Signal::Checks, .. } => "checks",
        Hold::EnvironmentDegraded { signal: Signal::Instances, .. } => "instances",
    }
}

fn throttled() -> Hold {
    Hold::Throttled { error: "slower".into() }
}

fn short_of(fleet: &str) -> Hold {
    Hold::Shortage { fleet: fleet.parse().unwrap(), error: "none left".into() }
}

fn degraded(signal: Signal) -> Hold {
    Hold::EnvironmentDegraded { signal, evidence: "both".into() }
}

fn held(hold: Hold, second: i64) -> Event {
    Event::Held { hold, at: at(second) }
}
