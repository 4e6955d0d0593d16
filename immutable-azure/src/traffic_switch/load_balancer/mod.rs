//! Sharing traffic by the members of a backend pool of a Standard Load Balancer.
//!
//! # Flow
//! Who comes is written first. When the balancer has found the new ones good, those who leave are set to `Down` in one write: they get no new
//! connection, and [keep those that they have](https://learn.microsoft.com/azure/load-balancer/admin-state-overview). After the drain time they count no
//! more, and the next write takes them out.
//!
//! # Guarantees
//! A write is one of the version that it was decided for: the pool is read together with the `ETag` of its balancer, and written with it.
//!
//! # Assumptions
//! Connections go by addresses: an entry that gets another name and keeps its address keeps its connections.

mod health;
pub(super) mod members;
pub(super) mod pool;
mod removal;
pub(super) mod state;
#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use immutable_core::model::{RouteId, RouteVersion};
use immutable_core::provider::{
    Assignment, ErrorKind, MemberTarget, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities,
    TrafficState, TrafficSwitch, VersionCheck,
};
use jiff::Timestamp;

use super::{APPLY, OBSERVE, until_good};
use crate::Config;
use crate::operation::{SOON, Standing};
use health::Opinions;
use members::{Step, after, leaves, sealed};
use pool::{Place, Pool};
pub(super) use removal::drop_fleet;
use state::State;

/// Shares traffic by the members of a backend pool of a [Standard Load Balancer](https://learn.microsoft.com/azure/load-balancer/load-balancer-overview).
///
/// A route is a backend pool, named by its id from `/subscriptions/` on, that rules of yours lead to. Members are entries
/// [by address](https://learn.microsoft.com/azure/load-balancer/backend-pool-management), named by their instances; a pool with members by network
/// interface cannot have them. They are in the virtual network of the machines, and answer at the port that your rules say. Entries of
/// somebody else's, and all else of the balancer, stay as they are.
///
/// Rules need a probe: without one the balancer
/// [does not heed](https://learn.microsoft.com/azure/load-balancer/admin-state-overview#design-considerations) that a member is to get no new
/// connections. Who leaves is drained for the pool's `drainPeriodInSeconds`, or else as the [configuration](crate::ConfigBuilder::drain_time) says:
/// the balancer does not tell when the last connection ends, and a client that goes on using an old connection stays where it is. UDP has no connections: its flows go to another member
/// [at once](https://learn.microsoft.com/azure/load-balancer/load-balancer-custom-probe-overview#probe-down-behavior) when theirs is set to leave.
///
/// What the balancer thinks of members takes it a while to say: it may be three minutes older than the rest of an observation, and each member tells how old.
///
/// # Errors
/// `NotFound` for what is no backend pool; `InvalidRequest` for a pool with members by network interface, for a rule without a probe, and for a
/// member whose address somebody else's entry has; `Conflict` when somebody changed the balancer in between.
///
/// # Cancellation
/// A dropped `apply` may have done its first write, or both: those who come, and then those who go. The same call again does the rest.
pub struct LoadBalancerSwitch {
    config: Config,
}

impl LoadBalancerSwitch {
    /// A switch for all backend pools that the credentials may write.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl fmt::Debug for LoadBalancerSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadBalancerSwitch").finish_non_exhaustive()
    }
}

#[async_trait]
impl TrafficSwitch for LoadBalancerSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        TrafficCapabilities {
            kind: SwitchKind::Membership,
            max_fleets: None,
            version_check: VersionCheck::WithTheChange,
        }
    }

    async fn observe(&self, _: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let place = Place::of(OBSERVE, route)?;
        let as_of = Timestamp::now();
        let state = State::read(&self.config, OBSERVE, &place).await?;
        let members = state.members(as_of);
        Ok(TrafficState { as_of, version: state.version(), split: state.split(), members })
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let place = Place::of(APPLY, route)?;
        let pool = Pool::read(&self.config.clients, APPLY, &place).await?;
        let intent = (cx.key.as_str(), expected.as_str());
        if pool.version() != *expected && !pool.is_left_by(intent) {
            let problem = format!("{route} has version {}, not {expected}: observe it again", pool.version());
            return Err(ProviderError::new(ErrorKind::Conflict, APPLY, problem).without_effect());
        }
        let call =
            Call { config: &self.config, pool: &pool, intent, targets: &assignment.members, now: Timestamp::now() };
        call.run().await
    }
}

