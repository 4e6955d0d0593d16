//! Time and randomness, injected.

#![expect(clippy::disallowed_methods, reason = "this is where the clock comes from")]

use std::fmt::Debug;

use jiff::Timestamp;

/// Tells the time. Waiting is tokio's: under its paused time a day takes milliseconds.
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

/// The system's clock at its creation, carried on by tokio's: it never jumps, and it follows tokio's paused time.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    start: Timestamp,
    since: tokio::time::Instant,
}

impl SteadyClock {
    /// A clock that starts at the system's time. Must be called within a tokio runtime when its time is paused.
    pub fn new() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// A clock that starts at a given time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, since: tokio::time::Instant::now() }
    }
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.start.checked_add(self.since.elapsed()).unwrap_or(Timestamp::MAX)
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
