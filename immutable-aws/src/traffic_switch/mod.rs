//! Moving traffic with an application or network load balancer.

mod claim;
mod plan;
pub(crate) mod route;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use immutable_core::model::{FleetId, RouteId, RouteVersion, Weight};
use immutable_core::provider::{
    Assignment, Effect, ErrorKind, IdempotencyKey, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities,
    TrafficState, TrafficSwitch, VersionCheck,
};
use jiff::Timestamp;

use self::claim::Turn;
use self::plan::{MOST_GROUPS, Plan, Whose};
use self::route::Route;
use self::state::State;
use crate::error::failed;
use crate::target_groups::{self, New};
use crate::{Clients, Config};

const OBSERVE: &str = "observe route";
const APPLY: &str = "apply to route";

/// So many targets are registered or deregistered in a request. The API names
/// [no limit](https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RegisterTargets.html) of a request, only of a group.
const TARGETS_BATCH: usize = 100;

/// When the balancer has looked at a new target for the first time, or uses new weights: neither is told, so it is asked again.
const SOON: Duration = Duration::from_secs(5);
const UNTIL_WEIGHTS_ARE_IN_USE: Duration = Duration::from_secs(10);

/// Shares traffic by weighted target groups: one for each fleet on each route.
///
/// A route is a listener or a rule, named by its ARN, that forwards to a target group of instances already, the original. Fleets get target
/// groups of their own that are made like it. As long as none of them has traffic the route counts as closed, and closing it
/// forwards to the original again. All else that the route does, such as asking for a login first, stays as it is.
///
/// # Errors
/// `NotFound` for what is no listener and no rule; `InvalidRequest` for a route that forwards to nothing, for targets that are not instances,
/// and for more than five target groups.
///
/// # Cancellation
/// A dropped `apply` may have done some of its steps, in the order in which no request is lost: groups, members, weights, and then those who go.
/// The same call again does the rest.
pub struct ElbSwitch {
    clients: Clients,
}

impl ElbSwitch {
    /// A switch for all routes that the clients can see.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a configuration is cheap to clone, and all parts are made the same way"
    )]
    pub fn new(config: Config) -> Self {
        Self { clients: config.clients.clone() }
    }
}

impl fmt::Debug for ElbSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElbSwitch").finish_non_exhaustive()
    }
}

#[async_trait]
impl TrafficSwitch for ElbSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        let step = Weight::basis_points(10).expect("invariant: a tenth of a percent is no more than the whole");
        TrafficCapabilities {
            kind: SwitchKind::Weighted { step },
            max_fleets: Some(u32::try_from(MOST_GROUPS).unwrap_or(u32::MAX)),
            version_check: VersionCheck::BeforeTheChange,
        }
    }

    async fn observe(&self, _: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let route = parse(route, OBSERVE)?;
        let as_of = Timestamp::now();
        let state = State::read(&self.clients, OBSERVE, &route).await?;
        let split = state.split().map_err(|error| {
            let message = format!("{}: {error}", route.arn());
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
        let route = &parse(route, APPLY)?;
        let _turn = Turn::take(route, APPLY)?;
        let state = State::read(&self.clients, APPLY, route).await?;
        let plan = Plan::new(&state, assignment, APPLY)?;
        let call = Call { clients: &self.clients, route, state: &state, plan: &plan, cx, expected };
        let has_claim = call.check_version()?;
        if call.has_work() && !has_claim {
            let is_seen = claim::take(&self.clients, route, APPLY, (&state.claim, &cx.key, expected)).await?;
            if !is_seen {
                let note = "the tag of the route to be seen as it was written".to_owned();
                return Ok(Progress::Pending { retry_after: SOON, note });
            }
        }
        call.run().await
    }
}

fn parse(route: &RouteId, operation: &'static str) -> Result<Route, ProviderError> {
    Route::parse(route.as_str()).ok_or_else(|| {
        let message =
            format!("{route} is not the ARN of a listener or rule of an application or network load balancer");
        ProviderError::new(ErrorKind::NotFound, operation, message).without_effect()
    })
}

/// One call of `apply`, with what it has read.
struct Call<'a> {
    clients: &'a Clients,
    route: &'a Route,
    state: &'a State,
    plan: &'a Plan,
    cx: &'a OpContext,
    expected: &'a RouteVersion,
}

