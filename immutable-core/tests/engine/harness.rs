//! One service on one simulated cloud, and what is asked about it again and again.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use immutable_core::engine::{ApiBudget, Engine, Entropy, Event, Outcome, Rollout};
use immutable_core::journal::{Journal, MemoryJournal};
use immutable_core::model::{FleetId, InstanceId, ReleaseId, ServiceName, Weight};
use immutable_core::plan::{Amount, RolloutSpec, StageSpec, Strategy};
use immutable_core::provider::{Effect, ErrorKind, OpContext, SwitchKind};
use immutable_core::testkit::{Operation, SimCloud, SimInstance, SimOptions};
use jiff::Timestamp;

/// Longer than any rollout of these tests may take.
const FOREVER: Duration = Duration::from_hours(100);

/// A service on a cloud of its own.
pub(crate) struct Stand {
    pub(crate) cloud: SimCloud,
    pub(crate) journal: MemoryJournal,
    pub(crate) engine: Engine,
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

pub(crate) fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

pub(crate) fn service() -> ServiceName {
    "web".parse().unwrap()
}

/// The two kinds of switches.
pub(crate) fn switches() -> [SwitchKind; 2] {
    [SwitchKind::Weighted { step: Weight::basis_points(1).unwrap() }, SwitchKind::Membership]
}

/// Each way to roll out `desired` instances, on any switch.
pub(crate) fn strategies(desired: u32) -> Vec<Strategy> {
    // On a switch by membership, one new instance beside the old ones has just this share.
    let share = Weight::basis_points(u16::try_from(10_000 / (desired + 1)).unwrap()).unwrap();
    let one = |name: &str| StageSpec::new(name, share).size(Amount::Count(1));
    let whole = |name: &str, weight| StageSpec::new(name, weight).size(Amount::Percent(100));
    let mut strategies = vec![
        Strategy::blue_green(),
        Strategy::rolling(),
        Strategy::rolling().max_surge(Amount::Percent(100)),
        Strategy::canary([one("one").hold(minutes(1))]),
        Strategy::stages(
            "own",
            [
                StageSpec::new("dark", Weight::NONE).size(Amount::Count(1)),
                whole("all dark", Weight::NONE),
                whole("all", Weight::FULL),
            ],
        )
        .retain_old_for(minutes(5)),
    ];
    if desired > 1 {
        let count = Amount::Count;
        strategies.push(Strategy::rolling().max_surge(count(0)).max_unavailable(count(1)));
        strategies.push(Strategy::rolling().max_surge(count(1)).max_unavailable(Amount::Percent(50)));
    }
    strategies
}

impl Stand {
    pub(crate) fn new() -> Self {
        Self::with(SimOptions::default())
    }

    pub(crate) fn on(switch: SwitchKind) -> Self {
        Self::with(SimOptions { switch, ..SimOptions::default() })
    }

    pub(crate) fn with(options: SimOptions) -> Self {
        let (cloud, journal) = (SimCloud::new(options), MemoryJournal::new());
        let engine = engine(&cloud, &journal, ApiBudget::default());
        Self { cloud, journal, engine }
    }

    /// A stand on which release 1 serves, proven, watched from now on.
    pub(crate) async fn serving(switch: SwitchKind, desired: u32) -> Self {
        let stand = Self::on(switch);
        stand.install(desired).await;
        stand
    }

    pub(crate) async fn install(&self, desired: u32) {
        assert_eq!(self.run(self.spec("1", Strategy::blue_green()).desired(desired)).await, Outcome::Promoted);
        self.cloud.watch();
    }

    /// The engine is gone, and another takes its place.
    pub(crate) fn restart(&mut self) {
        self.engine = engine(&self.cloud, &self.journal, ApiBudget::default());
    }

    pub(crate) fn spec(&self, version: &str, strategy: Strategy) -> RolloutSpec {
        RolloutSpec::new(service(), "route".parse().unwrap(), self.cloud.release(version), strategy)
    }

    pub(crate) async fn start(&self, version: &str, strategy: Strategy) -> Rollout {
        self.engine.start(self.spec(version, strategy)).await.unwrap()
    }

    pub(crate) async fn run(&self, spec: RolloutSpec) -> Outcome {
        outcome(&self.engine.start(spec).await.unwrap()).await
    }

    pub(crate) fn id(&self, version: &str) -> ReleaseId {
        self.cloud.release(version).id()
    }

    pub(crate) fn fleet(&self, version: &str) -> FleetId {
        FleetId::of(&service(), &self.id(version))
    }

    pub(crate) fn instances(&self, version: &str) -> Vec<SimInstance> {
        let release = self.id(version);
        self.cloud.instances().into_iter().filter(|instance| instance.release == release).collect()
    }

    pub(crate) fn ids(&self, version: &str) -> Vec<InstanceId> {
        self.instances(version).into_iter().map(|instance| instance.id).collect()
    }

    pub(crate) fn fail(&self, operation: Operation, kind: ErrorKind, effect: Effect, times: u32) {
        self.cloud.fail_next(operation, kind, effect, times);
    }

    pub(crate) async fn entries(&self) -> usize {
        self.journal.list(&service()).await.unwrap().len()
    }

    pub(crate) async fn journal_text(&self) -> String {
        serde_json::to_string(&self.journal.list(&service()).await.unwrap().iter().map(|e| &e.body).collect::<Vec<_>>())
            .unwrap()
    }

