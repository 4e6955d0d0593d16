//! A driver goes on where another one stopped: what that one had sent may still land.

use std::time::Duration;

use jiff::Timestamp;

use super::Machine;
use crate::engine::clock::later;
use crate::engine::event::Event;

impl Machine {
    /// A driver goes on with the rollout of another one. Nothing when that one cannot have sent anything.
    ///
    /// The wait is in the journal: drivers that die while they wait do not make it longer.
    pub fn take_over(&self, now: Timestamp, horizon: Duration) -> Vec<Event> {
        let until = later(now, horizon);
        // A clock that was far ahead has written it.
        let too_long = self.quiet_until.is_some_and(|known| known > until);
        if self.outcome.is_some() || horizon.is_zero() || !(self.acted || too_long) {
            return Vec::new();
        }
        vec![Event::TakenOver { at: now, until, deadline: self.deadline_after(until, horizon) }]
    }

    /// Nobody could act, and then what happened meanwhile has to be looked at first. A hold or a pause puts it off by itself.
    fn deadline_after(&self, until: Timestamp, quiet: Duration) -> Timestamp {
        if self.held.is_some() || self.stopped.is_some() {
            return self.deadline;
        }
        let put_off = later(self.deadline, quiet).max(later(until, self.plan.limits.instance_deadline));
        put_off.min(self.progress_deadline(until)).max(self.deadline)
    }

    /// A rollout begins where another one was superseded: what that one sent may land until then. Nothing when it is over.
    pub(in crate::engine) fn begin_quietly(&self, now: Timestamp, until: Timestamp) -> Vec<Event> {
        let events = vec![Event::TakenOver { at: now, until, deadline: self.progress_deadline(until) }];
        if until > now { events } else { Vec::new() }
    }

    /// Until when nothing is done, for a driver whose view of the world began at this time.
    pub(in crate::engine) fn quiet_until(&self, view: Timestamp) -> Option<Timestamp> {
        self.quiet_until.filter(|until| *until > view)
    }

    pub(super) fn was_taken_over(&mut self, until: Timestamp, deadline: Timestamp) {
        self.quiet_until = Some(until);
        self.acted = false;
        self.deadline = deadline;
    }
}
