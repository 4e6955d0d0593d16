//! What is still to happen, in the order of time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::World;

/// Something that happens to the world.
pub(crate) type Effect = Box<dyn FnOnce(&mut World) + Send>;

/// What is still to happen. Times are since the world began.
pub(super) struct Agenda {
    due: BTreeMap<(Duration, u64), Effect>,
    now: Duration,
    skipped: Duration,
    began: (Instant, Timestamp),
}

impl Agenda {
    pub(super) fn new() -> Self {
        // What a client compares with is its own clock.
        let began = (Instant::now(), Timestamp::now());
        Self { due: BTreeMap::new(), now: Duration::ZERO, skipped: Duration::ZERO, began }
    }
}

impl World {
    /// Lets everything happen that is due by now, each at its time.
    pub(crate) fn advance(&mut self) {
        let until = self.agenda.began.0.elapsed() + self.agenda.skipped;
        while let Some(first) = self.agenda.due.first_entry().filter(|first| first.key().0 <= until) {
            let ((due, _), effect) = first.remove_entry();
            self.agenda.now = self.agenda.now.max(due);
            effect(self);
        }
        self.agenda.now = until;
    }

    /// Makes it later than it is. What is due happens at the next look.
    pub(crate) fn skip(&mut self, time: Duration) {
        self.agenda.skipped += time;
    }

    /// Has something happen later; at once, if there is no time between.
    pub(crate) fn after(&mut self, time: Duration, effect: impl FnOnce(&mut Self) + Send + 'static) {
        if time.is_zero() {
            return effect(self);
        }
        let due = (self.agenda.now + time, self.serial());
        self.agenda.due.insert(due, Box::new(effect));
    }

    /// The time since the world began, at which what happens now happens.
    pub(crate) fn now(&self) -> Duration {
        self.agenda.now
    }

    /// Now, as Resource Manager writes it.
    pub(crate) fn timestamp(&self) -> String {
        let passed = SignedDuration::try_from(self.agenda.now).unwrap_or(SignedDuration::MAX);
        let began = self.agenda.began.1;
        format!("{:.6}", began.saturating_add(passed).unwrap_or(began))
    }
}