    /// Whether no instance of a release was ever put into traffic.
    pub(crate) fn was_never_routed(&self, version: &str) -> bool {
        let (log, ensured) = (self.cloud.log(), format!("ensure fleet {} to", self.fleet(version)));
        let names = |list: &str| list.split(", ").map(String::from).collect::<Vec<_>>();
        let started = log.iter().filter(|line| line.contains(&ensured));
        let started: BTreeSet<_> =
            started.filter_map(|line| line.split_once(": started ")).flat_map(|(_, list)| names(list)).collect();
        let routed = log.iter().filter_map(|line| Some(line.split_once(", in ")?.1.split_once(", out ")?.0));
        !started.is_empty() && routed.flat_map(names).all(|name| !started.contains(&name))
    }

    /// Exactly one release is there, whole, with all of the traffic; nothing is left of any other.
    pub(crate) async fn assert_only(&self, version: &str, desired: u32, note: &str) {
        // Whatever went last is gone after a while.
        tokio::time::sleep(minutes(1)).await;
        let log = || self.cloud.log().join("\n");
        let release = self.id(version);
        let instances = self.cloud.instances();
        assert_eq!(instances.len(), desired as usize, "{note}: {instances:#?}\n{}", log());
        let good = instances.iter().all(|instance| instance.is_good && instance.release == release);
        assert!(good, "{note}: {instances:#?}\n{}", log());
        assert_eq!(self.cloud.split().weight(&self.fleet(version)), Weight::FULL, "{note}\n{}", log());
        let members: BTreeSet<_> = self.cloud.members().into_iter().map(|member| member.instance).collect();
        let ids: BTreeSet<_> = instances.into_iter().map(|instance| instance.id).collect();
        assert_eq!(members, ids, "{note}\n{}", log());
        assert_eq!(self.fleets().await, [self.fleet(version)], "{note}\n{}", log());
    }

    /// Nothing is there at all.
    pub(crate) async fn assert_nothing(&self, note: &str) {
        assert!(self.cloud.instances().is_empty() && self.cloud.members().is_empty(), "{note}");
        assert!(self.cloud.split().is_closed() && self.fleets().await.is_empty(), "{note}");
    }

    pub(crate) async fn fleets(&self) -> Vec<FleetId> {
        let state = self.cloud.platform().fleets.observe(&OpContext::standalone("test"), &service()).await.unwrap();
        state.fleets.into_iter().map(|fleet| fleet.id).collect()
    }

    /// Since the watch began, no more existed and no fewer served than the plan of a rollout allows.
    pub(crate) fn assert_within_budget(&self, rollout: &Rollout, note: &str) {
        let budget = rollout.plan().budget;
        let (peak, least) = (self.cloud.peak_instances(), self.cloud.least_serving().unwrap());
        let log = self.cloud.log().join("\n");
        assert!(peak <= budget.ceiling(), "{note}: {peak} existed, {budget:?}\n{log}");
        assert!(least >= budget.required(), "{note}: {least} served, {budget:?}\n{log}");
    }

    /// Whoever was in traffic was taken out, and drained, before it was ended.
    pub(crate) fn assert_drained(&self, drain: Duration, note: &str) {
        let mut out: HashMap<String, Option<Timestamp>> = HashMap::new();
        for line in self.cloud.log() {
            let (at, text) = line.split_once(' ').unwrap();
            let at: Timestamp = at.parse().unwrap();
            let names = |after: &str, until: &str| -> Vec<String> {
                let list = text.split_once(after).map_or("", |(_, rest)| rest);
                let list = list.split_once(until).map_or(list, |(list, _)| list);
                list.split(", ").filter(|name| name.starts_with("sim-")).map(String::from).collect()
            };
            if text.starts_with("apply route") {
                out.extend(names(", in ", ", out ").into_iter().map(|name| (name, None)));
                out.extend(names(", out ", "\n").into_iter().map(|name| (name, Some(at))));
            }
            for name in names(": ended ", "\n") {
                let drained = out.get(&name).is_none_or(|out| out.is_some_and(|out| out + drain <= at));
                assert!(drained, "{note}: {line}\n{}", self.cloud.log().join("\n"));
            }
        }
    }
}

/// Numbers that are the same in every run.
pub(crate) fn entropy() -> impl Entropy {
    Counter::default()
}

/// Another engine over the same journal and cloud.
pub(crate) fn engine(cloud: &SimCloud, journal: &MemoryJournal, budget: ApiBudget) -> Engine {
    Engine::builder(cloud.platform())
        .journal(journal.clone())
        .clock(cloud.clock())
        .entropy(entropy())
        .api_budget(budget)
        .build()
}

/// How a rollout ends; it must.
pub(crate) async fn outcome(rollout: &Rollout) -> Outcome {
    let end = tokio::time::timeout(FOREVER, rollout.wait()).await;
    end.unwrap_or_else(|_| panic!("no end: {:#?}", rollout.status())).unwrap()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, rollout: &Rollout, so: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("never {what}: {:#?}", rollout.status());
}

/// Waits until a rollout says that it waits for this.
pub(crate) async fn until_waiting(rollout: &Rollout, text: &str) {
    until(text, rollout, || rollout.status().waiting.iter().any(|waiting| waiting.contains(text))).await;
}

/// All events of a rollout, to its end.
pub(crate) async fn events(rollout: &Rollout) -> Vec<Event> {
    tokio::time::timeout(FOREVER, rollout.events().collect()).await.unwrap()
}

/// Waits until a rollout has so many events; whether it came to that.
pub(crate) async fn until_event(rollout: &Rollout, count: usize) -> bool {
    tokio::time::timeout(FOREVER, rollout.events().take(count).count()).await.unwrap() == count
}
