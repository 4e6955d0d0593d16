//! Starting and ending simulated instances.

use std::time::Duration;

use async_trait::async_trait;

use super::SimCloud;
use super::faults::FaultKind;
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
        let spec = spec.clone();
        self.change(cx, Operation::EnsureFleet, move |state| state.ensure_fleet(&spec)).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.enter(cx, Operation::ObserveFleets, |state| Ok(state.list_fleets(service))).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let proof = proof.clone();
        self.change(cx, Operation::Retire, move |state| Ok(state.retire(proof.fleet(), proof.instances()))).await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let (service, fleet) = (service.clone(), fleet.clone());
        self.change(cx, Operation::RemoveFleet, move |state| state.remove_fleet(&service, &fleet)).await
    }
}

impl State {
    fn ensure_fleet(&mut self, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let refuse = |kind, message: String| Err(Operation::EnsureFleet.refuse(kind, message));
        let (id, release) = (&spec.id, spec.release.id());
        if let Some(fleet) = self.fleets.get(id)
            && (fleet.spec.release.id() != release || fleet.spec.service != spec.service)
        {
            let FleetSpec { release, service, .. } = &fleet.spec;
            let message = format!("fleet {id} is release {} of {service}: use another fleet", release.id());
            return refuse(ErrorKind::Immutable, message);
        }
        let image = spec.release.image();
        if self.images.was_removed(&image.fingerprint) {
            return refuse(ErrorKind::NotFound, format!("image {} was removed: build it again", image.id));
        }
        let alive = |machine: &Machine| !matches!(self.lifecycle(machine), Lifecycle::Dead | Lifecycle::Ending);
        let alive = self.instances_of(id).filter(|(_, machine)| alive(machine)).count();
        let missing = (spec.size as usize).saturating_sub(alive);
        let new = || Fleet { spec: spec.clone(), wanted: 0 };
        self.fleets.entry(id.clone()).or_insert_with(new);
        if missing > 0 && self.is_over_quota(missing) {
            return refuse(ErrorKind::Quota, format!("fleet {id}: {missing} more are over the quota of instances"));
        }
        if missing > 0 && self.is_short() {
            return refuse(ErrorKind::Capacity, format!("fleet {id}: no capacity for {missing} more"));
        }
        if let Some(fleet) = self.fleets.get_mut(id) {
            fleet.wanted = fleet.wanted.max(spec.size);
        }
        let part = self.part(Operation::EnsureFleet, missing);
        let started: Vec<InstanceId> = (0..part).map_while(|_| self.start(spec)).collect();
        self.record(&format!("ensure fleet {id} to {}: started {}", spec.size, names(&started)));
        if started.len() < part {
            // Those that were started stay: the effect is unknown.
            let message = format!("fleet {id}: no zone starts instances");
            return Err(ProviderError::new(ErrorKind::Capacity, Operation::EnsureFleet.as_str(), message));
        }
        Ok(in_part(part < missing))
    }

    /// How many of a batch are done by this call.
    fn part(&mut self, operation: Operation, whole: usize) -> usize {
        let nth = self.calls.get(&operation).copied().unwrap_or(0);
        if whole < 2 {
            return whole;
        }
        let drawn = self.strike(FaultKind::Partial, Some(operation), nth);
        drawn.map_or(whole, |mut random| usize::try_from(random.below(whole as u64)).unwrap_or(whole))
    }

