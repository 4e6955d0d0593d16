//! Sharing traffic by the weights of a URL map.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use google_cloud_compute_v1::model::network_endpoint_group::NetworkEndpointType;
use google_cloud_compute_v1::model::{Operation, operation};
use immutable_core::model::{FleetId, RouteId, RouteVersion, Weight};
use immutable_core::provider::{
    Assignment, ErrorKind, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities, TrafficState,
    TrafficSwitch, VersionCheck,
};
use jiff::{SignedDuration, Timestamp};

use super::claim::Claim;
use super::plan::{Plan, Whose};
use super::route::Route;
use super::state::{self, State};
use super::{APPLY, OBSERVE};
use crate::Config;
use crate::backends::{self, Made, New, Place};
use crate::changes::until_seen;
use crate::endpoint_groups::{self, EndpointGroup, zone};
use crate::operation::SOON;
use crate::task::Task;

/// Shares traffic by the weights of backend services in a URL map: one backend service for each fleet on each route.
///
/// A route is the default route of a URL map, `global/urlMaps/<name>` or `regions/<region>/urlMaps/<name>`, or that of one of its path
/// matchers, with `/pathMatchers/<name>` behind. It leads to a backend service already, the original. Fleets get backend services of their own
/// that are made like it. As long as none of them has traffic the route counts as closed, and closing it leads to the original
/// again. All else in the URL map, such as host rules, path rules and header actions, stays as it is.
///
/// # Errors
/// `NotFound` for what is no URL map; `InvalidRequest` for a route that leads to no backend service, and for a backend service that cannot
/// be copied: one of a classic balancer, with Identity-Aware Proxy, with keys for signed URLs or with an edge security policy.
///
/// # Cancellation
/// A dropped `apply` may have done some of its steps, in the order in which no request is lost: backend services, members, weights, and then
/// those who go. The same call again does the rest.
pub struct UrlMapSwitch {
    config: Config,
}

impl UrlMapSwitch {
    /// A switch for all URL maps of the project.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl fmt::Debug for UrlMapSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlMapSwitch").finish_non_exhaustive()
    }
}

#[async_trait]
impl TrafficSwitch for UrlMapSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        let step = Weight::basis_points(10).expect("invariant: a tenth of a percent is no more than the whole");
        TrafficCapabilities {
            kind: SwitchKind::Weighted { step },
            // Google names no limit of weighted backend services: https://docs.cloud.google.com/load-balancing/docs/quotas
            max_fleets: None,
            // Weights are compared with the change, members are not.
            version_check: VersionCheck::BeforeTheChange,
        }
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let task = &Task::new(&self.config, OBSERVE, cx);
        let route = parse(route, OBSERVE)?;
        let as_of = Timestamp::now();
        let state = State::read(task, &route).await?;
        let split = state.split().map_err(|error| {
            let message = format!("{}: {error}", route.id);
            ProviderError::new(ErrorKind::Internal, OBSERVE, message).without_effect()
        })?;
        Ok(TrafficState { as_of, version: state.version().id(), split, members: state.members() })
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let task = &Task::new(&self.config, APPLY, cx);
        let _turn = self.config.turns.take(route, APPLY)?;
        let route = parse(route, APPLY)?;
        let state = &State::read(task, &route).await?;
        let plan = &Plan::new(state, assignment, APPLY)?;
        let has_claim = state.version().admit(&state.claim, (APPLY, &route.id, task.key), expected, plan.moves())?;
        let claim = if has_claim { state.claim.clone() } else { state.claim.next(task.key, expected) };
        if !has_claim
            && plan.has_work(state)
            && let Some(holder) = state.holder()
        {
            let wait = write_claim(task, holder, &claim).await?;
            return Ok(wait);
        }
        Call { task, state, plan, assignment, claim: &claim }.run().await
    }
}

fn parse(route: &RouteId, operation: &'static str) -> Result<Route, ProviderError> {
    Route::parse(route).ok_or_else(|| {
        let message = format!("{route} is no URL map: it must look like \"global/urlMaps/web\"");
        ProviderError::new(ErrorKind::NotFound, operation, message).without_effect()
    })
}

async fn write_claim(task: &Task<'_>, holder: &state::Ours, claim: &Claim) -> Result<Progress<()>, ProviderError> {
    let Some(place) = holder.found.self_link.as_deref().and_then(Place::parse) else {
        let message = "a backend service has no link of its own";
        return Err(ProviderError::new(ErrorKind::Internal, task.operation, message).without_effect());
    };
    let done = backends::write_claim(task, &place, &holder.found, holder.record.clone(), claim).await?;
    Ok(until_seen(done, "a record"))
}

/// One call of `apply`, with what it has read.
struct Call<'a> {
    task: &'a Task<'a>,
    state: &'a State,
    plan: &'a Plan<'a>,
    assignment: &'a Assignment,
    claim: &'a Claim,
}

