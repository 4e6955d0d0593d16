//! Backend services: what a balancer sends requests to, and how.

use serde_json::{Value, json};

use super::{endpoint_groups, unknown};
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{Change, World, link, merge};

const COLLECTION: &str = "backendServices";

/// Fields that only the server or another method writes.
const SERVERS: [&str; 4] = ["securityPolicy", "edgeSecurityPolicy", "usedBy", "region"];

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    let target = || call.target(COLLECTION, "backendService");
    match verb {
        "insert" => insert(world, call),
        "get" => world.find(&target()).cloned(),
        "list" => world.list(call, &format!("{}/{COLLECTION}", call.scope()), "compute#backendServiceList"),
        "aggregatedList" => world.list_all(call, COLLECTION, "compute#backendServiceAggregatedList"),
        "patch" | "update" => change(world, call, verb),
        "delete" => delete(world, call),
        "getHealth" => get_health(world, call),
        "setSecurityPolicy" => {
            let path = target();
            world.find(&path)?;
            let policy = call.body["securityPolicy"].clone();
            let kind = if path.contains("/regions/") { "regionSecurityPolicies" } else { "securityPolicies" };
            world.require(&format!("compute.{kind}.use"), policy.as_str().unwrap_or_default())?;
            let target = path.clone();
            world.operate(
                call,
                Change::new(verb, &path).later(move |world| {
                    world.update(&target, |service| service["securityPolicy"] = policy);
                    Ok(())
                }),
            )
        }
        _ => unknown(world, call),
    }
}

fn insert(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.inserted(COLLECTION);
    if world.get(&path).is_some() {
        return Err(Failure::already_exists(&path));
    }
    let mut service = call.body.clone();
    for field in SERVERS {
        service.as_object_mut().map(|fields| fields.remove(field));
    }
    check(world, &call.scope(), &service)?;
    for health_check in service["healthChecks"].as_array().into_iter().flatten() {
        let health_check = health_check.as_str().unwrap_or_default();
        let kind = if health_check.contains("/regions/") { "regionHealthChecks" } else { "healthChecks" };
        world.require(&format!("compute.{kind}.useReadOnly"), health_check)?;
    }
    permit(world, &service)?;
    let target = path.clone();
    world.operate(
        call,
        Change::new("insert", &path).later(move |world| {
            world.create(&target, service);
            Ok(())
        }),
    )
}

fn change(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "backendService");
    world.expect_fingerprint(&path, &call.body["fingerprint"])?;
    let before = world.find(&path)?.clone();
    let mut next = before.clone();
    if verb == "patch" {
        merge(&mut next, &call.body);
    } else {
        next = replaced(&before, &call.body);
    }
    for field in SERVERS {
        if let Some(value) = before.get(field) {
            next[field] = value.clone();
        }
    }
    check(world, &call.scope(), &next)?;
    if next["backends"] != before["backends"] {
        permit(world, &next)?;
    }
    write(world, call, &path, next)
}

/// Groups may be used only by who may use them.
fn permit(world: &World, service: &Value) -> Result<(), Failure> {
    for backend in service["backends"].as_array().into_iter().flatten() {
        let group = backend["group"].as_str().unwrap_or_default();
        let kind = if group.contains("/networkEndpointGroups/") { "networkEndpointGroups" } else { "instanceGroups" };
        world.require(&format!("compute.{kind}.use"), group)?;
    }
    Ok(())
}

/// A resource that is written as a whole, with what the server knows of it.
pub(super) fn replaced(before: &Value, body: &Value) -> Value {
    let mut next = body.clone();
    for field in ["kind", "id", "name", "creationTimestamp", "selfLink", "region"] {
        if let Some(value) = before.get(field) {
            next[field] = value.clone();
        }
    }
    next
}

/// Writes a resource, unless somebody else does in the meantime.
pub(super) fn write(world: &mut World, call: &Call, path: &str, next: Value) -> Result<Value, Failure> {
    let (given, target) = (call.body["fingerprint"].clone(), path.to_owned());
    let kind = call.name().1;
    world.operate(
        call,
        Change::new(kind, path).later(move |world| {
            world.expect_fingerprint(&target, &given)?;
            world.update(&target, |value| *value = next);
            Ok(())
        }),
    )
}

fn delete(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "backendService");
    world.find(&path)?;
    if let Some(user) = world.user_of(&path, &["urlMaps"]) {
        return Err(Failure::in_use(&path, user));
    }
    let target = path.clone();
    world.operate(
        call,
        Change::new("delete", &path).later(move |world| {
            if let Some(user) = world.user_of(&target, &["urlMaps"]) {
                return Err(Failure::in_use(&target, user).into());
            }
            world.remove(&target);
            Ok(())
        }),
    )
}

