//! One fleet, and what is done with it.

use std::time::Duration;

use immutable_core::model::{FleetSpec, InstanceId, Lifecycle, ObservedFleet};
use immutable_core::provider::{OpContext, Progress, ProviderError, Provisioner};
use immutable_gcp::{ConfigBuilder, GroupProvisioner};
use immutable_gcp_fake::{Fake, Options};

use crate::support::{Project, proof};

/// Long enough for any operation, boot or end of the fake.
const STEP: Duration = Duration::from_millis(300);
/// So many steps are enough for anything.
const STEPS: usize = 40;

/// A provisioner in a project of its own.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) project: Project,
    pub(crate) fleets: GroupProvisioner,
}

impl Stand {
    /// With regional groups.
    pub(crate) async fn open() -> Self {
        Self::with(Options::default(), |builder| builder).await
    }

    /// With regional groups, in a project that is like this, with these settings.
    pub(crate) async fn with(options: Options, settings: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let project = Project::open(options).await;
        let fleets = GroupProvisioner::new(settings(project.regional()).build().unwrap());
        Self { project, fleets }
    }

    pub(crate) fn fake(&self) -> &Fake {
        &self.project.fake
    }

    /// A fleet of the old release.
    pub(crate) fn spec(&self, size: u32) -> FleetSpec {
        Project::spec(self.project.release("web-old"), size)
    }

    /// How often a method of regional groups was called.
    pub(crate) fn calls(&self, method: &str) -> usize {
        let calls = self.fake().calls();
        calls.get(&format!("compute.regionInstanceGroupManagers.{method}")).copied().unwrap_or_default()
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
        let fleet = self.fleet(spec).await.unwrap();
        let running = fleet.instances.into_iter().filter(|instance| instance.lifecycle == Lifecycle::Running);
        running.map(|instance| instance.id).collect()
    }
}

/// Where the machine of an instance is.
pub(crate) fn path(instance: &InstanceId) -> String {
    let parts: Vec<&str> = instance.as_str().split('/').collect();
    format!("zones/{}/instances/{}", parts[0], parts[1])
}
