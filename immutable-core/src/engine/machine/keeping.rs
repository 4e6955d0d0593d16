//! How long a goal that was reached has to be kept, and what it costs to lose it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Course, Machine};

/// How often a hold begins anew because its goal was lost. Later losses only interrupt it, unless less than half of it was over:
/// or where instances die now and then a rollout would never end.
const MAX_NEW_HOLDS: u32 = 3;

impl Machine {
    pub(super) fn lose(&mut self, at: Timestamp, deadline: Timestamp) {
        self.interrupted = Some(self.hold.saturating_sub(self.held_for(at)));
        self.anew = !self.is_forgiven(at);
        self.reached = None;
        self.deadline = deadline;
    }

    /// Something has to be done to reach the goal again: it is lost in earnest.
    pub(super) fn lose_in_earnest(&mut self) {
        let Some(left) = self.interrupted.take() else { return };
        self.losses += 1;
        if !self.anew {
            self.hold = left;
        }
    }

    /// How much of the hold is over.
    fn held_for(&self, at: Timestamp) -> Duration {
        let left = self.reached.map(|hold_until| hold_until.duration_since(at).try_into().unwrap_or_default());
        self.hold.saturating_sub(left.unwrap_or(self.hold))
    }

    /// Whether a loss only interrupts the hold. It begins anew after the first ones, and after those that come too soon.
    fn is_forgiven(&self, at: Timestamp) -> bool {
        self.losses >= MAX_NEW_HOLDS && self.held_for(at) >= self.whole_hold() / 2
    }

    pub(super) fn whole_hold(&self) -> Duration {
        match self.course {
            Course::Forward { stage } => self.plan.stages[stage].gate.hold,
            Course::Back { .. } => Duration::ZERO,
        }
    }

    /// What is left of the deadline after a time in which the goal was reached: a quarter of that time comes back, so that
    /// a rare loss in a long bake is forgiven and a release that fails again and again is not: after the first losses nothing
    /// comes back for one that comes too soon.
    pub(super) fn patience(&self, now: Timestamp) -> Duration {
        let held = now.duration_since(self.reached_at).unsigned_abs();
        let forgiven = self.losses < MAX_NEW_HOLDS || self.is_forgiven(now);
        (self.left + if forgiven { held / 4 } else { Duration::ZERO }).min(self.plan.limits.progress_deadline)
    }
}
