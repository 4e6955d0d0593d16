//! Network endpoint groups, and who is in them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{backend_services, machines, unknown};
use crate::call::Call;
use crate::failure::{Failure, OperationError};
use crate::world::{Change, Row, World, link, name};

const COLLECTION: &str = "networkEndpointGroups";

/// The most endpoints in a request.
const MOST: usize = 500;

/// Who is in which group, by its path.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(BTreeMap<String, Vec<Endpoint>>);

/// An endpoint that is in a group, or on the way out.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The path of its machine, and its number: another machine of the same name is not the same.
    pub(super) machine: String,
    pub(super) id: Value,
    address: String,
    port: Option<u64>,
    since: Duration,
    pub(super) drains_until: Option<Duration>,
}

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "insert" => insert(world, call),
        "get" => world.find(&target(call)).cloned(),
        "list" => world.list(call, &format!("{}/{COLLECTION}", call.scope()), "compute#networkEndpointGroupList"),
        "aggregatedList" => world.list_all(call, COLLECTION, "compute#networkEndpointGroupAggregatedList"),
        "delete" => delete(world, call),
        "attachNetworkEndpoints" => attach(world, call),
        "detachNetworkEndpoints" => detach(world, call),
        "listNetworkEndpoints" => list(world, call),
        _ => unknown(world, call),
    }
}

fn target(call: &Call) -> String {
    call.target(COLLECTION, "networkEndpointGroup")
}

fn insert(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.inserted(COLLECTION);
    if world.get(&path).is_some() {
        return Err(Failure::already_exists(&path));
    }
    let mut group = call.body.clone();
    if group.get("networkEndpointType").is_none() {
        return Err(Failure::invalid("resource.networkEndpointType", "", "Required."));
    }
    if group["networkEndpointType"] == "GCE_VM_IP" && group.get("defaultPort").is_some() {
        return Err(Failure::invalid("resource.defaultPort", "", "Not for GCE_VM_IP."));
    }
    for (field, permission) in [("network", "compute.networks.use"), ("subnetwork", "compute.subnetworks.use")] {
        if let Some(url) = group[field].as_str() {
            let whole = world.path_of(url);
            world.require(permission, &whole)?;
            group[field] = link(&whole).into();
        }
    }
    group["size"] = 0.into();
    let target = path.clone();
    world.operate(
        call,
        Change::new("insert", &path).later(move |world| {
            world.create(&target, group);
            Ok(())
        }),
    )
}

fn delete(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = target(call);
    world.find(&path)?;
    if let Some(user) = world.user_of(&path, &["backendServices"]) {
        return Err(Failure::in_use(&path, user));
    }
    let target = path.clone();
    world.operate(
        call,
        Change::new("delete", &path).later(move |world| {
            if let Some(user) = world.user_of(&target, &["backendServices"]) {
                return Err(Failure::in_use(&target, user).into());
            }
            world.endpoints.0.remove(&target);
            world.remove(&target);
            Ok(())
        }),
    )
}

