//! Random numbers of a seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use immutable_core::engine::Entropy;

/// Random numbers of a seed: splitmix64.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0xa076_1d64_78bd_642f)))
    }

    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.next_u64() % limit
    }

    pub(crate) fn seconds(&self, limit: u64) -> Duration {
        Duration::from_secs(self.below(limit))
    }

    /// One of several.
    pub(crate) fn of<'a, T>(&self, several: &'a [T]) -> Option<&'a T> {
        several.get(usize::try_from(self.below(several.len().max(1) as u64)).unwrap())
    }
}

impl Entropy for Random {
    fn next_u64(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
