//! What a platform says that is no failure of the rollout: that it throttles, or has no room for more.

use jiff::Timestamp;

use super::{Driver, later};
use crate::decide::Action;
use crate::engine::hold::Hold;
use crate::journal::JournalError;
use crate::provider::{ErrorKind, ProviderError};

impl Driver {
    /// Holds the rollout while the platform throttles it. A short while is not worth a write.
    pub(super) async fn mind_throttling(&mut self) -> Result<(), JournalError> {
        let now = self.calls.now();
        let troubles = [&self.sight, &self.looks, &self.acts];
        let throttled = troubles.into_iter().filter_map(|trouble| trouble.of_kind(ErrorKind::Throttled));
        let first = throttled.min_by_key(|(since, _)| *since).map(|(since, text)| (since, text.to_owned()));
        let events = match (first, self.machine.hold()) {
            (Some((since, error)), _) if self.machine.is_worth_a_hold(since, now) => {
                self.machine.hold_since(since, now, Hold::Throttled { error })
            }
            (None, Some(Hold::Throttled { .. })) => self.machine.go_on(now),
            _ => return Ok(()),
        };
        self.record(events).await
    }

    /// When a fleet may be tried again that could not grow for want of capacity; `None` when that is not what is wrong.
    pub(super) fn shortage(
        &mut self,
        now: Timestamp,
        action: &Action,
        error: &ProviderError,
    ) -> Option<(Timestamp, Hold)> {
        let Action::Grow { fleet, .. } = action else { return None };
        if !matches!(error.kind(), ErrorKind::Capacity | ErrorKind::Quota) {
            return None;
        }
        let again = self.growth.failed(&self.calls, Some(error)).max(later(now, self.platform.pace.observe));
        Some((again, Hold::Shortage { fleet: fleet.clone(), error: error.to_string() }))
    }

    /// A fleet can grow: what held it for want of capacity is over.
    pub(super) async fn has_grown(&mut self, now: Timestamp, action: &Action) -> Result<(), JournalError> {
        let Action::Grow { fleet: grown, .. } = action else { return Ok(()) };
        self.growth.is_over();
        if matches!(self.machine.hold(), Some(Hold::Shortage { fleet, .. }) if fleet == grown) {
            return self.record(self.machine.go_on(now)).await;
        }
        Ok(())
    }
}
