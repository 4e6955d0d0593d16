//! Network endpoint groups: where the members of a fleet on a route are written down, one group in each zone.
//!
//! Members are endpoints, and not a managed group as a whole, because a rolling replacement takes single instances out. Application and
//! proxy balancers take groups of the type `GCE_VM_IP_PORT`, passthrough network balancers those of the type `GCE_VM_IP`, which have no
//! ports: <https://docs.cloud.google.com/load-balancing/docs/negs/zonal-neg-concepts>. An endpoint that is detached is drained for as long as the
//! backend service says (<https://docs.cloud.google.com/load-balancing/docs/enabling-connection-draining>) and is listed as `DRAINING` until then
//! (<https://docs.cloud.google.com/compute/docs/reference/rest/v1/networkEndpointGroups/listNetworkEndpoints>).

use std::collections::{BTreeMap, BTreeSet};

use google_cloud_compute_v1::model::{
    self, NetworkEndpointGroupsAttachEndpointsRequest, NetworkEndpointGroupsDetachEndpointsRequest,
    NetworkEndpointGroupsListEndpointsRequest, NetworkEndpointWithHealthStatus,
};
use immutable_core::model::{Fingerprint, FleetId, InstanceId};
use immutable_core::provider::{Effect, ErrorKind, MemberHealth, MemberTarget, Progress, ProviderError};
use model::health_status_for_network_endpoint::HealthState;
use model::network_endpoint_group::NetworkEndpointType;

use crate::changes;
use crate::error::{reached, unseen};
use crate::operation::{Change, Scope};
use crate::ownership::{self, Record};
use crate::task::Task;

/// The most endpoints that are attached or detached with one request.
/// <https://docs.cloud.google.com/load-balancing/docs/negs/zonal-neg-concepts>
const BATCH: usize = 500;

/// What links begin with. Backends have to be named by their whole links.
const LINK: &str = "https://www.googleapis.com/compute/v1/";

const COLLECTION: &str = "networkEndpointGroups";

/// The part of a link that says which thing it is, without the host, which may be any of several.
pub(crate) fn path(link: &str) -> &str {
    link.find("projects/").map_or(link, |start| &link[start..])
}

/// The last part of a link.
pub(crate) fn name(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or(link)
}

/// A group, by its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndpointGroup {
    pub(crate) zone: String,
    pub(crate) name: String,
    scope: Scope,
}

impl EndpointGroup {
    pub(crate) fn new(zone: &str, name: &str) -> Self {
        Self { zone: zone.to_owned(), name: name.to_owned(), scope: Scope::Zone(zone.to_owned()) }
    }

    /// What a link names; nothing, when it is no zonal group of endpoints.
    pub(crate) fn parse(link: &str) -> Option<Self> {
        match path(link).split('/').collect::<Vec<_>>()[..] {
            [.., "zones", zone, COLLECTION, name] => Some(Self::new(zone, name)),
            _ => None,
        }
    }

    pub(crate) fn link(&self, project: &str) -> String {
        format!("{LINK}projects/{project}/zones/{}/{COLLECTION}/{}", self.zone, self.name)
    }

    fn change<'a>(&'a self, task: &Task<'a>, step: &'a str) -> Change<'a> {
        task.change(&self.scope, format!("{COLLECTION}/{}", self.name), step)
    }
}

/// Makes the groups that are not there yet.
pub(crate) async fn ensure(
    task: &Task<'_>,
    groups: &[EndpointGroup],
    kind: &NetworkEndpointType,
    record: &Record,
) -> Result<Progress<()>, ProviderError> {
    let mut missing = Vec::new();
    for group in groups {
        match get(task, group).await? {
            Some(found) => owned(task, group, &found, record)?,
            None => missing.push((group.change(task, "make"), group)),
        }
    }
    let launch = &task.config.launch;
    let whole = |network: &String| match network.split_once('/') {
        None => format!("projects/{}/global/networks/{network}", task.config.project),
        Some(("regions", _)) => format!("projects/{}/{network}", task.config.project),
        Some(_) => network.clone(),
    };
    let network = launch.network.clone().unwrap_or_else(|| "default".to_owned());
    changes::send_all(missing, |group: &EndpointGroup, id| {
        let body = model::NetworkEndpointGroup::new()
            .set_name(&group.name)
            .set_description(record.description())
            .set_network_endpoint_type(kind.clone())
            .set_network(whole(&network))
            .set_or_clear_subnetwork(launch.subnetwork.as_ref().map(whole));
        let request = task.config.clients.network_endpoint_groups.insert().set_project(&task.config.project);
        request.set_zone(&group.zone).set_body(body).set_request_id(id).send()
    })
    .await
}

