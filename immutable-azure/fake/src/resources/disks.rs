//! Managed disks, as machines bring them along and leave them behind.

use serde_json::{Value, json};

use super::{read, rows, unknown};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::{What, name_of};
use crate::world::{Outcome, World};

pub(super) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => read(world, call),
        ("GET", What::List) => Ok(world.page(call, rows(world, call))),
        ("DELETE", What::Resource) => delete(world, call),
        _ => unknown(world, call),
    }
}

fn delete(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let Some(disk) = world.get(call.id()) else { return Ok(Answer::nothing()) };
    if let Some(owner) = disk["managedBy"].as_str() {
        let message = format!("Disk {} is attached to VM {owner}.", name_of(call.id()));
        return Err(Failure::new(409, "OperationNotAllowed", message));
    }
    world.set_state(call.id(), "Deleting");
    let operation = world.operate(call, |_| Ok(Outcome::Done(Value::Null)));
    Ok(world.accepted(call, &operation))
}

/// Makes the disk that a new machine boots from, and says so in what the machine shows.
pub(super) fn make(world: &mut World, machine: &str, body: &mut Value) {
    let storage = &mut body["properties"]["storageProfile"];
    let name = storage["osDisk"]["name"].as_str().map(str::to_owned);
    let name = name.unwrap_or_else(|| format!("{}_OsDisk_1", name_of(machine)));
    let providers = machine.split("/providers/").next().unwrap_or_default();
    let id = format!("{providers}/providers/Microsoft.Compute/disks/{name}");
    let kind = storage["osDisk"]["managedDisk"]["storageAccountType"].as_str().unwrap_or("Standard_LRS").to_owned();
    let mut source = json!({ "createOption": "FromImage" });
    if let Some(image) = storage["imageReference"]["id"].as_str() {
        source["galleryImageReference"] = json!({ "id": image });
    }
    let mut disk = json!({
        "location": world.options.location,
        "managedBy": machine,
        "sku": { "name": kind },
        "properties": {
            "osType": storage["osDisk"]["osType"].as_str().unwrap_or("Linux"),
            "creationData": source,
            "diskSizeGB": storage["osDisk"]["diskSizeGB"].as_u64().unwrap_or(30),
            "diskState": "Attached",
            "provisioningState": "Succeeded",
            "timeCreated": world.timestamp(),
        },
    });
    storage["osDisk"]["name"] = name.into();
    storage["osDisk"]["managedDisk"]["id"] = id.as_str().into();
    storage["osDisk"]["managedDisk"]["storageAccountType"] = kind.into();
    if let Some(zones) = body.get("zones") {
        disk["zones"] = zones.clone();
    }
    world.create(&id, disk);
}

/// Takes away the disk of a machine that is gone, if it is to go with it.
pub(super) fn leave(world: &mut World, machine: &Value) {
    let disk = &machine["properties"]["storageProfile"]["osDisk"];
    let id = disk["managedDisk"]["id"].as_str().unwrap_or_default();
    if disk["deleteOption"] == "Delete" {
        world.remove(id);
        return;
    }
    world.update(id, |disk| {
        if let Some(disk) = disk.as_object_mut() {
            disk.remove("managedBy");
        }
        disk["properties"]["diskState"] = "Unattached".into();
    });
}
