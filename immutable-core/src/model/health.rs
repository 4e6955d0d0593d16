//! Looks at instances, and what several looks mean.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::InstanceId;

/// What one look at an instance showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Look {
    /// It answered as it should.
    Good,
    /// It was looked at, and it is bad.
    Bad,
    /// It could not be looked at; this says nothing about the instance, but ends a run of good looks.
    Unknown,
}

/// One look at one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Who was looked at.
    pub instance: InstanceId,
    /// When the look ended.
    pub at: Timestamp,
    /// What it showed.
    pub look: Look,
    /// The evidence, for people: "200 in 3 ms", "connection refused". One line, no secret.
    pub evidence: String,
}

/// What several looks mean after hysteresis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Not enough looks yet, or none that is fresh.
    Unknown,
    /// Enough good looks over enough time.
    Healthy,
    /// Enough bad looks in a row.
    Unhealthy,
}