/// One call that changes the members of a pool, with what it has read.
pub(super) struct Call<'a> {
    pub(super) config: &'a Config,
    pub(super) pool: &'a Pool,
    /// The key of the call, and the version that it saw.
    pub(super) intent: (&'a str, &'a str),
    /// Every member that is to be.
    pub(super) targets: &'a [MemberTarget],
    pub(super) now: Timestamp,
}

impl Call<'_> {
    /// Does the first step that is not done yet. What it does is seen by the next call.
    async fn run(&self) -> Result<Progress<()>, ProviderError> {
        if let Some(waits) = self.join().await? {
            return Ok(waits);
        }
        let opinions = Opinions::ask(self.config, APPLY, self.pool).await?;
        let (pool, why) = (Pool::clone(self.pool), opinions.why.clone());
        if let Some(fleet) = State::of(self.config, pool, opinions).unready(self.targets) {
            return Ok(Progress::Pending {
                retry_after: SOON,
                note: until_good(&format!("the balancer to find members of {fleet} good"), why.as_deref()),
            });
        }
        self.leave().await
    }

    /// Puts in who is to come. Nothing when there is nobody, and the balancer is at rest.
    pub(super) async fn join(&self) -> Result<Option<Progress<()>>, ProviderError> {
        if self.pool.standing == Standing::Busy {
            return Ok(Some(self.pool.waits(SOON)));
        }
        let joining: Vec<&MemberTarget> = self.joining().collect();
        if !joining.is_empty() {
            return self.write(&Step::Join(joining)).await.map(Some);
        }
        if self.pool.standing == Standing::Failed {
            // What is written may not be in effect: it is sent again, as the vendor says.
            let done = self.pool.write(&self.config.clients, APPLY, &self.pool.entries).await?;
            return Ok(Some(self.pool.until_seen(done)));
        }
        Ok(None)
    }

    fn joining(&self) -> impl Iterator<Item = &MemberTarget> {
        self.targets.iter().filter(|target| !self.pool.entries.iter().any(|entry| entry.is(target)))
    }

    /// Whether somebody is to come.
    pub(super) fn has_joining(&self) -> bool {
        self.joining().next().is_some()
    }

    /// Takes out who is not to be.
    pub(super) async fn leave(&self) -> Result<Progress<()>, ProviderError> {
        if !self.pool.entries.iter().any(|entry| leaves(entry, self.targets)) {
            return Ok(Progress::Done(()));
        }
        if self.pool.standing == Standing::Busy {
            return Ok(self.pool.waits(SOON));
        }
        self.write(&Step::Leave(self.targets)).await
    }

    async fn write(&self, step: &Step<'_>) -> Result<Progress<()>, ProviderError> {
        let refuse = |problem: String| ProviderError::new(ErrorKind::InvalidRequest, APPLY, problem).without_effect();
        if let Some(rule) = self.pool.rules.iter().find(|rule| rule.probe.is_none()) {
            let problem = format!("the rule {} has no probe, so that nobody could be drained: give it one", rule.id);
            return Err(refuse(problem));
        }
        // The id of a subnet ends with `/subnets/<name>`.
        let network = self.config.launch.subnet.rsplitn(3, '/').nth(2).filter(|_| !self.pool.has_network());
        let drain_time = self.pool.drain_time().unwrap_or(self.config.drain_time);
        let entries = after(&self.pool.entries, step, network, (self.now, drain_time));
        let entries = entries.map_err(|obstacle| refuse(format!("{}: {obstacle}", self.pool.place.id())))?;
        let entries = sealed(entries, self.intent, |entries| self.pool.text(entries));
        let done = self.pool.write(&self.config.clients, APPLY, &entries).await?;
        Ok(self.pool.until_seen(done))
    }
}
