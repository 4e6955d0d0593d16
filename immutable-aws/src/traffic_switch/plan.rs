//! What one call has to do so that a route becomes what it is to be. Nothing is asked or changed in here.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::{ActionTypeEnum, TargetDescription};
use immutable_core::model::{FleetId, Weight};
use immutable_core::provider::{Assignment, ErrorKind, MemberHealth, MemberTarget, ProviderError};

use super::route;
use super::state::{Group, State};
use super::weights::to_balancer;

/// The most target groups that an action forwards to.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html>
pub(super) const MOST_GROUPS: usize = 5;

/// What has to be done.
pub(super) struct Plan {
    /// What the route is to forward to, in this order.
    pub(super) places: Vec<Place>,
    /// Who is to be registered, by fleet.
    pub(super) joining: BTreeMap<FleetId, Vec<TargetDescription>>,
    /// Who is to be taken out of which group.
    pub(super) leaving: Vec<Leaving>,
    /// A fleet that is to have traffic, and of whose members none can take it yet.
    pub(super) unready: Option<FleetId>,
}

/// A target group that the route is to forward to.
pub(super) struct Place {
    pub(super) group: Whose,
    /// What it is to have, and what it has.
    pub(super) weight: u32,
    pub(super) before: u32,
}

/// A target group that is there, by its ARN, or the one that is to be made for a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    There(String),
    New(FleetId),
}

/// Targets that are to be taken out of a group.
pub(super) struct Leaving {
    pub(super) group: String,
    pub(super) targets: Vec<TargetDescription>,
    /// Whether the group has traffic now, and is to have none: then they stay until a later call, when no request comes any more.
    pub(super) later: bool,
}

impl Plan {
    pub(super) fn new(state: &State, assignment: &Assignment, operation: &'static str) -> Result<Self, ProviderError> {
        let refuse =
            |message: String| ProviderError::new(ErrorKind::InvalidRequest, operation, message).without_effect();
        let known = |kind: &ActionTypeEnum| ActionTypeEnum::values().contains(&kind.as_str());
        if let Some(kind) = state.actions.iter().filter_map(|action| action.r#type.as_ref()).find(|kind| !known(kind)) {
            let message = format!(
                "the route has an action of the type {kind}, which would be lost: use a newer release of this library"
            );
            return Err(refuse(message));
        }
        if route::forward(&state.actions).is_none() {
            return Err(refuse("the route forwards to nothing: let it forward to a target group first".to_owned()));
        }
        let wanted = Wanted::new(state, assignment);
        if wanted.with_traffic_or_members(state) > MOST_GROUPS {
            let message =
                format!("traffic or members of more than {MOST_GROUPS} target groups: a route has at most so many");
            return Err(refuse(message));
        }
        let places = wanted.places(state).ok_or_else(|| {
            refuse(
                "where the route led before is not known, and it cannot be closed: forward it to another target group"
                    .to_owned(),
            )
        })?;
        Ok(Self {
            joining: joining(state, assignment),
            leaving: leaving(state, assignment, &places),
            unready: unready(state, assignment, &wanted.weights),
            places,
        })
    }

    /// Whether the groups find place in one action. If not, some have to be drained first.
    pub(super) fn has_room(&self) -> bool {
        self.places.len() <= MOST_GROUPS
    }

    /// The fleets that have no group yet.
    pub(super) fn new_fleets(&self) -> impl Iterator<Item = &FleetId> {
        self.places.iter().filter_map(|place| match &place.group {
            Whose::New(fleet) => Some(fleet),
            Whose::There(_) => None,
        })
    }
}

/// The weights that are to be, by the fleets and by the names of groups of somebody else's.
struct Wanted<'a> {
    weights: BTreeMap<&'a FleetId, u32>,
    /// The fleets that have members or traffic, and a group or need one.
    fleets: BTreeSet<&'a FleetId>,
}

impl<'a> Wanted<'a> {
    fn new(state: &State, assignment: &'a Assignment) -> Self {
        let (fleets, weights): (Vec<&FleetId>, Vec<Weight>) = assignment.split.iter().unzip();
        let weights: BTreeMap<_, _> = fleets.into_iter().zip(to_balancer(&weights)).collect();
        let mut fleets: BTreeSet<&FleetId> = assignment.members.iter().map(|member| &member.fleet).collect();
        let is_foreign = |fleet: &FleetId| {
            state.group_of(fleet).is_none() && state.groups.iter().any(|group| group.name() == fleet.as_str())
        };
        fleets.extend(weights.keys().filter(|fleet| !is_foreign(fleet)));
        Self { weights, fleets }
    }

    fn with_traffic_or_members(&self, state: &State) -> usize {
        let foreign = state.groups.iter().filter(|group| group.owner.is_none() && self.weight(group) > 0);
        self.fleets.len() + foreign.count()
    }

