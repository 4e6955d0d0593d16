//! One machine made ready for rollouts: instances as processes, a proxy in front of them, an engine, and a steady load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use immutable_core::engine::{Engine, Event, Outcome, Rollout};
use immutable_core::health::{HealthPolicy, HttpProbe};
use immutable_core::journal::FileJournal;
use immutable_core::model::{InstanceId, Release};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{MemberHealth, OpContext, Platform, TrafficSwitch};
use immutable_local::{LocalConfig, LocalProvisioner, LocalSwitch, SwitchOptions};

use super::counts::Counts;
use super::demo::{Demo, Result};
use super::load::{Load, LoadOptions};
use super::report::Row;
use super::service::Behaviour;
use super::watch::Watch;

/// How long it may take until a route that was closed serves again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that a rollout needs on one machine.
pub(crate) struct Stand<'a> {
    demo: &'a Demo,
    pub(crate) engine: Engine,
    pub(crate) switch: LocalSwitch,
    provisioner: LocalProvisioner,
    watch: Watch,
    instances: u32,
}

impl<'a> Stand<'a> {
    /// A stand for the service of a demo, with so many instances.
    pub(crate) fn new(demo: &'a Demo, instances: u32) -> Result<Self> {
        let switch = LocalSwitch::bind(SwitchOptions::default())?;
        let probe = HttpProbe::get("/health").timeout(Duration::from_millis(500)).build()?;
        let config = LocalConfig::new(demo.directory());
        let provisioner = LocalProvisioner::new(config.clone());
        let platform = immutable_local::platform(config, &switch, probe);
        let platform = Platform { fleets: Arc::new(provisioner.clone()), ..platform };
        let journal = FileJournal::open(demo.directory().join("journal"))?;
        let engine = Engine::builder(platform.clone()).journal(journal).build();
        let watch = Watch::start(platform, switch.clone(), demo.service.clone());
        Ok(Self { demo, engine, switch, provisioner, watch, instances })
    }

    /// A load on the route, from now on; when this comes back it was answered so often that metrics have something to say.
    pub(crate) async fn load(&self, options: LoadOptions) -> Load {
        let load = Load::start(self.switch.address(), options);
        while load.mark().ok < 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        load
    }

    /// Takes up what a process that was killed has left: its rollout, or else the release that served. The proxy died with that
    /// process, so the route is closed; it serves again when this comes back. Whether there was anything to take up.
    pub(crate) async fn take_up(&self) -> Result<bool> {
        let service = &self.demo.service;
        let history = self.engine.history(service).await?;
        let Some(release) = history.proven().last() else { return Ok(false) };
        let rollout = match self.engine.recover(service).await? {
            Some(rollout) => rollout,
            None => self.start_release(release.clone(), Strategy::blue_green()).await?,
        };
        println!("\ntakes up release {} where it was left", rollout.plan().release.image().labels.version);
        let began = Instant::now();
        while !self.watch.is_serving().await && rollout.status().outcome.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(format!("the route does not serve again: {:#?}", rollout.status()).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(true)
    }

    /// Whether a rollout of a behaviour has ended, here or in a process that was killed.
    pub(crate) async fn is_done(&self, behaviour: &Behaviour) -> Result<bool> {
        let release = self.demo.release(&self.engine, behaviour).await?.id();
        let history = self.engine.history(&self.demo.service).await?;
        let known = history.failed().contains(&release) || history.proven().iter().any(|proven| proven.id() == release);
        let going_on = history.is_live()
            && history.last_rollout().iter().any(|event| match event {
                Event::Started { plan, .. } => plan.release.id() == release,
                _ => false,
            });
        Ok(known && !going_on)
    }

    /// Starts a rollout of a behaviour.
    pub(crate) async fn start(&self, behaviour: &Behaviour, strategy: Strategy) -> Result<Rollout> {
        let release = self.demo.release(&self.engine, behaviour).await?;
        self.start_release(release, strategy).await
    }

    async fn start_release(&self, release: Release, strategy: Strategy) -> Result<Rollout> {
        let health = HealthPolicy::builder().good_looks(2).bad_looks(2).build()?;
        let (service, route) = (self.demo.service.clone(), self.switch.route().clone());
        let spec = RolloutSpec::new(service, route, release, strategy.health(health)).desired(self.instances);
        Ok(self.engine.start(spec).await?)
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
        println!("  {short} in {:.2} s; {counts}", duration.as_secs_f64());
        println!("  at least {least_serving} serving, at most {peak_instances} instances at once");
        let row = Row { name: name.to_owned(), outcome: short, duration, counts, least_serving, peak_instances };
        Ok((outcome, row))
    }

    /// Kills an instance that has traffic with SIGKILL, as a crash would.
    pub(crate) async fn kill_one(&self) -> Result<()> {
        let cx = OpContext::standalone("find a victim");
        let traffic = self.switch.observe(&cx, self.switch.route()).await?;
        let processes = self.provisioner.process_ids(&self.demo.service).await?;
        let serves =
            |id: &InstanceId| traffic.members.iter().any(|m| m.instance == *id && m.health != MemberHealth::Draining);
        if let Some((_, pid)) = processes.into_iter().find(|(id, _)| serves(id)) {
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        }
        Ok(())
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
