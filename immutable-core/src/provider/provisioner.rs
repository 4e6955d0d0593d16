//! Starting and ending instances.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{OpContext, Progress, ProviderError};
use crate::decide::RetireProof;
use crate::model::{FleetId, FleetSpec, Lifecycle, ObservedFleet, ServiceName};

/// What a provisioner can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionerCapabilities {
    /// The most instances one fleet can have; `None`: no limit of its own.
    pub max_fleet_size: Option<u32>,
}

/// All that exists of a service, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetsState {
    /// No fact in here is older than this.
    pub as_of: Timestamp,
    /// Every fleet that is ours, empty and half-made ones included.
    pub fleets: Vec<ObservedFleet>,
}

impl FleetsState {
    /// How many instances of a fleet are starting or running.
    pub(crate) fn live(&self, fleet: &FleetId) -> u32 {
        let live = |state: Lifecycle| matches!(state, Lifecycle::Starting | Lifecycle::Running);
        let fleet = self.fleets.iter().find(|observed| observed.id == *fleet);
        let count = fleet.map_or(0, |fleet| fleet.instances.iter().filter(|i| live(i.lifecycle)).count());
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Starts and ends the instances of fleets.
///
/// # Contract
/// * **P1 grow only.** After a `Done` of `ensure`, at least `spec.size` instances of the fleet exist that are neither dead nor ending.
///   It never ends or changes one, and a smaller size is no error and no change.
/// * **P2 never more.** `ensure` sent again, with the same key or the same size, starts nothing more.
/// * **P3 bound for ever.** `ensure` with another release than the fleet's is [`Immutable`](super::ErrorKind::Immutable), and changes nothing.
/// * **P4 sees everything.** `observe` lists every fleet and every instance of the service, starting, dead and ending ones too,
///   whoever started them, until they are gone for good. It says what content each instance really runs,
///   and the size that the platform keeps each fleet at, if it does.
/// * **P5 named victims.** `retire` ends exactly the instances that the proof names, and lowers the wanted size with them, so that nothing replaces them.
///   An instance that is already ending or gone is done. It asks the instance to stop before it forces it.
/// * **P6 clean.** After a `Done` of `remove`, nothing of the fleet is left. A fleet with instances is a `Conflict`; a fleet that is not there is done.
///
/// # Cancellation
/// A dropped `ensure` or `retire` may still take effect; the next `observe` tells.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Provisioner: std::fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> ProvisionerCapabilities;

    /// Grows a fleet to a size, making it if needed. Does not wait for the instances.
    ///
    /// # Errors
    /// `Immutable` for another release; `Capacity` or `Quota` when the platform has no room.
    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError>;

    /// Everything that exists of a service.
    ///
    /// # Errors
    /// Only when it cannot look.
    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError>;

    /// Begins to end the instances that the proof names. Does not wait until they are gone; `observe` tells.
    ///
    /// # Errors
    /// Kinds of [`ErrorKind`](super::ErrorKind).
    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError>;

    /// Removes an empty fleet and all that was made for it.
    ///
    /// # Errors
    /// `Conflict` while it has instances.
    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError>;
}