/// A group of the same name that is not ours may be anything.
fn owned(
    task: &Task<'_>,
    group: &EndpointGroup,
    found: &model::NetworkEndpointGroup,
    wanted: &Record,
) -> Result<(), ProviderError> {
    let record = Record::read(found.description.as_deref());
    if record.is_some_and(|record| record.fleet == wanted.fleet && record.get("route") == wanted.get("route")) {
        return Ok(());
    }
    let message = format!(
        "the endpoint group {} in {} has the name that one of fleet {} is to have: remove it",
        group.name, group.zone, wanted.fleet
    );
    Err(ProviderError::new(ErrorKind::Conflict, task.operation, message).without_effect())
}

pub(crate) async fn get(
    task: &Task<'_>,
    group: &EndpointGroup,
) -> Result<Option<model::NetworkEndpointGroup>, ProviderError> {
    let request = task.config.clients.network_endpoint_groups.get().set_project(&task.config.project);
    task.found(request.set_zone(&group.zone).set_network_endpoint_group(&group.name).send().await)
}

/// The groups of a fleet, with their records, in all zones. They are found by their names and known by their records.
pub(crate) async fn of_fleet(task: &Task<'_>, fleet: &FleetId) -> Result<Vec<(EndpointGroup, Record)>, ProviderError> {
    let (mut groups, mut token) = (Vec::new(), None);
    loop {
        let request = task.config.clients.network_endpoint_groups.aggregated_list();
        let request = request.set_project(&task.config.project).set_filter(ownership::names_on_routes(fleet));
        let answer = request.set_or_clear_page_token(token).send().await;
        let answer = answer.map_err(|error| unseen(task.operation, error))?;
        reached!(task.operation, answer.items, &answer.unreachables)?;
        for found in answer.items.into_values().flat_map(|zone| zone.network_endpoint_groups) {
            let record = Record::read(found.description.as_deref()).filter(|record| record.fleet == fleet.as_str());
            let group = found.self_link.as_deref().and_then(EndpointGroup::parse);
            groups.extend(group.zip(record));
        }
        token = answer.next_page_token.filter(|token| !token.is_empty());
        if token.is_none() {
            groups.sort_by(|(one, _), (other, _)| one.cmp(other));
            return Ok(groups);
        }
    }
}

/// Deletes groups that nothing uses.
pub(crate) async fn delete(task: &Task<'_>, groups: &[EndpointGroup]) -> Result<Progress<()>, ProviderError> {
    let changes = groups.iter().map(|group| (group.change(task, "delete"), group)).collect();
    changes::send_all(changes, |group: &EndpointGroup, id| {
        let request = task.config.clients.network_endpoint_groups.delete().set_project(&task.config.project);
        request.set_zone(&group.zone).set_network_endpoint_group(&group.name).set_request_id(id).send()
    })
    .await
    .or_else(changes::gone)
}

/// An endpoint that is in a group, or on the way out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub(crate) group: EndpointGroup,
    pub(crate) endpoint: model::NetworkEndpoint,
    pub(crate) health: MemberHealth,
    /// As the provider names it: `<zone>/<name>/<number>`, or without the number when there is no such machine.
    pub(crate) instance: InstanceId,
}

impl Listed {
    fn machine(&self) -> &str {
        name(self.endpoint.instance.as_deref().unwrap_or_default())
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.health != MemberHealth::Draining
    }

    /// Whether it is this member. A list of machines may lag behind: a machine that is not in it yet is known by its name and address.
    pub(crate) fn is(&self, member: &MemberTarget) -> bool {
        let (zone, machine) = machine(&member.instance);
        let same_place = (zone, machine) == (self.group.zone.as_str(), self.machine());
        let address = self.endpoint.ip_address.as_deref();
        let is_unknown = self.instance.as_str().matches('/').count() < 2;
        self.instance == member.instance || (same_place && is_unknown && address == Some(member.endpoint.host()))
    }

    /// Where it is, as a text for versions.
    pub(crate) fn place(&self) -> String {
        let (address, port) = (self.endpoint.ip_address.as_deref().unwrap_or_default(), self.endpoint.port);
        format!("{} {} {} {address} {port:?}", self.group.zone, self.group.name, self.machine())
    }
}

