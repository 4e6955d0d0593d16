//! Everything that exists in a simulated cloud, and how it changes by itself as time goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::changes::{Change, Truth};
use super::faults::Fault;
use super::image_builder::Images;
use super::machine::{Life, Machine, SimInstance};
use super::metric_source::Flow;
use super::operation::{Operation, Script};
use super::traffic_switch::Route;
use super::{Behaviour, SimOptions, VirtualClock};
use crate::model::{FleetId, FleetSpec, InstanceId, Lifecycle, ReleaseId, RouteId, ServiceName};
use crate::provider::FleetsState;

/// The whole cloud. Nothing runs in the background: what changes by itself is made up for when somebody looks.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) clock: VirtualClock,
    /// Everything below is as it is at this moment, counted from the start of the simulation.
    pub(super) now: Duration,
    pub(super) images: Images,
    pub(super) fleets: BTreeMap<FleetId, Fleet>,
    pub(super) machines: BTreeMap<InstanceId, Machine>,
    pub(super) routes: BTreeMap<RouteId, Route>,
    pub(super) behaviours: BTreeMap<ReleaseId, Behaviour>,
    /// How many instances were ever started.
    pub(super) started: u64,
    pub(super) script: Script,
    pub(super) calls: BTreeMap<Operation, u64>,
    pub(super) log: Vec<String>,
    pub(super) peak: usize,
    pub(super) least: Option<usize>,
    /// How many calls of each operation were sent.
    pub(super) sent: BTreeMap<Operation, u64>,
    pub(super) struck: BTreeSet<Fault>,
    /// What lists of fleets said lately.
    pub(super) lists: Vec<(Duration, ServiceName, FleetsState)>,
    /// What calls changed, if that is to be kept.
    pub(super) changes: Option<Vec<Change>>,
}

/// A fleet, apart from its instances.
#[derive(Debug)]
pub(super) struct Fleet {
    /// What its instances are started from.
    pub(super) spec: FleetSpec,
    /// The size that was asked for, and that others may change.
    pub(super) wanted: u32,
}

impl State {
    pub(super) fn new(options: SimOptions) -> Self {
        Self {
            options,
            clock: VirtualClock::new(),
            now: Duration::ZERO,
            images: Images::default(),
            fleets: BTreeMap::new(),
            machines: BTreeMap::new(),
            routes: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            started: 0,
            script: Script::default(),
            calls: BTreeMap::new(),
            log: Vec::new(),
            peak: 0,
            least: None,
            sent: BTreeMap::new(),
            struck: BTreeSet::new(),
            lists: Vec::new(),
            changes: None,
        }
    }

    /// Goes on to the present, through every moment at which something changes by itself, so that no minimum is missed.
    pub(super) fn advance(&mut self) {
        let present = self.clock.elapsed();
        let lives = self.machines.values().flat_map(|machine| self.life(machine).moments());
        let routes = self.routes.values().flat_map(|route| route.moments(&self.options));
        let between = |moment: &Duration| self.now < *moment && *moment < present;
        let moments: BTreeSet<Duration> = lives.chain(routes).filter(between).collect();
        for moment in moments.into_iter().chain([present]) {
            self.now = moment;
            self.settle();
        }
    }