/// What Compute Engine says of a backend service that cannot be.
/// <https://docs.cloud.google.com/load-balancing/docs/backend-service>
fn check(world: &World, scope: &str, service: &Value) -> Result<(), Failure> {
    if service["description"].as_str().is_some_and(|text| text.len() > 2048) {
        return Err(Failure::invalid("resource.description", "", "It must have at most 2048 characters."));
    }
    let passthrough = is_passthrough(scope, service);
    let backends: Vec<&Value> = service["backends"].as_array().into_iter().flatten().collect();
    let is_group =
        |backend: &&Value| backend["group"].as_str().is_some_and(|group| group.contains("/networkEndpointGroups/"));
    if backends.iter().any(&is_group) && !backends.iter().all(&is_group) {
        let why = "Network endpoint groups and instance groups cannot be mixed.";
        return Err(Failure::invalid("resource.backends", "", why));
    }
    for (index, backend) in backends.iter().enumerate() {
        let field = format!("resource.backends[{index}]");
        let group = backend["group"].as_str().unwrap_or_default();
        if !group.starts_with("https://") {
            return Err(Failure::invalid(&format!("{field}.group"), group, "The URL is malformed."));
        }
        if backends[..index].iter().any(|other| other["group"] == backend["group"]) {
            return Err(Failure::invalid(&format!("{field}.group"), group, "Duplicate group."));
        }
        if is_group(backend) {
            let found = world.find(&world.path_of(group))?;
            check_group(&field, backend, found, passthrough)?;
        }
    }
    Ok(())
}

fn check_group(field: &str, backend: &Value, group: &Value, passthrough: bool) -> Result<(), Failure> {
    let kind = group["networkEndpointType"].as_str().unwrap_or_default();
    if passthrough != (kind == "GCE_VM_IP") {
        return Err(Failure::invalid(&format!("{field}.group"), kind, "The balancer does not support the type."));
    }
    let per_instance = ["maxRatePerInstance", "maxConnectionsPerInstance", "maxUtilization"];
    if let Some(wrong) = per_instance.iter().find(|wrong| backend.get(**wrong).is_some()) {
        return Err(Failure::invalid(&format!("{field}.{wrong}"), "", "Not for network endpoint groups."));
    }
    let mode = backend["balancingMode"].as_str().unwrap_or("UTILIZATION");
    let targets: &[&str] = match mode {
        "RATE" if !passthrough => &["maxRate", "maxRatePerEndpoint"],
        "CONNECTION" if passthrough => return Ok(()),
        "CONNECTION" => &["maxConnections", "maxConnectionsPerEndpoint"],
        _ => return Err(Failure::invalid(&format!("{field}.balancingMode"), mode, "Not for such groups.")),
    };
    if targets.iter().any(|target| backend.get(*target).is_some()) {
        return Ok(());
    }
    Err(Failure::invalid(field, mode, &format!("One of {} must be set.", targets.join(" and "))))
}

fn is_passthrough(scope: &str, service: &Value) -> bool {
    match service["loadBalancingScheme"].as_str() {
        Some("INTERNAL" | "EXTERNAL_PASSTHROUGH") => true,
        Some("EXTERNAL") | None => scope.contains("/regions/"),
        Some(_) => false,
    }
}

fn get_health(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "backendService");
    let group = world.path_of(call.body["group"].as_str().unwrap_or_default());
    let backends = world.find(&path)?["backends"].as_array().cloned().unwrap_or_default();
    if !backends.iter().any(|backend| world.path_of(backend["group"].as_str().unwrap_or_default()) == group) {
        return Err(Failure::invalid("resource.group", &group, "It is no backend of the backend service."));
    }
    let health: Vec<Value> = endpoint_groups::healths(world, &path, &group)
        .into_iter()
        .map(|(machine, address, port, state)| {
            let mut health = json!({ "instance": link(&machine), "ipAddress": address, "healthState": state });
            if let Some(port) = port {
                health["port"] = port.into();
            }
            health
        })
        .collect();
    let mut answer = json!({ "kind": "compute#backendServiceGroupHealth" });
    if !health.is_empty() {
        answer["healthStatus"] = health.into();
    }
    Ok(answer)
}

/// Whether a balancer uses a backend service: without a URL map, one of an Application Load Balancer is not looked at.
pub(super) fn is_used(world: &World, path: &str) -> bool {
    let protocol = world.get(path).and_then(|service| service["protocol"].as_str());
    matches!(protocol, Some("TCP" | "UDP" | "SSL" | "UNSPECIFIED")) || world.user_of(path, &["urlMaps"]).is_some()
}