/// The endpoints that a request names, each as it is to be in the group.
fn named(world: &World, call: &Call) -> Result<Vec<Endpoint>, Failure> {
    let group = world.find(&target(call))?;
    let named = call.body["networkEndpoints"].as_array().cloned().unwrap_or_default();
    let field = "resource.networkEndpoints";
    if named.is_empty() || named.len() > MOST {
        return Err(Failure::invalid(field, &named.len().to_string(), "From 1 to 500 endpoints."));
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for one in named {
        let machine = one["instance"].as_str().unwrap_or_default();
        let machine = if machine.contains('/') {
            world.path_of(machine)
        } else {
            format!("{}/instances/{machine}", call.scope())
        };
        if !machine.starts_with(&format!("{}/", call.scope())) {
            return Err(Failure::invalid(field, &machine, "The instance must be in the zone of the group."));
        }
        let port = one["port"].as_u64().or(group["defaultPort"].as_u64());
        if (group["networkEndpointType"] == "GCE_VM_IP_PORT") != port.is_some() {
            return Err(Failure::invalid(field, &machine, "A port is needed, or must not be."));
        }
        let found = world.get(&machine);
        let known = found.and_then(|found| found["networkInterfaces"][0]["networkIP"].as_str());
        let address = one["ipAddress"].as_str().or(known).unwrap_or_default().to_owned();
        let id = found.map(|found| found["id"].clone()).unwrap_or_default();
        if endpoints.iter().any(|other| other.address == address) {
            return Err(Failure::invalid(field, &address, "Duplicate network endpoints in request."));
        }
        endpoints.push(Endpoint { machine, id, address, port, since: Duration::ZERO, drains_until: None });
    }
    Ok(endpoints)
}

fn attach(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let (path, endpoints) = (target(call), named(world, call)?);
    for endpoint in &endpoints {
        let machine = world.find(&endpoint.machine)?;
        if machine["networkInterfaces"][0]["networkIP"] != endpoint.address.as_str() {
            let why = "The address does not belong to the instance.";
            return Err(Failure::invalid("resource.networkEndpoints", &endpoint.address, why));
        }
        world.require("compute.instances.use", &endpoint.machine)?;
    }
    let target = path.clone();
    world.operate(
        call,
        Change::new("attachNetworkEndpoints", &path).later(move |world| {
            let now = world.now();
            for endpoint in endpoints {
                world.find(&endpoint.machine)?;
                let there = world.endpoints.0.entry(target.clone()).or_default();
                match there.iter_mut().find(|there| is_same(there, &endpoint)) {
                    Some(there) => there.drains_until = None,
                    None => there.push(Endpoint { since: now, ..endpoint }),
                }
            }
            Ok(())
        }),
    )
}

fn detach(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let (path, endpoints) = (target(call), named(world, call)?);
    let there = |world: &World, endpoint: &Endpoint| {
        let known = world.endpoints.0.get(&path).into_iter().flatten();
        known.filter(|known| known.drains_until.is_none()).any(|known| is_same(known, endpoint))
    };
    if let Some(unknown) = endpoints.iter().find(|endpoint| !there(world, endpoint)) {
        return Err(Failure::invalid("resource.networkEndpoints", &unknown.address, "It is not in the group."));
    }
    let target = path.clone();
    world.operate(
        call,
        Change::new("detachNetworkEndpoints", &path).later(move |world| {
            let until = world.now() + draining(world, &target);
            for known in world.endpoints.0.get_mut(&target).into_iter().flatten() {
                if endpoints.iter().any(|endpoint| is_same(known, endpoint)) {
                    known.drains_until.get_or_insert(until);
                }
            }
            Ok::<(), OperationError>(())
        }),
    )
}

fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    (&one.machine, &one.address, one.port) == (&other.machine, &other.address, other.port)
}

/// How long the endpoints of a group are drained: as long as the backend services say that use it.
fn draining(world: &World, group: &str) -> Duration {
    let seconds = users(world, group)
        .into_iter()
        .filter_map(|service| world.get(&service)?["connectionDraining"]["drainingTimeoutSec"].as_u64());
    world.options.second * u32::try_from(seconds.max().unwrap_or_default()).unwrap_or(u32::MAX)
}

/// The backend services that use a group, and that a balancer uses.
fn users(world: &World, group: &str) -> Vec<String> {
    let services = world.below(&format!("{}/", world.project()));
    let services = services.filter(|(path, _)| path.contains("/backendServices/"));
    let services = services.filter(|(_, service)| {
        let mut backends = service["backends"].as_array().into_iter().flatten();
        backends.any(|backend| world.path_of(backend["group"].as_str().unwrap_or_default()) == group)
    });
    services.map(|(path, _)| path.clone()).filter(|path| backend_services::is_used(world, path)).collect()
}