    /// Forgets what is gone, and notes what is to be told later.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        let (behaviours, options) = (&self.behaviours, &self.options);
        self.machines.retain(|_, machine| life(machine, behaviours, options).lifecycle(now).is_some());
        for route in self.routes.values_mut() {
            route.forget(&self.machines, now, options);
        }
        self.peak = self.peak.max(self.machines.len());
        let flows: Vec<_> = self.routes.iter().map(|(id, route)| (id.clone(), self.flow(route))).collect();
        for (id, flow) in flows {
            if let Some(route) = self.routes.get_mut(&id) {
                Flow::note(&mut route.flows, flow);
            }
        }
        if let Some(least) = self.least {
            self.least = Some(least.min(self.serving()));
        }
    }

    /// A moment as the cloud tells it, whose clock may be ahead or behind.
    pub(super) fn told(&self, moment: Duration) -> Timestamp {
        self.clock.at(moment).checked_add(self.options.faults.skew).unwrap_or(Timestamp::MAX)
    }

    /// What there is on the first route by name, and all instances.
    pub(super) fn truth(&self) -> Truth {
        let route = self.routes.values().next();
        Truth {
            instances: self.snapshot(),
            members: route.map(|route| self.members(route)).unwrap_or_default(),
            split: route.map(|route| self.effective_split(route)).unwrap_or_default(),
            serving: self.serving(),
        }
    }

    pub(super) fn record(&mut self, line: &str) {
        self.log.push(format!("{} {line}", self.clock.at(self.now)));
    }

    pub(super) fn behaviour(&self, release: &ReleaseId) -> Behaviour {
        self.behaviours.get(release).copied().unwrap_or_default()
    }

    pub(super) fn life(&self, machine: &Machine) -> Life {
        life(machine, &self.behaviours, &self.options)
    }

    /// Whether an instance exists and a probe finds it good.
    pub(super) fn is_good(&self, instance: &InstanceId) -> bool {
        self.machines.get(instance).is_some_and(|machine| self.life(machine).complaint(self.now).is_none())
    }

    pub(super) fn instances_of(&self, fleet: &FleetId) -> impl Iterator<Item = (&InstanceId, &Machine)> {
        self.machines.iter().filter(move |(_, machine)| machine.fleet == *fleet)
    }

    pub(super) fn lifecycle(&self, machine: &Machine) -> Lifecycle {
        // Whoever is gone was forgotten when this moment was settled.
        self.life(machine).lifecycle(self.now).unwrap_or(Lifecycle::Ending)
    }

    pub(super) fn snapshot(&self) -> Vec<SimInstance> {
        let instance = |(id, machine): (&InstanceId, &Machine)| SimInstance {
            id: id.clone(),
            service: machine.service.clone(),
            fleet: machine.fleet.clone(),
            release: machine.release,
            rollout: machine.rollout.clone(),
            image: machine.image,
            lifecycle: self.lifecycle(machine),
            is_good: self.is_good(id),
            good_since: self.life(machine).good_since(self.now).map(|since| self.clock.at(since)),
            was_seen_good: machine.seen_good,
        };
        self.machines.iter().map(instance).collect()
    }
}

fn life(machine: &Machine, behaviours: &BTreeMap<ReleaseId, Behaviour>, options: &SimOptions) -> Life {
    Life::of(machine, behaviours.get(&machine.release).copied().unwrap_or_default(), options)
}

#[cfg(test)]
mod tests {
    use super::super::SimCloud;
    use super::super::fixture::{after, apply, cx, fleet, id, quick, ready, weighted};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minimum_is_seen_even_when_nobody_looks() {
        let cloud = quick(weighted());
        ready(&cloud, "1", 1).await;
        cloud.behave(cloud.release("2").id(), Behaviour::DiesAfter(Duration::from_mins(5)));
        ready(&cloud, "2", 2).await;
        apply(&cloud, &["sim-1", "sim-2", "sim-3"], &[("1", 50), ("2", 50)]).await.unwrap();
        assert_eq!(cloud.least_serving(), None);
        cloud.watch();
        // The second fleet dies and is forgotten again, all between two looks.
        after(1_000).await;
        assert_eq!((cloud.serving(), cloud.least_serving()), (1, Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_peak_counts_the_ending_ones() {
        let cloud = SimCloud::default();
        let fleets = cloud.platform().fleets;
        fleets.ensure(&cx(), &fleet(&cloud, "1", 2)).await.unwrap();
        cloud.with(|state| state.machines.get_mut("sim-1").unwrap().ended = Some(state.now));
        fleets.ensure(&cx(), &fleet(&cloud, "1", 2)).await.unwrap();
        after(60).await;
        assert_eq!((cloud.instances().len(), cloud.peak_instances()), (2, 3));
        cloud.watch();
        assert_eq!(cloud.peak_instances(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_every_change_and_the_same_story_each_time() {
        let mut stories = Vec::new();
        for _ in 0..2 {
            let cloud = quick(weighted());
            ready(&cloud, "1", 2).await;
            apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
            cloud.kill(&id("sim-2"));
            apply(&cloud, &["sim-1"], &[("1", 100)]).await.unwrap();
            stories.push(cloud.log());
        }
        let expected = [
            "2026-01-01T00:00:00Z ensure fleet web-1 to 2: started sim-1, sim-2",
            "2026-01-01T00:01:00Z apply route route: web-1 100 %, in sim-1, sim-2, out none",
            "2026-01-01T00:01:00Z by hand: kill sim-2",
            "2026-01-01T00:01:00Z apply route route: web-1 100 %, in none, out sim-2",
        ];
        assert_eq!(stories, [expected, expected]);
    }
}
