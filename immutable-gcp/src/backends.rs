//! The backend services of fleets: one for each route of a URL map that a fleet is on, made like the one that the route led to before.

use std::collections::{BTreeMap, BTreeSet};

use google_cloud_compute_v1::model::backend::BalancingMode;
use google_cloud_compute_v1::model::backend_service::{LoadBalancingScheme, Protocol};
use google_cloud_compute_v1::model::network_endpoint_group::NetworkEndpointType;
use google_cloud_compute_v1::model::{Backend, BackendService, BackendServiceUsedBy, SecurityPolicyReference};
use immutable_core::model::{FleetId, RouteId, ServiceName};
use immutable_core::provider::{ErrorKind, OpContext, Progress, ProviderError};

use crate::endpoint_groups::{self, EndpointGroup, name, path};
use crate::error::unseen;
use crate::operation::{SOON, Scope};
use crate::ownership::{self, Record};
use crate::task::Task;
use crate::traffic_switch::{Claim, drop_groups, drop_service, short};
use crate::{Config, changes};

const REMOVE: &str = "remove fleet";

/// What the records of backend services and endpoint groups say beside whose they are: the route that they were made for, the backend
/// service that they were made like, and the last change of the route.
pub(crate) const ROUTE: &str = "route";
pub(crate) const LIKE: &str = "like";
pub(crate) const CLAIM: &str = "claim";

/// A target that no endpoint reaches, where the model has none for one: in one region, a target only divides requests between zones.
const AMPLE: i32 = 100_000_000;

/// Sends a request for a backend service, global or regional.
macro_rules! send {
    ($place:expr, $task:expr, $verb:ident, |$request:ident| $complete:expr) => {{
        let (clients, project) = (&$task.config.clients, &$task.config.project);
        match &$place.scope {
            Scope::Region(region) => {
                let $request = clients.region_backend_services.$verb().set_project(project).set_region(region);
                $complete.send().await
            }
            Scope::Global | Scope::Zone(_) => {
                let $request = clients.backend_services.$verb().set_project(project);
                $complete.send().await
            }
        }
    }};
}

/// A backend service, by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) scope: Scope,
    pub(crate) name: String,
}

impl Place {
    /// What a link, or the end of one, names; nothing, when it is no backend service.
    pub(crate) fn parse(link: &str) -> Option<Self> {
        let scope = match path(link).split('/').collect::<Vec<_>>()[..] {
            [.., "global", "backendServices", _] => Scope::Global,
            [.., "regions", region, "backendServices", _] => Scope::Region(region.to_owned()),
            _ => return None,
        };
        Some(Self { scope, name: name(link).to_owned() }).filter(|place| !place.name.is_empty())
    }

    /// Whether the name is like one of ours. The record says whether it is one.
    pub(crate) fn may_be_ours(&self) -> bool {
        self.name.starts_with(ownership::PREFIX)
    }

    /// Whether the balancers that use it send packets on as they are, and know no ports.
    pub(crate) fn is_passthrough(&self, service: &BackendService) -> bool {
        match service.load_balancing_scheme.as_ref().and_then(LoadBalancingScheme::name) {
            Some("INTERNAL" | "EXTERNAL_PASSTHROUGH") => true,
            Some("EXTERNAL") => self.scope != Scope::Global,
            _ => false,
        }
    }

    /// What a route is called that is this backend service.
    pub(crate) fn id(&self) -> String {
        match &self.scope {
            Scope::Region(region) => format!("regions/{region}/backendServices/{}", self.name),
            Scope::Global | Scope::Zone(_) => format!("global/backendServices/{}", self.name),
        }
    }

    fn target(&self) -> String {
        format!("backendServices/{}", self.name)
    }

    /// The backend service as it is now.
    pub(crate) async fn get(&self, task: &Task<'_>) -> Result<Option<BackendService>, ProviderError> {
        task.found(send!(self, task, get, |request| request.set_backend_service(&self.name)))
    }

    async fn insert(&self, task: &Task<'_>, body: BackendService) -> Result<Progress<()>, ProviderError> {
        let step = format!("make {}", short(&body));
        let change = task.change(&self.scope, self.target(), &step);
        changes::send(vec![(change, body)], move |body, id| async move {
            send!(self, task, insert, |request| request.set_body(body).set_request_id(id))
        })
        .await
    }

    /// Changes what the body names, if nobody has changed anything since it was read.
    pub(crate) async fn patch(&self, task: &Task<'_>, body: BackendService) -> Result<Progress<()>, ProviderError> {
        let step = format!("change {}", short(&body));
        let change = task.change(&self.scope, self.target(), &step);
        changes::send(vec![(change, body)], move |body, id| async move {
            send!(self, task, patch, |request| request
                .set_backend_service(&self.name)
                .set_body(body)
                .set_request_id(id))
        })
        .await
    }

    /// Writes the whole, if nobody has changed anything since it was read: the only way to leave a list empty.
    pub(crate) async fn update(&self, task: &Task<'_>, body: BackendService) -> Result<Progress<()>, ProviderError> {
        let step = format!("write {}", short(&body));
        let change = task.change(&self.scope, self.target(), &step);
        changes::send(vec![(change, body)], move |body, id| async move {
            send!(self, task, update, |request| request
                .set_backend_service(&self.name)
                .set_body(body)
                .set_request_id(id))
        })
        .await
    }

    async fn delete(&self, task: &Task<'_>) -> Result<Progress<()>, ProviderError> {
        let change = task.change(&self.scope, self.target(), "delete");
        changes::send(vec![(change, ())], move |(), id| async move {
            send!(self, task, delete, |request| request.set_backend_service(&self.name).set_request_id(id))
        })
        .await
        .or_else(endpoint_groups::gone)
    }

