//! One random rollout: a cloud, a journal, drivers that come and go, and a person who changes their mind.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use immutable_core::engine::{Engine, Entropy, Event, Outcome, Rollout};
use immutable_core::journal::{Journal, MemoryJournal};
use immutable_core::model::{FleetId, ServiceName, Weight};
use immutable_core::plan::{Amount, RolloutSpec, StageSpec, Strategy};
use immutable_core::provider::{Platform, SwitchKind};
use immutable_core::testkit::{Behaviour, Fault, Faults, SimCloud, SimOptions};

use crate::broken::{Broken, LetsStaleDriversWrite};
use crate::rules;

/// Longer than any rollout of these may take; the longest bake is an hour.
const BOUND: Duration = Duration::from_hours(24);

/// What came of one seed.
pub(crate) struct Report {
    pub(crate) trace: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) outcome: String,
    pub(crate) struck: BTreeSet<Fault>,
    pub(crate) time: Duration,
}

/// Random numbers of a seed: splitmix64.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0xa076_1d64_78bd_642f)))
    }

    fn below(&self, limit: u64) -> u64 {
        self.next_u64() % limit
    }

    fn seconds(&self, limit: u64) -> Duration {
        Duration::from_secs(self.below(limit))
    }

    fn count(&self, limit: u64) -> Amount {
        Amount::Count(u32::try_from(self.below(limit)).unwrap())
    }
}

impl Entropy for Random {
    fn next_u64(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
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

/// Runs one seed to its end, without the faults that are switched off.
pub(crate) fn run(seed: u64, off: BTreeSet<Fault>, broken: Option<Broken>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { World::new(seed, off, broken).await.play().await })
}

struct World {
    seed: u64,
    random: Random,
    cloud: SimCloud,
    journal: MemoryJournal,
    switch: SwitchKind,
    strategy: Strategy,
    desired: u32,
    broken: Option<Broken>,
    drivers: u64,
    /// The newest version that was rolled out.
    newest: &'static str,
    /// The journal's entry at which the rollout of the simulation begins.
    installed: usize,
    told: Vec<String>,
}

impl World {
    async fn new(seed: u64, off: BTreeSet<Fault>, broken: Option<Broken>) -> Self {
        let random = Random::new(seed);
        let step = Weight::basis_points([1, 100, 500][usize::try_from(random.below(3)).unwrap()]).unwrap();
        let switch = if random.below(2) == 0 { SwitchKind::Membership } else { SwitchKind::Weighted { step } };
        let options = SimOptions {
            switch,
            boot: random.seconds(90),
            register_after: random.seconds(30),
            drain_for: random.seconds(60),
            end_after: random.seconds(60),
            ..SimOptions::default()
        };
        let (cloud, journal) = (SimCloud::new(options), MemoryJournal::new());
        let desired = 1 + u32::try_from(random.below(4)).unwrap();
        let first = engine(&cloud, cloud.platform(), journal.clone(), seed);
        let installing = first.start(spec(&cloud, "1", Strategy::blue_green(), desired)).await.unwrap();
        assert_eq!(installing.wait().await.unwrap(), Outcome::Promoted, "seed {seed}");
        let installed = journal.list(&service()).await.unwrap().len();
        let strategy = strategy(&random, desired);
        cloud.behave(cloud.release("2").id(), behaviour(&random));
        let mut faults = Faults { off, ..Faults::swarm(seed) };
        if matches!(broken, Some(Broken::NoHorizon | Broken::Nothing)) {
            // Rare otherwise: a request that lands long after its caller gave up.
            (faults.late, faults.late_by) = (200, Duration::from_mins(5));
        }
        cloud.set_faults(faults);
        cloud.keep_changes();
        let told = vec![format!("seed {seed}: {desired} on {switch:?}, {strategy:?}")];
        Self {
            seed,
            random,
            cloud,
            journal,
            switch,
            strategy,
            desired,
            broken,
            drivers: 0,
            newest: "2",
            installed,
            told,
        }
    }

