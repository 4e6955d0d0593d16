//! When the machine is held, and what that changes.

use jiff::Timestamp;

use super::{Course, Machine};
use crate::decide::{Action, Budget, Decision, Waiting, World};
use crate::engine::blame::Beside;
use crate::engine::clock::later;
use crate::engine::event::Event;
use crate::engine::hold::{Hold, Signal};

/// A hold that is going on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub(super) hold: Hold,
    pub(super) since: Timestamp,
}

impl Machine {
    /// Why it is held, if it is. No deadline passes meanwhile.
    pub fn hold(&self) -> Option<&Hold> {
        self.held.as_ref().map(|held| &held.hold)
    }

    /// The rollout cannot go on since a time. Nothing when that is known, or when what holds it already explains more.
    pub fn hold_since(&self, since: Timestamp, now: Timestamp, hold: Hold) -> Vec<Event> {
        let forward = matches!(self.course, Course::Forward { .. });
        let pointless = !forward && matches!(hold, Hold::EnvironmentDegraded { .. });
        if self.outcome.is_some() || self.stopped.is_some() || pointless {
            return Vec::new();
        }
        let mut events = match &self.held {
            None => Vec::new(),
            Some(before) if hold.outranks(&before.hold) => self.go_on(now),
            Some(_) => return Vec::new(),
        };
        events.push(Event::Held { hold, at: since });
        events
    }

    /// Ends the hold. The deadline is put off by its time; the first time that the environment was at fault, it begins anew.
    pub fn go_on(&self, now: Timestamp) -> Vec<Event> {
        let Some(held) = self.held.as_ref().filter(|_| self.outcome.is_none()) else { return Vec::new() };
        let fresh = self.progress_deadline(now);
        let put_off = later(self.deadline, now.duration_since(held.since).unsigned_abs());
        // Only the first time: an old fleet that flaps must not put off the end for ever.
        let anew = self.is_blamed() && !self.excused;
        let deadline = if anew { fresh } else { put_off.min(fresh) };
        vec![Event::WentOn { at: now, deadline }]
    }

    /// Takes the comparison with the fleet that serves beside the new one into account.
    pub fn compare(&self, now: Timestamp, beside: &Beside) -> Vec<Event> {
        match self.hold() {
            Some(Hold::EnvironmentDegraded { signal: Signal::Instances, .. }) if beside.is_over() => self.go_on(now),
            Some(Hold::EnvironmentDegraded { .. }) => Vec::new(),
            _ if beside.blames_environment(self.is_overdue(now)) => {
                let (signal, evidence) = (Signal::Instances, beside.evidence());
                self.hold_since(now, now, Hold::EnvironmentDegraded { signal, evidence })
            }
            _ => Vec::new(),
        }
    }

    /// Whether the environment is held to be at fault.
    pub(in crate::engine) fn is_blamed(&self) -> bool {
        matches!(self.hold(), Some(Hold::EnvironmentDegraded { .. }))
    }

    /// Whether the goal was not reached in time, and nothing else is to blame.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.reached.is_none() && self.held.is_none() && now >= self.deadline
    }

    /// Whether it matters that it cannot go on since a time: a twentieth of the deadline has passed, or all of it.
    pub(in crate::engine) fn is_worth_a_hold(&self, since: Timestamp, now: Timestamp) -> bool {
        self.held.is_none() && (self.is_overdue(now) || now >= later(since, self.plan.limits.progress_deadline / 20))
    }

    pub(super) fn went_on(&mut self, at: Timestamp, deadline: Timestamp) {
        let since = self.held.as_ref().map_or(at, |held| held.since);
        self.judged_by = self.judged_by.map(|by| later(by, at.duration_since(since).unsigned_abs()));
        if self.is_blamed() {
            let first = !std::mem::replace(&mut self.excused, true);
            // Judged anew from here: what was measured and held until now says nothing about the release.
            self.measured_from = self.measured_from.map(|_| at);
            self.judge_anew(at, first);
            if let Course::Forward { stage } = self.course {
                let hold = self.plan.stages[stage].gate.hold;
                self.reached = self.reached.map(|_| later(at, hold));
            }
        }
        self.held = None;
        self.deadline = deadline;
    }

    /// The budget while the platform has no capacity: what is healthy and serves is needed.
    pub(super) fn restrained(&self, world: &World, budget: &Budget) -> Budget {
        let Some(Hold::Shortage { .. }) = self.hold() else { return *budget };
        let serving = u32::try_from(world.serving()).unwrap_or(u32::MAX);
        Budget { max_unavailable: budget.max_unavailable.min(budget.desired.saturating_sub(serving)), ..*budget }
    }

    /// Leaves out the ends of healthy instances while the platform has no capacity to replace them.
    pub(super) fn keep_what_is_healthy(&self, world: &World, decision: &mut Decision) {
        let Some(Hold::Shortage { .. }) = self.hold() else { return };
        decision.actions.retain_mut(|action| {
            let Action::End { fleet, instances } = action else { return true };
            let Some(view) = world.fleet(fleet) else { return false };
            let ill = view.instances.iter().filter(|instance| instance.replace || instance.dead);
            let ill: std::collections::HashSet<_> = ill.map(|instance| &instance.id).collect();
            instances.retain(|id| ill.contains(id));
            !instances.is_empty()
        });
    }

    /// Whether a shortage no longer matters: its fleet is not to grow any more.
    pub(super) fn shortage_is_moot(&self, decision: &Decision) -> bool {
        let Some(Hold::Shortage { fleet: short, .. }) = self.hold() else { return false };
        let wants = |action: &Action| match action {
            Action::Grow { fleet, .. } | Action::End { fleet, .. } => fleet == short,
            _ => false,
        };
        let pauses = |waiting: &Waiting| matches!(waiting, Waiting::Backoff { fleet, .. } if fleet == short);
        !decision.actions.iter().any(wants) && !decision.waiting.iter().any(pauses)
    }
}
