//! Fleets are groups of machines.

use std::time::Duration;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, Lifecycle, NameError, ObservedFleet, ObservedInstance, ServiceName};
use immutable_core::provider::{
    Effect, ErrorKind, FleetsState, OpContext, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};

use super::error::{failed, refuse, unreadable, unseen};
use super::{FLEET, RELEASE, ROLLOUT, SERVICE, all, of, tag};
use crate::acme::{Acme, Answer, Machine, MachineState, Tags};

/// The limit of the account.
const MAX_FLEET_SIZE: u32 = 100;
/// As many requests as fit into one call.
const STARTS_IN_A_CALL: u32 = 20;
/// How many machines one request may name.
const BATCH: usize = 5;

#[derive(Debug)]
pub(super) struct AcmeFleets {
    acme: Acme,
}

impl AcmeFleets {
    pub(super) fn new(acme: Acme) -> Self {
        Self { acme }
    }

    async fn group(&self, service: &ServiceName, id: &FleetId) -> Answer<Option<Tags>> {
        let groups = all(|page| self.acme.groups(of(service), page)).await?;
        Ok(groups.into_iter().find(|(name, _)| name == id.as_str()).map(|(_, tags)| tags))
    }

    async fn machines(&self, service: &ServiceName) -> Answer<Vec<Machine>> {
        all(|page| self.acme.machines(of(service), page)).await
    }
}

