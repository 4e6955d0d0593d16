//! Fleets as managed instance groups, regional or zonal.
//!
//! The record of a fleet is its instance template, which nobody can change: it is made first and removed last, and its description says what
//! the fleet is bound to. So whatever a call leaves behind that was cut off is found again and finished.

mod attempts;
mod group;
mod lifecycle;
mod removal;
mod survey;
mod template;

use std::fmt;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, ServiceName};
use immutable_core::provider::{
    ErrorKind, FleetsState, OpContext, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};

use crate::config::Config;
use crate::operation::SOON;
use crate::ownership;
pub(crate) use group::{Group, Place};
use survey::Parts;
pub(crate) use template::place_of;

const ENSURE: &str = "ensure fleet";
const OBSERVE: &str = "observe fleets";
const RETIRE: &str = "retire instances";
const REMOVE: &str = "remove fleet";

/// Keeps each fleet as one managed instance group, which replaces instances that fail by itself.
///
/// The group is made from one instance template with one image, never from an image family, so that a year later it still starts the same. It
/// changes nothing by itself but what fails: its update policy is `OPPORTUNISTIC`, and it does not move instances between zones.
///
/// # What happens to instances that are not as usual
/// * **Repaired** by the group, because the machine stopped or failed its health check: the new machine has the name of the old one and another
///   numeric id, so it is another instance. A proof that the old one may be ended does not end the new one. Compute Engine itself takes only names: what the
///   group puts in the place of an instance in the moment between the last look and the request is ended in its place.
/// * **Not there yet**: what the group is still to start has no id and is not listed. Why it does not start is told by `ensure`, as `Capacity` or
///   `Quota` for example.
/// * **An autoscaler**, or a person, changes the target size: the rollout follows. An autoscaler that takes instances away chooses them itself, whether
///   they are in traffic or not: have it scale out only while a rollout goes on.
/// * **Grown by two at once**: the target size is only ever raised, from what it was a moment ago; Compute Engine has no way to set it on condition. Whoever
///   raises it further in that moment is overruled once, and the group ends what it has too many of. So does a request of a rollout's own whose
///   answer was lost, if it lands after a later one that asked for more.
/// * **Stopped or suspended** by hand: listed as dead, and ended when the engine says so.
/// * **Abandoned**, that is taken out of the group by hand: still an instance of the fleet, found by its labels, and listed as what Compute Engine says it does.
///   It is ended by name as any other.
/// * **Protected from deletion**: the end is refused, and the error says so. Nothing is done about it.
/// * **Made from another template** by hand: listed with other content than that of its release, so that it is replaced.
#[derive(Clone)]
pub struct GroupProvisioner {
    config: Config,
}

impl GroupProvisioner {
    /// A provisioner with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Makes what is missing of a fleet, or raises its target size: one change in a call.
    async fn grow(&self, cx: &OpContext, spec: &FleetSpec, parts: &Parts) -> Result<Progress<()>, ProviderError> {
        if parts.template.is_none() {
            template::make(&self.config, cx, spec).await?;
            return Ok(pending(format!("the template of {} to be made", spec.id)));
        }
        // Who lives outside the group counts as well: it was abandoned.
        let wanted = spec.size.saturating_sub(parts.outside());
        let group = Group::new(&self.config, parts.place(&self.config), ownership::name(ENSURE, &spec.id)?);
        let Some(manager) = &parts.manager else {
            group.insert(cx, spec, wanted).await?;
            return Ok(pending(format!("group {} to be made", spec.id)));
        };
        if parts.live() >= spec.size {
            return Ok(Progress::Done(()));
        }
        if survey::target_size(manager) < wanted {
            group.resize(cx, ENSURE, wanted).await?;
        } else {
            attempts::check(&spec.id, &parts.managed)?;
        }
        Ok(pending(format!("group {} to start {} of {} instances", spec.id, spec.size - parts.live(), spec.size)))
    }
}

#[async_trait]
impl Provisioner for GroupProvisioner {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities { max_fleet_size: Some(self.config.max_fleet_size) }
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, ENSURE, &spec.id).await?;
        template::bound(&self.config, spec, &parts)?;
        within_limit(&self.config, spec)?;
        self.grow(cx, spec, &parts).await
    }

    async fn observe(&self, _: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        survey::of_service(&self.config, OBSERVE, service).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, RETIRE, proof.fleet()).await?;
        removal::retire(&self.config, cx, proof, &parts).await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, REMOVE, fleet).await?;
        removal::remove(&self.config, cx, (service, fleet), &parts).await
    }
}

impl fmt::Debug for GroupProvisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupProvisioner").finish_non_exhaustive()
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
        "fleet {} is to have {} instances, and max_fleet_size is {}: raise it, if the project's quota allows",
        spec.id, spec.size, config.max_fleet_size
    );
    Err(ProviderError::new(ErrorKind::Quota, ENSURE, problem).without_effect())
}