    fn tell(&mut self, text: impl std::fmt::Display) {
        self.told.push(format!("{} {text}", self.cloud.now()));
    }

    fn driver(&mut self) -> Engine {
        self.drivers += 1;
        let seed = self.seed.wrapping_mul(1_000) + self.drivers;
        let platform = self.broken.map_or_else(|| self.cloud.platform(), |broken| broken.platform(&self.cloud));
        if self.broken == Some(Broken::StaleDrivers) {
            return engine(&self.cloud, platform, LetsStaleDriversWrite(self.journal.clone()), seed);
        }
        engine(&self.cloud, platform, self.journal.clone(), seed)
    }

    /// Starts the rollout, or takes it over, however often the platform refuses. `None` when it is over, or no driver can begin.
    async fn go_on(&mut self, engine: &Engine, starts: bool) -> Option<Rollout> {
        for _ in 0..1_000 {
            let gone_on = if starts {
                engine.start(spec(&self.cloud, "2", self.strategy.clone(), self.desired)).await.map(Some)
            } else {
                engine.recover(&service()).await
            };
            match gone_on {
                Ok(rollout) => return rollout,
                Err(error) => self.tell(error),
            }
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
        None
    }

    async fn play(mut self) -> Report {
        let mut engine = self.driver();
        let Some(mut rollout) = self.go_on(&engine, true).await else {
            let violations = vec![format!("rule 9, progress: no driver begins: {:?}", self.told.last())];
            return Report { violations, ..self.report(String::new(), Vec::new(), &[]) };
        };
        let budget = rollout.plan().budget;
        let mut others = Vec::new();
        for _ in 0..self.random.below(8) {
            tokio::time::sleep(self.random.seconds(240)).await;
            let choice = self.random.below(12);
            self.tell(format!("choice {choice}"));
            match choice {
                0 => _ = rollout.pause().await,
                1 => _ = rollout.resume().await,
                2 => _ = rollout.abort("a change of mind").await,
                3 => _ = rollout.promote().await,
                4 => self.kill_somebody(),
                9 => engine.freeze("an incident").await,
                10 => engine.thaw().await,
                11 => {
                    if let Some(next) = self.supersede(&engine).await {
                        rollout = next;
                    }
                }
                5 | 6 => {
                    drop(engine);
                    tokio::time::sleep(self.random.seconds(900)).await;
                    engine = self.driver();
                    let Some(next) = self.go_on(&engine, false).await else { break };
                    rollout = next;
                }
                _ => {
                    // The driver before this one lives on, and learns that it is fenced.
                    others.push(std::mem::replace(&mut engine, self.driver()));
                    let Some(next) = self.go_on(&engine, false).await else { break };
                    rollout = next;
                }
            }
        }
        engine.thaw().await;
        let _ = rollout.resume().await;
        let end = tokio::time::timeout(BOUND, rollout.wait()).await;
        let waiting = rollout.status().waiting;
        self.settle(end.ok().map(|end| end.map_err(|error| error.to_string())), &waiting, budget).await
    }

    /// Release 3 takes the place of 2, if the platform answers.
    async fn supersede(&mut self, engine: &Engine) -> Option<Rollout> {
        match engine.supersede(spec(&self.cloud, "3", self.strategy.clone(), self.desired)).await {
            Ok(rollout) => {
                self.newest = "3";
                Some(rollout)
            }
            Err(error) => {
                self.tell(error);
                // It may have come so far that nobody drives it.
                engine.recover(&service()).await.ok().flatten()
            }
        }
    }

    fn kill_somebody(&mut self) {
        let instances = self.cloud.instances();
        if !instances.is_empty() {
            let index = usize::try_from(self.random.below(instances.len() as u64)).unwrap();
            self.cloud.kill(&instances[index].id);
        }
    }

    async fn settle(
        self,
        end: Option<Result<Outcome, String>>,
        waiting: &[String],
        budget: immutable_core::decide::Budget,
    ) -> Report {
        // Whatever goes last is gone by then.
        tokio::time::sleep(Duration::from_mins(10)).await;
        let mut violations = rules::broken(&self.cloud.take_changes(), &budget, self.switch);
        let events = self.events().await;
        violations.extend(self.end(end.as_ref(), waiting, &events));
        let outcome = match end {
            Some(Ok(Outcome::Promoted)) => "promoted".to_owned(),
            Some(Ok(Outcome::RolledBack { .. })) => "rolled back".to_owned(),
            Some(Ok(other)) => other.to_string().split(':').next().unwrap_or_default().to_owned(),
            other => format!("{other:?}"),
        };
        self.report(outcome, violations, &events)
    }

    fn report(mut self, outcome: String, violations: Vec<String>, events: &[Event]) -> Report {
        self.tell(&outcome);
        let mut trace = self.told;
        trace.extend(self.cloud.log());
        trace.extend(events.iter().map(|event| format!("{event:?}")));
        let time = self.cloud.now().duration_since(immutable_core::testkit::VirtualClock::START).unsigned_abs();
        Report { trace, violations, outcome, struck: self.cloud.struck(), time }
    }

    async fn events(&self) -> Vec<Event> {
        let entries = self.journal.list(&service()).await.unwrap();
        let bodies = entries.into_iter().skip(self.installed).map(|entry| entry.body);
        bodies.flat_map(|body| serde_json::from_value::<Vec<Event>>(body["events"].clone()).unwrap()).collect()
    }

    /// The rules about the end: progress, no leak, return.
    fn end(&self, end: Option<&Result<Outcome, String>>, waiting: &[String], events: &[Event]) -> Vec<String> {
        let winner = match end {
            None => return vec![format!("rule 9, progress: no end within {BOUND:?}; waits for {waiting:?}")],
            Some(Err(error)) => return vec![format!("rule 9, progress: {error}")],
            Some(Ok(Outcome::Promoted)) => self.cloud.release(self.newest).id(),
            Some(Ok(Outcome::RolledBack { to, .. })) => *to,
            Some(Ok(_)) => return Vec::new(),
        };
        let fleet = FleetId::of(&service(), &winner);
        let mut violations = Vec::new();
        if let Some(left) = self.cloud.instances().iter().find(|instance| instance.fleet != fleet) {
            violations.push(format!("rule 7, no leak: {} of fleet {} is left", left.id, left.fleet));
        }
        let last = events.iter().rposition(|event| matches!(event, Event::Started { .. })).unwrap_or_default();
        let turned_back = events[last..].iter().any(|event| matches!(event, Event::TurnedBack { .. }));
        if turned_back && winner == self.cloud.release(self.newest).id() {
            violations.push("rule 10, return: it turned back, and is promoted".to_owned());
        }
        violations
    }
}

fn behaviour(random: &Random) -> Behaviour {
    match random.below(8) {
        0 => Behaviour::NeverHealthy,
        1 => Behaviour::NeverBoots,
        2 => Behaviour::DiesAfter(random.seconds(900)),
        3 => Behaviour::UnhealthyAfter(random.seconds(900)),
        _ => Behaviour::Good,
    }
}

fn strategy(random: &Random, desired: u32) -> Strategy {
    let whole = |name: &str, weight| StageSpec::new(name, weight).size(Amount::Percent(100));
    let strategy = match random.below(4) {
        0 => Strategy::blue_green(),
        1 => Strategy::rolling(),
        2 => Strategy::rolling().max_surge(Amount::Count(1)).max_unavailable(random.count(u64::from(desired.min(2)))),
        _ => {
            let stages = [whole("dark", Weight::NONE).hold(random.seconds(600)), whole("all", Weight::FULL)];
            Strategy::stages("own", stages).retain_old_for(random.seconds(600))
        }
    };
    strategy.bake(random.seconds(3_600))
}
