//! Pursuing a goal: what is decided, and whether the world comes nearer.

use jiff::Timestamp;

use super::{Course, Machine, Step};
use crate::decide::{Action, Budget, Decision, Goal, Phase, World, decide, reached};
use crate::engine::clock::later;
use crate::engine::event::Event;

/// The most instances that one action names, so that no journal entry grows without bound. The rest follows at the next step.
const MAX_NAMED: usize = 5_000;

impl Machine {
    /// Whether the goal's first fleet is ready and has its weight, whatever else is there.
    pub(super) fn serves(&self, world: &World, goal: &Goal) -> bool {
        let alone = World {
            fleets: world.fleets.iter().filter(|fleet| fleet.id == self.plan.target).cloned().collect(),
            ..world.clone()
        };
        reached(&alone, goal, self.plan.switch, |size| self.enough(size))
    }

    /// The budget of the current goal.
    pub(in crate::engine) fn budget(&self) -> Budget {
        match &self.course {
            Course::Forward { .. } => self.plan.budget,
            Course::Back { .. } => self.plan.way_back().map_or(self.plan.budget, |(_, budget)| budget),
        }
    }

    pub(super) fn decide(&self, world: &World, goal: &Goal, budget: &Budget) -> Decision {
        let kept = self.keeping_what_others_started(world, goal, budget);
        let goal = kept.as_ref().unwrap_or(goal);
        let mut decision = decide(world, goal, &self.restrained(world, budget), self.plan.switch);
        self.keep_what_is_healthy(world, &mut decision);
        for action in &mut decision.actions {
            match action {
                Action::Route(change) => {
                    change.register.truncate(MAX_NAMED);
                    change.drain.truncate(MAX_NAMED);
                }
                Action::End { instances, .. } => instances.truncate(MAX_NAMED),
                _ => {}
            }
        }
        decision
    }

    /// The decision as a step: intents before actions, progress noted, the deadline as the latest time to wake.
    pub(super) fn pursue(&self, now: Timestamp, world: &World, goal: &Goal, decision: Decision, arrived: bool) -> Step {
        if self.shortage_is_moot(&decision) {
            // What is to be done is decided without it, at once.
            return Step { events: self.go_on(now), wake: Some(now), ..Step::default() };
        }
        let Decision { actions, waiting } = decision;
        let mut step = Step { actions, wake: Some(self.deadline), ..Step::default() };
        step.waiting = waiting.iter().map(ToString::to_string).collect();
        if step.waiting.is_empty() && !arrived {
            step.waiting.push(format!("the world to become: {goal}"));
        }
        // What was reached and is lost again comes with its own deadline.
        if !arrived && self.reached.is_none() {
            step.events.extend(self.progress(now, score(world, goal)));
        }
        if !step.actions.is_empty() {
            step.events.push(Event::Intended { actions: step.actions.clone(), at: now });
        }
        step
    }

    /// The first look at a goal says what progress is measured against; only what comes after it is progress.
    fn progress(&self, now: Timestamp, score: u64) -> Option<Event> {
        let Some(best) = self.best else { return Some(Event::Progressed { deadline: self.deadline, score }) };
        let deadline = self.progress_deadline(now);
        // A deadline that moves by less than a twentieth is not worth a write.
        let worth = later(self.deadline, self.plan.limits.progress_deadline / 20);
        (score > best && deadline >= worth).then_some(Event::Progressed { deadline, score })
    }

    /// What it means that the world can be seen again, after a time in which nobody could look, or for a driver that looks for the
    /// first time.
    ///
    /// A deadline that passed in that time says nothing, and one that is near says little: what happened meanwhile has to be looked
    /// at first.
    pub fn looked_again(&self, now: Timestamp, first: bool) -> Vec<Event> {
        let counts = self.outcome.is_none() && self.stopped.is_none() && self.reached.is_none() && self.held.is_none();
        let begins = self.begins(now);
        let deadline = later(begins, self.plan.limits.instance_deadline).min(self.progress_deadline(now));
        let is_near = first && deadline > later(self.deadline, self.plan.limits.progress_deadline / 20);
        if !counts || !(self.is_overdue(now) || is_near) {
            return Vec::new();
        }
        vec![Event::LookedAgain { at: now, deadline }]
    }
}

/// How near the world is to a goal: only its growth means anything.
fn score(world: &World, goal: &Goal) -> u64 {
    let Some(part) = goal.fleets().first() else {
        return u64::MAX - world.total() as u64;
    };
    let instances = world.fleet(&part.fleet).map_or(&[][..], |fleet| &fleet.instances);
    let steps = instances.iter().filter(|instance| !instance.replace).map(|instance| match instance.phase {
        Phase::Proven | Phase::Drained => 1,
        Phase::Joining => 2,
        Phase::Serving => 3,
        _ => 0,
    });
    let others = world.total() - instances.len();
    let weight = world.split.weight(&part.fleet).points().min(part.weight.points());
    steps.sum::<u64>() + u64::from(weight) + 4 * (1_000_000 - (others as u64).min(1_000_000))
}