    /// Gives it the security policy of its model: a request that was refused there is to be refused here.
    async fn protect(&self, task: &Task<'_>, policy: &str) -> Result<Progress<()>, ProviderError> {
        let step = format!("protect {policy}");
        let change = task.change(&self.scope, self.target(), &step);
        let body = SecurityPolicyReference::new().set_security_policy(policy);
        changes::send(vec![(change, body)], move |body, id| async move {
            send!(self, task, set_security_policy, |request| request
                .set_backend_service(&self.name)
                .set_body(body)
                .set_request_id(id))
        })
        .await
    }
}

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
                return Ok(Made::Not(soon("endpoint groups")));
            }
        }
        let backends: Vec<_> = groups.iter().map(|group| backend(task, &place, &model, group)).collect();
        let body = like(model).set_name(&place.name).set_description(new.record(task).description());
        let made = place.insert(task, body.set_backends(backends)).await?;
        return Ok(Made::Not(if made == Progress::Done(()) { soon("a backend service") } else { made }));
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
        return Ok(Made::Not(if done == Progress::Done(()) { soon("a security policy") } else { done }));
    }
    if known.get(CLAIM) != Some(&new.claim.to_string()) {
        let done = write_claim(task, &place, &found, known, new.claim).await?;
        return Ok(Made::Not(if done == Progress::Done(()) { soon("a record") } else { done }));
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

pub(crate) fn soon(what: &str) -> Progress<()> {
    Progress::Pending { retry_after: SOON, note: format!("{what} to be there") }
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
    let mut like = model.set_backends([Backend::new(); 0]).set_used_by([BackendServiceUsedBy::new(); 0]);
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
        backend.description = None;
        return backend;
    }
    let backend = Backend::new().set_group(link);
    let first = model.backends.first();
    if place.is_passthrough(model) {
        return backend.set_balancing_mode(BalancingMode::Connection);
    }
    // Endpoint groups know neither UTILIZATION nor targets per instance, and without a target they are refused:
    // https://docs.cloud.google.com/load-balancing/docs/backend-service#balancing-mode-combos
    match model.protocol {
        Some(Protocol::Tcp | Protocol::Ssl) => {
            let target = first.and_then(|first| first.max_connections_per_instance);
            backend
                .set_balancing_mode(BalancingMode::Connection)
                .set_max_connections_per_endpoint(target.unwrap_or(AMPLE))
        }
        _ => {
            let target = first.and_then(|first| first.max_rate_per_instance);
            #[expect(clippy::cast_precision_loss, reason = "the number has few digits that are not 0")]
            let target = target.unwrap_or(AMPLE as f32);
            backend.set_balancing_mode(BalancingMode::Rate).set_max_rate_per_endpoint(target)
        }
    }
}

/// Removes what a fleet without instances has on routes, from the routes first. None is left when it is done.
///
/// # Errors
/// `Conflict` when something of it still has traffic, or is used by something else.
pub(crate) async fn remove(
    config: &Config,
    cx: &OpContext,
    service: &ServiceName,
    fleet: &FleetId,
) -> Result<Progress<()>, ProviderError> {
    let task = &Task::new(config, REMOVE, cx);
    let (mut progress, mut used) = (Progress::Done(()), BTreeSet::new());
    for (place, found, record) in of_fleet(task, fleet).await? {
        if record.service != service.as_str() {
            continue;
        }
        used.extend(found.backends.iter().filter_map(|backend| EndpointGroup::parse(backend.group.as_deref()?)));
        let link = found.self_link.unwrap_or_default();
        let step = match drop_service(task, record.get(ROUTE).unwrap_or_default(), &link).await? {
            Progress::Done(()) => place.delete(task).await?,
            pending => pending,
        };
        progress = if step == Progress::Done(()) { soon("the end of a backend service") } else { step };
    }
    let groups = endpoint_groups::of_fleet(task, fleet).await?;
    let groups =
        groups.into_iter().filter(|(group, record)| record.service == service.as_str() && !used.contains(group));
    let mut by_route: BTreeMap<String, Vec<EndpointGroup>> = BTreeMap::new();
    for (group, record) in groups {
        by_route.entry(record.get(ROUTE).unwrap_or_default().to_owned()).or_default().push(group);
    }
    for (route, groups) in by_route {
        let step = match drop_groups(task, &route, &groups).await? {
            Progress::Done(()) => endpoint_groups::delete(task, &groups).await?,
            pending => pending,
        };
        progress = if step == Progress::Done(()) { soon("the end of endpoint groups") } else { step };
    }
    Ok(progress)
}

/// The backend services of a fleet, global and regional ones. They are found by their names and known by their records.
async fn of_fleet(task: &Task<'_>, fleet: &FleetId) -> Result<Vec<(Place, BackendService, Record)>, ProviderError> {
    let (mut services, mut token) = (Vec::new(), None);
    loop {
        let request = task.config.clients.backend_services.aggregated_list().set_project(&task.config.project);
        let request = request.set_filter(ownership::names_on_routes(fleet)).set_or_clear_page_token(token);
        let answer = request.send().await.map_err(|error| unseen(task.operation, error))?;
        for found in answer.items.into_values().flat_map(|scope| scope.backend_services) {
            let record = Record::read(found.description.as_deref()).filter(|record| record.fleet == fleet.as_str());
            let place = found.self_link.as_deref().and_then(Place::parse);
            services.extend(place.zip(record).map(|(place, record)| (place, found, record)));
        }
        token = answer.next_page_token.filter(|token| !token.is_empty());
        if token.is_none() {
            services.sort_by(|one, other| (&one.0.scope, &one.0.name).cmp(&(&other.0.scope, &other.0.name)));
            return Ok(services);
        }
    }
}
