//! Making the backend service of a fleet, like the one that the route led to before.

use std::collections::{BTreeMap, BTreeSet};

use google_cloud_compute_v1::model::backend::BalancingMode;
use google_cloud_compute_v1::model::backend_service::{LoadBalancingScheme, Protocol};
use google_cloud_compute_v1::model::network_endpoint_group::NetworkEndpointType;
use google_cloud_compute_v1::model::{Backend, BackendService};
use immutable_core::model::{FleetId, RouteId};
use immutable_core::provider::{ErrorKind, Progress, ProviderError};

use super::{CLAIM, LIKE, Place, ROUTE};
use crate::changes::until_seen;
use crate::endpoint_groups::{self, EndpointGroup, name};
use crate::operation::Scope;
use crate::ownership::{self, Record};
use crate::task::Task;
use crate::traffic_switch::Claim;

/// A target that no endpoint reaches, where the model has none for one: in one region, a target only divides requests between zones.
const AMPLE: i32 = 100_000_000;

/// A backend service that is to be.
#[derive(Debug)]
pub(crate) struct New<'a> {
    pub(crate) route: &'a RouteId,
    pub(crate) scope: &'a Scope,
    pub(crate) fleet: &'a FleetId,
    /// Where the route led before it led to anything of ours.
    pub(crate) like: &'a str,
    pub(crate) claim: &'a Claim,
    /// Where the first members are.
    pub(crate) zones: BTreeSet<&'a str>,
}

impl New<'_> {
    fn record(&self, task: &Task<'_>) -> Record {
        record(task, self.fleet, self.route).with(LIKE, self.like).with(CLAIM, self.claim.to_string())
    }
}

/// The record of what a fleet has on a route.
pub(crate) fn record(task: &Task<'_>, fleet: &FleetId, route: &RouteId) -> Record {
    // The service is the first part of a fleet's name; the second is its release.
    let service = fleet.as_str().rsplit_once('-').map_or(fleet.as_str(), |(service, _)| service);
    let record = Record {
        service: service.to_owned(),
        fleet: fleet.to_string(),
        rollout: task.rollout.map(ToString::to_string).unwrap_or_default(),
        more: BTreeMap::new(),
    };
    record.with(ROUTE, route.as_str())
}

/// A backend service of ours, by its link, or what is still to be waited for.
#[derive(Debug)]
pub(crate) enum Made {
    There(String),
    Not(Progress<()>),
}

/// Finds the backend service or makes it, like its model: the first of these that is there. What is done in part is found
/// by its name, and the rest is done.
pub(crate) async fn ensure(task: &Task<'_>, new: &New<'_>, models: &[&str]) -> Result<Made, ProviderError> {
    let place = Place { scope: new.scope.clone(), name: ownership::name_on(new.route, new.fleet) };
    let model = model(task, new, models).await?;
    let Some(found) = place.get(task).await? else {
        let zones = task.config.launch.location.zones().iter().map(String::as_str);
        let zones: BTreeSet<&str> = zones.chain(new.zones.iter().copied()).collect();
        let groups: Vec<_> = zones.into_iter().map(|zone| EndpointGroup::new(zone, &place.name)).collect();
        let kind = endpoint_type(&place, &model);
        let made = endpoint_groups::ensure(task, &groups, &kind, &record(task, new.fleet, new.route)).await?;
        if let waits @ Progress::Pending { .. } = made {
            return Ok(Made::Not(waits));
        }
        // That all are there is seen once more before they are named.
        for group in &groups {
            if endpoint_groups::get(task, group).await?.is_none() {
                return Ok(Made::Not(until_seen(Progress::Done(()), "endpoint groups")));
            }
        }
        let backends: Vec<_> = groups.iter().map(|group| backend(task, &place, &model, group)).collect();
        let body = like(model).set_name(&place.name).set_description(new.record(task).description());
        let made = place.insert(task, body.set_backends(backends)).await?;
        return Ok(Made::Not(until_seen(made, "a backend service")));
    };
    let known = Record::read(found.description.as_deref());
    let is_ours = |known: &Record| known.fleet == new.fleet.as_str() && known.get(ROUTE) == Some(new.route.as_str());
    let Some(known) = known.filter(is_ours) else {
        let message = format!(
            "{} has the name that the backend service of fleet {} is to have: remove it",
            place.name, new.fleet
        );
        return Err(ProviderError::new(ErrorKind::Conflict, task.operation, message).without_effect());
    };
    if let Some(policy) = model.security_policy.filter(|policy| found.security_policy.as_ref() != Some(policy)) {
        let done = place.protect(task, &policy).await?;
        return Ok(Made::Not(until_seen(done, "a security policy")));
    }
    if known.get(CLAIM) != Some(&new.claim.to_string()) {
        let done = write_claim(task, &place, &found, known, new.claim).await?;
        return Ok(Made::Not(until_seen(done, "a record")));
    }
    found.self_link.map(Made::There).ok_or_else(|| {
        ProviderError::new(ErrorKind::Internal, task.operation, format!("{} has no link of its own", place.name))
            .without_effect()
    })
}

/// Writes a claim into the record of a backend service of ours, if nobody has changed it since it was read.
pub(crate) async fn write_claim(
    task: &Task<'_>,
    place: &Place,
    found: &BackendService,
    record: Record,
    claim: &Claim,
) -> Result<Progress<()>, ProviderError> {
    let description = record.with(CLAIM, claim.to_string()).description();
    let body = BackendService::new().set_description(description);
    place.patch(task, body.set_or_clear_fingerprint(found.fingerprint.clone())).await
}