/// The zone and the name in the id of an instance.
fn machine(instance: &InstanceId) -> (&str, &str) {
    let mut parts = instance.as_str().split('/');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The zone that an instance is in.
pub(crate) fn zone(instance: &InstanceId) -> &str {
    machine(instance).0
}

/// Who is in these groups, and who is on the way out. `judged`: whether the backend service has a health check.
pub(crate) async fn list(
    task: &Task<'_>,
    groups: &[EndpointGroup],
    machines: &Machines,
    (service, judged): (&str, bool),
) -> Result<Vec<Listed>, ProviderError> {
    let show = model::network_endpoint_groups_list_endpoints_request::HealthStatus::Show;
    let mut listed = Vec::new();
    for group in groups {
        let mut token = None;
        loop {
            let body = NetworkEndpointGroupsListEndpointsRequest::new().set_health_status(show.clone());
            let request = task.config.clients.network_endpoint_groups.list_network_endpoints();
            let request = request.set_project(&task.config.project).set_zone(&group.zone);
            let request = request.set_network_endpoint_group(&group.name).set_or_clear_page_token(token);
            let Some(answer) = task.found(request.set_body(body).send().await)? else { break };
            for found in answer.items {
                let health = health(&found, service, judged);
                let Some(endpoint) = found.network_endpoint else { continue };
                let instance = machines.id(&group.zone, &endpoint).map_err(|error| {
                    ProviderError::new(ErrorKind::Internal, task.operation, error.to_string()).without_effect()
                })?;
                listed.push(Listed { group: group.clone(), endpoint, health, instance });
            }
            token = answer.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
    }
    Ok(listed)
}

/// What is told of an endpoint for a backend service. What is not looked at yet, or has a state that is not known yet, is no reason to hope.
fn health(found: &NetworkEndpointWithHealthStatus, service: &str, judged: bool) -> MemberHealth {
    let of_service = found.healths.iter().filter(|health| {
        let of = health.backend_service.as_ref().and_then(|of| of.backend_service.as_deref());
        of.is_none_or(|of| path(of) == path(service))
    });
    let states: Vec<_> = of_service.filter_map(|health| health.health_state.as_ref()).collect();
    let any = |state| states.contains(&&state);
    match judged {
        _ if any(HealthState::Draining) => MemberHealth::Draining,
        false => MemberHealth::Untold,
        _ if any(HealthState::Healthy) => MemberHealth::Healthy,
        _ if any(HealthState::Unhealthy) => MemberHealth::Unhealthy,
        _ => MemberHealth::Registering,
    }
}

/// Puts in those who are to be in, and takes out those who are to be out: as many of each group as one request takes.
/// Done when nothing is left to send; who has been sent for is seen in the list.
pub(crate) async fn attach(
    task: &Task<'_>,
    joining: &[(EndpointGroup, Vec<&MemberTarget>)],
    kind: &NetworkEndpointType,
) -> Result<Progress<()>, ProviderError> {
    let endpoint = |member: &&MemberTarget| {
        let endpoint = model::NetworkEndpoint::new()
            .set_instance(machine(&member.instance).1)
            .set_ip_address(member.endpoint.host());
        match kind {
            NetworkEndpointType::GceVmIp => endpoint,
            _ => endpoint.set_port(i32::from(member.endpoint.port())),
        }
    };
    let batches = joining.iter().map(|(group, members)| (group, members.iter().take(BATCH).map(endpoint).collect()));
    let batches: Vec<Batch<'_>> = batches.collect();
    let steps = steps("attach", &batches);
    let changes = batches.into_iter().zip(&steps).map(|(batch, step)| (batch.0.change(task, step), batch)).collect();
    changes::send_all(changes, |(group, endpoints): Batch<'_>, id| {
        let body = NetworkEndpointGroupsAttachEndpointsRequest::new().set_network_endpoints(endpoints);
        let request = task.config.clients.network_endpoint_groups.attach_network_endpoints();
        let request = request.set_project(&task.config.project).set_zone(&group.zone);
        request.set_network_endpoint_group(&group.name).set_body(body).set_request_id(id).send()
    })
    .await
    .map(|progress| changes::until_seen(progress, "members that come"))
    .map_err(|error| look_again(task, error))
}

/// Takes endpoints out. The balancer sends them nothing new, and lets them finish what they have.
pub(crate) async fn detach(task: &Task<'_>, leaving: &[&Listed]) -> Result<Progress<()>, ProviderError> {
    let mut by_group: BTreeMap<&EndpointGroup, Vec<model::NetworkEndpoint>> = BTreeMap::new();
    for listed in leaving {
        let endpoints = by_group.entry(&listed.group).or_default();
        if endpoints.len() < BATCH {
            endpoints.push(listed.endpoint.clone());
        }
    }
    let batches: Vec<Batch<'_>> = by_group.into_iter().collect();
    let steps = steps("detach", &batches);
    let changes = batches.into_iter().zip(&steps).map(|(batch, step)| (batch.0.change(task, step), batch)).collect();
    changes::send_all(changes, |(group, endpoints): Batch<'_>, id| {
        let body = NetworkEndpointGroupsDetachEndpointsRequest::new().set_network_endpoints(endpoints);
        let request = task.config.clients.network_endpoint_groups.detach_network_endpoints();
        let request = request.set_project(&task.config.project).set_zone(&group.zone);
        request.set_network_endpoint_group(&group.name).set_body(body).set_request_id(id).send()
    })
    .await
    .map(|progress| changes::until_seen(progress, "members that leave"))
    .map_err(|error| look_again(task, error))
}