impl Call<'_> {
    /// Whether the route was claimed for this intent already, as it is when the call is sent again.
    fn check_version(&self) -> Result<bool, ProviderError> {
        let version = self.state.version();
        if version.id() == *self.expected {
            return Ok(self.state.claim.is_for(&self.cx.key));
        }
        // Requests go the ways that they went before the call, or those that it wants: nobody else moved them.
        let goes_on = version.has_the_traffic_of(self.expected) || !self.moves_traffic();
        if self.state.claim.is_of(&self.cx.key, self.expected) && goes_on {
            return Ok(true);
        }
        let message =
            format!("{} has version {}, not {}: observe it again", self.route.arn(), version.id(), self.expected);
        Err(ProviderError::new(ErrorKind::Conflict, APPLY, message).without_effect())
    }

    fn moves_traffic(&self) -> bool {
        self.plan.places.iter().any(|place| place.weight != place.before)
    }

    /// Whether this call changes anything, or only waits.
    fn has_work(&self) -> bool {
        let can_join = self.plan.has_room() && !self.plan.joining.is_empty();
        can_join || self.rewrites() || self.plan.leaving.iter().any(|leaving| self.leaves_now(leaving.later))
    }

    /// Whether the groups and weights that this call writes are others than there are.
    fn rewrites(&self) -> bool {
        let there = self.state.groups.iter().map(|group| (Whose::There(group.arn.clone()), group.weight));
        let (there, wanted): (Vec<_>, Vec<_>) = (there.collect(), self.steps().collect());
        // What the only group weighs, if anything, is all the same.
        let same = match (&there[..], &wanted[..]) {
            ([(one, is)], [(other, to_be)]) => one == other && (*is > 0) == (*to_be > 0),
            _ => there == wanted,
        };
        self.plan.has_room() && !same
    }

    /// What this call lets the route forward to. A fleet whose members cannot take traffic yet gets its place first.
    fn steps(&self) -> impl Iterator<Item = (Whose, u32)> {
        let waits = self.plan.unready.is_some();
        let weight = move |weight, before| if waits { before } else { weight };
        self.plan.places.iter().map(move |place| (place.group.clone(), weight(place.weight, place.before)))
    }

    fn leaves_now(&self, later: bool) -> bool {
        self.plan.unready.is_none() && !later
    }

    async fn run(&self) -> Result<Progress<()>, ProviderError> {
        if !self.plan.has_room() {
            self.leave().await?;
            let note =
                format!("the route forwards to {MOST_GROUPS} target groups, and one of them has to be drained first");
            return Ok(Progress::Pending { retry_after: UNTIL_WEIGHTS_ARE_IN_USE, note });
        }
        let made = self.make_groups().await?;
        self.join(&made).await?;
        if self.rewrites() {
            self.rewrite(&made).await?;
        }
        if let Some(fleet) = &self.plan.unready {
            let note = format!("the balancer to find members of {fleet} good");
            return Ok(Progress::Pending { retry_after: SOON, note });
        }
        self.leave().await?;
        if self.plan.leaving.iter().any(|leaving| leaving.later) {
            let note = "the new weights to be in use before members leave".to_owned();
            return Ok(Progress::Pending { retry_after: UNTIL_WEIGHTS_ARE_IN_USE, note });
        }
        Ok(Progress::Done(()))
    }

    async fn make_groups(&self) -> Result<BTreeMap<FleetId, String>, ProviderError> {
        let mut made = BTreeMap::new();
        for fleet in self.plan.new_fleets() {
            let like = self.state.original().unwrap_or_default();
            let ours = self.state.groups.iter().find(|group| group.owner.is_some());
            let models = [Some(like), ours.map(|group| group.arn.as_str())];
            let new = New { route: self.route.arn(), fleet, like, rollout: self.cx.rollout.as_ref() };
            let arn = target_groups::ensure(self.clients, APPLY, &new, models.into_iter().flatten()).await?;
            made.insert(fleet.clone(), arn);
        }
        Ok(made)
    }

    async fn join(&self, made: &BTreeMap<FleetId, String>) -> Result<(), ProviderError> {
        for (fleet, targets) in &self.plan.joining {
            let there = || self.state.group_of(fleet).map(|group| &group.arn);
            let Some(group) = made.get(fleet).or_else(there) else { continue };
            for batch in targets.chunks(TARGETS_BATCH) {
                let request = self.clients.elb.register_targets().target_group_arn(group);
                let request = request.set_targets(Some(batch.to_vec()));
                request.send().await.map_err(|error| failed(APPLY, Effect::Unknown, error))?;
            }
        }
        Ok(())
    }

    async fn rewrite(&self, made: &BTreeMap<FleetId, String>) -> Result<(), ProviderError> {
        let found = self.route.actions(self.clients, APPLY, Effect::Unknown).await?;
        if route::text(&found) != route::text(&self.state.actions) {
            let message = format!("somebody else changed {} just now: observe it again", self.route.arn());
            return Err(ProviderError::new(ErrorKind::Conflict, APPLY, message));
        }
        let arn = |whose| match whose {
            Whose::There(arn) => Some(arn),
            Whose::New(fleet) => made.get(&fleet).cloned(),
        };
        let groups: Vec<_> = self.steps().filter_map(|(whose, weight)| Some((arn(whose)?, weight))).collect();
        self.route.write(self.clients, APPLY, route::forwarding_to(&found, &groups)).await
    }

    async fn leave(&self) -> Result<(), ProviderError> {
        for leaving in self.plan.leaving.iter().filter(|leaving| self.leaves_now(leaving.later)) {
            for batch in leaving.targets.chunks(TARGETS_BATCH) {
                self.deregister(&leaving.group, batch).await?;
            }
        }
        Ok(())
    }

    async fn deregister(&self, group: &str, targets: &[TargetDescription]) -> Result<(), ProviderError> {
        let request = self.clients.elb.deregister_targets().target_group_arn(group);
        let request = request.set_targets(Some(targets.to_vec()));
        request.send().await.map(drop).map_err(|error| failed(APPLY, Effect::Unknown, error))
    }
}

