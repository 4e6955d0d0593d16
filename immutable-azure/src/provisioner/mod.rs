//! Fleets as virtual machine scale sets, flexible or uniform.
//!
//! The scale set is the record of its fleet: it is made first and removed last, and its tags say what the fleet is bound to. So whatever a call leaves
//! behind that was cut off is found again and finished.

mod growth;
mod leftovers;
mod lifecycle;
mod member;
mod model;
mod removal;
mod scale_set;
mod survey;
mod tags;

use std::fmt;
use std::time::Instant;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, ServiceName};
use immutable_core::provider::{
    ErrorKind, FleetsState, OpContext, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};

use crate::config::Config;
use crate::operation::SOON;
use growth::Changes;
use removal::Vacancies;
use survey::Fleet;

const ENSURE: &str = "ensure fleet";
const OBSERVE: &str = "observe fleets";
const RETIRE: &str = "retire instances";
const REMOVE: &str = "remove fleet";

/// Keeps each fleet as one virtual machine scale set, which replaces instances that fail their health check by itself.
///
/// A set is made from one version of one image, never from the latest, so that a year later it still starts the same. It changes nothing in
/// place: its upgrade policy is manual. Images are of Linux, with cloud-init and the agent of Azure. Azure asks a system to shut down before it ends the machine.
///
/// # What happens to instances that are not as usual
/// * **Repaired** by the set, because the health check failed for longer than the [grace](crate::ConfigBuilder::repair_after): the new machine has another
///   name, so it is another instance. If the set repairs one that is being ended in the same moment, the new one is one too many, which the
///   next look shows and the engine ends.
/// * **Not there**, because Azure had no room: what could not be made is listed as dead where Azure keeps it, and `ensure` tells why, as `Capacity` or
///   `Quota` for example, until it is ended by name. Where Azure keeps nothing, `ensure` tells why and tries again with the next call.
/// * **Stopped or deallocated**, by hand or because a host was lost: listed as dead, and ended when the engine says so. Azure counts it in the
///   capacity of its set until then. So `ensure` raises the capacity above the size that is asked for, and notes in the tags of the set for whom;
///   for at most 25 at a time.
/// * **Grown by two at once**: the capacity is only ever raised, from what it was a moment ago, on condition that the set has not changed.
/// * **An autoscaler**, or a person, changes the capacity: the rollout follows. An autoscaler that takes instances away chooses them itself, whether they are
///   in traffic or not: have it scale out only while a rollout goes on.
/// * **Protected** from scale-in or from actions of the set: the end is refused, and the error says so. Nothing is done about it.
/// * **Not named yet**: a machine of a uniform set that Azure is about to make and tells no `vmId` of. It counts in the size of its fleet, and is listed when it has
///   one; `ensure` is not done before.
/// * **Put into the set by hand**: a member as any other, whatever it is called. One of another image is listed with other content than that
///   of its release, so that it is replaced.
///
/// # Removal
/// With a fleet goes what is left of it on the [routes](crate::ConfigBuilder::routes) of the configuration: entries of backend pools whose members were
/// drained, and pools of gateways that only say whose addresses they were. As long as the fleet has a member there, it is not removed.
///
/// A set may count members that it never got. It is removed when nobody is listed for as long as
/// [lists lag](crate::ConfigBuilder::list_lag) and nothing of the set has changed meanwhile, which each process finds out anew.
///
/// # Images
/// The image of a release is a version in a gallery that is made of a generalised machine: cloud-init runs what an instance starts with at its first boot,
/// and only then. Azure gives a specialised image no custom data.
///
/// # Limits
/// What an instance starts with, its variables and references to secrets, has at most
/// [64 KB](https://learn.microsoft.com/azure/virtual-machines/custom-data#faq).
#[derive(Clone)]
pub struct ScaleSetProvisioner {
    config: Config,
    changes: Changes,
    vacancies: Vacancies,
}

impl ScaleSetProvisioner {
    /// A provisioner with these settings.
    pub fn new(config: Config) -> Self {
        Self { config, changes: Changes::default(), vacancies: Vacancies::default() }
    }
}

#[async_trait]
impl Provisioner for ScaleSetProvisioner {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities { max_fleet_size: Some(self.config.max_fleet_size) }
    }

    async fn ensure(&self, _: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let fleet = survey::of_fleet(&self.config, ENSURE, &spec.id).await?;
        if let Fleet::Ours(parts) = &fleet {
            model::bound(&self.config, spec, &parts.set)?;
        }
        within_limit(&self.config, spec)?;
        match fleet {
            Fleet::Nothing => growth::make(&self.config, &self.changes, spec).await,
            Fleet::Ours(parts) => growth::grow(&self.config, &self.changes, spec, &parts).await,
            Fleet::Strange => {
                let problem = format!("something that is not ours has the name of fleet {}: remove it", spec.id);
                Err(ProviderError::new(ErrorKind::Immutable, ENSURE, problem).without_effect())
            }
        }
    }

    async fn observe(&self, _: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        survey::of_service(&self.config, OBSERVE, service).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let until = Instant::now() + cx.timeout / 2;
        let fleet = survey::of_fleet(&self.config, RETIRE, proof.fleet()).await?;
        removal::retire(&self.config, proof, fleet, until).await
    }

    async fn remove(
        &self,
        _: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let asked = Instant::now();
        let found = survey::of_fleet(&self.config, REMOVE, fleet).await?;
        removal::remove(&self.config, (&self.vacancies, asked), (service, fleet), found).await
    }
}

impl fmt::Debug for ScaleSetProvisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScaleSetProvisioner").finish_non_exhaustive()
    }
}

fn pending(note: String) -> Progress<()> {
    Progress::Pending { retry_after: SOON, note }
}

/// That the size is one that the settings allow.
fn within_limit(config: &Config, spec: &FleetSpec) -> Result<(), ProviderError> {
    if spec.size <= config.max_fleet_size {
        return Ok(());
    }
    let problem = format!(
        "fleet {} is to have {} instances, and max_fleet_size is {}: raise it, if the subscription's quota allows",
        spec.id, spec.size, config.max_fleet_size
    );
    Err(ProviderError::new(ErrorKind::Quota, ENSURE, problem).without_effect())
}
