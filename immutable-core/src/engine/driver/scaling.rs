//! Following somebody else who scales the fleets.

use jiff::Timestamp;

use super::Driver;
use super::looking::Observed;
use crate::engine::machine::Step;
use crate::journal::JournalError;

impl Driver {
    /// Takes into account what somebody else made of the sizes of the fleets.
    pub(super) async fn follow_others(&mut self, now: Timestamp, observed: &Observed) -> Result<(), JournalError> {
        if self.machine.quiet_until(now).is_some() {
            self.sizes.forget();
            return Ok(());
        }
        let lag = self.platform.pace.list_lag;
        let Some(scaled) = self.sizes.listed(observed.begun, lag, &observed.fleets) else { return Ok(()) };
        self.record(self.machine.follow(now, &scaled, &observed.fleets, &observed.world.split)).await
    }

    /// Does nothing while somebody else may be scaling a fleet: what was started would be ended, and started again.
    pub(super) fn wait_for_others(&mut self, step: &mut Step) {
        if let Some(why) = self.sizes.unclear() {
            step.actions.clear();
            step.waiting.push(why);
        }
    }
}
