//! What a rollout says about itself.

use serde::{Deserialize, Serialize};

use super::event::Outcome;
use crate::model::{ReleaseId, RolloutId, ServiceName};

/// Where a rollout stands, and what it waits for and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The rollout.
    pub rollout: RolloutId,
    /// The service.
    pub service: ServiceName,
    /// The new release.
    pub release: ReleaseId,
    /// The stage, from 1, and its name; `None` on the way back.
    pub stage: Option<(usize, String)>,
    /// How many stages there are.
    pub stages: usize,
    /// Why it goes back, if it does.
    pub going_back: Option<String>,
    /// Whether somebody paused it.
    pub paused: bool,
    /// Why it is frozen, if it is.
    pub frozen: Option<String>,
    /// What it waits for, in words that a person can act on.
    pub waiting: Vec<String>,
    /// How it ended, once it did.
    pub outcome: Option<Outcome>,
}
