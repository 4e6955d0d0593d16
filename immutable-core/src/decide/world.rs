//! The world as `decide` sees it: every instance in one phase, and the split in effect.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Endpoint, FleetId, InstanceId, RouteVersion, Split};

/// Where an instance stands between being asked for and being gone, traffic and health included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Started, not answering yet.
    Pending,
    /// Running, never in traffic, not (or no longer) proven.
    Unproven,
    /// Running, never in traffic, proven.
    Proven,
    /// Registered with the balancer and proven; the balancer does not use it yet.
    Joining,
    /// In traffic and proven: the only phase that is capacity.
    Serving,
    /// In traffic; not looked at often enough lately to say anything.
    Unsure,
    /// In traffic and no longer proven.
    Ailing,
    /// Taken out of traffic; requests may still be in flight.
    Draining,
    /// Out of traffic after having been in it, drain time over.
    Drained,
    /// Ended by us, not gone yet; still paid for, so it counts against the surge.
    Ending,
}

impl Phase {
    /// Whether the balancer has it as a member.
    pub fn is_in_traffic(self) -> bool {
        matches!(self, Self::Joining | Self::Serving | Self::Unsure | Self::Ailing)
    }
}

/// One instance in the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Who.
    pub id: InstanceId,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it must not be kept: it failed, missed its deadline, or runs another image than its fleet's.
    pub replace: bool,
    /// Whether it has stopped by itself or was lost: it no longer counts toward its fleet's size.
    pub dead: bool,
    /// Where it answers, once known.
    pub endpoint: Option<Endpoint>,
}

/// One fleet in the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetView {
    /// Which.
    pub id: FleetId,
    /// Its instances.
    pub instances: Vec<InstanceView>,
    /// Whether new instances of it must wait: the last ones failed, and a pause is due before the next try.
    pub hold_growth: bool,
}

impl FleetView {
    /// How many instances are in a phase.
    pub fn count(&self, phase: Phase) -> usize {
        self.instances.iter().filter(|instance| instance.phase == phase).count()
    }
}

/// Everything that `decide` looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// No fact in here is older than this.
    pub as_of: Timestamp,
    /// Every fleet of the service that exists.
    pub fleets: Vec<FleetView>,
    /// The weights in effect.
    pub split: Split,
    /// The route's version, for compare-and-swap.
    pub version: RouteVersion,
}

impl World {
    /// A fleet of the world, if it exists.
    pub fn fleet(&self, id: &FleetId) -> Option<&FleetView> {
        self.fleets.iter().find(|fleet| fleet.id == *id)
    }

    /// How many instances exist, ending ones counted.
    pub fn total(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.instances.len()).sum()
    }

    /// How many instances are proven and in traffic.
    pub fn serving(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.count(Phase::Serving)).sum()
    }
}
