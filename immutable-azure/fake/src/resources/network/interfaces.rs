//! Network interfaces: where machines have their addresses.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::resources::{read, rows, shown, unknown};
use crate::route::{What, kind_of};
use crate::world::{Outcome, World, key};

/// Interfaces that are resources of their own.
pub(in crate::resources) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => read(world, call),
        ("GET", What::List) => Ok(world.page(call, rows(world, call))),
        ("DELETE", What::Resource) => delete(world, call),
        _ => unknown(world, call),
    }
}

fn delete(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.check_conditions(call, call.id())?;
    let Some(interface) = world.get(call.id()) else { return Ok(Answer::nothing()) };
    if let Some(owner) = interface["properties"]["virtualMachine"]["id"].as_str() {
        let message = format!("Network Interface {} is used by existing resource {owner}.", call.id());
        return Err(Failure::new(400, "NicInUse", message));
    }
    if world.machines.reserved.contains(&key(call.id())) {
        let message = "Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please provide another nic(s) or \
                       retry after 180 seconds.";
        return Err(Failure::new(400, "NicReservedForAnotherVm", message));
    }
    world.set_state(call.id(), "Deleting");
    let operation = world.operate(call, |_| Ok(Outcome::Done(Value::Null)));
    Ok(world.accepted(call, &operation))
}

/// Interfaces of the members of a uniform scale set: all of them, or those of one member.
pub(in crate::resources) fn handle_members(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    if call.verb != "GET" || call.route.what != What::List {
        return unknown(world, call);
    }
    let owner = call.id().rsplit_once('/').map_or(call.id(), |(owner, _)| owner);
    world.find(owner)?;
    let folder = format!("{}/", key(owner));
    let inside =
        |id: &str| id.starts_with(&folder) && kind_of(id).is_some_and(|kind| kind.ends_with("/networkInterfaces"));
    let rows = world.listed(inside).into_iter().map(|(id, row)| (id, shown(&row))).collect();
    Ok(world.page(call, rows))
}

/// Makes the interfaces of a new machine, and gives back what the machine says of them. `folder`: where they are.
/// `unless_said`: what happens to them when the machine is deleted, `Delete` or `Detach`, if their configurations do not say.
pub(in crate::resources) fn make(
    world: &mut World,
    machine: &str,
    folder: &str,
    configurations: &Value,
    unless_said: &str,
) -> Value {
    let mut references = Vec::new();
    for configuration in configurations.as_array().into_iter().flatten() {
        let name = configuration["name"].as_str().unwrap_or("nic");
        // Those of members of a flexible set are beside those of others.
        let id = if folder.contains("/Microsoft.Network/") {
            format!("{folder}/{name}-{:08x}", world.serial())
        } else {
            format!("{folder}/{name}")
        };
        let wanted = &configuration["properties"];
        let primary =
            wanted["primary"].as_bool().unwrap_or(configurations.as_array().is_some_and(|all| all.len() == 1));
        let addresses: Vec<Value> =
            wanted["ipConfigurations"].as_array().into_iter().flatten().map(|one| address(world, &id, one)).collect();
        let mut properties = json!({
            "provisioningState": "Succeeded",
            "primary": primary,
            "ipConfigurations": addresses,
            "virtualMachine": { "id": machine },
        });
        for field in ["networkSecurityGroup", "enableAcceleratedNetworking"] {
            if let Some(value) = wanted.get(field) {
                properties[field] = value.clone();
            }
        }
        let mut interface = json!({ "properties": properties });
        if folder.contains("/Microsoft.Network/") {
            interface["location"] = world.options.location.as_str().into();
        }
        world.create(&id, interface);
        let option = wanted["deleteOption"].as_str().unwrap_or(unless_said);
        references.push(json!({ "id": id, "properties": { "primary": primary, "deleteOption": option } }));
    }
    references.into()
}

/// Leaves the interfaces of a machine behind that could not be made. Nobody can have them or delete them for a while.
pub(in crate::resources) fn reserve(world: &mut World, references: &Value) {
    for id in references.as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()) {
        detach(world, id);
        let own = key(id);
        world.machines.reserved.insert(own.clone());
        world.after(world.options.reserve_time, move |world| {
            world.machines.reserved.remove(&own);
        });
    }
}

fn detach(world: &mut World, id: &str) {
    world.update(id, |interface| {
        if let Some(properties) = interface["properties"].as_object_mut() {
            properties.remove("virtualMachine");
        }
    });
}

fn address(world: &mut World, interface: &str, wanted: &Value) -> Value {
    let name = wanted["name"].as_str().unwrap_or("ipconfig");
    let [.., c, d] = world.serial().to_be_bytes();
    let mut properties = json!({
        "provisioningState": "Succeeded",
        "privateIPAddress": format!("10.1.{c}.{d}"),
        "privateIPAllocationMethod": "Dynamic",
        "privateIPAddressVersion": "IPv4",
        "primary": wanted["properties"]["primary"].as_bool().unwrap_or(true),
    });
    for field in [
        "applicationGatewayBackendAddressPools",
        "applicationSecurityGroups",
        "loadBalancerBackendAddressPools",
        "subnet",
    ] {
        if let Some(value) = wanted["properties"].get(field) {
            properties[field] = value.clone();
        }
    }
    let id = format!("{interface}/ipConfigurations/{name}");
    if wanted["properties"]["publicIPAddressConfiguration"].is_object() {
        properties["publicIPAddress"] = json!({ "id": format!("{id}/publicIPAddresses/{name}") });
    }
    json!({ "id": id, "name": name, "properties": properties })
}

/// Takes away the interfaces of a machine that is gone, those that are to go with it.
pub(in crate::resources) fn remove(world: &mut World, machine: &Value) {
    for interface in machine["properties"]["networkProfile"]["networkInterfaces"].as_array().into_iter().flatten() {
        let id = interface["id"].as_str().unwrap_or_default();
        if interface["properties"]["deleteOption"] == "Delete" {
            world.remove(id);
        } else {
            detach(world, id);
        }
    }
}

/// The id of the machine that has an address.
pub(in crate::resources) fn machine_at(world: &World, address: &str) -> Option<String> {
    let all = world.below("");
    let mut interfaces =
        all.iter().filter(|(id, _)| id.contains("/networkinterfaces/")).map(|(_, interface)| interface);
    let found = interfaces.find(|interface| {
        let mut own = interface["properties"]["ipConfigurations"].as_array().into_iter().flatten();
        own.any(|one| one["properties"]["privateIPAddress"] == address)
    });
    found?["properties"]["virtualMachine"]["id"].as_str().map(str::to_owned)
}