/// One machine that is gone, or another one under its name, makes Compute Engine refuse all of a request. The next look no longer names it.
fn look_again(task: &Task<'_>, error: ProviderError) -> ProviderError {
    if error.kind() != ErrorKind::InvalidRequest {
        return error;
    }
    let again = ProviderError::new(ErrorKind::Conflict, task.operation, error.to_string());
    let again = if error.effect() == Effect::None { again.without_effect() } else { again };
    again.with_source(error)
}

/// The endpoints of one request.
type Batch<'a> = (&'a EndpointGroup, Vec<model::NetworkEndpoint>);

/// Names of the steps that say what is sent: a request id is good for one content only.
fn steps(verb: &str, batches: &[Batch<'_>]) -> Vec<String> {
    let content = |endpoints: &Vec<model::NetworkEndpoint>| {
        let names = endpoints.iter().map(|endpoint| format!("{:?} {:?}\n", endpoint.instance, endpoint.ip_address));
        Fingerprint::of(names.collect::<Vec<_>>().concat()).short()
    };
    batches.iter().map(|(_, endpoints)| format!("{verb} {}", content(endpoints))).collect()
}

/// The machines of some services by zone and name: endpoints do not tell the numbers of theirs, and a machine that is made again has the
/// name of the one before it.
#[derive(Debug, Default)]
pub(crate) struct Machines(BTreeMap<(String, String), (u64, Option<String>)>);

impl Machines {
    pub(crate) async fn of(task: &Task<'_>, services: &BTreeSet<&str>) -> Result<Self, ProviderError> {
        let mut machines = BTreeMap::new();
        for service in services {
            let filter = format!("labels.{}={}", ownership::SERVICE, ownership::label(service));
            let mut token = None;
            loop {
                let request = task.config.clients.instances.aggregated_list().set_project(&task.config.project);
                let answer = request.set_filter(&filter).set_or_clear_page_token(token).send().await;
                let answer = answer.map_err(|error| unseen(task.operation, error))?;
                reached!(task.operation, answer.items, &answer.unreachables)?;
                reached!(task.operation, answer.items, &answer.unreachables)?;
                for found in answer.items.into_values().flat_map(|zone| zone.instances) {
                    let zone = found.zone.as_deref().map(name).unwrap_or_default().to_owned();
                    let address = found.network_interfaces.into_iter().find_map(|interface| interface.network_ip);
                    let (Some(machine), Some(id)) = (found.name, found.id) else { continue };
                    machines.insert((zone, machine), (id, address));
                }
                token = answer.next_page_token.filter(|token| !token.is_empty());
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(Self(machines))
    }

    fn id(
        &self,
        zone: &str,
        endpoint: &model::NetworkEndpoint,
    ) -> Result<InstanceId, immutable_core::model::NameError> {
        let machine = name(endpoint.instance.as_deref().unwrap_or_default());
        let known = self.0.get(&(zone.to_owned(), machine.to_owned()));
        // With another address it is the endpoint of a machine that was there before.
        let same = |address: &Option<String>| {
            address.is_none() || endpoint.ip_address.is_none() || *address == endpoint.ip_address
        };
        match known.filter(|(_, address)| same(address)) {
            Some((id, _)) => InstanceId::new(format!("{zone}/{machine}/{id}")),
            None => InstanceId::new(format!("{zone}/{machine}")),
        }
    }
}
