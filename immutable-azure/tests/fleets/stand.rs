//! One fleet, and what is done with it.

use std::time::Duration;

use immutable_azure::{ConfigBuilder, Orchestration, ScaleSetProvisioner};
use immutable_azure_fake::{Fake, Options};
use immutable_core::model::{FleetSpec, InstanceId, Lifecycle, ObservedFleet};
use immutable_core::provider::{OpContext, Progress, ProviderError, Provisioner};
use serde_json::Value;

use crate::support::{self, Group, proof};

/// Long enough for any operation, boot or end of the fake.
const STEP: Duration = Duration::from_millis(400);
/// So many steps are enough for anything.
const STEPS: usize = 40;

pub(crate) const SETS: &str = "Microsoft.Compute/virtualMachineScaleSets";
pub(crate) const BOTH: [Orchestration; 2] = [Orchestration::Flexible, Orchestration::Uniform];

/// A provisioner in a resource group of its own.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) group: Group,
    pub(crate) fleets: ScaleSetProvisioner,
}

impl Stand {
    pub(crate) fn open(orchestration: Orchestration) -> Self {
        Self::with(Options::default(), |builder| builder.orchestration(orchestration).zones(["1", "2", "3"]))
    }

    /// In a group that is like this, with these settings.
    pub(crate) fn with(options: Options, settings: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let group = Group::open(options);
        let fleets = ScaleSetProvisioner::new(settings(group.config()).build().unwrap());
        Self { group, fleets }
    }

    /// Another process, which knows nothing, with these settings.
    pub(crate) fn restarted(self, settings: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let fleets = ScaleSetProvisioner::new(settings(self.group.config()).build().unwrap());
        Self { fleets, ..self }
    }

    pub(crate) fn fake(&self) -> &Fake {
        &self.group.fake
    }

    /// A fleet of the old release.
    pub(crate) fn spec(&self, size: u32) -> FleetSpec {
        Group::spec(self.group.release("1.0.0"), size)
    }

    /// How often an operation on scale sets was called, such as `PATCH`, or `POST` with `/delete`.
    pub(crate) fn calls(&self, verb: &str, action: &str) -> usize {
        self.fake().calls().get(&format!("{verb} {SETS}{action}")).copied().unwrap_or_default()
    }

    /// The scale set as it is, if there is one.
    pub(crate) fn set(&self, spec: &FleetSpec) -> Option<Value> {
        self.fake().get(&path(spec))
    }

    /// What would be there of machines, scale sets, disks and interfaces, if everything that was begun is over.
    pub(crate) fn left(&self) -> Vec<String> {
        self.fake().skip(STEP);
        let is_theirs = |id: &String| {
            ["disks", "networkinterfaces", "virtualmachines", "virtualmachinescalesets"]
                .iter()
                .any(|kind| id.contains(&format!("/{kind}/")))
        };
        self.fake().list("").into_keys().filter(is_theirs).collect()
    }

    /// One attempt.
    pub(crate) async fn try_ensure(&self, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.fleets.ensure(&OpContext::standalone(&format!("ensure {}", spec.size)), spec).await
    }

    /// The same again and again until it is done or fails.
    pub(crate) async fn ensure(&self, spec: &FleetSpec) -> Result<(), ProviderError> {
        let cx = OpContext::standalone(&format!("ensure {}", spec.size));
        self.until_done(async || self.fleets.ensure(&cx, spec).await).await
    }

    pub(crate) async fn retire(&self, spec: &FleetSpec, instances: &[InstanceId]) -> Result<(), ProviderError> {
        let cx = OpContext::standalone(&format!("retire {instances:?}"));
        let proof = proof(&spec.id, instances);
        self.until_done(async || self.fleets.retire(&cx, &proof).await).await
    }

    pub(crate) async fn remove(&self, spec: &FleetSpec) -> Result<(), ProviderError> {
        let cx = OpContext::standalone("remove");
        self.until_done(async || self.fleets.remove(&cx, &spec.service, &spec.id).await).await
    }

    async fn until_done(
        &self,
        mut call: impl AsyncFnMut() -> Result<Progress<()>, ProviderError>,
    ) -> Result<(), ProviderError> {
        for _ in 0..STEPS {
            if call().await? == Progress::Done(()) {
                return Ok(());
            }
            self.fake().skip(STEP);
        }
        panic!("it is never done");
    }

    /// The fleet as it is seen when everything that was begun is over.
    pub(crate) async fn fleet(&self, spec: &FleetSpec) -> Option<ObservedFleet> {
        self.fake().skip(STEP);
        self.fleet_now(spec).await
    }

    /// The fleet as it is seen now.
    pub(crate) async fn fleet_now(&self, spec: &FleetSpec) -> Option<ObservedFleet> {
        let state = self.fleets.observe(&OpContext::standalone("observe"), &spec.service).await.unwrap();
        state.fleets.into_iter().find(|fleet| fleet.id == spec.id)
    }

    /// The instances that run.
    pub(crate) async fn running(&self, spec: &FleetSpec) -> Vec<InstanceId> {
        self.instances(spec, Lifecycle::Running).await
    }

    /// The instances that stand there.
    pub(crate) async fn instances(&self, spec: &FleetSpec, lifecycle: Lifecycle) -> Vec<InstanceId> {
        let fleet = self.fleet(spec).await.unwrap();
        fleet.instances.into_iter().filter(|one| one.lifecycle == lifecycle).map(|one| one.id).collect()
    }

    /// Where the machine of an instance is.
    pub(crate) fn machine(&self, instance: &InstanceId) -> String {
        support::machine(self.fake(), instance)
    }

    pub(crate) fn short(&self, short: bool) {
        for zone in ["", "1", "2", "3"] {
            self.fake().set_out_of_stock(zone, short);
        }
    }
}

/// Where the scale set of a fleet is.
pub(crate) fn path(spec: &FleetSpec) -> String {
    format!("{SETS}/im-{}", spec.id)
}