impl Call<'_> {
    /// Does the first step that is not done yet. What it does is seen by the next call.
    async fn run(&self) -> Result<Progress<()>, ProviderError> {
        let (task, plan) = (self.task, self.plan);
        let mut made = BTreeMap::new();
        for fleet in plan.new_fleets() {
            match self.make(fleet).await? {
                Made::There(url) => drop(made.insert(fleet, url)),
                Made::Not(waits) => return Ok(waits),
            }
        }
        if !made.is_empty() {
            // A backend service without a place in a URL map is not looked at by the balancer: its members would never be found good.
            return self.rewrite(&made, |place| place.before).await;
        }
        for (fleet, zones) in &plan.zones {
            if let Some(ours) = self.state.of(fleet) {
                let name = ours.found.name.as_deref().unwrap_or_default();
                let groups: Vec<_> = zones.iter().map(|zone| EndpointGroup::new(zone, name)).collect();
                let record = backends::record(task, fleet, &self.state.route.id);
                let done = backends::widen(task, &ours.found, &groups, &record).await?;
                return Ok(until_seen(done, "a group in another zone"));
            }
        }
        if !plan.joining.is_empty() {
            return endpoint_groups::attach(task, &plan.joining, &NetworkEndpointType::GceVmIpPort).await;
        }
        if let Some(fleet) = &plan.unready {
            let note = format!("the balancer to find members of {fleet} good");
            return Ok(Progress::Pending { retry_after: SOON, note });
        }
        if plan.rewrites(self.state) {
            return self.rewrite(&made, |place| place.weight).await;
        }
        self.leave().await
    }

    async fn make(&self, fleet: &FleetId) -> Result<Made, ProviderError> {
        let members = self.assignment.members.iter().filter(|member| member.fleet == *fleet);
        let like = self.state.original().unwrap_or_default();
        let new = New {
            route: &self.state.route.id,
            scope: &self.state.route.scope,
            fleet,
            like,
            claim: self.claim,
            zones: members.map(|member| zone(&member.instance)).collect(),
        };
        let ours = self.state.ours().filter_map(|ours| ours.found.self_link.as_deref());
        let models: Vec<&str> = [like].into_iter().chain(ours).collect();
        // It holds whole backend services, which are large.
        Box::pin(backends::ensure(self.task, &new, &models)).await
    }

    async fn rewrite(
        &self,
        made: &BTreeMap<&FleetId, String>,
        weight: impl Fn(&super::plan::Place) -> u32,
    ) -> Result<Progress<()>, ProviderError> {
        let url = |whose: &Whose| match whose {
            Whose::There(url) => Some(url.clone()),
            Whose::New(fleet) => made.get(fleet).cloned(),
        };
        let services = self.plan.places.iter().filter_map(|place| Some((url(&place.service)?, weight(place))));
        let services: Vec<_> = services.collect();
        let route = &self.state.route;
        let done = route.write(self.task, route.leading_to(&self.state.map, &services, false)).await?;
        Ok(until_seen(done, "the new weights"))
    }

    /// Takes out those who go, when the weights that were written before are in use.
    async fn leave(&self) -> Result<Progress<()>, ProviderError> {
        if self.plan.leaving.is_empty() {
            return Ok(Progress::Done(()));
        }
        match self.until_weights_are_in_use().await? {
            Some(waits) => Ok(waits),
            None => endpoint_groups::detach(self.task, &self.plan.leaving).await,
        }
    }

    /// How long it is until the weights are in use everywhere, if they are not: counted from the end of the last change of the URL map.
    async fn until_weights_are_in_use(&self) -> Result<Option<Progress<()>>, ProviderError> {
        let route = &self.state.route;
        let known = self.task.change(&route.scope, route.target(), "").operations().await?;
        let Some(last) = known.first() else { return Ok(None) };
        let note = "the new weights to be in use before members leave".to_owned();
        if last.status != Some(operation::Status::Done) {
            return Ok(Some(Progress::Pending { retry_after: SOON, note }));
        }
        let lag = SignedDuration::try_from(self.task.config.weight_lag).unwrap_or(SignedDuration::MAX);
        // The clock there may be ahead of the one here.
        let since = ended(last).map(|ended| Timestamp::now().duration_since(ended).max(SignedDuration::ZERO));
        let left = lag - since.unwrap_or_default();
        let left = std::time::Duration::try_from(left).ok().filter(|left| !left.is_zero());
        Ok(left.map(|retry_after| Progress::Pending { retry_after, note }))
    }
}

fn ended(operation: &Operation) -> Option<Timestamp> {
    operation.end_time.as_deref().and_then(|time| time.parse().ok())
}

/// Lets a route lead no longer to a backend service of ours without traffic. Done when it does not.
///
/// # Errors
/// `Conflict` when it has traffic.
pub(crate) async fn drop_service(task: &Task<'_>, route: &str, url: &str) -> Result<Progress<()>, ProviderError> {
    let Some(route) = route.parse().ok().and_then(|id| Route::parse(&id)) else { return Ok(Progress::Done(())) };
    let _turn = task.config.turns.take(&route.id, task.operation)?;
    let state = match State::read(task, &route).await {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Progress::Done(())),
        Err(error) => return Err(error),
    };
    let Some(found) = state.services.iter().find(|service| service.is(url)) else { return Ok(Progress::Done(())) };
    if found.weight > 0 {
        let message = format!("{} has traffic on {}: move it first", endpoint_groups::name(url), route.id);
        return Err(ProviderError::new(ErrorKind::Conflict, task.operation, message).without_effect());
    }
    let rest: Vec<_> = state.services.iter().filter(|service| !service.is(url)).collect();
    // The count goes on with those who stay.
    let holder = rest.iter().filter_map(|service| service.ours.as_ref()).min_by_key(|ours| ours.found.name.clone());
    if let Some(holder) = holder.filter(|holder| state::claim(&holder.record) != state.claim) {
        return write_claim(task, holder, &state.claim).await;
    }
    let is_plain = rest.iter().all(|service| service.ours.is_none());
    let rest: Vec<_> = rest.into_iter().map(|service| (service.url.clone(), service.weight)).collect();
    let done = route.write(task, route.leading_to(&state.map, &rest, is_plain)).await?;
    Ok(until_seen(done, "the route without a backend service"))
}