    /// Starts one instance, if there is a zone that does.
    fn start(&mut self, spec: &FleetSpec) -> Option<InstanceId> {
        let fate = self.fate()?;
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
            seen_good: false,
            fate,
        };
        self.machines.insert(id.clone(), machine);
        Some(id)
    }

    /// What there is, or what there was when somebody looked a little earlier.
    fn list_fleets(&mut self, service: &ServiceName) -> FleetsState {
        let state = self.observe_fleets(service);
        let nth = self.calls.get(&Operation::ObserveFleets).copied().unwrap_or(0);
        let now = self.now;
        let lag = self.strike(FaultKind::Lagging, Some(Operation::ObserveFleets), nth);
        let lag = lag.map_or(Duration::ZERO, |mut random| random.within(self.options.faults.lag_by));
        let earlier = self.lists.iter().find(|(at, whose, _)| *at + lag >= now && whose == service);
        let told = earlier.map_or_else(|| state.clone(), |(_, _, state)| state.clone());
        let longest = self.options.faults.lag_by;
        self.lists.retain(|(at, ..)| *at + longest >= now);
        if self.options.faults.lagging > 0 {
            self.lists.push((now, service.clone(), state));
        }
        told
    }

    fn observe_fleets(&self, service: &ServiceName) -> FleetsState {
        let instance = |(id, machine): (&InstanceId, &Machine)| {
            let lifecycle = self.lifecycle(machine);
            ObservedInstance {
                id: id.clone(),
                lifecycle,
                image: Some(machine.image),
                endpoint: (lifecycle != Lifecycle::Starting).then(|| machine.endpoint.clone()),
                started_at: self.told(machine.started),
            }
        };
        let fleet = |(id, fleet): (&FleetId, &Fleet)| ObservedFleet {
            id: id.clone(),
            release: fleet.spec.release.id(),
            instances: self.instances_of(id).map(instance).collect(),
            wanted: Some(fleet.wanted),
        };
        let fleets = self.fleets.iter().filter(|(_, fleet)| fleet.spec.service == *service).map(fleet).collect();
        FleetsState { as_of: self.told(self.now), fleets }
    }

    fn retire(&mut self, fleet: &FleetId, instances: &[InstanceId]) -> Progress<()> {
        let now = self.now;
        let part = self.part(Operation::Retire, instances.len());
        let mut ended = Vec::new();
        for id in &instances[..part] {
            if let Some(machine) = self.machines.get_mut(id)
                && machine.fleet == *fleet
                && machine.ended.is_none()
            {
                machine.ended = Some(now);
                ended.push(id.clone());
            }
        }
        if let Some(fleet) = self.fleets.get_mut(fleet) {
            fleet.wanted = fleet.wanted.saturating_sub(u32::try_from(ended.len()).unwrap_or(u32::MAX));
        }
        self.record(&format!("retire {} of fleet {fleet}: ended {}", names(instances), names(&ended)));
        in_part(part < instances.len())
    }

    /// Brings a fleet to a size by another hand than that of a rollout. Whether there is such a fleet.
    pub(super) fn scale(&mut self, id: &FleetId, size: u32) -> bool {
        let Some(fleet) = self.fleets.get_mut(id) else { return false };
        fleet.wanted = size;
        let (spec, now) = (fleet.spec.clone(), self.now);
        let alive = |machine: &Machine| matches!(self.lifecycle(machine), Lifecycle::Starting | Lifecycle::Running);
        let mut alive: Vec<_> = self.instances_of(id).filter(|(_, machine)| alive(machine)).collect();
        alive.sort_by_key(|(_, machine)| machine.started);
        let surplus: Vec<InstanceId> = alive.iter().skip(size as usize).map(|(id, _)| (*id).clone()).collect();
        let missing = (size as usize).saturating_sub(alive.len());
        for id in &surplus {
            if let Some(machine) = self.machines.get_mut(id) {
                machine.ended = Some(now);
            }
        }
        let started: Vec<InstanceId> = (0..missing).map_while(|_| self.start(&spec)).collect();
        self.record(&format!("by hand: scale {id} to {size}: started {}, ended {}", names(&started), names(&surplus)));
        true
    }

    fn remove_fleet(&mut self, service: &ServiceName, id: &FleetId) -> Result<Progress<()>, ProviderError> {
        if self.fleets.get(id).is_none_or(|fleet| fleet.spec.service != *service) {
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

fn in_part(part: bool) -> Progress<()> {
    if part {
        return Progress::Pending { retry_after: Duration::from_secs(1), note: "done in part".to_owned() };
    }
    Progress::Done(())
}

/// Instances for the log: `sim-1, sim-2`, or `none`.
pub(super) fn names(instances: &[InstanceId]) -> String {
    if instances.is_empty() {
        return "none".to_owned();
    }
    instances.iter().map(InstanceId::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{after, cx, fleet, fleet_id, id, ready, told};
    use super::*;
    use crate::decide::{FleetView, InstanceView, Phase, World};
    use crate::model::Split;

    /// The proof that instances may be ended, whatever they are.
    fn proof(cloud: &SimCloud, fleet: &str, instances: &[&str]) -> RetireProof {
        let instances: Vec<InstanceId> = instances.iter().map(|name| id(name)).collect();
        let view = |id: &InstanceId| InstanceView {
            id: id.clone(),
            phase: Phase::Drained,
            replace: false,
            dead: false,
            endpoint: None,
        };
        let views = instances.iter().map(view).collect();
        let fleets = vec![FleetView { id: fleet_id(fleet), instances: views, hold_growth: false }];
        let world = World { as_of: cloud.now(), fleets, split: Split::closed(), version: "0".parse().unwrap() };
        RetireProof::new(&world, &fleet_id(fleet), &instances, cloud.now(), Duration::ZERO).unwrap()
    }

    fn alive(cloud: &SimCloud) -> Vec<String> {
        let instances = cloud.instances().into_iter();
        let alive = instances.filter(|i| matches!(i.lifecycle, Lifecycle::Starting | Lifecycle::Running));
        alive.map(|instance| instance.id.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn p1_p2_ensure_grows_to_the_size_and_no_further() {
        let cloud = SimCloud::default();
        let fleets = cloud.platform().fleets;
        for (size, expected) in [(2, 2), (2, 2), (1, 2), (3, 3)] {
            assert_eq!(fleets.ensure(&cx(), &fleet(&cloud, "1", size)).await.unwrap(), Progress::Done(()));
            assert_eq!(alive(&cloud).len(), expected);
        }
        cloud.kill(&id("sim-1"));
        fleets.retire(&cx(), &proof(&cloud, "1", &["sim-2"])).await.unwrap();
        fleets.ensure(&cx(), &fleet(&cloud, "1", 3)).await.unwrap();
        assert_eq!(alive(&cloud), ["sim-3", "sim-4", "sim-5"]);
    }

    #[tokio::test(start_paused = true)]
    async fn p3_a_fleet_is_bound_to_its_release() {
        let cloud = SimCloud::default();
        ready(&cloud, "1", 1).await;
        let other = FleetSpec { release: cloud.release("2"), size: 5, ..fleet(&cloud, "1", 5) };
        let error = cloud.platform().fleets.ensure(&cx(), &other).await.expect_err("another release");
        assert_eq!(error.kind(), ErrorKind::Immutable);
        assert_eq!(alive(&cloud), ["sim-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn p4_observe_sees_every_instance_until_it_is_gone() {
        let cloud = SimCloud::default();
        let fleets = cloud.platform().fleets;
        ready(&cloud, "1", 3).await;
        fleets.ensure(&cx(), &fleet(&cloud, "1", 4)).await.unwrap();
        fleets.ensure(&cx(), &fleet(&cloud, "2", 0)).await.unwrap();
        cloud.kill(&id("sim-1"));
        cloud.drift(&id("sim-2"));
        fleets.retire(&cx(), &proof(&cloud, "1", &["sim-3"])).await.unwrap();

        let state = fleets.observe(&cx(), &"web".parse().unwrap()).await.unwrap();
        let born = cloud.image("1").fingerprint;
        let told: Vec<_> = state.fleets[0].instances.iter().map(|i| (i.lifecycle, i.image == Some(born))).collect();
        let expected = [
            (Lifecycle::Dead, true),
            (Lifecycle::Running, false),
            (Lifecycle::Ending, true),
            (Lifecycle::Starting, true),
        ];
        assert_eq!(told, expected);
        let endpoints: Vec<_> = state.fleets[0].instances.iter().map(|i| i.endpoint.is_some()).collect();
        assert_eq!(endpoints, [true, true, true, false]);
        assert_eq!((&state.fleets[1].id, state.fleets[1].instances.len()), (&fleet_id("2"), 0));
        assert!(fleets.observe(&cx(), &"other".parse().unwrap()).await.unwrap().fleets.is_empty());

        after(10).await;
        let state = fleets.observe(&cx(), &"web".parse().unwrap()).await.unwrap();
        let left: Vec<_> = state.fleets[0].instances.iter().map(|i| i.id.as_str()).collect();
        assert_eq!(left, ["sim-1", "sim-2", "sim-4"]);
        assert!(state.as_of <= cloud.now());
    }

    #[tokio::test(start_paused = true)]
    async fn p5_retire_ends_the_named_ones_and_nothing_replaces_them() {
        let cloud = SimCloud::default();
        let fleets = cloud.platform().fleets;
        ready(&cloud, "1", 3).await;
        ready(&cloud, "2", 1).await;
        for _ in 0..2 {
            // `sim-4` is of the other fleet, and `sim-9` never was.
            let proof = proof(&cloud, "1", &["sim-1", "sim-3", "sim-4", "sim-9"]);
            assert_eq!(fleets.retire(&cx(), &proof).await.unwrap(), Progress::Done(()));
            assert_eq!(alive(&cloud), ["sim-2", "sim-4"]);
            after(5).await;
        }
        after(60).await;
        assert_eq!(cloud.instances().len(), 2);
        let effects: Vec<_> =
            cloud.log().iter().filter_map(|line| line.split(": ended ").nth(1).map(String::from)).collect();
        assert_eq!(effects, ["sim-1, sim-3", "none"]);
    }

    #[tokio::test(start_paused = true)]
    async fn p6_remove_leaves_nothing_and_wants_the_fleet_empty() {
        let cloud = SimCloud::default();
        let (fleets, service) = (cloud.platform().fleets, "web".parse().unwrap());
        ready(&cloud, "1", 1).await;
        let error = fleets.remove(&cx(), &service, &fleet_id("1")).await.expect_err("not empty");
        let message = "conflict in remove fleet: fleet web-1 has 1 instances: retire them first";
        assert_eq!(told(&error), (ErrorKind::Conflict, message.to_owned()));
        fleets.retire(&cx(), &proof(&cloud, "1", &["sim-1"])).await.unwrap();
        after(10).await;
        for _ in 0..2 {
            assert_eq!(fleets.remove(&cx(), &service, &fleet_id("1")).await.unwrap(), Progress::Done(()));
            assert!(fleets.observe(&cx(), &service).await.unwrap().fleets.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_cannot_be_born_from_a_removed_image() {
        let cloud = SimCloud::default();
        let (platform, spec) = (cloud.platform(), fleet(&cloud, "1", 1));
        platform.images.remove(&cx(), spec.release.image()).await.unwrap();
        let error = platform.fleets.ensure(&cx(), &spec).await.expect_err("no image");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(cloud.restore_image("1"));
        assert!(platform.fleets.ensure(&cx(), &spec).await.is_ok());
    }
}
