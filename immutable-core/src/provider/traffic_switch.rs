//! Moving traffic.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{OpContext, Progress, ProviderError};
use crate::model::{Endpoint, FleetId, InstanceId, RouteId, RouteVersion, Split, Weight};

/// How a switch shares traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchKind {
    /// By a weight for each fleet.
    Weighted {
        /// The smallest difference of weights; divides 10 000 basis points.
        step: Weight,
    },
    /// Evenly between all registered instances: a fleet's share is its share of the members.
    Membership,
}

/// Who sees to it that a change of a route is one of the version that it was decided for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionCheck {
    /// The platform, in one step with the change: a request that was decided for another version changes nothing, however late it lands.
    #[default]
    WithTheChange,
    /// The provider, by reading just before the change: what lands late lands on whatever is there by then. So a change whose answer was lost is
    /// still to be reckoned with when the route has another version.
    BeforeTheChange,
}

/// What a switch can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficCapabilities {
    /// How it shares traffic.
    pub kind: SwitchKind,
    /// The most fleets that can have traffic at once; `None`: no limit.
    pub max_fleets: Option<u32>,
    /// Who compares versions.
    #[serde(default)]
    pub version_check: VersionCheck,
}

/// What the balancer itself thinks of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MemberHealth {
    /// Registered, not in use yet.
    Registering,
    /// In use.
    Healthy,
    /// Registered, and found bad.
    Unhealthy,
    /// Registered; this balancer does not judge members.
    Untold,
    /// Taken out; requests may still be in flight.
    Draining,
}

/// One member of a route, as observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub instance: InstanceId,
    /// Of which fleet.
    pub fleet: FleetId,
    /// What the balancer thinks of it.
    pub health: MemberHealth,
    /// The moment that this opinion is about, when it is older than the rest of the observation: of a balancer that is asked once in a while, and whose
    /// answer is told until the next one. An opinion that is told again with the same time is not another one. `None`: as of the observation.
    #[serde(default)]
    pub health_as_of: Option<Timestamp>,
}

/// What a route does, at one moment: what the data plane does, not what was last written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficState {
    /// No fact in here is older than this, but what the balancer thinks of a member, where that [has a time of its own](Member::health_as_of).
    pub as_of: Timestamp,
    /// For compare-and-swap.
    pub version: RouteVersion,
    /// The weights in effect. For a switch by membership: the fleets' shares of the members.
    pub split: Split,
    /// Every member, draining ones included until nothing is in flight.
    pub members: Vec<Member>,
}

/// An instance that is to be a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberTarget {
    /// Who.
    pub instance: InstanceId,
    /// Of which fleet.
    pub fleet: FleetId,
    /// Where it answers.
    pub endpoint: Endpoint,
}

/// The whole state that a route is to have: one value, applied at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The weights. A switch by membership ignores them.
    pub split: Split,
    /// Every member that is to be; one that is not named is drained and then out.
    pub members: Vec<MemberTarget>,
}

/// Moves traffic between fleets.
///
/// # Contract
/// * **T1 observed, not remembered.** `observe` tells what the balancer does. A weight that is written and not in effect is not shown.
///   Only what the balancer thinks of a member may be remembered, and then it [has its time](Member::health_as_of): the engine counts it once.
/// * **T2 compare and swap.** `apply` with a version that is not the route's version is a `Conflict` and changes nothing.
///   Every change of the route, whoever makes it, changes the version.
/// * **T3 make before break.** `apply` loses no request: new members and weights come before old ones go, and the weights never sum to nothing on the way.
/// * **T4 drain.** A member that goes gets no new request and finishes those in flight; it is listed as `Draining` until they are done.
/// * **T5 nothing else.** All else about the route stays as it was.
///
/// # Cancellation
/// A dropped `apply` may still take effect, as a whole.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait TrafficSwitch: std::fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> TrafficCapabilities;

    /// What the route does now. A route that has never been used is closed and has no members.
    ///
    /// # Errors
    /// `NotFound` for a route that does not exist and cannot be made by `apply`.
    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError>;

    /// Gives the route a new state, if it still has the expected version.
    ///
    /// # Errors
    /// `Conflict` when the version is another one.
    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError>;
}
