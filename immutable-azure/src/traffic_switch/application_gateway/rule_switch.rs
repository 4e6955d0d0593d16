//! Blue-green by the pool that a rule leads to.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use immutable_core::model::{FleetId, RouteId, RouteVersion, Split, Weight};
use immutable_core::provider::{
    Assignment, ErrorKind, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities, TrafficState,
    TrafficSwitch, VersionCheck,
};
use jiff::Timestamp;

use super::document::same;
use super::health::Opinion;
use super::memory::Memory;
use super::plan::{Change, Plan};
use super::route::{Part, Route};
use super::state::State;
use super::{APPLY, OBSERVE, call, names};
use crate::Config;

/// Leads a rule of an application gateway (v2) to the pool of one fleet or another: all traffic or none.
///
/// A route is the id of a rule that leads to a backend pool, from `/subscriptions/` on to one of
/// * `.../applicationGateways/<gateway>/requestRoutingRules/<rule>`, of the type `Basic`;
/// * `.../applicationGateways/<gateway>/urlPathMaps/<map>`, for what no path of the map matches;
/// * `.../applicationGateways/<gateway>/urlPathMaps/<map>/pathRules/<rule>`.
///
/// Each fleet gets a pool of its own beside yours. As long as the rule leads to none of them the route counts as closed, and closing it leads to the pool
/// again where it led before. All else of the rule, such as its settings and its listener, stays.
///
/// A pool that no rule leads to is not probed by itself. So before the rule leads to it the gateway is asked to probe it once, with the probe of
/// the rule's settings; a pool that it cannot tell about is taken to be as good as its members were found otherwise.
/// What it thinks of members may be three minutes older than the rest of an observation, and each member tells how old.
///
/// # Errors
/// `NotFound` for what is no rule; `InvalidRequest` for a rule that redirects or leads on by paths, and for members without an address; `Unsupported` for traffic
/// that is shared; `Quota` as for [`GatewayPoolSwitch`](super::GatewayPoolSwitch).
///
/// # Cancellation
/// A dropped `apply` may have done one of its steps: members come, the rule is led elsewhere, members go. The same call again does the rest.
pub struct RoutingRuleSwitch {
    config: Config,
    memory: Memory,
}

impl RoutingRuleSwitch {
    /// A switch for all rules of gateways that can be reached with this configuration, also in other resource groups.
    pub fn new(config: Config) -> Self {
        Self { config, memory: Memory::default() }
    }

    async fn read(&self, operation: &'static str, route: &RouteId) -> Result<State, ProviderError> {
        let route = Route::parse(route).filter(|route| !matches!(route.part, Part::Pool(_))).ok_or_else(|| {
            call::no_route(
                operation,
                route,
                "\"/subscriptions/.../applicationGateways/<gateway>/requestRoutingRules/<rule>\"",
            )
        })?;
        State::read(&self.config, operation, route, &self.memory).await
    }
}

impl fmt::Debug for RoutingRuleSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingRuleSwitch").finish_non_exhaustive()
    }
}

#[async_trait]
impl TrafficSwitch for RoutingRuleSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        TrafficCapabilities {
            kind: SwitchKind::Weighted { step: Weight::FULL },
            max_fleets: Some(1),
            version_check: VersionCheck::WithTheChange,
        }
    }

    async fn observe(&self, _cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let as_of = Timestamp::now();
        let state = self.read(OBSERVE, route).await?;
        let opinion = Opinion::ask(&self.config, OBSERVE, &state).await?;
        let members = state.members(&self.config, OBSERVE, &opinion).await?;
        let split = state.fleet_of(state.pool_in_effect()).map(Split::all_to).unwrap_or_default();
        Ok(TrafficState { as_of, version: state.version(), split, members })
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let wanted = wanted(assignment)?;
        let state = self.read(APPLY, route).await?;
        let call = call::Call { config: &self.config, memory: &self.memory, state: &state, cx, expected };
        if let Some(waits) = call.begin().await? {
            return Ok(waits);
        }
        let plan = Plan::new(APPLY, &state, assignment)?;
        let leads = leads(&state, wanted)?;
        let now = Timestamp::now();
        let mut change = Change::new(&self.config, APPLY, &state, now);
        if !plan.joining.is_empty() {
            change.join(&plan.joining);
            return call.write(change, None).await;
        }
        if let Some(pool) = leads {
            if let Some(fleet) = wanted {
                let led_to = state.fleet_of(&state.pool);
                let going = led_to.iter().filter_map(|fleet| Some((fleet, state.fleets.get(fleet)?))).collect();
                let opinion = Opinion::ask(&self.config, APPLY, &state).await?;
                if let Some(fleet) = plan.unready(&[fleet], &going, &opinion) {
                    return Ok(call::until_good(fleet, &opinion));
                }
            }
            return call.write(change, Some(&pool)).await;
        }
        if !plan.leaving.is_empty() {
            // Only who leaves the fleet that has the traffic is missed.
            if let Some((fleet, going)) = wanted.and_then(|fleet| Some((fleet, plan.leaving.get(fleet)?))) {
                let opinion = Opinion::ask(&self.config, APPLY, &state).await?;
                if let Some(fleet) = plan.unready(&[fleet], &BTreeMap::from([(fleet, going)]), &opinion) {
                    return Ok(call::until_good(fleet, &opinion));
                }
            }
            change.leave(&plan.leaving, now)?;
        } else if state.is_settled() {
            return Ok(Progress::Done(()));
        }
        call.write(change, None).await
    }
}

/// The fleet that is to have all traffic, if one is.
fn wanted(assignment: &Assignment) -> Result<Option<&FleetId>, ProviderError> {
    let refuse = |kind, problem| Err(ProviderError::new(kind, APPLY, problem).without_effect());
    let fleets: Vec<&FleetId> = assignment.split.iter().map(|(fleet, _)| fleet).collect();
    match fleets[..] {
        [] => Ok(None),
        [fleet] if !assignment.members.iter().any(|member| member.fleet == *fleet) => {
            refuse(ErrorKind::InvalidRequest, format!("fleet {fleet} is to have traffic and no members: name them"))
        }
        [fleet] => Ok(Some(fleet)),
        _ => {
            let problem = format!("a rule leads to one fleet at a time, not to {}", assignment.split);
            refuse(ErrorKind::Unsupported, problem)
        }
    }
}

/// The pool that the rule is to lead to, if that is another one than it does.
fn leads(state: &State, wanted: Option<&FleetId>) -> Result<Option<String>, ProviderError> {
    let pool = match wanted {
        Some(fleet) => names::pool(APPLY, fleet, &state.route.short())?,
        // It leads to nothing of ours.
        None if state.fleet_of(&state.pool).is_none() => return Ok(None),
        None => {
            let there = state.original().filter(|pool| state.document.pool(pool).is_some());
            let Some(original) = there else {
                let problem = format!(
                    "where {} led before is not known or gone, so it cannot be closed: lead it to a backend pool of yours",
                    state.id()
                );
                return Err(ProviderError::new(ErrorKind::InvalidRequest, APPLY, problem).without_effect());
            };
            original.to_owned()
        }
    };
    Ok(Some(pool).filter(|pool| !same(pool, &state.pool)))
}
