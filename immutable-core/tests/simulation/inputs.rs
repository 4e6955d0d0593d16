//! What people do while a rollout goes on, drawn from the seed.
//!
//! Whether a kind happens at all, how often, when, and to whom depends on the seed, the kind and how many of it there were
//! before, and on nothing else: so one of them can be left out while all others stay as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_core::engine::Entropy;

use crate::random::Random;

/// A kind of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pause,
    Resume,
    Abort,
    Promote,
    Approve,
    /// To the first release, whatever goes on.
    RollBack,
    Freeze,
    Thaw,
    Supersede,
    /// The driver dies; another one begins later.
    Crash,
    /// Another driver takes over. The one before lives on, and learns that it is fenced.
    Rival,
    Kill,
    End,
    MakeIll,
    Heal,
    Drift,
    TakeOut,
    MoveWeights,
    /// To the first release, after the end.
    Regret,
}

const KINDS: [Kind; 18] = [
    Kind::Pause,
    Kind::Resume,
    Kind::Abort,
    Kind::Promote,
    Kind::Approve,
    Kind::RollBack,
    Kind::Freeze,
    Kind::Thaw,
    Kind::Supersede,
    Kind::Crash,
    Kind::Rival,
    Kind::Kill,
    Kind::End,
    Kind::MakeIll,
    Kind::Heal,
    Kind::Drift,
    Kind::TakeOut,
    Kind::MoveWeights,
];

impl Kind {
    /// Whether a good release goes out all the same.
    pub(crate) fn spares_a_fix(self) -> bool {
        use Kind::{Approve, Crash, Freeze, Pause, Promote, Resume, Rival, Thaw};
        matches!(self, Pause | Resume | Promote | Approve | Freeze | Thaw | Crash | Rival)
    }
}

/// One input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Input {
    pub(crate) kind: Kind,
    pub(crate) nth: u64,
}

impl Input {
    /// Its own random numbers.
    pub(crate) fn random(self, seed: u64) -> Random {
        let mixed = Random::new(seed).next_u64() ^ ((self.kind as u64 + 1) << 32) ^ self.nth;
        Random::new(mixed)
    }
}

/// Whether a kind of input happens in a seed at all.
pub(crate) fn is_on(seed: u64, kind: Kind) -> bool {
    Input { kind, nth: u64::from(u32::MAX) }.random(seed).below(2) == 0
}

/// The inputs of a seed in the order of their time, counted from the start of the rollout.
pub(crate) fn schedule(seed: u64, off: &BTreeSet<Input>) -> Vec<(Duration, Input)> {
    let mut due = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| is_on(seed, *kind)) {
        for nth in 0..2 {
            let input = Input { kind, nth };
            let random = input.random(seed);
            // As many in the first minutes as in the hours after them: from half a minute to two hours.
            let longest = 1 << (5 + random.below(9));
            let at = random.seconds(longest);
            // The second of a kind is as likely as not.
            if (nth == 0 || random.below(2) == 0) && !off.contains(&input) {
                due.push((at, input));
            }
        }
    }
    due.sort();
    due
}
