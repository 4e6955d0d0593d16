//! One random rollout: a cloud, a journal, drivers that come and go, and people who change their minds.

mod end;

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_core::engine::{Engine, Outcome, Rollout, StartError};
use immutable_core::journal::{Journal, MemoryJournal};
use immutable_core::model::{FleetId, InstanceId, RolloutId, ServiceName, Split, Weight};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{Platform, SwitchKind};
use immutable_core::testkit::{Fault, Faults, SimCloud};
use jiff::Timestamp;

use crate::broken::Broken;
use crate::draw;
use crate::inputs::{Input, Kind, is_on, schedule};
use crate::random::Random;
use crate::watch::Watch;

/// Longer than any rollout of these may take; the longest bake is an hour.
const BOUND: Duration = Duration::from_hours(24);

/// What is left out of a seed, to see whether it fails without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Off {
    pub(crate) faults: BTreeSet<Fault>,
    pub(crate) inputs: BTreeSet<Input>,
}

/// What came of one seed.
pub(crate) struct Report {
    pub(crate) trace: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) outcome: String,
    pub(crate) struck: BTreeSet<Fault>,
    pub(crate) given: BTreeSet<Input>,
    pub(crate) time: Duration,
}

pub(crate) fn service() -> ServiceName {
    "web".parse().unwrap()
}

pub(crate) fn spec(cloud: &SimCloud, version: &str, strategy: Strategy, desired: u32) -> RolloutSpec {
    RolloutSpec::new(service(), "route".parse().unwrap(), cloud.release(version), strategy).desired(desired)
}

pub(crate) fn engine(cloud: &SimCloud, platform: Platform, journal: impl Journal, seed: u64) -> Engine {
    let owner = format!("driver-{seed}").parse().unwrap();
    Engine::builder(platform).journal(journal).clock(cloud.clock()).entropy(Random::new(seed)).owner(owner).build()
}

/// Runs one seed to its end, without what is left out.
pub(crate) fn run(seed: u64, off: &Off, broken: Option<Broken>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { World::new(seed, off, broken).await.play().await })
}

struct World {
    seed: u64,
    off: Off,
    cloud: SimCloud,
    watch: Watch,
    horizon: Duration,
    journal: MemoryJournal,
    switch: SwitchKind,
    strategy: Strategy,
    desired: u32,
    /// What served before is broken, the new release is good, and the cloud is only slow: it must go out.
    is_fix: bool,
    broken: Option<Broken>,
    drivers: u64,
    given: BTreeSet<Input>,
    drifted: BTreeSet<InstanceId>,
    ill: Vec<InstanceId>,
    /// When somebody last laid hands on the cloud.
    edited: Timestamp,
    aborted: Vec<(RolloutId, Timestamp)>,
    told: Vec<String>,
    violations: Vec<String>,
}

impl World {
    async fn new(seed: u64, off: &Off, broken: Option<Broken>) -> Self {
        let random = Random::new(seed);
        let options = draw::options(&random);
        let (switch, analysis) = (options.switch, draw::analysis(seed, &options));
        let (cloud, journal) = (SimCloud::new(options), MemoryJournal::new());
        let desired = 1 + u32::try_from(random.below(4)).unwrap();
        let first = engine(&cloud, cloud.platform(), journal.clone(), seed);
        let installing = first.start(spec(&cloud, "1", Strategy::blue_green(), desired)).await.unwrap();
        assert_eq!(installing.wait().await.unwrap(), Outcome::Promoted, "seed {seed}");
        let drain_time = random.seconds(60) * u32::from(random.below(2) == 0);
        if analysis.is_some() {
            // Nothing is compared with a service that had no requests lately.
            tokio::time::sleep(Duration::from_mins(6)).await;
        }
        let strategy = draw::strategy(&random, desired, switch, analysis).drain_time(drain_time);
        let is_fix = random.below(8) == 0;
        let mut faults = Faults { off: off.faults.clone(), ..Faults::swarm(seed) };
        if is_fix {
            draw::break_what_serves(&random, &cloud);
            faults = draw::only_slow(faults);
        } else {
            cloud.behave(cloud.release("2").id(), draw::behaviour(&random));
        }
        if broken.is_some_and(Broken::is_about_late_requests) {
            // Rare otherwise: a request that lands long after its caller gave up.
            (faults.late, faults.late_by) = (200, Duration::from_mins(5));
        }
        // No request may land later than the platform says. Whoever takes over waits for nothing else, so lists have to show by then
        // what the driver before has done.
        let horizon = faults.late_by + faults.slow_by + faults.lag_by + random.seconds(60);
        cloud.set_faults(faults);
        cloud.keep_changes();
        let told = vec![format!("seed {seed}: {desired} on {switch:?}, fix {is_fix}, {strategy:?}")];
        Self {
            seed,
            off: off.clone(),
            watch: Watch::new(&cloud),
            horizon,
            journal,
            switch,
            strategy,
            desired,
            is_fix,
            broken,
            drivers: 0,
            given: BTreeSet::new(),
            drifted: BTreeSet::new(),
            ill: Vec::new(),
            edited: cloud.now(),
            aborted: Vec::new(),
            told,
            violations: Vec::new(),
            cloud,
        }
    }

