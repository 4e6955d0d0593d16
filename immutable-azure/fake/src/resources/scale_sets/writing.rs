//! What may be written into a scale set.

use serde_json::Value;

use super::{capacity, growth, is_flexible, repairs, staying};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::resources::{check_location, machines, shown};
use crate::world::{World, merge};

/// What the server says, whatever is written.
const OWN: [&str; 3] = ["provisioningState", "timeCreated", "uniqueId"];

/// What can be chosen once.
const FIXED: [&str; 3] = ["orchestrationMode", "platformFaultDomainCount", "singlePlacementGroup"];

pub(super) fn put(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.check_conditions(call, call.id())?;
    check_location(world, &call.body)?;
    let mut set = call.body.clone();
    if let Some(there) = world.get(call.id()) {
        // What is not said stays.
        if set["sku"].get("capacity").is_none() {
            set["sku"]["capacity"] = there["sku"]["capacity"].clone();
        }
        for field in FIXED {
            if set["properties"].get(field).is_none() && there["properties"].get(field).is_some() {
                set["properties"][field] = there["properties"][field].clone();
            }
        }
    }
    write(world, call, set)
}

pub(super) fn patch(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.check_conditions(call, call.id())?;
    let mut set = world.find(call.id())?.clone();
    merge(&mut set, &call.body);
    write(world, call, set)
}

fn write(world: &mut World, call: &Call, mut set: Value) -> Result<Answer, Failure> {
    let id = call.id().to_owned();
    if world.state(&id) == "Deleting" {
        return Err(Failure::conflict());
    }
    let properties = set["properties"].as_object_mut();
    let properties = properties
        .ok_or_else(|| Failure::invalid("properties", "Required parameter 'properties' is missing (null)."))?;
    properties.entry("orchestrationMode").or_insert("Uniform".into());
    check(world, &set)?;
    let there = world.get(&id).cloned();
    let answers = if there.is_some() { 200 } else { 201 };
    if let Some(there) = &there {
        check_fixed(there, &set)?;
    }
    machines::check_quota(world, capacity(&set).saturating_sub(staying(world, &id).len()))?;
    let (unique, now) = (world.uuid(), world.timestamp());
    for (field, value) in OWN.into_iter().zip(["Creating".to_owned(), now, unique]) {
        let old = there.as_ref().and_then(|there| there["properties"].get(field)).cloned();
        set["properties"][field] = old.unwrap_or(value.into());
    }
    if let Some(there) = there {
        let is_new = there["properties"]["virtualMachineProfile"] != set["properties"]["virtualMachineProfile"]
            || (world.options.outdated_by_tags && there["tags"] != set["tags"]);
        world.update(&id, |there| {
            for field in ["id", "name", "type", "location", "etag"] {
                set[field] = there[field].clone();
            }
            *there = set;
        });
        world.set_state(&id, "Updating");
        if is_new {
            growth::outdate(world, &id);
        }
    } else {
        set["location"] = world.options.location.as_str().into();
        world.create(&id, set);
    }
    world.preempt(&id);
    let target = id.clone();
    let operation = world.operate(call, move |world| Ok(growth::fit(world, &target)));
    let answer = Answer::new(answers, shown(world.find(&id)?));
    Ok(world.follow(call, &operation, answer))
}

/// Refuses what cannot be a scale set.
fn check(world: &World, set: &Value) -> Result<(), Failure> {
    for (field, value) in [("sku.name", &set["sku"]["name"]), ("sku.capacity", &set["sku"]["capacity"])] {
        if value.is_null() {
            return Err(Failure::invalid(field, format!("Required parameter '{field}' is missing (null).")));
        }
    }
    if set["sku"]["capacity"].as_u64().is_none_or(|capacity| capacity > 1000) {
        let message = "The capacity of the Virtual Machine Scale Set must be between 0 and 1000.";
        return Err(Failure::invalid("sku.capacity", message));
    }
    for zone in set["zones"].as_array().into_iter().flatten() {
        if !world.options.zones.iter().any(|known| zone == known) {
            let message = format!("The zone(s) '{zone}' for resource is not supported.");
            return Err(Failure::new(400, "InvalidAvailabilityZone", message).about("zones"));
        }
    }
    let profile = &set["properties"]["virtualMachineProfile"];
    let needs_profile = !is_flexible(set) || capacity(set) > 0;
    if needs_profile && !profile.is_object() {
        let message = "Required parameter 'virtualMachineProfile' is missing (null).";
        return Err(Failure::invalid("virtualMachineProfile", message));
    }
    if !is_flexible(set) && !set["properties"]["upgradePolicy"]["mode"].is_string() {
        let message = "Required parameter 'upgradePolicy' is missing (null).";
        return Err(Failure::invalid("upgradePolicy", message));
    }
    check_image(world, &profile["storageProfile"])?;
    repairs::check(set)
}

/// Refuses machines of an image that is not there, or not yet. `storage`: their storage profile.
pub(in crate::resources) fn check_image(world: &World, storage: &Value) -> Result<(), Failure> {
    let Some(image) = storage["imageReference"]["id"].as_str() else { return Ok(()) };
    if matches!(world.state(image), "Succeeded" | "Updating") {
        return Ok(());
    }
    let message = format!(
        "The gallery image {image} is not available in {} region. Please contact image owner to replicate to this region, \
         or change your requested region.",
        world.options.location
    );
    Err(Failure::new(404, "GalleryImageNotFound", message).about("imageReference"))
}

/// Refuses a change of what can be chosen once.
fn check_fixed(there: &Value, set: &Value) -> Result<(), Failure> {
    for field in FIXED {
        if there["properties"][field] != set["properties"][field] {
            let message = format!("Changing property '{field}' is not allowed.");
            return Err(Failure::new(409, "PropertyChangeNotAllowed", message).about(field));
        }
    }
    let zones = there["zones"].as_array().into_iter().flatten();
    let now = set["zones"].as_array();
    if zones.into_iter().any(|zone| now.is_none_or(|now| !now.contains(zone))) {
        return Err(Failure::new(409, "PropertyChangeNotAllowed", "Removing zones is not allowed.").about("zones"));
    }
    Ok(())
}