    fn weight(&self, group: &Group) -> u32 {
        group.fleet().ok().and_then(|fleet| self.weights.get(&fleet).copied()).unwrap_or_default()
    }

    /// The groups in their order, new ones last; `None` when the route is to be closed and nobody knows where it led before.
    ///
    /// Those of fleets that are not named go when they are empty. Those of somebody else's stay without traffic, so that
    /// their targets are still checked and can take it again, unless the place is needed.
    fn places(&self, state: &State) -> Option<Vec<Place>> {
        let is_named = |group: &Group| group.owner.as_ref().is_some_and(|owner| self.fleets.contains(&owner.fleet));
        let is_over =
            |group: &&Group| group.owner.is_some() && !is_named(group) && group.targets.is_empty() && group.weight == 0;
        let there =
            |group: &Group, weight| Place { group: Whose::There(group.arn.clone()), weight, before: group.weight };
        let closes = self.weights.is_empty();
        let stay = state.groups.iter().filter(|group| !is_over(group));
        let weight = |group: &Group| match group.owner {
            None if closes => group.weight,
            _ => self.weight(group),
        };
        let mut places: Vec<Place> = stay.map(|group| there(group, weight(group))).collect();
        let is_ours = state.groups.iter().any(|group| group.owner.is_some());
        if closes && is_ours && places.iter().all(|place| place.weight == 0) {
            let original = Whose::There(state.original()?.to_owned());
            match places.iter_mut().find(|place| place.group == original) {
                Some(place) => place.weight = 1,
                None => places.push(Place { group: original, weight: 1, before: 0 }),
            }
        }
        for fleet in self.fleets.iter().filter(|fleet| state.group_of(fleet).is_none()) {
            let weight = self.weights.get(*fleet).copied().unwrap_or_default();
            places.push(Place { group: Whose::New((*fleet).clone()), weight, before: 0 });
        }
        while places.len() > MOST_GROUPS {
            let foreign = |place: &Place| {
                let of = |group: &&Group| place.group == Whose::There(group.arn.clone());
                state.groups.iter().find(of).is_some_and(|group| group.owner.is_none())
            };
            let spare = places.iter().rposition(|place| place.weight == 0 && place.before == 0 && foreign(place));
            let Some(spare) = spare else { break };
            places.remove(spare);
        }
        Some(places)
    }
}

/// Who is named and not in yet.
fn joining(state: &State, assignment: &Assignment) -> BTreeMap<FleetId, Vec<TargetDescription>> {
    let mut joining: BTreeMap<FleetId, Vec<TargetDescription>> = BTreeMap::new();
    for member in assignment.members.iter().filter(|member| health(state, member).is_none()) {
        let port = i32::from(member.endpoint.port());
        let target = TargetDescription::builder().id(member.instance.as_str()).port(port).build();
        joining.entry(member.fleet.clone()).or_default().push(target);
    }
    joining
}

/// Who is in and not named.
fn leaving(state: &State, assignment: &Assignment, places: &[Place]) -> Vec<Leaving> {
    let mut leaving = Vec::new();
    for group in &state.groups {
        let Some(owner) = &group.owner else { continue };
        let named: Vec<_> = assignment.members.iter().filter(|member| member.fleet == owner.fleet).collect();
        let unnamed = group.registered().filter(|target| !named.iter().any(|member| target.is(member)));
        let targets: Vec<_> = unnamed.map(|target| target.description.clone()).collect();
        if !targets.is_empty() {
            let place = places.iter().find(|place| place.group == Whose::There(group.arn.clone()));
            let later = group.weight > 0 && place.is_none_or(|place| place.weight == 0);
            leaving.push(Leaving { group: group.arn.clone(), targets, later });
        }
    }
    leaving
}

/// What the balancer thinks of one who is in.
fn health(state: &State, member: &MemberTarget) -> Option<MemberHealth> {
    let mut registered = state.group_of(&member.fleet)?.registered();
    registered.find(|target| target.is(member)).map(|target| target.health)
}

/// A fleet that is to have traffic while some of its members are still being looked at and none is good.
///
/// When all that are in are bad, there is nothing to wait for: then the balancer sends requests to all of them.
fn unready(state: &State, assignment: &Assignment, weights: &BTreeMap<&FleetId, u32>) -> Option<FleetId> {
    let waits = |fleet: &FleetId| {
        let members = assignment.members.iter().filter(|member| member.fleet == *fleet);
        let looks: Vec<_> = members.map(|member| health(state, member)).collect();
        let is_good = |look: &Option<MemberHealth>| matches!(look, Some(MemberHealth::Healthy | MemberHealth::Untold));
        let is_open = |look: &Option<MemberHealth>| matches!(look, None | Some(MemberHealth::Registering));
        !looks.iter().any(is_good) && looks.iter().any(is_open)
    };
    weights.keys().find(|fleet| waits(fleet)).map(|fleet| (*fleet).clone())
}
