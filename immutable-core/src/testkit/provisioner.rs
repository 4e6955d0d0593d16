//! Starting and ending simulated instances.

use async_trait::async_trait;

use super::SimCloud;
use super::machine::Machine;
use super::operation::Operation;
use super::state::{Fleet, State};
use crate::decide::RetireProof;
use crate::model::{Endpoint, FleetId, FleetSpec, InstanceId, Lifecycle, ObservedFleet, ObservedInstance, ServiceName};
use crate::provider::{
    ErrorKind, FleetsState, OpContext, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};

#[async_trait]
impl Provisioner for SimCloud {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities::default()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.enter(cx, Operation::EnsureFleet, |state| state.ensure_fleet(spec)).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.enter(cx, Operation::ObserveFleets, |state| Ok(state.observe_fleets(service))).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        self.enter(cx, Operation::Retire, |state| {
            state.retire(proof.fleet(), proof.instances());
            Ok(Progress::Done(()))
        })
        .await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        self.enter(cx, Operation::RemoveFleet, |state| state.remove_fleet(service, fleet)).await
    }
}

impl State {
    fn ensure_fleet(&mut self, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let refuse = |kind, message: String| Err(Operation::EnsureFleet.refuse(kind, message));
        let (id, release) = (&spec.id, spec.release.id());
        if let Some(fleet) = self.fleets.get(id)
            && (fleet.release != release || fleet.service != spec.service)
        {
            let message = format!("fleet {id} is release {} of {}: use another fleet", fleet.release, fleet.service);
            return refuse(ErrorKind::Immutable, message);
        }
        let image = spec.release.image();
        if self.images.was_removed(&image.fingerprint) {
            return refuse(ErrorKind::NotFound, format!("image {} was removed: build it again", image.id));
        }
        let alive = |machine: &Machine| !matches!(self.lifecycle(machine), Lifecycle::Dead | Lifecycle::Ending);
        let alive = self.instances_of(id).filter(|(_, machine)| alive(machine)).count();
        let missing = (spec.size as usize).saturating_sub(alive);
        self.fleets.entry(id.clone()).or_insert(Fleet { service: spec.service.clone(), release });
        let started: Vec<InstanceId> = (0..missing).map(|_| self.start(spec)).collect();
        self.record(&format!("ensure fleet {id} to {}: started {}", spec.size, names(&started)));
        Ok(Progress::Done(()))
    }

    fn start(&mut self, spec: &FleetSpec) -> InstanceId {
        self.started += 1;
        let name = format!("sim-{}", self.started);
        let id = InstanceId::new(&name).expect("invariant: letters, digits and a hyphen are an instance id");
        let machine = Machine {
            service: spec.service.clone(),
            fleet: spec.id.clone(),
            release: spec.release.id(),
            rollout: spec.rollout.clone(),
            image: spec.release.image().fingerprint,
            endpoint: Endpoint::new(&name, 80).expect("invariant: letters, digits and a hyphen are a host"),
            started: self.now,
            killed: None,
            ended: None,
            ill: false,
        };
        self.machines.insert(id.clone(), machine);
        id
    }

    fn observe_fleets(&self, service: &ServiceName) -> FleetsState {
        let instance = |(id, machine): (&InstanceId, &Machine)| {
            let lifecycle = self.lifecycle(machine);
            ObservedInstance {
                id: id.clone(),
                lifecycle,
                image: Some(machine.image),
                endpoint: (lifecycle != Lifecycle::Starting).then(|| machine.endpoint.clone()),
                started_at: self.clock.at(machine.started),
            }
        };
        let fleet = |(id, fleet): (&FleetId, &Fleet)| ObservedFleet {
            id: id.clone(),
            release: fleet.release,
            instances: self.instances_of(id).map(instance).collect(),
        };
        let fleets = self.fleets.iter().filter(|(_, fleet)| fleet.service == *service).map(fleet).collect();
        FleetsState { as_of: self.clock.at(self.now), fleets }
    }

    fn retire(&mut self, fleet: &FleetId, instances: &[InstanceId]) {
        let now = self.now;
        let mut ended = Vec::new();
        for id in instances {
            if let Some(machine) = self.machines.get_mut(id)
                && machine.fleet == *fleet
                && machine.ended.is_none()
            {
                machine.ended = Some(now);
                ended.push(id.clone());
            }
        }
        self.record(&format!("retire {} of fleet {fleet}: ended {}", names(instances), names(&ended)));
    }

    fn remove_fleet(&mut self, service: &ServiceName, id: &FleetId) -> Result<Progress<()>, ProviderError> {
        if self.fleets.get(id).is_none_or(|fleet| fleet.service != *service) {
            self.record(&format!("remove fleet {id}: not there"));
            return Ok(Progress::Done(()));
        }
        let count = self.instances_of(id).count();
        if count > 0 {
            let message = format!("fleet {id} has {count} instances: retire them first");
            return Err(Operation::RemoveFleet.refuse(ErrorKind::Conflict, message));
        }
        self.fleets.remove(id);
        self.record(&format!("remove fleet {id}: removed"));
        Ok(Progress::Done(()))
    }
}

/// Instances for the log: `sim-1, sim-2`, or `none`.
pub(super) fn names(instances: &[InstanceId]) -> String {
    if instances.is_empty() {
        return "none".to_owned();
    }
    instances.iter().map(InstanceId::as_str).collect::<Vec<_>>().join(", ")
}
