//! Sharing traffic by the members of a backend pool.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use immutable_core::model::{FleetId, RouteId, RouteVersion, Split, Weight};
use immutable_core::provider::{
    Assignment, Member, MemberHealth, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities,
    TrafficState, TrafficSwitch, VersionCheck,
};
use jiff::Timestamp;

use super::health::Opinion;
use super::memory::Memory;
use super::plan::{Change, Plan};
use super::route::{Part, Route};
use super::state::State;
use super::{APPLY, OBSERVE, call};
use crate::Config;

/// Shares traffic by the members of a backend pool of an application gateway (v2).
///
/// A route is the id of a pool, `/subscriptions/.../applicationGateways/<gateway>/backendAddressPools/<pool>`, that rules of yours lead to. Members are in it by
/// their addresses, at the port that the settings of the rules name; addresses and names that others have put there stay. Beside it there is a pool
/// for each fleet that says whose the addresses are, and to which no rule may lead.
///
/// Who leaves has the time to finish that the settings of the rules say, if their connection draining is on, or else that of the
/// [configuration](crate::ConfigBuilder::drain_time). It begins when the gateway has taken the change in. Pools of those who have left stay until the next change of the
/// route.
///
/// What the gateway thinks of members takes it a while to say: it may be three minutes older than the rest of an observation, and each member tells how old.
///
/// # Errors
/// `NotFound` for what is no pool of a gateway; `InvalidRequest` for members without an address; `Quota` where the gateway would have more pools or
/// targets than it can.
///
/// # Cancellation
/// A dropped `apply` may have done one of its steps: members come, and then others go. The same call again does the rest.
pub struct GatewayPoolSwitch {
    config: Config,
    memory: Memory,
}

impl GatewayPoolSwitch {
    /// A switch for all backend pools of gateways that can be reached with this configuration, also in other resource groups.
    pub fn new(config: Config) -> Self {
        Self { config, memory: Memory::default() }
    }

    async fn read(&self, operation: &'static str, route: &RouteId) -> Result<State, ProviderError> {
        let route = Route::parse(route).filter(|route| matches!(route.part, Part::Pool(_))).ok_or_else(|| {
            call::no_route(
                operation,
                route,
                "\"/subscriptions/.../applicationGateways/<gateway>/backendAddressPools/<pool>\"",
            )
        })?;
        State::read(&self.config, operation, route, &self.memory).await
    }
}

impl fmt::Debug for GatewayPoolSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayPoolSwitch").finish_non_exhaustive()
    }
}

#[async_trait]
impl TrafficSwitch for GatewayPoolSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        TrafficCapabilities {
            kind: SwitchKind::Membership,
            max_fleets: None,
            version_check: VersionCheck::WithTheChange,
        }
    }

    async fn observe(&self, _cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let as_of = Timestamp::now();
        let state = self.read(OBSERVE, route).await?;
        let opinion = Opinion::ask(&self.config, OBSERVE, &state).await?;
        let members = state.members(&self.config, OBSERVE, &opinion).await?;
        let split = split(&members, &state, &self.config);
        Ok(TrafficState { as_of, version: state.version(), split, members })
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let state = self.read(APPLY, route).await?;
        let call = call::Call { config: &self.config, memory: &self.memory, state: &state, cx, expected };
        if let Some(waits) = call.begin().await? {
            return Ok(waits);
        }
        let plan = Plan::new(APPLY, &state, assignment)?;
        let now = Timestamp::now();
        let mut change = Change::new(&self.config, APPLY, &state, now);
        if !plan.joining.is_empty() {
            change.join(&plan.joining);
        } else if !plan.leaving.is_empty() {
            let opinion = Opinion::ask(&self.config, APPLY, &state).await?;
            let staying: Vec<&FleetId> = plan.named.keys().collect();
            if let Some(fleet) = plan.unready(&staying, &plan.leaving.iter().collect(), &opinion) {
                return Ok(call::until_good(fleet, &opinion));
            }
            change.leave(&plan.leaving, now)?;
        } else if state.is_settled() {
            return Ok(Progress::Done(()));
        }
        call.write(change, None).await
    }
}

/// The fleets' shares of the members that may get requests: of those who are not found bad, as far as they are in effect, and of those who were taken out and
/// still are. Of all, when that is nobody.
fn split(members: &[Member], state: &State, config: &Config) -> Split {
    let still = state.draining(config, Timestamp::now()).filter(|(.., is_on)| *is_on).map(|(fleet, ..)| fleet);
    let used = |member: &&Member| match member.health {
        MemberHealth::Healthy | MemberHealth::Untold => true,
        // The gateway may have found it good since it was asked.
        MemberHealth::Registering => state.is_in_effect(),
        _ => false,
    };
    let used: Vec<&FleetId> = members.iter().filter(used).map(|member| &member.fleet).chain(still).collect();
    let is_in = |member: &&Member| member.health != MemberHealth::Draining;
    let all = || members.iter().filter(is_in).map(|member| &member.fleet).collect();
    let mut counts: BTreeMap<&FleetId, u32> = BTreeMap::new();
    for fleet in if used.is_empty() { all() } else { used } {
        *counts.entry(fleet).or_default() += 1;
    }
    let shares = Weight::from_parts(&counts.values().copied().collect::<Vec<_>>());
    Split::new(counts.into_keys().cloned().zip(shares)).unwrap_or_default()
}
