//! Parts that are broken on purpose: the simulation must find each of them, by the rule that it breaks.

mod journals;
mod parts;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use immutable_core::engine::Engine;
use immutable_core::journal::MemoryJournal;
use immutable_core::provider::Platform;
use immutable_core::testkit::SimCloud;

use crate::random::Random;
use crate::world::{Off, engine, run};
use journals::{Forgets, Stopped, Unfenced};
use parts::Part;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// `ensure` starts one more than asked.
    StartsMore,
    /// `ensure` starts instances that do not say whose they are.
    ForgetsTags,
    /// `ensure` changes what runs in another fleet.
    ChangesInPlace,
    /// `observe` leaves out all fleets but the first.
    HidesFleets,
    /// `observe` leaves out what is starting, and fleets without anything else.
    HidesHalfMade,
    /// `retire` wants instances healthy.
    KeepsTheIll,
    /// Every look is good.
    SeesOnlyGood,
    /// Members are told to be in use as soon as they are registered.
    TellsAllHealthy,
    /// Members are told to be out as soon as they are taken out.
    HidesDraining,
    /// The weights are told as if all traffic went to the first fleet by name.
    TellsOneFleet,
    /// A metric without data is told to be perfect.
    CallsSilenceWell,
    /// Nobody waits for what may still land.
    NoHorizon,
    /// Nothing is, and the requests land as late.
    Nothing,
    /// The engine's clock stands still.
    StoppedClock,
    /// The journal loses that a rollout turned back.
    ForgetsTurns,
    /// The journal loses what is known of a canary.
    ForgetsEvidence,
    /// Stale drivers may append to the journal.
    StaleAppends,
    /// Stale drivers are told that their lease is good.
    StaleCalls,
    /// Both: the lease covers a journal without a fence.
    StaleDrivers,
    /// The route takes every change, whatever its version.
    IgnoresVersion,
    /// Whoever was healthy once is told to be so by every look.
    LatchesHealth,
    /// That, and the balancer says the same: the balancer covers looks that do not see.
    SeesNoIllness,
}

impl Broken {
    pub(crate) fn is_about_late_requests(self) -> bool {
        matches!(self, Self::NoHorizon | Self::Nothing)
    }

    pub(crate) fn engine(self, cloud: &SimCloud, good: Platform, journal: &MemoryJournal, seed: u64) -> Engine {
        let mut pace = good.pace;
        if self == Self::NoHorizon {
            pace.ambiguity_horizon = Duration::ZERO;
        }
        let part = Arc::new(Part { broken: self, good: good.clone(), cloud: cloud.clone(), healthy: Mutex::default() });
        let (fleets, health, traffic, metrics) = (part.clone(), part.clone(), part.clone(), part);
        let platform = Platform { fleets, health, traffic, metrics, pace, ..good };
        match self {
            Self::StaleAppends | Self::StaleCalls | Self::StaleDrivers => {
                let (appends, calls) = (self != Self::StaleCalls, self != Self::StaleAppends);
                engine(cloud, platform, Unfenced { good: journal.clone(), appends, calls }, seed)
            }
            Self::ForgetsTurns => engine(cloud, platform, Forgets(journal.clone(), "turned_back"), seed),
            Self::ForgetsEvidence => engine(cloud, platform, Forgets(journal.clone(), "judged"), seed),
            Self::StoppedClock => {
                let clock = Stopped(cloud.now());
                Engine::builder(platform).journal(journal.clone()).clock(clock).entropy(Random::new(seed)).build()
            }
            _ => engine(cloud, platform, journal.clone(), seed),
        }
    }
}

/// The first seed in which something broken breaks a rule. It begins where it was found before, to be quick; some are rare.
fn first(broken: Broken, rule: &str, known: u64) -> Option<u64> {
    let breaks = |seed: &u64| run(*seed, &Off::default(), Some(broken)).violations.iter().any(|v| v.contains(rule));
    (known..known + 4 * crate::SEEDS).chain(0..known).find(breaks)
}

#[test]
fn whatever_is_broken_is_found() {
    let cases = [
        (Broken::TellsAllHealthy, "rule 1", 0),
        (Broken::TellsAllHealthy, "rule 2", 2),
        (Broken::SeesNoIllness, "rule 2", 30),
        (Broken::SeesOnlyGood, "rule 3", 0),
        (Broken::LatchesHealth, "rule 3", 26),
        (Broken::IgnoresVersion, "rule 3", 8),
        (Broken::HidesDraining, "rule 4", 1),
        (Broken::StartsMore, "rule 5", 0),
        (Broken::HidesFleets, "rule 5", 0),
        (Broken::StaleDrivers, "rule 6", 18),
        (Broken::ForgetsTags, "rule 7", 0),
        (Broken::HidesHalfMade, "rule 7", 0),
        (Broken::StaleCalls, "rule 7", 32),
        (Broken::ChangesInPlace, "rule 8", 0),
        (Broken::StoppedClock, "rule 9, progress: no end", 0),
        (Broken::TellsOneFleet, "times in a row", 88),
        (Broken::ForgetsTurns, "rule 10", 23),
        (Broken::KeepsTheIll, "rule 11", 2),
        (Broken::CallsSilenceWell, "rule 12", 28),
        (Broken::CallsSilenceWell, "requests", 1_445),
        (Broken::NoHorizon, "rule 7", 17),
    ];
    for (broken, rule, known) in cases {
        let seed = first(broken, rule, known);
        assert!(seed.is_some(), "{broken:?} breaks {rule}, and nobody sees it");
        println!("{broken:?} breaks {rule}: found by seed {}", seed.unwrap());
    }
}

/// What keeps a rule as long as another layer holds. Both are broken together above, where that is more than a slow cloud.
#[test]
fn what_another_layer_covers_does_no_harm_alone() {
    let harmless = [
        (Broken::Nothing, ""),
        (Broken::StaleAppends, ""),
        (Broken::LatchesHealth, "rule 2"),
        // It is measured again.
        (Broken::ForgetsEvidence, ""),
    ];
    for (broken, rule) in harmless {
        for seed in 0..40 {
            let violations = run(seed, &Off::default(), Some(broken)).violations;
            let harm = violations.iter().find(|violation| violation.contains(rule));
            assert!(harm.is_none(), "{broken:?}, seed {seed}: {violations:?}");
        }
    }
}
