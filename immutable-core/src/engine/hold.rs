//! Holds: why a rollout cannot go on for now, through no fault of the release. A hold burns no deadline.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{FleetId, ImageId, ReleaseId};

/// Why a rollout is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hold {
    /// The platform throttles the engine, so that it cannot look or act.
    Throttled {
        /// What the platform said last when the hold began.
        error: String,
    },
    /// A request was sent whose answer was lost: it may still land, and what opposes it waits until it no longer can.
    AnswerLost {
        /// What was lost, and until when it may land, for people.
        call: String,
    },
    /// The platform has no capacity for more instances, or a quota is reached. It is tried again; nothing that is healthy is
    /// ended meanwhile.
    Shortage {
        /// The fleet that cannot grow.
        fleet: FleetId,
        /// What the platform said.
        error: String,
    },
    /// The image is gone that going back would start instances from, while the old fleet still serves: no more traffic moves
    /// until it is there again. A wish to [promote](super::Rollout::promote) waives it.
    NoWayBack {
        /// The release that serves.
        release: ReleaseId,
        /// Its image.
        image: ImageId,
    },
    /// What served before is as bad as the new release: their surroundings are at fault, and going back would not help.
    EnvironmentDegraded {
        /// What shows it.
        signal: Signal,
        /// About the new release and about what served before, for people.
        evidence: String,
    },
}

/// What shows that the surroundings of both releases are at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// A check of the new release fails, and the same check fails for the fleet that serves beside it.
    Checks,
    /// Instances of the new release are ill, and so are those that were healthy of the fleet that serves beside it.
    Instances,
}

impl Hold {
    /// Which of two holds is told: the one that explains more.
    pub(super) fn outranks(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Throttled { .. } | Self::AnswerLost { .. } => 0,
            Self::Shortage { .. } | Self::NoWayBack { .. } => 1,
            Self::EnvironmentDegraded { .. } => 2,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throttled { error } => write!(f, "the platform to stop throttling: {error}"),
            Self::AnswerLost { call } => write!(f, "{call}"),
            Self::Shortage { fleet, error } => {
                write!(
                    f,
                    "capacity for {fleet}: {error}; free some or have the limit raised, or abort; it is tried again and \
                     nothing healthy is ended meanwhile"
                )
            }
            Self::NoWayBack { release, image } => {
                write!(
                    f,
                    "image {image} of release {release}, which serves and could not be gone back to without it: build it again, \
                     or promote to go on all the same, or abort"
                )
            }
            Self::EnvironmentDegraded { evidence, .. } => {
                write!(
                    f,
                    "the environment to be well again, as what served before is ill with the new release: {evidence}; \
                     put that right, or abort"
                )
            }
        }
    }
}
