//! The machine: where a rollout stands and what comes next. Pure: it is told the time and the world, and never does anything.

mod command;
mod gate;
mod hold;
mod judging;
mod keeping;
mod pursuit;
mod scaling;
mod takeover;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::clock::later;
use super::event::{Event, Outcome, Reason};
use crate::analysis::{Check, Evidence, Judgement};
use crate::decide::{Action, World, reached};
use crate::model::{ApprovalName, FleetId, InstanceId, Release, RolloutId};
use crate::plan::{Amount, Plan, Resize};
use crate::provider::Window;
pub use command::Command;
use hold::Held;
pub(super) use judging::Judging;

/// Where a rollout stands. Made by replaying its events; moved only by [`Machine::apply`].
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one rollout, in any combination")]
pub struct Machine {
    rollout: RolloutId,
    plan: Plan,
    started_at: Timestamp,
    course: Course,
    deadline: Timestamp,
    /// What was left until the deadline when the goal was reached; it goes on from there when the goal is lost again.
    left: Duration,
    reached_at: Timestamp,
    /// Since when the stage's goal has been reached, and until when it holds.
    reached: Option<Timestamp>,
    /// How often the stage's goal was lost again, and how long it has to hold once it is reached the next time.
    losses: u32,
    hold: Duration,
    /// What was left of the hold when the goal was lost, as long as nothing was done about it: it may come back by itself.
    interrupted: Option<Duration>,
    /// Whether the hold begins anew if something is done about it.
    anew: bool,
    /// When the stage's goal was first reached: the metrics count from here.
    measured_from: Option<Timestamp>,
    /// What is known of the new release; since when the stage is measured, and when it should have been judged.
    evidence: Evidence,
    judged_from: Option<Timestamp>,
    judged_by: Option<Timestamp>,
    /// Whether the stage was found to pass once.
    passed: bool,
    paused: bool,
    frozen: Option<String>,
    /// Since when it has been paused, frozen or both.
    stopped: Option<Timestamp>,
    approvals: BTreeSet<ApprovalName>,
    promoting: bool,
    outcome: Option<Outcome>,
    /// Instances that this rollout put into traffic.
    routed: HashSet<InstanceId>,
    /// Instances that this rollout took out of traffic.
    drained: HashSet<InstanceId>,
    /// The best that was seen on the way to the current goal, as far as it is in the journal.
    best: Option<u64>,
    /// The fleet that somebody else has scaled in this stage.
    scaled: Option<FleetId>,
    held: Option<Held>,
    /// Whether the environment was found at fault before.
    excused: bool,
    /// Until when whoever drives it does nothing, because requests of the driver before may still land.
    quiet_until: Option<Timestamp>,
    /// Whether the driver that drives it now may have sent a request.
    acted: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Course {
    Forward { stage: usize },
    Back { reason: Reason },
}

/// What comes next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// To be written to the journal, then applied, before anything is done.
    pub events: Vec<Event>,
    /// To be done after that.
    pub actions: Vec<Action>,
    /// What it waits for, in words that a person can act on.
    pub waiting: Vec<String>,
    /// When there is something to decide at the latest, whatever happens.
    pub wake: Option<Timestamp>,
}

impl Step {
    fn has_progress(&self, now: Timestamp) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Progressed { deadline, .. } if *deadline > now))
    }
}

impl Machine {
    /// Where a rollout stands after its events. `None` when they do not begin with its start, or make no sense for its plan.
    pub fn replay(events: impl IntoIterator<Item = Event>) -> Option<Self> {
        let mut events = events.into_iter();
        let first = events.next()?;
        first.fits(0).ok()?;
        let Event::Started { rollout, plan, at } = first else { return None };
        let mut machine = Self {
            rollout,
            plan: *plan,
            started_at: at,
            course: Course::Forward { stage: 0 },
            deadline: at,
            left: Duration::ZERO,
            reached_at: at,
            reached: None,
            losses: 0,
            hold: Duration::ZERO,
            interrupted: None,
            anew: true,
            measured_from: None,
            evidence: Evidence::default(),
            judged_from: None,
            judged_by: None,
            passed: false,
            paused: false,
            frozen: None,
            stopped: None,
            approvals: BTreeSet::new(),
            promoting: false,
            outcome: None,
            routed: HashSet::new(),
            drained: HashSet::new(),
            best: None,
            scaled: None,
            held: None,
            excused: false,
            quiet_until: None,
            acted: false,
        };
        machine.deadline = machine.progress_deadline(at);
        machine.hold = machine.whole_hold();
        for event in events {
            event.fits(machine.plan.stages.len()).ok()?;
            machine.apply(&event);
        }
        Some(machine)
    }