/// Lets a route forward no longer to a group without traffic. Whether it did.
///
/// # Errors
/// `Conflict` when the group has traffic.
pub(crate) async fn drop_group(
    clients: &Clients,
    operation: &'static str,
    route: &str,
    group: &str,
) -> Result<bool, ProviderError> {
    let Some(route) = &Route::parse(route) else { return Ok(false) };
    let _turn = Turn::take(route, operation)?;
    let state = match State::read(clients, operation, route).await {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(found) = state.groups.iter().find(|found| found.arn == group) else { return Ok(false) };
    if found.weight > 0 {
        let message = format!("{} has traffic on {}: move it first", found.name(), route.arn());
        return Err(ProviderError::new(ErrorKind::Conflict, operation, message).without_effect());
    }
    let (key, seen) = (IdempotencyKey::of(&[operation, group]), state.version().id());
    if !state.claim.is_for(&key) && !claim::take(clients, route, operation, (&state.claim, &key, &seen)).await? {
        let message = format!("the tag of {} does not show yet what was written into it: try again", route.arn());
        return Err(ProviderError::new(ErrorKind::Conflict, operation, message));
    }
    let rest = state.groups.iter().filter(|other| other.arn != group);
    let rest: Vec<_> = rest.map(|other| (other.arn.clone(), other.weight)).collect();
    route.write(clients, operation, route::forwarding_to(&state.actions, &rest)).await?;
    Ok(true)
}
