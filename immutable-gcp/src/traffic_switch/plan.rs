//! What one call has to do so that a route becomes what it is to be. Nothing is asked or changed in here.

use std::collections::{BTreeMap, BTreeSet};

use immutable_core::model::{FleetId, Weight};
use immutable_core::provider::{Assignment, ErrorKind, MemberTarget, ProviderError};

use super::members::is_unready;
use super::state::{Service, State};
use crate::endpoint_groups::{EndpointGroup, Listed, name};

/// The largest weight of a backend service, which is also what all of them sum to here, so that one is a tenth of a percent; the
/// smallest is 0. <https://docs.cloud.google.com/compute/docs/reference/rest/v1/urlMaps>
pub(super) const LARGEST: u32 = 1000;

/// What has to be done.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// Where the route is to lead, in this order.
    pub(super) places: Vec<Place>,
    /// Who is to come, by the groups of the fleets that have theirs.
    pub(super) joining: Vec<(EndpointGroup, Vec<&'a MemberTarget>)>,
    /// The zones in which a fleet has members to come and no group yet.
    pub(super) zones: BTreeMap<FleetId, BTreeSet<String>>,
    /// Who is to go when the weights are in use: until then, its fleet may have more traffic than the others of it can carry.
    pub(super) leaving: Vec<&'a Listed>,
    /// A fleet that is to have traffic, and of whose members none can take it yet.
    pub(super) unready: Option<FleetId>,
}

/// A backend service that the route is to lead to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) service: Whose,
    /// What it is to have, and what it has.
    pub(super) weight: u32,
    pub(super) before: u32,
}

/// A backend service that is there, by its link, or the one that is to be made for a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    There(String),
    New(FleetId),
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        state: &'a State,
        assignment: &'a Assignment,
        operation: &'static str,
    ) -> Result<Self, ProviderError> {
        let refuse =
            |message: String| Err(ProviderError::new(ErrorKind::InvalidRequest, operation, message).without_effect());
        let route = &state.route.id;
        if state.services.is_empty() {
            return refuse(format!("{route} leads to no backend service: let it lead to one first"));
        }
        if let Some(bucket) = state.services.iter().find(|service| service.url.contains("/backendBuckets/")) {
            return refuse(format!(
                "{route} leads to the bucket {}, which has no weight: let it lead to a backend service",
                name(&bucket.url)
            ));
        }
        let wanted = Wanted::new(state, assignment);
        let Some(places) = wanted.places(state) else {
            return refuse(format!("where {route} led before is not known, and it cannot be closed"));
        };
        let mut plan = Self {
            places,
            joining: Vec::new(),
            zones: BTreeMap::new(),
            leaving: Vec::new(),
            unready: wanted
                .weights
                .keys()
                .find(|fleet| is_unready(assignment, fleet, state.of(fleet).map(|ours| &ours.members)))
                .map(|fleet| (*fleet).clone()),
        };
        for service in &state.services {
            let Some(ours) = &service.ours else { continue };
            plan.joining.extend(ours.members.joining(assignment));
            let zones = ours.members.zones_without_group(assignment);
            if !zones.is_empty() {
                plan.zones.insert(ours.members.fleet.clone(), zones);
            }
            plan.leaving.extend(ours.members.leaving(assignment));
        }
        Ok(plan)
    }

    /// The fleets that have no backend service yet.
    pub(super) fn new_fleets(&self) -> impl Iterator<Item = &FleetId> {
        self.places.iter().filter_map(|place| match &place.service {
            Whose::New(fleet) => Some(fleet),
            Whose::There(_) => None,
        })
    }

    /// Whether this call moves traffic.
    pub(super) fn moves(&self) -> bool {
        self.places.iter().any(|place| place.weight != place.before)
    }

    /// Whether this call changes anything, or only waits.
    pub(super) fn has_work(&self, state: &State) -> bool {
        self.new_fleets().next().is_some()
            || !(self.joining.is_empty() && self.zones.is_empty())
            || (self.unready.is_none() && self.rewrites(state))
            || (self.unready.is_none() && !self.leaving.is_empty())
    }

    /// Whether the weights are others than there are.
    pub(super) fn rewrites(&self, state: &State) -> bool {
        match (&state.services[..], &self.places[..]) {
            // What the only one weighs, if anything, is all the same.
            ([_], [place]) => (place.before > 0) != (place.weight > 0),
            _ => self.moves(),
        }
    }
}

/// The weights that are to be, by the fleets and by the names of backend services of somebody else's.
struct Wanted<'a> {
    weights: BTreeMap<&'a FleetId, u32>,
    /// The fleets that have members or traffic, and a backend service or need one.
    fleets: BTreeSet<&'a FleetId>,
}

impl<'a> Wanted<'a> {
    fn new(state: &State, assignment: &'a Assignment) -> Self {
        let (fleets, weights): (Vec<&FleetId>, Vec<Weight>) = assignment.split.iter().unzip();
        let weights: BTreeMap<_, _> = fleets.into_iter().zip(Weight::to_parts(&weights, LARGEST)).collect();
        let mut fleets: BTreeSet<&FleetId> = assignment.members.iter().map(|member| &member.fleet).collect();
        let is_foreign = |fleet: &FleetId| {
            let same_name = |service: &Service| service.ours.is_none() && name(&service.url) == fleet.as_str();
            state.of(fleet).is_none() && state.services.iter().any(same_name)
        };
        fleets.extend(weights.keys().filter(|fleet| !is_foreign(fleet)));
        Self { weights, fleets }
    }

    /// The backend services in their order, new ones last; `None` when the route is to be closed and nobody knows where it led before.
    ///
    /// What is there stays, without traffic: it is still checked and can take traffic again, and goes when its fleet is removed.
    fn places(&self, state: &State) -> Option<Vec<Place>> {
        let closes = self.weights.is_empty();
        let weight = |service: &Service| match service.ours {
            None if closes => service.weight,
            _ => service.fleet().ok().and_then(|fleet| self.weights.get(&fleet).copied()).unwrap_or_default(),
        };
        let there = |service: &Service| Place {
            service: Whose::There(service.url.clone()),
            weight: weight(service),
            before: service.weight,
        };
        let mut places: Vec<Place> = state.services.iter().map(there).collect();
        if closes && places.iter().all(|place| place.weight == 0) {
            let original = state.original()?;
            match state.services.iter().position(|service| service.is(original)) {
                Some(index) => places[index].weight = LARGEST,
                None => places.push(Place { service: Whose::There(original.to_owned()), weight: LARGEST, before: 0 }),
            }
        }
        for fleet in self.fleets.iter().filter(|fleet| state.of(fleet).is_none()) {
            let weight = self.weights.get(*fleet).copied().unwrap_or_default();
            places.push(Place { service: Whose::New((*fleet).clone()), weight, before: 0 });
        }
        Some(places)
    }
}
