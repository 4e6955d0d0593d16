//! Time and randomness, injected.

#![expect(clippy::disallowed_methods, reason = "this is where the clock comes from")]

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time. Waiting is tokio's: with its time paused and a `testkit::VirtualClock`, a day takes milliseconds.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The system's clock: the same that providers and probes tell the time by.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Gives random numbers: for ids and for the jitter of delays, never for decisions.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// A random number.
    fn next_u64(&self) -> u64;
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        getrandom::u64().expect("invariant: the operating system gives random numbers")
    }
}

/// A time after another, or the end of time.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_random_numbers_of_the_system_are_equal() {
        let drawn: std::collections::HashSet<u64> = (0..8).map(|_| SystemEntropy.next_u64()).collect();
        assert_eq!(drawn.len(), 8);
    }
}
