//! What the fake knows to do: a module for each kind of resource.

mod disks;
mod galleries;
pub(crate) mod machines;
pub(crate) mod monitor;
mod network;
mod operations;
pub(crate) mod requests;
pub(crate) mod run_commands;
mod scale_sets;
mod virtual_machines;

use std::collections::BTreeMap;

use serde_json::Value;

use self::network::{gateways, interfaces, load_balancers, traffic_manager};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::{METRICS, What, kind_of};
use crate::world::{World, key};

/// What is written and never shown again.
const SECRETS: [&str; 6] =
    ["adminPassword", "customData", "protectedParameters", "protectedSettings", "runAsPassword", "userData"];

/// Does what a call asks for.
pub(crate) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    if matches!(&call.route.what, What::Action(action) if action == METRICS) {
        return monitor::handle(world, call);
    }
    match call.kind() {
        "Microsoft.Compute/disks" => disks::handle(world, call),
        "Microsoft.Compute/galleries"
        | "Microsoft.Compute/galleries/images"
        | "Microsoft.Compute/galleries/images/versions" => galleries::handle(world, call),
        "Microsoft.Compute/virtualMachineScaleSets" => scale_sets::handle(world, call),
        "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces"
        | "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces" => {
            interfaces::handle_members(world, call)
        }
        "Microsoft.Compute/virtualMachineScaleSets/virtualMachines" => scale_sets::members::handle(world, call),
        "Microsoft.Compute/virtualMachines/runCommands" => run_commands::handle(world, call),
        "Microsoft.Compute/virtualMachines" => virtual_machines::handle(world, call),
        "Microsoft.Network/applicationGateways" => gateways::handle(world, call),
        "Microsoft.Network/loadBalancers" => load_balancers::handle(world, call),
        "Microsoft.Network/loadBalancers/backendAddressPools" => load_balancers::handle_pools(world, call),
        "Microsoft.Network/loadBalancers/loadBalancingRules" => load_balancers::handle_rules(world, call),
        "Microsoft.Network/networkInterfaces" => interfaces::handle(world, call),
        "Microsoft.Network/trafficManagerProfiles" => traffic_manager::handle(world, call),
        "Microsoft.Network/trafficManagerProfiles/azureEndpoints"
        | "Microsoft.Network/trafficManagerProfiles/externalEndpoints"
        | "Microsoft.Network/trafficManagerProfiles/nestedEndpoints" => traffic_manager::handle_endpoints(world, call),
        _ => operations::handle(world, call),
    }
}

/// Azure knows this method, the fake does not: a client that calls it cannot be tested with it.
fn unknown(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.violation(format!("{} of {}: the fake does not do this", call.operation, call.id()));
    Err(Failure::new(501, "NotImplemented", "The fake does not do this."))
}

/// Reads one resource.
fn read(world: &World, call: &Call) -> Result<Answer, Failure> {
    world.find(call.id()).map(|resource| Answer::ok(shown(resource)))
}

/// The resources of a call's type in its folder, which is a resource group, the subscription or another resource.
fn rows(world: &World, call: &Call) -> BTreeMap<String, Value> {
    let kind = call.kind();
    let folder = match (&call.route.what, &call.route.group) {
        (What::List, Some(_)) => format!("{}/", key(call.id())),
        _ => String::new(),
    };
    let rows = world.listed(|id| id.starts_with(&folder) && kind_of(id) == Some(kind));
    rows.into_iter().map(|(id, row)| (id, shown(&row))).collect()
}

/// Adds what the server says of the parts of a resource that a test places.
///
/// # Errors
/// Why it cannot be so.
pub(crate) fn complete(id: &str, resource: &mut Value) -> Result<(), Failure> {
    match kind_of(id) {
        Some("Microsoft.Network/applicationGateways") => gateways::complete(id, resource),
        Some("Microsoft.Network/loadBalancers") => load_balancers::complete(id, resource),
        Some(_) => Ok(()),
        None => Err(Failure::new(404, "InvalidResourceType", "The fake knows no such resource.")),
    }
}

/// What is to be seen of a resource.
fn shown(resource: &Value) -> Value {
    match resource {
        Value::Array(items) => items.iter().map(shown).collect(),
        Value::Object(fields) => {
            let open = fields.iter().filter(|(name, _)| !SECRETS.contains(&name.as_str()));
            open.map(|(name, field)| (name.clone(), shown(field))).collect()
        }
        other => other.clone(),
    }
}

/// The location of a new resource: that of the fake.
fn check_location(world: &World, body: &Value) -> Result<(), Failure> {
    let Some(location) = body["location"].as_str() else {
        let message = "The location property is required for this definition.";
        return Err(Failure::new(400, "LocationRequired", message));
    };
    // Names for people are taken as well: West Europe.
    if location.replace(' ', "").eq_ignore_ascii_case(&world.options.location) {
        return Ok(());
    }
    let message = format!("The provided location '{location}' is not available for resource type.");
    Err(Failure::new(400, "LocationNotAvailableForResourceType", message))
}
