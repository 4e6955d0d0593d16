//! A platform: one provider of each kind.

use std::sync::Arc;
use std::time::Duration;

use super::{HealthProbe, ImageBuilder, MetricSource, Provisioner, TrafficSwitch};

/// One provider of each kind. A plain struct, so that parts can be mixed:
/// `Platform { health: Arc::new(MyProbe), ..platform }`.
#[derive(Debug, Clone)]
pub struct Platform {
    /// Builds images.
    pub images: Arc<dyn ImageBuilder>,
    /// Starts and ends instances.
    pub fleets: Arc<dyn Provisioner>,
    /// Looks at instances.
    pub health: Arc<dyn HealthProbe>,
    /// Moves traffic.
    pub traffic: Arc<dyn TrafficSwitch>,
    /// Reads what real traffic says.
    pub metrics: Arc<dyn MetricSource>,
    /// How often it makes sense to look.
    pub pace: Pace,
}

/// How often it makes sense to look at a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two observations while something is expected to change.
    pub observe: Duration,
    /// Between two looks at an instance that is not proven yet.
    pub probe_starting: Duration,
    /// Between two looks at an instance that is.
    pub probe_running: Duration,
    /// How long one provider call may take.
    pub call_timeout: Duration,
    /// How long after it was sent a request may still land whose answer was lost. Nothing that opposes it is done before, and
    /// a driver that takes over from one that did not end waits so long before it acts.
    pub ambiguity_horizon: Duration,
    /// How far lists of what exists lag behind: what is missing for less is not gone, and what was made may not be shown.
    pub list_lag: Duration,
}

impl Pace {
    /// How long a driver that takes over waits: until what the one before sent can land no more, and lists show what it did.
    pub(crate) fn quiet_time(&self) -> Duration {
        self.ambiguity_horizon.max(self.list_lag)
    }
}

impl Default for Pace {
    /// A pace for clouds: five seconds between looks, thirty for a call, ten for a list to show everything; a signed request is
    /// refused by AWS [five minutes after it was signed](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html).
    fn default() -> Self {
        Self {
            observe: Duration::from_secs(5),
            probe_starting: Duration::from_secs(5),
            probe_running: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            ambiguity_horizon: Duration::from_mins(5),
            list_lag: Duration::from_secs(10),
        }
    }
}
