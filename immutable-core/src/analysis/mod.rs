//! Judging a release by what real traffic says about it.

mod bets;
mod calm;
mod check;
mod classic;
mod compared;
mod evidence;
mod freeze;
mod judge;
mod poisson;
mod power;
mod reading;
mod settings;
mod thin;

use serde::{Deserialize, Serialize};

pub use check::Check;
pub use classic::{Judge, MannWhitney, Threshold};
pub use compared::Compared;
pub use evidence::{Evidence, Pair};
pub use power::{Power, Traffic, power};
pub use settings::{Against, Analysis, AtDeadline};

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "judgement")]
pub enum Judgement {
    /// The metric is as it should be.
    Pass {
        /// What it rests on, for people.
        evidence: String,
    },
    /// The metric is not as it should be.
    Fail {
        /// What it rests on, for people.
        evidence: String,
    },
    /// Nothing can be said yet.
    NotEnoughData {
        /// What is missing, for people.
        evidence: String,
    },
}
