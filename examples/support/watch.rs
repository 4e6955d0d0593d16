//! Looks often at how many members are in use and how many instances exist, and keeps the least and the most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use immutable_core::model::ServiceName;
use immutable_core::provider::{Member, MemberHealth, OpContext, Platform, Provisioner, TrafficState, TrafficSwitch};
use immutable_local::LocalSwitch;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Between two looks at the switch: reading a table in this process.
const SWITCH_PERIOD: Duration = Duration::from_millis(2);
/// Between two looks at the instances: reading a few small files.
const INSTANCES_PERIOD: Duration = Duration::from_millis(10);

/// Samples a rollout from outside, in tasks of the current tokio runtime. Dropping it ends them.
///
/// What happens between two looks is not seen.
#[derive(Debug)]
pub(crate) struct Watch {
    eye: Arc<Eye>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Starts looking at the members of the switch and at the instances of the service.
    pub(crate) fn start(platform: Platform, switch: LocalSwitch, service: ServiceName) -> Self {
        let eye = Arc::new(Eye { switch, fleets: platform.fleets, service, seen: Mutex::default() });
        let (members, instances) = (Arc::clone(&eye), Arc::clone(&eye));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut ticks = every(SWITCH_PERIOD);
            loop {
                ticks.tick().await;
                members.look_at_members().await;
            }
        });
        tasks.spawn(async move {
            let mut ticks = every(INSTANCES_PERIOD);
            loop {
                ticks.tick().await;
                instances.look_at_instances().await;
            }
        });
        Self { eye, _tasks: tasks }
    }

    /// Begins anew with what is there now: a new rollout begins.
    pub(crate) async fn reset(&self) {
        {
            let mut seen = self.eye.seen();
            *seen = Seen { resets: seen.resets + 1, ..Seen::default() };
        }
        self.eye.look_at_members().await;
        self.eye.look_at_instances().await;
    }

    /// Whether the route leads to anybody now.
    pub(crate) async fn is_serving(&self) -> bool {
        let cx = OpContext::standalone("watch the switch");
        self.eye.switch.observe(&cx, self.eye.switch.route()).await.is_ok_and(|state| serving(&state) > 0)
    }

    /// The least number of members in use at any look since the reset: not draining, and of a fleet with traffic.
    /// Zero without any look.
    pub(crate) fn least_serving(&self) -> usize {
        self.eye.seen().least_serving.unwrap_or_default()
    }

    /// The greatest number of instances at any look since the reset, starting, dead and ending ones included.
    /// Zero without any look.
    pub(crate) fn peak_instances(&self) -> usize {
        self.eye.seen().peak_instances.unwrap_or_default()
    }
}

#[derive(Debug)]
struct Eye {
    switch: LocalSwitch,
    fleets: Arc<dyn Provisioner>,
    service: ServiceName,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How often it was reset. A look that began before the last reset does not count.
    resets: u64,
    least_serving: Option<usize>,
    peak_instances: Option<usize>,
}

impl Eye {
    async fn look_at_members(&self) {
        let resets = self.seen().resets;
        let cx = OpContext::standalone("watch the switch");
        // A look that failed says nothing; the next one is due soon. So it is below.
        let Ok(state) = self.switch.observe(&cx, self.switch.route()).await else { return };
        let serving = serving(&state);
        let mut seen = self.seen();
        if seen.resets == resets {
            seen.least_serving = Some(seen.least_serving.map_or(serving, |least| least.min(serving)));
        }
    }

    async fn look_at_instances(&self) {
        let resets = self.seen().resets;
        let cx = OpContext::standalone("watch the instances");
        let Ok(state) = self.fleets.observe(&cx, &self.service).await else { return };
        let instances = state.fleets.iter().map(|fleet| fleet.instances.len()).sum();
        let mut seen = self.seen();
        if seen.resets == resets {
            seen.peak_instances = Some(seen.peak_instances.map_or(instances, |peak| peak.max(instances)));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn serving(state: &TrafficState) -> usize {
    let in_use =
        |member: &&Member| member.health != MemberHealth::Draining && !state.split.weight(&member.fleet).is_none();
    state.members.iter().filter(in_use).count()
}