fn list(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = target(call);
    world.find(&path)?;
    let users = users(world, &path);
    let shows = call.body["healthStatus"] == "SHOW";
    let row = |endpoint: &Endpoint| {
        let mut told = json!({ "instance": link(&endpoint.machine), "ipAddress": endpoint.address });
        if let Some(port) = endpoint.port {
            told["port"] = port.into();
        }
        let mut row = json!({ "networkEndpoint": told });
        if shows && !users.is_empty() {
            let state = state(world, endpoint);
            let health =
                |user: &String| json!({ "backendService": { "backendService": link(user) }, "healthState": state });
            row["healths"] = users.iter().map(health).collect();
        }
        (format!("{} {:?}", endpoint.machine, endpoint.port), row)
    };
    let rows: Vec<Row> = world.endpoints.0.get(&path).into_iter().flatten().map(row).collect();
    let (rows, next) = world.page(call, rows)?;
    let mut answer = json!({
        "kind": "compute#networkEndpointGroupsListNetworkEndpoints",
        "id": name(&path),
        "items": rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(),
    });
    if let Some(next) = next {
        answer["nextPageToken"] = next.into();
    }
    Ok(answer)
}

/// What the balancer thinks of an endpoint.
fn state(world: &World, endpoint: &Endpoint) -> &'static str {
    let runs = machines::status(world, &endpoint.machine) == Some("RUNNING");
    let well = runs && !machines::is_ill(world, &endpoint.machine);
    match endpoint.drains_until {
        Some(_) => "DRAINING",
        None if world.now() < endpoint.since + world.options.health_time => "UNKNOWN",
        None if well => "HEALTHY",
        None => "UNHEALTHY",
    }
}

/// What `getHealth` tells of a group: machine, address, port and state of those who have been looked at.
pub(super) fn healths(world: &World, service: &str, group: &str) -> Vec<(String, String, Option<u64>, &'static str)> {
    if !backend_services::is_used(world, service) {
        return Vec::new();
    }
    let endpoints = world.endpoints.0.get(group).into_iter().flatten();
    let told = endpoints
        .map(|endpoint| (endpoint.machine.clone(), endpoint.address.clone(), endpoint.port, state(world, endpoint)));
    told.filter(|(.., state)| matches!(*state, "HEALTHY" | "UNHEALTHY")).collect()
}

/// The endpoints that new requests go to: the healthy ones, or all when none is.
pub(super) fn in_use(world: &World, service: &str) -> Vec<Endpoint> {
    let backends = world.get(service).and_then(|service| service["backends"].as_array()).into_iter().flatten();
    let groups = backends.filter_map(|backend| Some(world.path_of(backend["group"].as_str()?)));
    let endpoints: Vec<Endpoint> = groups
        .flat_map(|group| world.endpoints.0.get(&group).cloned().unwrap_or_default())
        .filter(|endpoint| endpoint.drains_until.is_none())
        .collect();
    let healthy: Vec<Endpoint> =
        endpoints.iter().filter(|endpoint| state(world, endpoint) == "HEALTHY").cloned().collect();
    if healthy.is_empty() { endpoints } else { healthy }
}

/// Whether a machine is still in some group, be it on the way out.
pub(super) fn is_known(world: &World, machine: &str, id: &Value) -> bool {
    let mut all = world.endpoints.0.values().flatten();
    all.any(|endpoint| endpoint.machine == machine && endpoint.id == *id)
}

/// Who is drained goes, and so does who has no machine any more.
pub(super) fn settle(world: &mut World) {
    let now = world.now();
    let groups: Vec<String> = world.endpoints.0.keys().cloned().collect();
    for group in groups {
        let endpoints = world.endpoints.0.get(&group).cloned().unwrap_or_default();
        let before = endpoints.len();
        let stays = |endpoint: &Endpoint| {
            let same = world.get(&endpoint.machine).is_some_and(|machine| machine["id"] == endpoint.id);
            same && endpoint.drains_until.is_none_or(|until| now < until)
        };
        let stay: Vec<Endpoint> = endpoints.into_iter().filter(stays).collect();
        let size = stay.iter().filter(|endpoint| endpoint.drains_until.is_none()).count();
        if stay.len() != before || world.get(&group).is_some_and(|group| group["size"] != size) {
            world.show(&group, "size", size);
            world.endpoints.0.insert(group, stay);
        }
    }
}
