//! What a route does now, read from the load balancer and from nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use google_cloud_compute_v1::model::{BackendService, UrlMap};
use immutable_core::model::{FleetId, NameError, Split, SplitError, Weight};
use immutable_core::provider::{Member, ProviderError};

use super::claim::{Claim, Version};
use super::members::Members;
use super::route::Route;
use crate::backends::{self, Place};
use crate::endpoint_groups::{self, EndpointGroup, Machines, name, path};
use crate::ownership::{self, Record};
use crate::task::Task;

/// A route as it was read.
#[derive(Debug)]
pub(super) struct State {
    pub(super) route: Route,
    pub(super) map: UrlMap,
    /// The backend services that it leads to, in their order.
    pub(super) services: Vec<Service>,
    pub(super) claim: Claim,
}

/// A backend service that a route leads to.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) url: String,
    pub(super) weight: u32,
    /// Of one that was made for this route. Any other is somebody else's.
    pub(super) ours: Option<Ours>,
}

/// A backend service that was made for this route.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) found: BackendService,
    pub(super) record: Record,
    pub(super) members: Members,
}

impl State {
    /// Reads all of it: the URL map, our backend services, and the members of each.
    pub(super) async fn read(task: &Task<'_>, route: &Route) -> Result<Self, ProviderError> {
        let map = route.read(task).await?;
        let mut found = Vec::new();
        for (url, weight) in route.forwards(&map) {
            let ours = match Place::parse(&url).filter(Place::may_be_ours) {
                Some(place) => place.get(task).await?.and_then(|service| owned(service, route)),
                None => None,
            };
            found.push((url, weight, ours));
        }
        let services: BTreeSet<&str> =
            found.iter().filter_map(|(.., ours)| Some(ours.as_ref()?.1.service.as_str())).collect();
        let machines = Machines::of(task, &services).await?;
        let claims = found.iter().filter_map(|(.., ours)| Some(claim(&ours.as_ref()?.1)));
        let claim = claims.max().unwrap_or_default();
        let mut services = Vec::new();
        for (url, weight, ours) in found {
            let ours = match ours {
                Some((found, record, fleet)) => {
                    let groups = groups(&found);
                    let is_judged = !found.health_checks.is_empty();
                    let listed = endpoint_groups::list(task, &groups, &machines, (&url, is_judged)).await?;
                    Some(Ours { found, record, members: Members { fleet, groups, listed } })
                }
                None => None,
            };
            services.push(Service { url, weight, ours });
        }
        Ok(Self { route: route.clone(), map, services, claim })
    }

    /// Changes with every change of the route, also by hand. What the balancer thinks of a member is no change, and neither is one of
    /// another route in the same URL map.
    pub(super) fn version(&self) -> Version {
        let places = self.ours().flat_map(|ours| ours.members.places()).collect::<Vec<_>>().join("\n");
        let rest = format!("{}\n{places}", self.route.text(&self.map));
        Version::of(&self.claim, &self.route.traffic(&self.map), &rest)
    }

    pub(super) fn ours(&self) -> impl Iterator<Item = &Ours> {
        self.services.iter().filter_map(|service| service.ours.as_ref())
    }

    /// Whether no backend service of ours has traffic. Then the route is closed, wherever else it leads.
    pub(super) fn is_closed(&self) -> bool {
        !self.services.iter().any(|service| service.ours.is_some() && service.weight > 0)
    }

    /// The shares of the fleets. A backend service of somebody else's that has traffic beside them counts as a fleet of its name.
    pub(super) fn split(&self) -> Result<Split, SplitOrName> {
        if self.is_closed() {
            return Ok(Split::closed());
        }
        let weights: Vec<u32> = self.services.iter().map(|service| service.weight).collect();
        let mut shares: BTreeMap<FleetId, u16> = BTreeMap::new();
        for (service, weight) in self.services.iter().zip(Weight::from_parts(&weights)) {
            if !weight.is_none() {
                *shares.entry(service.fleet()?).or_default() += weight.points();
            }
        }
        let shares = shares.into_iter().map(|(fleet, points)| Ok((fleet, Weight::basis_points(points)?)));
        Ok(Split::new(shares.collect::<Result<Vec<_>, SplitError>>()?)?)
    }

    /// Every member of what is ours, draining ones included.
    pub(super) fn members(&self) -> Vec<Member> {
        self.ours().flat_map(|ours| ours.members.all()).collect()
    }

    /// What a fleet has here.
    pub(super) fn of(&self, fleet: &FleetId) -> Option<&Ours> {
        self.ours().find(|ours| ours.members.fleet == *fleet)
    }

    /// The one of ours that everybody who has read the same finds: where claims are written.
    pub(super) fn holder(&self) -> Option<&Ours> {
        self.ours().min_by_key(|ours| ours.found.name.clone())
    }

    /// Where the route led before it led to anything of ours, and leads to again when it is closed.
    pub(super) fn original(&self) -> Option<&str> {
        let known = self.ours().find_map(|ours| ours.record.get(backends::LIKE));
        let foreign = self.services.iter().filter(|service| service.ours.is_none());
        known.or_else(|| foreign.rev().max_by_key(|service| service.weight).map(|service| service.url.as_str()))
    }
}

impl Service {
    /// The fleet, or for a backend service of somebody else's its name.
    pub(super) fn fleet(&self) -> Result<FleetId, NameError> {
        let name = || FleetId::new(name(&self.url));
        self.ours.as_ref().map_or_else(name, |ours| Ok(ours.members.fleet.clone()))
    }

    pub(super) fn is(&self, url: &str) -> bool {
        path(&self.url) == path(url)
    }
}

/// Why a split could not be read; neither is ever seen as long as weights and names are what the API says they are.
#[derive(Debug, thiserror::Error)]
pub(super) enum SplitOrName {
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The claim in the record of a backend service.
pub(super) fn claim(record: &Record) -> Claim {
    record.get(backends::CLAIM).map(Claim::read).unwrap_or_default()
}

/// The groups that a backend service sends requests to.
pub(super) fn groups(service: &BackendService) -> Vec<EndpointGroup> {
    service.backends.iter().filter_map(|backend| EndpointGroup::parse(backend.group.as_deref()?)).collect()
}

/// The record and the fleet of a backend service that was made for this route.
fn owned(service: BackendService, route: &Route) -> Option<(BackendService, Record, FleetId)> {
    let record = Record::read(service.description.as_deref())?;
    let fleet: FleetId = record.fleet.parse().ok()?;
    let is_ours = record.get(backends::ROUTE) == Some(route.id.as_str())
        && service.name.as_deref() == Some(&ownership::name_on(&route.id, &fleet));
    is_ours.then_some((service, record, fleet))
}
