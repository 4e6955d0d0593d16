//! Virtual machines: members of flexible scale sets, and those that are made by themselves, for an image.

use serde_json::Value;

use super::network::interfaces;
use super::{check_location, machines, rows, scale_sets, shown, unknown};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::What;
use crate::world::{Outcome, World, merge};

pub(super) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => {
            let mut machine = shown(world.find(call.id())?);
            match call.query("$expand") {
                Some("instanceView") => machine["properties"]["instanceView"] = machines::view(world, call.id()),
                Some(_) => return unknown(world, call),
                None => {}
            }
            Ok(Answer::ok(machine))
        }
        ("GET", What::List) => list(world, call),
        ("GET", What::Action(action)) if action == "instanceView" => {
            world.find(call.id())?;
            Ok(Answer::ok(machines::view(world, call.id())))
        }
        ("PUT", What::Resource) => put(world, call),
        ("PATCH", What::Resource) => patch(world, call),
        ("DELETE", What::Resource) => delete(world, call),
        ("POST", What::Action(action)) => match action.as_str() {
            "deallocate" => turn(world, call, "deallocated"),
            "powerOff" => turn(world, call, "stopped"),
            "start" => turn(world, call, "running"),
            "generalize" => generalize(world, call),
            _ => unknown(world, call),
        },
        _ => unknown(world, call),
    }
}

fn list(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let mut rows = rows(world, call);
    let set = match call.query("$filter") {
        Some(filter) => Some(filtered_set(filter).ok_or_else(|| {
            Failure::new(400, "BadRequest", format!("The filter expression '{filter}' is not supported."))
        })?),
        None => None,
    };
    if let Some(set) = set {
        rows.retain(|_, machine| {
            let of = machine["properties"]["virtualMachineScaleSet"]["id"].as_str();
            of.is_some_and(|of| of.eq_ignore_ascii_case(set))
        });
    }
    match call.query("$expand") {
        Some("instanceView") if set.is_some() => {
            for (id, machine) in &mut rows {
                machine["properties"]["instanceView"] = machines::view(world, id);
            }
        }
        Some("instanceView") => {
            return Err(Failure::invalid("$expand", "The expand expression is only allowed with a valid filter."));
        }
        Some(_) => return unknown(world, call),
        None => {}
    }
    Ok(world.page(call, rows))
}

/// The scale set whose members a filter asks for: `'virtualMachineScaleSet/id' eq '<id>'`. There is no other filter:
/// <https://learn.microsoft.com/rest/api/compute/virtual-machines/list>.
fn filtered_set(filter: &str) -> Option<&str> {
    let (field, set) = filter.split_once(" eq ")?;
    let is_set = field.trim().trim_matches('\'').eq_ignore_ascii_case("virtualMachineScaleSet/id");
    is_set.then(|| set.trim().trim_matches('\''))
}

fn delete(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.check_conditions(call, call.id())?;
    if world.get(call.id()).is_none() {
        return Ok(Answer::nothing());
    }
    let id = call.id().to_owned();
    let operation = world.operate(call, move |world| {
        if world.get(&id).is_some() {
            scale_sets::leave(world, &id);
            machines::delete(world, &id);
        }
        Ok(Outcome::When(scale_sets::still(world, vec![id]), Ok(())))
    });
    Ok(world.accepted(call, &operation))
}

fn put(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.check_conditions(call, call.id())?;
    check_location(world, &call.body)?;
    if world.get(call.id()).is_some() {
        return patch(world, call);
    }
    let id = call.id().to_owned();
    let mut machine = call.body.clone();
    machine["location"] = world.options.location.as_str().into();
    for field in ["hardwareProfile", "networkProfile", "storageProfile"] {
        if !machine["properties"][field].is_object() {
            return Err(Failure::invalid(field, format!("Required parameter '{field}' is missing (null).")));
        }
    }
    scale_sets::check_image(world, &machine["properties"]["storageProfile"])?;
    machines::check_quota(world, 1)?;
    let network = &mut machine["properties"]["networkProfile"];
    if let Some(wanted) = network.as_object_mut().and_then(|network| network.remove("networkInterfaceConfigurations")) {
        let providers = id.split("/providers/").next().unwrap_or_default();
        let folder = format!("{providers}/providers/Microsoft.Network/networkInterfaces");
        network["networkInterfaces"] = interfaces::make(world, &id, &folder, &wanted, "Detach");
    }
    let zone = machine["zones"][0].as_str().unwrap_or_default().to_owned();
    let room = machines::check_stock(world, &zone);
    if room.is_ok() {
        machines::start(world, &id, machine);
    } else {
        // It is there, and never boots.
        machine["properties"]["provisioningState"] = "Creating".into();
        machine["properties"]["timeCreated"] = world.timestamp().into();
        world.create(&id, machine);
    }
    let target = id.clone();
    let operation = world.operate(call, move |world| {
        room?;
        Ok(Outcome::When(scale_sets::still(world, vec![target]), Ok(())))
    });
    let answer = Answer::new(201, shown(world.find(&id)?));
    Ok(world.follow(call, &operation, answer))
}

/// Changes what is said about a machine. What it is made of stays: the fake changes no machine.
fn patch(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.check_conditions(call, call.id())?;
    let there = world.find(call.id())?;
    if there["properties"]["provisioningState"] == "Deleting" {
        return Err(Failure::conflict());
    }
    let mut body = call.body.clone();
    // Its interfaces are made by now.
    if let Some(network) = body.pointer_mut("/properties/networkProfile").and_then(Value::as_object_mut) {
        network.remove("networkInterfaceConfigurations");
    }
    let mut machine = there.clone();
    merge(&mut machine, &body);
    for part in ["location", "properties", "zones"] {
        if machine[part] != there[part] {
            let message = format!("Changing property '{part}' is not allowed.");
            return Err(Failure::new(409, "PropertyChangeNotAllowed", message).about(part));
        }
    }
    world.update(call.id(), |there| *there = machine);
    let id = call.id().to_owned();
    let boots = world.state(&id) == "Creating";
    if !boots {
        world.set_state(&id, "Updating");
    }
    let operation = world.operate(call, move |world| {
        let rest = if boots { scale_sets::still(world, vec![id]) } else { Vec::new() };
        Ok(Outcome::When(rest, Ok(())))
    });
    let answer = Answer::ok(shown(world.find(call.id())?));
    Ok(world.follow(call, &operation, answer))
}

/// Turns a machine on or off.
fn turn(world: &mut World, call: &Call, power: &'static str) -> Result<Answer, Failure> {
    let id = call.id().to_owned();
    world.find(&id)?;
    if world.is_busy(&id) {
        return Err(Failure::conflict());
    }
    if power == "running" && machines::is_generalized(world, &id) {
        let message = "Operation 'start' is not allowed on a VM that is generalized.";
        return Err(Failure::new(409, "OperationNotAllowed", message));
    }
    world.set_state(&id, "Updating");
    let operation = world.operate(call, move |world| {
        machines::set_power(world, &id, power);
        Ok(Outcome::Done(Value::Null))
    });
    Ok(world.accepted(call, &operation))
}

fn generalize(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.find(call.id())?;
    if !matches!(machines::power(world, call.id()), Some("deallocated" | "stopped")) {
        let message =
            "Operation 'generalize' is not allowed on a VM that is running: it must be stopped or deallocated.";
        return Err(Failure::new(409, "OperationNotAllowed", message));
    }
    machines::generalize(world, call.id());
    Ok(Answer::new(200, Value::Null))
}
