//! What is still to happen, in the order of time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::Offset;

use super::World;
use crate::resources;

/// Something that happens to the world.
pub(crate) type Effect = Box<dyn FnOnce(&mut World) + Send>;

/// What is still to happen. Times are since the world began.
#[derive(Default)]
pub(super) struct Agenda {
    due: BTreeMap<(Duration, u64), Effect>,
    now: Duration,
    skipped: Duration,
}

impl World {
    /// Lets everything happen that is due by now, each at its time.
    pub(crate) fn advance(&mut self) {
        let until = self.began.0.elapsed() + self.agenda.skipped;
        resources::settle(self);
        while let Some(due) = self.agenda.due.keys().next().map(|(due, _)| *due).filter(|due| *due <= until) {
            self.agenda.now = self.agenda.now.max(due);
            while let Some(first) = self.agenda.due.first_entry().filter(|first| first.key().0 == due) {
                first.remove()(self);
            }
            resources::settle(self);
        }
        self.agenda.now = until;
    }

    /// Makes it later than it is. What is due happens at the next look.
    pub(crate) fn skip(&mut self, time: Duration) {
        self.agenda.skipped += time;
    }

    /// Has something happen later.
    pub(crate) fn after(&mut self, time: Duration, effect: impl FnOnce(&mut Self) + Send + 'static) {
        let key = (self.agenda.now + time, self.serial());
        self.agenda.due.insert(key, Box::new(effect));
    }

    /// The time since the world began, at which what happens now happens.
    pub(crate) fn now(&self) -> Duration {
        self.agenda.now
    }

    /// Now, as Compute Engine writes it: in the time of California.
    pub(crate) fn timestamp(&self) -> String {
        let passed = SignedDuration::try_from(self.agenda.now).unwrap_or(SignedDuration::MAX);
        let now = self.began.1.saturating_add(passed).unwrap_or(self.began.1);
        format!("{:.3}", now.display_with_offset(Offset::constant(-8)))
    }
}
