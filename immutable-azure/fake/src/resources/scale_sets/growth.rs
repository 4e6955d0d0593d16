//! How a scale set gets as many members as it is to have.

use serde_json::{Value, json};

use super::{capacity, is_flexible, members, staying, still};
use crate::failure::Failure;
use crate::resources::machines;
use crate::resources::network::interfaces;
use crate::route::name_of;
use crate::world::{Outcome, World};

/// Makes the members that a set lacks, and deletes the last that it has too many. What cannot be made is missing when the
/// operation is over, and the operation has failed.
pub(super) fn fit(world: &mut World, id: &str) -> Outcome {
    let Some(set) = world.get(id).cloned() else { return Outcome::Done(Value::Null) };
    let stay = staying(world, id);
    for surplus in stay.iter().skip(capacity(&set)) {
        machines::delete(world, surplus);
    }
    // One that cannot be made keeps no other from being tried.
    let made: Vec<Result<(), Failure>> = (stay.len()..capacity(&set)).map(|_| add(world, id, &set)).collect();
    Outcome::When(still(world, members(world, id)), made.into_iter().collect())
}

/// Marks the members as not of the set's model any more.
pub(super) fn outdate(world: &mut World, id: &str) {
    for member in members(world, id) {
        if world.get(&member).is_some_and(|member| member["properties"].get("latestModelApplied").is_some()) {
            world.show(&member, "/properties/latestModelApplied", false);
        }
    }
}

fn add(world: &mut World, id: &str, set: &Value) -> Result<(), Failure> {
    let zone = place(world, id, set);
    make(world, id, set, &zone)
}

/// Makes one member in a zone; `""`: in none.
pub(super) fn make(world: &mut World, id: &str, set: &Value, zone: &str) -> Result<(), Failure> {
    let room = machines::check_stock(world, zone);
    let profile = &set["properties"]["virtualMachineProfile"];
    let flexible = is_flexible(set);
    let is_reserving = flexible && !world.options.reserve_time.is_zero();
    if !world.options.keeps_failed && !is_reserving {
        room.clone()?;
    }
    let serial = world.serial();
    let (machine, nics) = if flexible {
        let providers = id.split("/providers/").next().unwrap_or_default();
        let name = format!("{}_{:08x}", name_of(id), serial.wrapping_mul(0x9e37_79b1) & 0xffff_ffff);
        let machine = format!("{providers}/providers/Microsoft.Compute/virtualMachines/{name}");
        (machine, format!("{providers}/providers/Microsoft.Network/networkInterfaces"))
    } else {
        let machine = format!("{id}/virtualMachines/{}", free_number(world, id));
        let nics = format!("{machine}/networkInterfaces");
        (machine, nics)
    };
    let nics = interfaces::make(
        world,
        &machine,
        &nics,
        &profile["networkProfile"]["networkInterfaceConfigurations"],
        "Delete",
    );
    if !world.options.keeps_failed && room.is_err() {
        interfaces::reserve(world, &nics);
        return room;
    }
    let mut properties = json!({
        "hardwareProfile": { "vmSize": set["sku"]["name"] },
        "storageProfile": profile["storageProfile"],
        "networkProfile": { "networkInterfaces": nics },
    });
    let disk = &mut properties["storageProfile"]["osDisk"];
    disk["name"] = format!("{}_OsDisk_1", name_of(&machine)).into();
    if flexible && disk["deleteOption"].is_null() {
        disk["deleteOption"] = "Delete".into();
    }
    if let Some(os) = profile.get("osProfile") {
        let mut os = os.clone();
        let prefix = os.as_object_mut().and_then(|os| os.remove("computerNamePrefix"));
        let prefix = prefix.as_ref().and_then(Value::as_str).unwrap_or(name_of(id));
        os["computerName"] = format!("{prefix}{serial:06}").into();
        properties["osProfile"] = os;
    }
    let mut body = json!({ "location": set["location"] });
    for field in ["tags", "identity"] {
        if let Some(value) = set.get(field) {
            body[field] = value.clone();
        }
    }
    if !zone.is_empty() {
        body["zones"] = json!([zone]);
    }
    if flexible {
        properties["virtualMachineScaleSet"] = json!({ "id": id });
    } else {
        properties["latestModelApplied"] = true.into();
        properties["modelDefinitionApplied"] = "VirtualMachineScaleSet".into();
        body["instanceId"] = name_of(&machine).into();
        body["sku"] =
            json!({ "name": set["sku"]["name"], "tier": set["sku"].get("tier").unwrap_or(&json!("Standard")) });
    }
    body["properties"] = properties;
    match &room {
        Ok(()) => machines::start(world, &machine, body),
        Err(failure) => machines::fail(world, &machine, body, failure.clone()),
    }
    room
}

/// The lowest number that no member of a uniform set has: those of members that are gone are used again.
fn free_number(world: &World, id: &str) -> usize {
    let is_free = |number: &usize| world.get(&format!("{id}/virtualMachines/{number}")).is_none();
    let taken = members(world, id).len();
    (0..=taken).find(is_free).unwrap_or(taken)
}

/// The zone for one more member: the one with the fewest that has machines. A set that is to be balanced does not avoid those
/// that have none.
fn place(world: &World, id: &str, set: &Value) -> String {
    let mut zones: Vec<&str> = set["zones"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_strict = set["properties"]["zoneBalance"] == true;
    if !is_strict && zones.iter().any(|zone| !machines::is_short(world, zone)) {
        zones.retain(|zone| !machines::is_short(world, zone));
    }
    let stay = staying(world, id);
    let here = |zone: &str| stay.iter().filter(|one| world.get(one).is_some_and(|one| one["zones"][0] == zone)).count();
    zones.into_iter().min_by_key(|zone| here(zone)).unwrap_or_default().to_owned()
}
