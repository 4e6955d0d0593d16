//! A rollout that ends because another one takes its place.

use super::Driver;
use crate::engine::event::{Event, Outcome};
use crate::engine::machine::Machine;
use crate::journal::JournalError;

impl Driver {
    /// Ends this rollout and begins the other one, in one entry: there is no moment without a rollout, or with two. Nothing when it
    /// has ended already.
    pub(super) async fn give_way(&mut self, to: Vec<Event>) -> Result<(), JournalError> {
        let Some(next) = Machine::replay(to.clone()).filter(|_| self.machine.outcome().is_none()) else {
            return Ok(());
        };
        let now = self.calls.now();
        // What was sent and may still land is no less dangerous for the other one, and what lists do not show yet is there all the same.
        let listed = self.unsettled.listed(&self.platform.pace).filter(|at| *at > now);
        let quiet = [self.unsettled.last_lands(), self.machine.quiet_until(now), listed].into_iter().flatten().max();
        let end = Event::Ended { outcome: Outcome::Superseded { by: next.rollout().clone() }, at: now };
        let quiet = quiet.map(|until| next.begin_quietly(now, until)).unwrap_or_default();
        let all: Vec<Event> = [end.clone()].into_iter().chain(to).chain(quiet).collect();
        self.append(&all).await?;
        self.happened(vec![end]);
        self.show(Vec::new());
        Ok(())
    }
}
