//! One machine made ready for rollouts: instances as processes, a proxy in front of them, an engine, and a steady load.

use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use immutable_core::engine::{Engine, Event, Outcome, Rollout};
use immutable_core::health::{HealthPolicy, HttpProbe};
use immutable_core::journal::FileJournal;
use immutable_core::model::{InstanceId, LaunchSpec, Release, RouteId, ServiceName};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{MemberHealth, OpContext, Platform, TrafficSwitch};
use immutable_local::{LocalConfig, LocalProvisioner, LocalSwitch, SwitchOptions};

use super::counts::Counts;
use super::images;
use super::load::{Load, LoadOptions};
use super::report::Row;
use super::service::Behaviour;
use super::watch::Watch;

/// Whatever went wrong: the examples only print it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Everything that a rollout needs on one machine, in a directory of its own that goes when it is done.
pub(crate) struct Stand {
    pub(crate) engine: Engine,
    pub(crate) platform: Platform,
    pub(crate) switch: LocalSwitch,
    pub(crate) service: ServiceName,
    provisioner: LocalProvisioner,
    directory: tempfile::TempDir,
    watch: Watch,
    instances: u32,
}

impl Stand {
    /// A stand for a service of so many instances.
    pub(crate) fn new(instances: u32) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let service: ServiceName = "web".parse()?;
        let switch = LocalSwitch::bind(SwitchOptions::default())?;
        let probe = HttpProbe::get("/health").timeout(Duration::from_millis(500)).build()?;
        let config = LocalConfig::new(directory.path());
        let provisioner = LocalProvisioner::new(config.clone());
        let platform = immutable_local::platform(config, &switch, probe);
        let journal = FileJournal::open(directory.path().join("journal"))?;
        let engine = Engine::builder(platform.clone()).journal(journal).build();
        let watch = Watch::start(platform.clone(), switch.clone(), service.clone());
        Ok(Self { engine, platform, switch, service, provisioner, directory, watch, instances })
    }

    /// The route of the switch.
    pub(crate) fn route(&self) -> RouteId {
        self.switch.route().clone()
    }

    /// A load on the route, from now on.
    pub(crate) fn load(&self, options: LoadOptions) -> Load {
        Load::start(self.switch.address(), options)
    }

    /// The release of a behaviour: its image is built, or found.
    pub(crate) async fn release(&self, behaviour: &Behaviour) -> Result<Release> {
        let spec = images::recipe(self.directory.path(), &self.service, behaviour)?;
        Ok(Release::new(self.engine.image(&spec).await?, LaunchSpec::default()))
    }

    /// Starts a rollout of a behaviour.
    pub(crate) async fn start(&self, behaviour: &Behaviour, strategy: Strategy) -> Result<Rollout> {
        let release = self.release(behaviour).await?;
        let health = HealthPolicy::builder().good_looks(2).bad_looks(2).build()?;
        let spec = RolloutSpec::new(self.service.clone(), self.route(), release, strategy.health(health));
        Ok(self.engine.start(spec.desired(self.instances)).await?)
    }

    /// Rolls a behaviour out under load and says what it came to. `meanwhile` runs beside it.
    pub(crate) async fn roll(
        &self,
        name: &str,
        behaviour: &Behaviour,
        strategy: Strategy,
        load: Option<&Load>,
        meanwhile: impl AsyncFnOnce(&Rollout) -> Result<()>,
    ) -> Result<(Outcome, Row)> {
        self.watch.reset().await;
        let before = load.map(Load::mark).unwrap_or_default();
        let began = Instant::now();
        println!("\n{name}: release {}", behaviour.version);
        let rollout = self.start(behaviour, strategy).await?;
        let narrator = tokio::spawn(narrate(rollout.clone(), began));
        meanwhile(&rollout).await?;
        let outcome = rollout.wait().await?;
        let duration = began.elapsed();
        narrator.await?;
        let counts = load.map(Load::mark).unwrap_or_default().since(&before);
        let short = match &outcome {
            Outcome::Promoted => "promoted".to_owned(),
            Outcome::RolledBack { .. } => "rolled back".to_owned(),
            other => other.to_string(),
        };
        let (least_serving, peak_instances) = (self.watch.least_serving(), self.watch.peak_instances());
        let row = Row { name: name.to_owned(), outcome: short, duration, counts, least_serving, peak_instances };
        Ok((outcome, row))
    }

    /// Kills an instance that has traffic with SIGKILL, as a crash would.
    pub(crate) async fn kill_one(&self) -> Result<()> {
        let cx = OpContext::standalone("find a victim");
        let traffic = self.switch.observe(&cx, self.switch.route()).await?;
        let processes = self.provisioner.process_ids(&self.service).await?;
        let serves =
            |id: &InstanceId| traffic.members.iter().any(|m| m.instance == *id && m.health != MemberHealth::Draining);
        if let Some((_, pid)) = processes.into_iter().find(|(id, _)| serves(id)) {
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        }
        Ok(())
    }

    /// Ends all instances at once.
    pub(crate) async fn shut_down(self) -> Result<()> {
        drop(self.engine);
        Ok(self.provisioner.shut_down(&self.service).await?)
    }
}

/// Prints events as they happen.
async fn narrate(rollout: Rollout, began: Instant) {
    let mut events = rollout.events();
    while let Some(event) = events.next().await {
        if !matches!(event, Event::Progressed { .. } | Event::Started { .. }) {
            println!("  {:>6.2} s  {event}", began.elapsed().as_secs_f64());
        }
    }
}

/// Requests that failed outside the release that is allowed to fail.
pub(crate) fn failed_outside(counts: &Counts, release: &str) -> u64 {
    counts.failed() - counts.release(release).failed
}
