//! What a simulated cloud is like, and what its releases are like.

use std::time::Duration;

use super::Faults;
use crate::model::Weight;
use crate::provider::SwitchKind;

/// How fast a simulated cloud is, and what its parts can do.
///
/// Not `#[non_exhaustive]`: tests write down what matters to them and take the rest from the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimOptions {
    /// From the call that starts an instance until it runs.
    pub boot: Duration,
    /// From there until a probe finds it good.
    pub ready_after: Duration,
    /// From the registration of a member until the balancer uses it.
    pub register_after: Duration,
    /// How long requests are in flight on a member that was taken out.
    pub drain_for: Duration,
    /// From the call that ends an instance until it is gone.
    pub end_after: Duration,
    /// How long an image takes to build.
    pub build_for: Duration,
    /// How long each call takes; it has its effect in the middle of this time.
    pub call_latency: Duration,
    /// How the switch shares traffic.
    pub switch: SwitchKind,
    /// The most fleets that it lets have traffic at once; `None`: no limit.
    pub max_fleets: Option<u32>,
    /// How many requests arrive at each open route.
    pub requests_per_second: u32,
    /// What goes wrong by itself.
    pub faults: Faults,
}

impl Default for SimOptions {
    /// A cloud that boots in half a minute, shares traffic by weights of one basis point, and serves 100 requests a second.
    fn default() -> Self {
        let step = Weight::basis_points(1).expect("invariant: one is no more than the whole");
        Self {
            boot: Duration::from_secs(30),
            ready_after: Duration::from_secs(5),
            register_after: Duration::from_secs(5),
            drain_for: Duration::from_secs(10),
            end_after: Duration::from_secs(10),
            build_for: Duration::ZERO,
            call_latency: Duration::from_millis(50),
            switch: SwitchKind::Weighted { step },
            max_fleets: None,
            requests_per_second: 100,
            faults: Faults::default(),
        }
    }
}

/// What the instances of a release do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// They boot, become ready and stay so.
    #[default]
    Good,
    /// They run, and every look at them is bad.
    NeverHealthy,
    /// They are starting for ever.
    NeverBoots,
    /// They stop by themselves so long after they began to run.
    DiesAfter(Duration),
    /// They run on, but every look at them is bad from so long after they began to run.
    UnhealthyAfter(Duration),
    /// Every look at them is good, and so many of a thousand requests are answered with an error.
    Errors {
        /// How many of a thousand.
        per_mille: u32,
    },
}
