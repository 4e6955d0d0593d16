//! What a provider's author writes: how to make and unmake the world in which the clauses are tested.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::model::{Endpoint, FleetId, InstanceId, MetricName, Release, ReleaseId, RolloutId, RouteId, ServiceName};
use crate::provider::{ImageSpec, Platform};
use crate::testkit::Operation;

/// Which of two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "two are all that a rollout has")]
pub enum Version {
    /// The one that runs before.
    Old,
    /// The one that comes.
    New,
}

/// Something that a harness does to the platform, so that a clause can be tested under it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The platform does the next call of this kind, and the provider never hears its answer.
    LoseAnswer(Operation),
    /// The platform refuses the next call of this kind, because there were too many. It is not done.
    Throttle(Operation),
    /// The instance stops by itself.
    Kill(InstanceId),
    /// The instance answers looks as an ill one does.
    MakeIll(InstanceId),
    /// The instance answers looks as a healthy one does again.
    Heal(InstanceId),
    /// The instance runs other content than it was started from.
    Drift(InstanceId),
    /// For the next call, the probe cannot look at anything, for a reason of its own.
    BlindProbe,
}

impl Fault {
    /// What a harness must be able to do for this.
    pub fn ability(&self) -> Ability {
        match self {
            Self::LoseAnswer(_) => Ability::LoseAnswers,
            Self::Throttle(_) => Ability::Throttle,
            Self::Kill(_) => Ability::Kill,
            Self::MakeIll(_) | Self::Heal(_) => Ability::MakeIll,
            Self::Drift(_) => Ability::Drift,
            Self::BlindProbe => Ability::BlindProbe,
        }
    }
}

/// What a harness may be able to do. What it is not able to do stands in [`Harness::lacks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// [`Fault::LoseAnswer`].
    LoseAnswers,
    /// [`Fault::Throttle`].
    Throttle,
    /// [`Fault::Kill`].
    Kill,
    /// [`Fault::MakeIll`] and [`Fault::Heal`].
    MakeIll,
    /// [`Fault::Drift`].
    Drift,
    /// [`Fault::BlindProbe`].
    BlindProbe,
    /// [`Harness::silent_endpoint`].
    SilentEndpoint,
    /// [`Harness::reopen`].
    Reopen,
    /// [`Harness::ownership`].
    Ownership,
    /// [`Harness::request`].
    Request,
    /// [`Harness::begin_request`] and [`Harness::finish_request`].
    HoldRequest,
    /// [`Harness::other_route`].
    OtherRoute,
    /// [`Harness::secrets`].
    Secrets,
    /// [`Harness::image_spec`] takes more than one call to build.
    SlowBuild,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoseAnswers => "lose an answer (Fault::LoseAnswer)",
            Self::Throttle => "throttle a call (Fault::Throttle)",
            Self::Kill => "kill an instance (Fault::Kill)",
            Self::MakeIll => "make an instance ill and heal it (Fault::MakeIll, Fault::Heal)",
            Self::Drift => "let an instance drift (Fault::Drift)",
            Self::BlindProbe => "blind the probe (Fault::BlindProbe)",
            Self::SilentEndpoint => "name an endpoint that never answers (silent_endpoint)",
            Self::Reopen => "open the platform anew, as after a crash (reopen)",
            Self::Ownership => "read the ownership tags of an instance (ownership)",
            Self::Request => "send a request through the route (request)",
            Self::HoldRequest => "hold a request in flight (begin_request, finish_request)",
            Self::OtherRoute => "name another route (other_route)",
            Self::Secrets => "name the secrets that the provider holds (secrets)",
            Self::SlowBuild => "build an image that takes more than one call (image_spec)",
        })
    }
}

/// What the platform itself has written down about an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "harnesses build it")]
pub struct Ownership {
    /// Whose it is.
    pub service: ServiceName,
    /// What it was started from.
    pub release: ReleaseId,
    /// On whose behalf.
    pub rollout: RolloutId,
}

/// A platform under test, and what can be done to it. Each test makes one of its own, and finds nothing in it.
///
/// Every method with a default belongs to an [`Ability`]: write it, or name the ability in [`lacks`](Self::lacks).
///
/// # Cancellation
/// The suite drops no future of a harness but those of [`wait`](Self::wait).
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync {
    /// The platform. Parts that are not under test may be anybody's, as long as they work together.
    fn platform(&self) -> Platform;

    /// What time it is on the clock that the platform's `as_of` is told by.
    fn now(&self) -> Timestamp;

    /// Lets time pass: a sleep, or a jump of virtual time.
    async fn wait(&self, time: Duration);

    /// The longest that anything on this platform may take: a boot, a drain, an end.
    fn patience(&self) -> Duration;

    /// A version whose image exists. The two differ in their image, and each call for the same one gives the same.
    async fn release(&self, version: Version) -> Release;

    /// An image that can be built from nothing; the two differ in content. No release is made of them.
    fn image_spec(&self, version: Version) -> ImageSpec;

    /// What this harness cannot do, and why. What stands here is reported as not exercised, and nothing else is.
    ///
    /// It is not simply believed: without [`Ability::Drift`] the platform must not say what instances really run, without
    /// [`Ability::OtherRoute`] it must not find a route of another name, without [`Ability::Secrets`] no release is given one,
    /// and a build that takes more than one call is not to be denied.
    fn lacks(&self) -> Vec<(Ability, &'static str)>;

    /// The service that everything is made for: nobody else's.
    fn service(&self) -> ServiceName {
        ServiceName::new("conformance").expect("invariant: letters are a service name")
    }

    /// The route that is moved: closed at first, and nobody else's.
    fn route(&self) -> RouteId {
        RouteId::new("conformance").expect("invariant: letters are a route id")
    }

    /// A metric that the source has. It counts what [`request`](Self::request) sends, or what arrives by itself.
    fn metric(&self) -> MetricName {
        MetricName::new("errors").expect("invariant: letters are a metric name")
    }

    /// As many instances as it takes to fill more than a page of a list or a batch, if that can be afforded.
    fn many(&self) -> u32 {
        3
    }

    /// Brings a fault about. Whether it could.
    async fn inject(&self, fault: &Fault) -> bool {
        let _ = fault;
        false
    }

    /// An endpoint that can be connected to, or not, and never answers.
    fn silent_endpoint(&self) -> Option<Endpoint> {
        None
    }

    /// The same platform through a provider that knows nothing but what is on the platform, as after a crash.
    fn reopen(&self) -> Option<Platform> {
        None
    }

    /// What the platform, not the provider, has written down about an instance.
    async fn ownership(&self, instance: &InstanceId) -> Option<Ownership> {
        let _ = instance;
        None
    }

    /// Sends one request to the route and tells which fleet answered it, or why nobody did. `None`: it cannot.
    async fn request(&self) -> Option<Result<FleetId, String>> {
        None
    }

    /// Sends a request to the route that is in flight until it is finished, and tells which instance has it.
    async fn begin_request(&self) -> Option<InstanceId> {
        None
    }

    /// Lets the request that was begun be answered, and tells whether the client got the whole answer.
    ///
    /// # Errors
    /// What the client got instead.
    async fn finish_request(&self) -> Result<(), String> {
        Err("no request was begun".to_owned())
    }

    /// Another route of the same switch.
    fn other_route(&self) -> Option<RouteId> {
        None
    }

    /// Every secret that the provider holds or is given: credentials, tokens, values of secrets of the releases.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}
