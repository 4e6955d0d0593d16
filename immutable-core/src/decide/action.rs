//! What `decide` proposes, and what it waits for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{FleetId, InstanceId, Split};

/// One safe step. Steps of one decision are safe in any order, and each stays safe if others are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
#[non_exhaustive]
pub enum Action {
    /// Start instances until the fleet has so many that are neither dead nor ending.
    Grow {
        /// Which fleet.
        fleet: FleetId,
        /// Its new size.
        to: u32,
    },
    /// Give the route a new state, at once.
    Route(RouteChange),
    /// End instances: out of traffic and drained, or never in it.
    End {
        /// Of which fleet.
        fleet: FleetId,
        /// Which.
        instances: Vec<InstanceId>,
    },
    /// Remove an empty fleet that the goal does not have.
    Remove {
        /// Which fleet.
        fleet: FleetId,
    },
}

/// A change of the route relative to the world that it was decided in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteChange {
    /// The weights after it.
    pub split: Split,
    /// Instances that become members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub register: Vec<InstanceId>,
    /// Members that are drained and then out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drain: Vec<InstanceId>,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grow { fleet, to } => write!(f, "grow {fleet} to {to}"),
            Self::Route(change) => {
                write!(f, "route: {}", change.split)?;
                if !change.register.is_empty() {
                    write!(f, ", register {}", change.register.len())?;
                }
                if !change.drain.is_empty() {
                    write!(f, ", drain {}", change.drain.len())?;
                }
                Ok(())
            }
            Self::End { fleet, instances } => write!(f, "end {} of {fleet}", instances.len()),
            Self::Remove { fleet } => write!(f, "remove {fleet}"),
        }
    }
}

/// The next safe steps toward a goal, or why there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do now. Empty: wait.
    pub actions: Vec<Action>,
    /// What the goal still waits for. Empty together with `actions`: the world is as the goal wants it.
    pub waiting: Vec<Waiting>,
}

/// Something that the goal waits for, in words that a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "for")]
#[non_exhaustive]
pub enum Waiting {
    /// Instances that are starting.
    Start {
        /// Of which fleet.
        fleet: FleetId,
        /// How many.
        count: usize,
    },
    /// Instances that run and are not proven healthy.
    Proof {
        /// Of which fleet.
        fleet: FleetId,
        /// How many.
        count: usize,
    },
    /// Instances that the balancer does not use yet.
    Balancer {
        /// Of which fleet.
        fleet: FleetId,
        /// How many.
        count: usize,
    },
    /// Instances in traffic that have not been looked at often enough lately; nothing is moved or ended meanwhile.
    Looks {
        /// Of which fleet.
        fleet: FleetId,
        /// How many.
        count: usize,
    },
    /// Instances that finish their requests.
    Drain {
        /// Of which fleet.
        fleet: FleetId,
        /// How many.
        count: usize,
    },
    /// Instances that are being ended.
    End {
        /// Of which fleet.
        fleet: FleetId,
        /// How many.
        count: usize,
    },
    /// Room under the surge limit, before more instances of a fleet can start.
    Room {
        /// Of which fleet.
        fleet: FleetId,
        /// How many are missing.
        missing: usize,
        /// The most instances that may exist.
        ceiling: usize,
    },
    /// A pause after instances of a fleet failed, before the next try.
    Backoff {
        /// Of which fleet.
        fleet: FleetId,
        /// How many are missing.
        missing: usize,
    },
    /// Proven capacity, before surplus instances can be taken out of traffic.
    Capacity {
        /// How many serve.
        serving: usize,
        /// How many have to.
        required: usize,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |count: &usize| if *count == 1 { "" } else { "s" };
        match self {
            Self::Start { fleet, count } => write!(f, "{count} instance{} of {fleet} to start", s(count)),
            Self::Proof { fleet, count } => write!(f, "{count} instance{} of {fleet} to prove healthy", s(count)),
            Self::Balancer { fleet, count } => write!(f, "the balancer to use {count} instance{} of {fleet}", s(count)),
            Self::Looks { fleet, count } => {
                write!(
                    f,
                    "health looks at {count} instance{} of {fleet} in traffic; nothing is moved meanwhile",
                    s(count)
                )
            }
            Self::Drain { fleet, count } => write!(f, "{count} instance{} of {fleet} to drain", s(count)),
            Self::End { fleet, count } => write!(f, "{count} instance{} of {fleet} to end", s(count)),
            Self::Room { fleet, missing, ceiling } => {
                write!(
                    f,
                    "room for {missing} more of {fleet}: at most {ceiling} instances may exist (desired + max_surge)"
                )
            }
            Self::Backoff { fleet, missing } => {
                write!(f, "a pause before the next try to start {missing} of {fleet}: the last ones failed")
            }
            Self::Capacity { serving, required } => {
                write!(f, "proven capacity: {serving} serve, {required} must (desired - max_unavailable)")
            }
        }
    }
}