    /// Takes an event into account.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::StageEntered { stage, deadline, .. } => {
                self.course = Course::Forward { stage: *stage };
                self.begin(*deadline);
            }
            Event::TurnedBack { reason, deadline, .. } => {
                self.course = Course::Back { reason: reason.clone() };
                (self.paused, self.frozen, self.stopped) = (false, None, None);
                self.held = None;
                self.begin(*deadline);
            }
            Event::Progressed { deadline, score } => {
                self.deadline = *deadline;
                self.best = Some(*score);
            }
            Event::LookedAgain { deadline, .. } => self.deadline = *deadline,
            Event::TakenOver { until, deadline, .. } => self.was_taken_over(*until, *deadline),
            Event::GoalReached { at, hold_until } => {
                self.reached = Some(*hold_until);
                self.hold = self.interrupted.take().unwrap_or(self.hold);
                self.left = self.deadline.duration_since(*at).try_into().unwrap_or_default();
                self.reached_at = *at;
                self.measured_from.get_or_insert(*at);
                self.begin_judging(*at);
            }
            Event::Judged { evidence, at } => self.judged(evidence, *at),
            Event::Resized { fleet, size, desired, .. } => {
                let change = Resize { fleet, size: *size, desired: *desired, stage: self.stage() };
                self.plan = self.plan.clone().resized(&change);
                self.scaled = Some(fleet.clone());
            }
            Event::GoalLost { at, deadline } => self.lose(*at, *deadline),
            Event::Intended { actions, .. } => self.intend(actions),
            Event::Paused { at } => {
                self.paused = true;
                self.stopped.get_or_insert(*at);
            }
            Event::Resumed { at } => {
                self.paused = false;
                self.go_on_again(*at);
            }
            Event::Frozen { reason, at } => {
                self.frozen = Some(reason.clone());
                self.stopped.get_or_insert(*at);
            }
            Event::Thawed { at } => {
                self.frozen = None;
                self.go_on_again(*at);
            }
            Event::Approved { approval, .. } => {
                self.approvals.insert(approval.clone());
            }
            Event::PromotionAsked { .. } => self.promoting = true,
            Event::Held { hold, at } => self.held = Some(Held { hold: hold.clone(), since: *at }),
            Event::WentOn { at, deadline } => self.went_on(*at, *deadline),
            Event::Ended { outcome, .. } => self.outcome = Some(outcome.clone()),
            Event::Started { .. } => {}
        }
    }

    fn begin(&mut self, deadline: Timestamp) {
        self.deadline = deadline;
        self.reached = None;
        self.losses = 0;
        self.hold = self.whole_hold();
        self.interrupted = None;
        self.measured_from = None;
        (self.judged_by, self.passed) = (None, false);
        self.best = None;
        self.scaled = None;
    }

    fn intend(&mut self, actions: &[Action]) {
        self.acted = true;
        self.lose_in_earnest();
        for action in actions {
            if let Action::Route(change) = action {
                for id in &change.register {
                    self.drained.remove(id);
                    self.routed.insert(id.clone());
                }
                self.drained.extend(change.drain.iter().cloned());
            }
        }
    }

    /// Time in a pause or a freeze burns no deadline and no hold.
    fn go_on_again(&mut self, at: Timestamp) {
        let Some(since) = self.stopped.take_if(|_| !self.paused && self.frozen.is_none()) else { return };
        let stopped = at.duration_since(since).unsigned_abs();
        self.deadline = later(self.deadline, stopped);
        self.reached = self.reached.map(|until| later(until, stopped));
        self.judged_by = self.judged_by.map(|by| later(by, stopped));
    }

    /// What comes next in this world. `judgements` are those of [`Machine::measures`], in their order, and after them that of the
    /// plan's analysis, if the stage has to pass it.
    pub fn next(&self, now: Timestamp, world: &World, judgements: &[Judgement]) -> Step {
        match (&self.outcome, &self.course) {
            (Some(_), _) => Step::default(),
            (None, Course::Forward { .. }) if self.stopped.is_some() => {
                let frozen = self.frozen.as_ref().map(|reason| format!("the freeze to be lifted: {reason}"));
                let paused = self.paused.then(|| "somebody to resume the rollout".into());
                Step { waiting: frozen.into_iter().chain(paused).collect(), ..Step::default() }
            }
            (None, Course::Forward { stage }) => self.forward(now, world, judgements, *stage),
            (None, Course::Back { reason }) => self.back(now, world, reason),
        }
    }

    fn forward(&self, now: Timestamp, world: &World, judgements: &[Judgement], index: usize) -> Step {
        let stage = &self.plan.stages[index];
        // What has to leave first leaves first, whoever is in a hurry.
        let makes_way = stage.goal.fleet(&self.plan.target).is_none();
        if self.promoting && index < self.plan.full_stage() && !makes_way {
            return self.advance(now, index);
        }
        let failed = judgements.iter().find(|judgement| matches!(judgement, Judgement::Fail { .. }));
        if let Some(Judgement::Fail { evidence }) = failed.filter(|_| !self.is_blamed()) {
            return self.turn_back(now, Reason::CheckFailed { evidence: evidence.clone() });
        }
        let decision = self.decide(world, &stage.goal, &self.plan.budget);
        let arrived = reached(world, &stage.goal, self.plan.switch, |size| self.enough(size));
        let mut step = self.pursue(now, world, &stage.goal, decision, arrived);
        match (arrived, self.reached) {
            // The new release has all that this goal gives it; only what goes is not gone. Going back would not help.
            (false, None) if self.is_overdue(now) && self.serves(world, &stage.goal) => {
                let (service, waiting) = (&self.plan.service, step.waiting.join(", "));
                let reason = format!("the new release of {service} serves; what is left over waits for {waiting}");
                return end(now, Outcome::Stuck { reason });
            }
            // An old release that does not come up must not hold up the fix.
            (false, None) if self.is_overdue(now) && makes_way => return self.advance(now, index),
            (false, None) if self.is_overdue(now) && !step.has_progress(now) => {
                return self.turn_back(now, Reason::NoProgress { waiting: step.waiting.join(", ") });
            }
            (false, Some(_)) => {
                step.events.insert(0, Event::GoalLost { at: now, deadline: later(now, self.patience(now)) });
            }
            (false, None) => {}
            (true, None) if self.skips_gates() || !self.has_gate(stage) => return self.advance(now, index),
            (true, None) => {
                let hold_until = later(now, self.interrupted.unwrap_or(self.hold));
                step.events.insert(0, Event::GoalReached { at: now, hold_until });
                step.wake = Some(hold_until);
            }
            (true, Some(hold_until)) => {
                let open = self.gate(now, hold_until, stage, judgements, &mut step);
                // With everything else done: an instance that is replaced meanwhile does not hold up the rest.
                if open {
                    return self.advance(now, index);
                }
            }
        }
        step
    }

    fn back(&self, now: Timestamp, world: &World, reason: &Reason) -> Step {
        let Some((goal, budget)) = self.plan.way_back() else {
            let fleet = self.plan.replaces.as_ref().map_or("nothing", |fleet| fleet.as_str());
            return end(
                now,
                Outcome::Stuck {
                    reason: format!(
                        "{reason}; and what served before ({fleet}) was never proven, so there is nothing to go back to"
                    ),
                },
            );
        };
        let decision = self.decide(world, &goal, &budget);
        let arrived = reached(world, &goal, self.plan.switch, |size| self.enough(size));
        let step = self.pursue(now, world, &goal, decision, arrived);
        if arrived && step.actions.is_empty() {
            let reason = reason.clone();
            return end(
                now,
                match &self.plan.previous {
                    Some(release) => Outcome::RolledBack { to: release.id(), reason },
                    None => Outcome::Aborted { reason },
                },
            );
        }
        if self.is_overdue(now) && !step.has_progress(now) {
            let waiting = step.waiting.join(", ");
            return end(now, Outcome::Stuck { reason: format!("{reason}; going back waits for {waiting}") });
        }
        step
    }

    /// The release whose image has to be there before more traffic moves away from it, if there is one.
    pub(super) fn way_back_needs(&self) -> Option<&Release> {
        let forward = matches!(self.course, Course::Forward { .. });
        self.plan.way_back_needs().filter(|_| forward && !self.promoting)
    }

    /// The fleet that the current goal is about, if it is about one.
    pub(super) fn pursued(&self) -> Option<FleetId> {
        match &self.course {
            Course::Forward { .. } => Some(self.plan.target.clone()),
            Course::Back { .. } => self.plan.previous_fleet(),
        }
    }

    fn advance(&self, now: Timestamp, index: usize) -> Step {
        let next = if self.promoting { (index + 1).max(self.plan.full_stage()) } else { index + 1 };
        if next >= self.plan.stages.len() {
            return end(now, Outcome::Promoted);
        }
        let deadline = self.progress_deadline(now);
        Step {
            events: vec![Event::StageEntered { stage: next, at: now, deadline }],
            wake: Some(now),
            ..Step::default()
        }
    }

    fn turn_back(&self, now: Timestamp, reason: Reason) -> Step {
        let deadline = self.progress_deadline(now);
        Step { events: vec![Event::TurnedBack { reason, at: now, deadline }], wake: Some(now), ..Step::default() }
    }

    /// A provider said that trying again does not help.
    pub fn refused(&self, now: Timestamp, error: String) -> Vec<Event> {
        match (&self.outcome, &self.course) {
            (Some(_), _) => Vec::new(),
            (None, Course::Forward { .. }) => self.turn_back(now, Reason::Refused { error }).events,
            (None, Course::Back { reason }) => {
                end(now, Outcome::Stuck { reason: format!("{reason}; going back was refused: {error}") }).events
            }
        }
    }

    /// The checks to be judged now, and the time that they are about.
    pub fn measures(&self, now: Timestamp) -> Option<(&[Check], Window)> {
        let Course::Forward { stage } = &self.course else { return None };
        let from = self.measured_from?;
        let checks = &self.plan.stages[*stage].gate.checks;
        (!checks.is_empty() && !self.skips_gates()).then_some((checks.as_slice(), Window { from, to: now }))
    }

    fn skips_gates(&self) -> bool {
        self.promoting
    }

    fn enough(&self, size: u32) -> u32 {
        Amount::Percent(self.plan.limits.quorum_percent).rounded_up(size)
    }

    fn progress_deadline(&self, now: Timestamp) -> Timestamp {
        later(self.begins(now), self.plan.limits.progress_deadline)
    }

    /// When anything can be done at the earliest.
    fn begins(&self, now: Timestamp) -> Timestamp {
        self.quiet_until.map_or(now, |until| until.max(now))
    }

    /// The rollout's name.
    pub fn rollout(&self) -> &RolloutId {
        &self.rollout
    }

    /// What the rollout does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When it began.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How it ended, once it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The stage that is pursued; `None` on the way back.
    pub fn stage(&self) -> Option<usize> {
        match self.course {
            Course::Forward { stage } => Some(stage),
            Course::Back { .. } => None,
        }
    }

    /// Why it goes back, if it does.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.course {
            Course::Forward { .. } => None,
            Course::Back { reason } => Some(reason),
        }
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Why it is frozen, if it is.
    pub fn frozen(&self) -> Option<&str> {
        self.frozen.as_deref()
    }

    /// Whether this rollout ever put an instance into traffic.
    pub(super) fn has_routed(&self, instance: &InstanceId) -> bool {
        self.routed.contains(instance)
    }

    /// Whether this rollout took an instance out of traffic.
    pub(super) fn has_drained(&self, instance: &InstanceId) -> bool {
        self.drained.contains(instance)
    }
}

fn end(now: Timestamp, outcome: Outcome) -> Step {
    Step { events: vec![Event::Ended { outcome, at: now }], ..Step::default() }
}