/// Adds groups in more zones to a backend service of ours.
pub(crate) async fn widen(
    task: &Task<'_>,
    found: &BackendService,
    groups: &[EndpointGroup],
    record: &Record,
) -> Result<Progress<()>, ProviderError> {
    let place = found.self_link.as_deref().and_then(Place::parse).ok_or_else(|| {
        ProviderError::new(ErrorKind::Internal, task.operation, "a backend service has no link of its own")
    })?;
    let made = endpoint_groups::ensure(task, groups, &endpoint_type(&place, found), record).await?;
    if made != Progress::Done(()) {
        return Ok(made);
    }
    let new = groups.iter().map(|group| backend(task, &place, found, group));
    let body = BackendService::new().set_backends(found.backends.iter().cloned().chain(new));
    place.patch(task, body.set_or_clear_fingerprint(found.fingerprint.clone())).await
}

/// The type of endpoints that a backend service can have.
pub(crate) fn endpoint_type(place: &Place, service: &BackendService) -> NetworkEndpointType {
    if place.is_passthrough(service) { NetworkEndpointType::GceVmIp } else { NetworkEndpointType::GceVmIpPort }
}

/// The model, if a new backend service can be made like it.
async fn model(task: &Task<'_>, new: &New<'_>, models: &[&str]) -> Result<BackendService, ProviderError> {
    let refuse = |why: String| Err(ProviderError::new(ErrorKind::InvalidRequest, task.operation, why).without_effect());
    let mut found = None;
    for url in models {
        let Some(place) = Place::parse(url).filter(|place| place.scope == *new.scope) else { continue };
        found = place.get(task).await?;
        if found.is_some() {
            break;
        }
    }
    let (route, name) = (new.route, name(new.like));
    let Some(model) = found else {
        return refuse(format!(
            "{name}, which new backend services are made like, is gone: let {route} lead to another"
        ));
    };
    match why_not(&model) {
        None => Ok(model),
        Some(why) => refuse(format!("no backend service can be made like {name} of {route}: {why}")),
    }
}

/// Why a backend service cannot be copied so that its copy serves the same requests in the same way.
fn why_not(model: &BackendService) -> Option<&'static str> {
    let keys = model.cdn_policy.as_ref().is_some_and(|policy| !policy.signed_url_key_names.is_empty());
    if model.load_balancing_scheme == Some(LoadBalancingScheme::External) {
        // https://docs.cloud.google.com/load-balancing/docs/features#routing-traffic-management
        Some("classic balancers have no weights: migrate it to EXTERNAL_MANAGED")
    } else if model.iap.as_ref().is_some_and(|iap| iap.enabled == Some(true)) {
        Some("the grants and the secret of Identity-Aware Proxy are not told, and would be lost")
    } else if model.edge_security_policy.is_some() {
        Some("it has an edge security policy, which is not copied")
    } else if keys {
        Some("its keys for signed URLs are not told, and would be lost")
    } else {
        None
    }
}

/// A backend service with all the settings of its model, without what only that one has.
#[expect(deprecated, reason = "what is old is still told, and not to be copied")]
fn like(model: BackendService) -> BackendService {
    let mut like = model;
    like.backends.clear();
    like.used_by.clear();
    like.id = None;
    like.kind = None;
    like.self_link = None;
    like.creation_timestamp = None;
    like.fingerprint = None;
    like.region = None;
    like.security_policy = None;
    like.iap = None;
    like.external_managed_migration_state = None;
    like.external_managed_migration_testing_percentage = None;
    // Endpoints say their ports themselves.
    like.port = None;
    like.port_name = None;
    like
}

/// A group as a backend, balanced as those of the model are.
pub(crate) fn backend(task: &Task<'_>, place: &Place, model: &BackendService, group: &EndpointGroup) -> Backend {
    let link = group.link(&task.config.project);
    let is_group =
        |backend: &&Backend| backend.group.as_deref().is_some_and(|link| EndpointGroup::parse(link).is_some());
    if let Some(same) = model.backends.iter().find(is_group) {
        let mut backend = same.clone().set_group(link);
        // How far the model is drained, and whether it is a spare, is its own affair.
        (backend.description, backend.capacity_scaler, backend.failover) = (None, None, None);
        return backend;
    }
    let backend = Backend::new().set_group(link);
    let first = model.backends.first();
    if place.is_passthrough(model) {
        return backend.set_balancing_mode(BalancingMode::Connection);
    }
    // Endpoint groups know neither UTILIZATION nor targets per instance, and without a target they are refused:
    // https://docs.cloud.google.com/load-balancing/docs/backend-service#balancing-mode-combos
    if matches!(model.protocol, Some(Protocol::Tcp | Protocol::Ssl)) {
        let target = first.and_then(|first| first.max_connections_per_instance).unwrap_or(AMPLE);
        backend.set_balancing_mode(BalancingMode::Connection).set_max_connections_per_endpoint(target)
    } else {
        #[expect(clippy::cast_precision_loss, reason = "the number has few digits that are not 0")]
        let target = first.and_then(|first| first.max_rate_per_instance).unwrap_or(AMPLE as f32);
        backend.set_balancing_mode(BalancingMode::Rate).set_max_rate_per_endpoint(target)
    }
}
