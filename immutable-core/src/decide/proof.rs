//! Proof-carrying destruction: no instance is ended without a value that only a fresh look at the world can make.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Phase, World};
use crate::model::{FleetId, InstanceId};

/// The proof that named instances of a fleet may be ended: a fresh observation shows each of them out of traffic and its
/// drain time over, or never in traffic at all.
///
/// There is no other way to make one than [`RetireProof::new`], and no provider ends an instance without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetireProof {
    fleet: FleetId,
    instances: Vec<InstanceId>,
    as_of: Timestamp,
}

impl RetireProof {
    /// Proves that the instances may be ended, or says why not.
    ///
    /// `freshness` is the greatest age that the facts may have at `now`.
    ///
    /// # Errors
    /// [`ProofError`] names the first instance that may not be ended, and why.
    pub fn new(
        world: &World,
        fleet: &FleetId,
        instances: &[InstanceId],
        now: Timestamp,
        freshness: Duration,
    ) -> Result<Self, ProofError> {
        if now.duration_since(world.as_of).unsigned_abs() > freshness {
            return Err(ProofError::Stale { as_of: world.as_of });
        }
        let view = world.fleet(fleet).ok_or_else(|| ProofError::NoFleet { fleet: fleet.clone() })?;
        let phases: HashMap<_, _> = view.instances.iter().map(|instance| (&instance.id, instance.phase)).collect();
        for id in instances {
            match phases.get(id) {
                None => return Err(ProofError::NotObserved { instance: id.clone() }),
                Some(Phase::Draining) => return Err(ProofError::Draining { instance: id.clone() }),
                Some(phase) if phase.is_in_traffic() => return Err(ProofError::InTraffic { instance: id.clone() }),
                Some(_) => {}
            }
        }
        Ok(Self { fleet: fleet.clone(), instances: instances.to_vec(), as_of: world.as_of })
    }

    /// The fleet.
    pub fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    /// The instances that may be ended.
    pub fn instances(&self) -> &[InstanceId] {
        &self.instances
    }

    /// No fact behind the proof is older than this.
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }
}

/// Why instances may not be ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The facts are too old.
    #[error("the world was last observed at {as_of}: observe again before ending anything")]
    Stale {
        /// The age of the oldest fact.
        as_of: Timestamp,
    },
    /// The fleet was not observed.
    #[error("fleet {fleet} was not observed")]
    NoFleet {
        /// Which.
        fleet: FleetId,
    },
    /// The instance was not observed.
    #[error("instance {instance} was not observed")]
    NotObserved {
        /// Which.
        instance: InstanceId,
    },
    /// The instance is in traffic.
    #[error("instance {instance} is in traffic: drain it first")]
    InTraffic {
        /// Which.
        instance: InstanceId,
    },
    /// The instance is still draining.
    #[error("instance {instance} is still draining")]
    Draining {
        /// Which.
        instance: InstanceId,
    },
}
