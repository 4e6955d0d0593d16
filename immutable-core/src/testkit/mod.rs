//! A simulated cloud in memory, under tokio's virtual time.
//!
//! [`SimCloud`] is every provider at once. Instances boot, become ready, fail and go as time passes, and what changed since
//! the last call is made up for by the next one. Only the requests that change something have tasks of their own: as in a
//! real cloud, they arrive even when their caller is gone. The same calls at the same times always have the same effects.
//!
//! ```
//! # use std::time::Duration;
//! # use immutable_core::{model::FleetSpec, provider::OpContext, testkit::{SimCloud, SimOptions}};
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let cloud = SimCloud::new(SimOptions { boot: Duration::from_mins(1), ..SimOptions::default() });
//! let platform = cloud.platform();
//! let spec = FleetSpec {
//!     id: "web-1".parse()?,
//!     service: "web".parse()?,
//!     release: cloud.release("1.0.0"),
//!     size: 3,
//!     rollout: "rollout-1".parse()?,
//! };
//! platform.fleets.ensure(&OpContext::standalone("test"), &spec).await?;
//! assert!(cloud.instances().iter().all(|instance| !instance.is_good));
//! tokio::time::sleep(Duration::from_secs(65)).await;
//! assert!(cloud.instances().iter().all(|instance| instance.is_good));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Faults
//! With [`SimOptions::faults`] it fails as clouds do: answers are lost, requests arrive twice or late, lists lag, instances
//! and zones die. A seed draws all of it, so that a bad run can be repeated. Here is a user's own tool, put to the test: it
//! starts a fleet, however often that takes, and must not start too many.
//!
//! ```
//! # use std::time::Duration;
//! # use immutable_core::{model::FleetSpec, provider::{OpContext, Progress}, testkit::{Faults, SimCloud, SimOptions}};
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let mut struck = 0;
//! for seed in 0..20 {
//!     let faults = Faults { seed, lost: 300, doubled: 300, throttled: 200, ..Faults::default() };
//!     let cloud = SimCloud::new(SimOptions { faults, ..SimOptions::default() });
//!     let spec = FleetSpec {
//!         id: "web-1".parse()?,
//!         service: "web".parse()?,
//!         release: cloud.release("1.0.0"),
//!         size: 3,
//!         rollout: "rollout-1".parse()?,
//!     };
//!     // The tool: try again until it is done.
//!     while !matches!(
//!         cloud.platform().fleets.ensure(&OpContext::standalone("tool"), &spec).await,
//!         Ok(Progress::Done(()))
//!     ) {
//!         tokio::time::sleep(Duration::from_secs(1)).await;
//!     }
//!     assert_eq!(cloud.instances().len(), 3, "seed {seed}: {:#?}", cloud.log());
//!     struck += cloud.struck().len();
//! }
//! assert!(struck > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod by_hand;
mod changes;
mod clock;
pub mod conformance;
mod faults;
#[cfg(test)]
mod fixture;
mod hasty;
mod health_probe;
mod image_builder;
mod machine;
mod metric_source;
mod operation;
mod options;
mod provisioner;
mod state;
mod traffic_switch;

pub use changes::{Change, Truth};
pub use clock::VirtualClock;
pub use faults::{Fault, FaultKind, Faults};
pub use hasty::hasty;
pub use machine::SimInstance;
pub use operation::Operation;
pub use options::{Behaviour, SimOptions};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::model::{Image, LaunchSpec, Release, ReleaseId, Split};
use crate::provider::{Effect, ErrorKind, Member, Pace, Platform};
use operation::Failure;
use state::State;

/// A cloud in memory, shared by its clones.
#[derive(Debug, Clone)]
pub struct SimCloud {
    clock: VirtualClock,
    state: Arc<Mutex<State>>,
}

impl Default for SimCloud {
    fn default() -> Self {
        Self::new(SimOptions::default())
    }
}

impl SimCloud {
    /// An empty cloud whose time starts now, at [`VirtualClock::START`].
    pub fn new(options: SimOptions) -> Self {
        let state = State::new(options);
        Self { clock: state.clock, state: Arc::new(Mutex::new(state)) }
    }

