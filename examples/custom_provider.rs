//! A provisioner of one's own: instances are tasks of this process. The switch, the probe and the metrics are those of the
//! local platform, and the engine drives all of them without knowing the difference.
//!
//! `cargo run --example custom_provider`; how a provider is written and tested stands in `docs/writing-a-provider.md`.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::engine::{Engine, Outcome};
use immutable_core::health::HttpProbe;
use immutable_core::model::{FleetId, FleetSpec, Lifecycle, ObservedFleet, ObservedInstance, Release, ServiceName};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{
    ErrorKind, FleetsState, OpContext, Platform, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};
use immutable_local::{LocalConfig, LocalSwitch, SwitchOptions};
use support::demo::{self, Demo, bare_release, run, verdict};
use support::load::{Load, LoadOptions};
use support::service::{Behaviour, ServiceTask};
use tokio::sync::Mutex;

const MAX_FLEET_SIZE: u32 = 100;

/// Fleets of tasks. Nothing else knows of them, and they end with this process.
#[derive(Debug, Default)]
struct TaskFleets(Mutex<BTreeMap<FleetId, Fleet>>);

#[derive(Debug)]
struct Fleet {
    service: ServiceName,
    release: Release,
    /// All that were ever started; those that are gone for good are told to nobody.
    instances: Vec<(ObservedInstance, ServiceTask)>,
}

#[async_trait]
impl Provisioner for TaskFleets {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities { max_fleet_size: Some(MAX_FLEET_SIZE) }
    }

    async fn ensure(&self, _: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        if spec.size > MAX_FLEET_SIZE {
            let message = format!("{} is to have {} instances: at most {MAX_FLEET_SIZE}", spec.id, spec.size);
            return Err(ProviderError::new(ErrorKind::Quota, "ensure fleet", message).without_effect());
        }
        let mut fleets = self.0.lock().await;
        let new = || Fleet { service: spec.service.clone(), release: spec.release.clone(), instances: Vec::new() };
        let fleet = fleets.entry(spec.id.clone()).or_insert_with(new);
        // P3, bound for ever: what exists under this name is never turned into something else.
        if (&fleet.service, fleet.release.id()) != (&spec.service, spec.release.id()) {
            let message = format!("{} is of release {}: use another fleet", spec.id, fleet.release.id());
            return Err(ProviderError::new(ErrorKind::Immutable, "ensure fleet", message).without_effect());
        }
        // P1, grow only, and P2, never more: what is missing is started, however often this is asked for.
        for _ in fleet.observe().filter(|one| one.lifecycle == Lifecycle::Running).count()..spec.size as usize {
            fleet.start().map_err(|error| {
                ProviderError::new(ErrorKind::Capacity, "ensure fleet", "no port is free").with_source(error)
            })?;
        }
        Ok(Progress::Done(()))
    }

    async fn observe(&self, _: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        // P4, sees everything: the dead and the ending too. No fact is older than the beginning of the look.
        let as_of = jiff::Timestamp::now();
        let observed = |(id, fleet): (&FleetId, &Fleet)| ObservedFleet {
            id: id.clone(),
            release: fleet.release.id(),
            instances: fleet.observe().collect(),
            wanted: None,
        };
        let fleets = self.0.lock().await.iter().filter(|(_, fleet)| fleet.service == *service).map(observed).collect();
        Ok(FleetsState { as_of, fleets })
    }

    async fn retire(&self, _: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        // P5, named victims: these and no others. Nothing replaces them until `ensure` asks for more.
        if let Some(fleet) = self.0.lock().await.get(proof.fleet()) {
            let named = fleet.instances.iter().filter(|(one, _)| proof.instances().contains(&one.id));
            named.for_each(|(_, task)| task.stop());
        }
        Ok(Progress::Done(()))
    }

    async fn remove(&self, _: &OpContext, service: &ServiceName, id: &FleetId) -> Result<Progress<()>, ProviderError> {
        // P6, clean: an empty fleet goes, and one that is not there, or is somebody else's, is done.
        let mut fleets = self.0.lock().await;
        let Some(fleet) = fleets.get(id).filter(|fleet| fleet.service == *service) else {
            return Ok(Progress::Done(()));
        };
        if fleet.observe().count() > 0 {
            let message = format!("{id} has instances: retire them first");
            return Err(ProviderError::new(ErrorKind::Conflict, "remove fleet", message).without_effect());
        }
        fleets.remove(id);
        Ok(Progress::Done(()))
    }
}

impl Fleet {
    fn start(&mut self) -> demo::Result<()> {
        let image = self.release.image();
        let task = ServiceTask::start(Behaviour::of(&image.labels.version))?;
        let facts = ObservedInstance {
            id: format!("task-{}", task.number).parse()?,
            lifecycle: Lifecycle::Running,
            image: Some(image.fingerprint),
            endpoint: Some(task.address.into()),
            started_at: jiff::Timestamp::now(),
        };
        self.instances.push((facts, task));
        Ok(())
    }

    fn observe(&self) -> impl Iterator<Item = ObservedInstance> {
        self.instances.iter().filter_map(|(facts, task)| {
            let lifecycle = match (task.is_stopping(), task.is_finished()) {
                (false, false) => Lifecycle::Running,
                (false, true) => Lifecycle::Dead,
                (true, false) => Lifecycle::Ending,
                (true, true) => return None,
            };
            Some(ObservedInstance { lifecycle, ..facts.clone() })
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    run(custom_provider).await
}

async fn custom_provider(demo: &Demo) -> demo::Result<()> {
    let switch = LocalSwitch::bind(SwitchOptions::default())?;
    let (config, probe) = (LocalConfig::new(demo.directory()), HttpProbe::get("/health").build()?);
    let local = immutable_local::platform(config, &switch, probe);
    // This line is all that it takes to use it.
    let engine = Engine::new(Platform { fleets: Arc::new(TaskFleets::default()), ..local });

    let spec = |version, strategy| -> demo::Result<RolloutSpec> {
        let (service, route) = (demo.service.clone(), switch.route().clone());
        Ok(RolloutSpec::new(service, route, bare_release(version)?, strategy).desired(4))
    };
    let first = engine.start(spec("1", Strategy::blue_green())?).await?.wait().await?;
    let load = Load::start(switch.address(), LoadOptions::per_second(500));
    let second = engine.start(spec("2", Strategy::rolling().bake(Duration::from_millis(300)))?).await?.wait().await?;
    let counts = load.stop().await;
    println!("release 1: {first}\nrelease 2: {second}\n{counts}");
    if second == Outcome::Promoted { verdict(counts.failed()) } else { Err(second.to_string().into()) }
}