#[async_trait]
impl Provisioner for AcmeFleets {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities { max_fleet_size: Some(MAX_FLEET_SIZE) }
    }

    async fn ensure(&self, _: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        const OPERATION: &str = "ensure fleet";
        if spec.size > MAX_FLEET_SIZE {
            let message = format!("{} machines, and the account has {MAX_FLEET_SIZE}: raise its limit", spec.size);
            return Err(refuse(ErrorKind::Quota, OPERATION, message));
        }
        // P3: what the fleet is bound to stands in its tags, which are written as it is made.
        let release = spec.release.id().fingerprint().to_string();
        let tags = Tags::from([
            (SERVICE.to_owned(), spec.service.to_string()),
            (FLEET.to_owned(), spec.id.to_string()),
            (RELEASE.to_owned(), release.clone()),
            (ROLLOUT.to_owned(), spec.rollout.to_string()),
        ]);
        let mut done = Effect::None;
        let group = self.group(&spec.service, &spec.id).await.map_err(|trouble| unseen(OPERATION, trouble))?;
        if let Some(group) = group {
            if tag(&group, RELEASE) != release {
                let message = format!("{} is of another release: use another fleet", spec.id);
                return Err(refuse(ErrorKind::Immutable, OPERATION, message));
            }
        } else {
            // Somebody else may make it in this moment; then this is a conflict, and the engine looks again.
            let made = self.acme.create_group(spec.id.as_str(), tags.clone()).await;
            made.map_err(|trouble| failed(OPERATION, done, trouble))?;
            done = Effect::Unknown;
        }

        // P1: who is dead or ending does not count.
        let machines = self.machines(&spec.service).await.map_err(|trouble| failed(OPERATION, done, trouble))?;
        let machines = machines.iter().filter(|machine| machine.group == spec.id.as_str());
        let alive = machines.clone().filter(|machine| is_alive(machine)).count();
        let missing = spec.size.saturating_sub(u32::try_from(alive).unwrap_or(u32::MAX));
        // P2: a place in the fleet is filled once, whoever asks for it and however often.
        let first = machines.map(place).max().map_or(0, |last| last + 1);
        let template = spec.release.image().fingerprint.to_string();
        for place in first..first + missing.min(STARTS_IN_A_CALL) {
            let mut tags = tags.clone();
            tags.insert(PLACE.to_owned(), place.to_string());
            let token = format!("{}-{place}", spec.id);
            let started = self.acme.start_machine(&token, spec.id.as_str(), &template, tags).await;
            started.map_err(|trouble| failed(OPERATION, done, trouble))?;
            done = Effect::Unknown;
        }
        if missing <= STARTS_IN_A_CALL {
            return Ok(Progress::Done(()));
        }
        // G1: the rest is another call. The engine knows when it wants to make it.
        let note = format!("{} of {} machines are still to be started", missing - STARTS_IN_A_CALL, spec.size);
        Ok(Progress::Pending { retry_after: Duration::ZERO, note })
    }

    async fn observe(&self, _: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        const OPERATION: &str = "observe fleets";
        // Before the first request: no fact in the answer is older.
        let as_of = self.acme.now();
        let groups = all(|page| self.acme.groups(of(service), page)).await;
        let groups = groups.map_err(|trouble| unseen(OPERATION, trouble))?;
        let machines = self.machines(service).await.map_err(|trouble| unseen(OPERATION, trouble))?;
        let fleet = |(name, tags): &(String, Tags)| observed(name, tags, &machines);
        let fleets: Result<_, _> = groups.iter().map(fleet).collect();
        Ok(FleetsState { as_of, fleets: fleets.map_err(|error| unreadable(OPERATION, &error))? })
    }

    async fn retire(&self, _: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        const OPERATION: &str = "retire instances";
        // P5: exactly those that are named, if they are of the fleet that the proof is about.
        let machines = all(|page| self.acme.machines((FLEET, proof.fleet().as_str()), page)).await;
        let machines = machines.map_err(|trouble| unseen(OPERATION, trouble))?;
        let is_named = |id: &String| proof.instances().iter().any(|named| named.as_str() == id);
        let named: Vec<String> = machines.into_iter().map(|machine| machine.id).filter(is_named).collect();
        let mut done = Effect::None;
        for batch in named.chunks(BATCH) {
            self.acme.stop_machines(batch).await.map_err(|trouble| failed(OPERATION, done, trouble))?;
            done = Effect::Unknown;
        }
        Ok(Progress::Done(()))
    }

    async fn remove(
        &self,
        _: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        const OPERATION: &str = "remove fleet";
        // P6: gone already, or somebody else's.
        if self.group(service, fleet).await.map_err(|trouble| unseen(OPERATION, trouble))?.is_none() {
            return Ok(Progress::Done(()));
        }
        // The cloud refuses to delete a group with machines, which is a conflict, as it is to be.
        let deleted = self.acme.delete_group(fleet.as_str()).await;
        deleted.map(Progress::Done).map_err(|trouble| failed(OPERATION, Effect::None, trouble))
    }
}

/// The tag with the number of a machine's place in its fleet.
const PLACE: &str = "immutable-place";

fn place(machine: &Machine) -> u32 {
    tag(&machine.tags, PLACE).parse().unwrap_or(0)
}

fn is_alive(machine: &Machine) -> bool {
    matches!(machine.state, MachineState::Booting | MachineState::Running | MachineState::Impaired)
}

fn observed(name: &str, tags: &Tags, machines: &[Machine]) -> Result<ObservedFleet, NameError> {
    let machines = machines.iter().filter(|machine| machine.group == name);
    let instance = |machine: &Machine| {
        Ok(ObservedInstance {
            id: machine.id.parse()?,
            lifecycle: match machine.state {
                MachineState::Booting => Lifecycle::Starting,
                MachineState::Running | MachineState::Impaired => Lifecycle::Running,
                MachineState::Crashed => Lifecycle::Dead,
                MachineState::Stopping => Lifecycle::Ending,
            },
            // P4: what is on its disk, not what it was started from.
            image: Some(machine.template.parse()?),
            endpoint: Some(machine.address.parse()?),
            started_at: machine.started,
        })
    };
    let instances: Result<_, _> = machines.map(instance).collect();
    Ok(ObservedFleet { id: name.parse()?, release: tag(tags, RELEASE).parse()?, instances: instances?, wanted: None })
}