    /// This cloud as the provider of everything.
    pub fn platform(&self) -> Platform {
        Platform {
            images: Arc::new(self.clone()),
            fleets: Arc::new(self.clone()),
            health: Arc::new(self.clone()),
            traffic: Arc::new(self.clone()),
            metrics: Arc::new(self.clone()),
            pace: Pace::default(),
        }
    }

    /// The cloud's clock.
    pub fn clock(&self) -> VirtualClock {
        self.clock
    }

    /// What time it is in the cloud.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The image of a version: made at the first call, and the same at every other. It is of no service.
    pub fn image(&self, version: &str) -> Image {
        self.with(|state| state.image(version))
    }

    /// The release of a version's image, launched without configuration.
    pub fn release(&self, version: &str) -> Release {
        Release::new(self.image(version), LaunchSpec::default())
    }

    /// Says what the instances of a release do, those that exist already included.
    pub fn behave(&self, release: ReleaseId, behaviour: Behaviour) {
        self.with(|state| {
            state.behaviours.insert(release, behaviour);
            state.record(&format!("by hand: release {release} is {behaviour:?}"));
        });
    }

    /// Makes the next calls of an operation fail, so many times, after what was asked for before.
    ///
    /// With [`Effect::None`] the call is not done; with [`Effect::Unknown`] it is done, and its answer is lost.
    pub fn fail_next(&self, operation: Operation, kind: ErrorKind, effect: Effect, times: u32) {
        self.with(|state| state.script.add(operation, Failure { kind, effect, times }));
    }

    /// Every instance that is not gone for good.
    pub fn instances(&self) -> Vec<SimInstance> {
        self.with(|state| state.snapshot())
    }

    /// The weights in effect on the first route by name; closed when there is none.
    pub fn split(&self) -> Split {
        self.with(|state| state.routes.values().next().map(|route| state.effective_split(route)).unwrap_or_default())
    }

    /// The members of the first route by name.
    pub fn members(&self) -> Vec<Member> {
        self.with(|state| state.routes.values().next().map(|route| state.members(route)).unwrap_or_default())
    }

    /// How many members are healthy and get requests now, on all routes.
    pub fn serving(&self) -> usize {
        self.with(|state| state.serving())
    }

    /// Begins to watch anew: forgets the [peak](Self::peak_instances) and the [least](Self::least_serving) until now.
    pub fn watch(&self) {
        self.with(|state| {
            state.peak = state.machines.len();
            state.least = Some(state.serving());
        });
    }

    /// The most instances that existed at once since the cloud was made or last watched.
    pub fn peak_instances(&self) -> usize {
        self.with(|state| state.peak)
    }

    /// The fewest members that were healthy and got requests at any moment since [`watch`](Self::watch); `None` before it.
    pub fn least_serving(&self) -> Option<usize> {
        self.with(|state| state.least)
    }

    /// One line for each change and what it did, refused changes included, in order: `2026-01-01T00:00:30Z kill sim-1`.
    pub fn log(&self) -> Vec<String> {
        self.with(|state| state.log.clone())
    }

    /// Says what goes wrong from now on, whatever went wrong before.
    pub fn set_faults(&self, faults: Faults) {
        self.with(|state| state.options.faults = faults);
    }

    /// Which faults struck so far. What will become of an instance is decided when it is started.
    pub fn struck(&self) -> BTreeSet<Fault> {
        self.with(|state| state.struck.clone())
    }

    /// Keeps from now on what each changing call changed, for [`take_changes`](Self::take_changes).
    pub fn keep_changes(&self) {
        self.with(|state| _ = state.changes.get_or_insert_default());
    }

    /// What was kept since the last time, in order.
    pub fn take_changes(&self) -> Vec<Change> {
        self.with(|state| state.changes.as_mut().map(std::mem::take).unwrap_or_default())
    }

    /// How many calls of each operation arrived.
    pub fn calls(&self) -> BTreeMap<Operation, u64> {
        self.with(|state| state.calls.clone())
    }

    /// Looks at, or changes, the cloud as it is at this moment.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // A panic under the lock is a failed assertion of a test that ends with it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance();
        let value = work(&mut state);
        state.settle();
        value
    }
}
