//! Time in a simulation.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::engine::Clock;

/// A clock that starts at a fixed moment and goes as tokio's time goes: at once to the next timer where time is paused.
///
/// ```
/// # use std::time::Duration;
/// # use immutable_core::testkit::VirtualClock;
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
/// let clock = VirtualClock::new();
/// assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00Z");
/// tokio::time::sleep(Duration::from_hours(1)).await;
/// assert_eq!(clock.now().to_string(), "2026-01-01T01:00:00Z");
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    start: Timestamp,
    zero: Instant,
}

impl VirtualClock {
    /// Where a clock starts: 2026-01-01T00:00:00Z.
    pub const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

    /// A clock that is at [`START`](Self::START) now.
    pub fn new() -> Self {
        Self::starting_at(Self::START)
    }

    /// A clock that is at a moment of your choice now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, zero: Instant::now() }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.at(self.elapsed())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.zero.elapsed()
    }

    /// The moment so long after the start.
    pub(super) fn at(&self, elapsed: Duration) -> Timestamp {
        self.start.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// How long after the start a moment is; nothing for one before it.
    pub(super) fn since_start(&self, moment: Timestamp) -> Duration {
        Duration::try_from(moment.duration_since(self.start)).unwrap_or(Duration::ZERO)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moment_survives_its_distance_from_the_start() {
        let clock = VirtualClock::starting_at(Timestamp::UNIX_EPOCH);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now().as_millisecond(), 1_500);
        assert_eq!(clock.since_start(clock.now()), Duration::from_millis(1_500));
        assert_eq!(clock.since_start(Timestamp::MIN), Duration::ZERO);
        assert_eq!(clock.at(Duration::MAX), Timestamp::MAX);
    }
}