    fn tell(&mut self, text: impl std::fmt::Display) {
        self.told.push(format!("{} {text}", self.cloud.now()));
    }

    fn driver(&mut self) -> Engine {
        self.drivers += 1;
        let seed = self.seed.wrapping_mul(1_000) + self.drivers;
        let mut platform = self.watch.platform();
        platform.pace.ambiguity_horizon = self.horizon;
        match self.broken {
            None => engine(&self.cloud, platform, self.journal.clone(), seed),
            Some(broken) => broken.engine(&self.cloud, platform, &self.journal, seed),
        }
    }

    /// Starts what is to be started, or takes it over, however often the platform refuses. `None` when it is over, or nobody can.
    async fn patiently(
        &mut self,
        start: impl AsyncFn(&Self) -> Result<Option<Rollout>, StartError>,
    ) -> Option<Rollout> {
        for _ in 0..1_000 {
            match start(self).await {
                Ok(rollout) => return rollout,
                Err(error @ (StartError::Plan(_) | StartError::Live { .. })) => {
                    self.tell(error);
                    return None;
                }
                Err(error) => self.tell(error),
            }
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
        None
    }

    async fn start(&mut self, engine: &Engine) -> Option<Rollout> {
        let go = async |world: &Self| {
            engine.start(spec(&world.cloud, "2", world.strategy.clone(), world.desired)).await.map(Some)
        };
        self.patiently(go).await
    }

    async fn recover(&mut self, engine: &Engine) -> Option<Rollout> {
        self.patiently(async |_| engine.recover(&service()).await).await
    }

    async fn play(mut self) -> Report {
        let mut engine = self.driver();
        let Some(mut rollout) = self.start(&engine).await else {
            self.violations.push(format!("rule 9, progress: no driver begins: {:?}", self.told.last()));
            return self.report(String::new()).await;
        };
        let begun = self.cloud.now();
        let mut others = Vec::new();
        for (after, input) in schedule(self.seed, &self.off.inputs) {
            if self.is_fix && !input.kind.spares_a_fix() {
                continue;
            }
            let wait = (begun + after).duration_since(self.cloud.now()).max(jiff::SignedDuration::ZERO);
            if tokio::time::timeout(wait.unsigned_abs(), rollout.wait()).await.is_ok_and(|end| end.is_ok()) {
                break;
            }
            self.given.insert(input);
            self.tell(format!("{input:?}"));
            let random = input.random(self.seed);
            if matches!(input.kind, Kind::Crash | Kind::Rival) {
                let before = std::mem::replace(&mut engine, self.driver());
                if input.kind == Kind::Rival {
                    others.push(before);
                } else {
                    drop(before);
                    tokio::time::sleep(random.seconds(900)).await;
                }
                let Some(next) = self.recover(&engine).await else { break };
                rollout = next;
            } else if let Some(next) = self.give(input, &random, &engine, &rollout).await {
                rollout = next;
            }
        }
        let end = self.see_it_through(&engine, &rollout).await;
        let end = self.regret(&engine, end).await;
        self.settle(end).await
    }

    /// A wish of a person, or their hands on the cloud. The rollout that goes on after it, if it is another one.
    async fn give(&mut self, input: Input, random: &Random, engine: &Engine, rollout: &Rollout) -> Option<Rollout> {
        match input.kind {
            Kind::Pause => _ = rollout.pause().await,
            Kind::Resume => _ = rollout.resume().await,
            Kind::Promote => _ = rollout.promote().await,
            Kind::Approve => approve(rollout).await,
            Kind::Freeze => engine.freeze("an incident").await,
            Kind::Thaw => engine.thaw().await,
            Kind::Abort => {
                if rollout.abort("a change of mind").await.is_ok() {
                    self.aborted.push((rollout.id(), self.cloud.now()));
                }
            }
            Kind::RollBack => match engine.roll_back(&service(), &self.cloud.release("1").id()).await {
                Ok(rollout) => return Some(rollout),
                Err(error) => self.tell(error),
            },
            Kind::Supersede => return self.supersede(input, random, engine).await,
            _ => self.lay_hands_on(input.kind, random),
        }
        None
    }

    /// Yet another release takes the place of the one that goes out, if the platform answers.
    async fn supersede(&mut self, input: Input, random: &Random, engine: &Engine) -> Option<Rollout> {
        let version = ["3", "4"][usize::try_from(input.nth).unwrap()];
        self.cloud.behave(self.cloud.release(version).id(), draw::behaviour(random));
        match engine.supersede(spec(&self.cloud, version, self.strategy.clone(), self.desired)).await {
            Ok(rollout) => Some(rollout),
            Err(error) => {
                self.tell(error);
                // It may have come so far that nobody drives it.
                engine.recover(&service()).await.ok().flatten()
            }
        }
    }

    fn lay_hands_on(&mut self, kind: Kind, random: &Random) {
        self.edited = self.cloud.now();
        let instances = self.cloud.instances();
        let Some(id) = random.of(&instances).map(|instance| instance.id.clone()) else { return };
        match kind {
            Kind::Kill => _ = self.cloud.kill(&id),
            Kind::End => _ = self.cloud.end(&id),
            Kind::TakeOut => _ = self.cloud.take_out(&id),
            Kind::MakeIll => {
                self.cloud.make_ill(&id);
                self.ill.push(id);
            }
            Kind::Heal => self.ill.drain(..).for_each(|id| _ = self.cloud.heal(&id)),
            Kind::Drift => {
                self.cloud.drift(&id);
                self.drifted.insert(id);
            }
            _ => {
                let fleets: BTreeSet<FleetId> = instances.into_iter().map(|instance| instance.fleet).collect();
                if let (SwitchKind::Weighted { step }, Some(first), Some(last)) =
                    (self.switch, fleets.first(), fleets.last())
                {
                    let steps = u64::from(Weight::FULL.points() / step.points());
                    let points = step.points() * u16::try_from(random.below(steps + 1)).unwrap();
                    let weight = |points| Weight::basis_points(points).unwrap();
                    let split =
                        [(first.clone(), weight(points)), (last.clone(), weight(Weight::FULL.points() - points))];
                    let split = if first == last { Split::all_to(first.clone()) } else { Split::new(split).unwrap() };
                    self.cloud.move_weights(&split);
                }
            }
        }
    }

    /// Somebody lifts what people have stopped, approves after a while, and in the end decides where data are missing.
    async fn see_it_through(&mut self, engine: &Engine, rollout: &Rollout) -> Option<Result<Outcome, String>> {
        engine.thaw().await;
        let _ = rollout.resume().await;
        for patience in [Duration::from_mins(30), Duration::from_hours(1), BOUND] {
            if let Ok(end) = tokio::time::timeout(patience, rollout.wait()).await {
                return Some(end.map_err(|error| error.to_string()));
            }
            approve(rollout).await;
            if patience > Duration::from_mins(30) {
                let _ = rollout.promote().await;
            }
        }
        self.tell(format!("waits for {:?}", rollout.status().waiting));
        None
    }

    /// What was promoted is wanted back, where people are like that.
    async fn regret(
        &mut self,
        engine: &Engine,
        end: Option<Result<Outcome, String>>,
    ) -> Option<Result<Outcome, String>> {
        let input = Input { kind: Kind::Regret, nth: 0 };
        let regrets = is_on(self.seed, Kind::Regret) && !self.off.inputs.contains(&input) && !self.is_fix;
        if !regrets || end != Some(Ok(Outcome::Promoted)) {
            return end;
        }
        self.given.insert(input);
        tokio::time::sleep(input.random(self.seed).seconds(600)).await;
        let back = async |world: &Self| engine.roll_back(&service(), &world.cloud.release("1").id()).await.map(Some);
        let Some(rollout) = self.patiently(back).await else { return end };
        self.see_it_through(engine, &rollout).await
    }
}

async fn approve(rollout: &Rollout) {
    let gates = rollout.plan().stages.iter().map(|stage| &stage.gate);
    for approval in gates.filter_map(|gate| gate.approval.clone()) {
        let _ = rollout.approve(approval).await;
    }
}
