//! The members of a scale set, as the set lists them. Only those of a uniform one are resources here; those of a flexible one
//! are virtual machines of their own, which the set names and no more.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{is_flexible, leave, members};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::resources::{machines, rows, shown, unknown};
use crate::route::{What, name_of};
use crate::world::{Outcome, World, key};

pub(in crate::resources) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let expand = call.query("$expand").map(str::to_owned);
    if call.query("$filter").is_some() || expand.as_ref().is_some_and(|expand| expand != "instanceView") {
        return unknown(world, call);
    }
    if call.route.what == What::List {
        return list(world, call, expand.is_some());
    }
    check_number(world, call)?;
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => {
            let mut member = shown(world.find(call.id())?);
            if expand.is_some() {
                member["properties"]["instanceView"] = machines::view(world, call.id());
            }
            Ok(Answer::ok(member))
        }
        ("GET", What::Action(action)) if action == "instanceView" => {
            world.find(call.id())?;
            Ok(Answer::ok(machines::view(world, call.id())))
        }
        ("DELETE", What::Resource) => Ok(delete(world, call)),
        _ => unknown(world, call),
    }
}

/// Members of flexible sets have names, and are asked about as virtual machines.
fn check_number(world: &World, call: &Call) -> Result<(), Failure> {
    let set = call.id().rsplit_once("/virtualMachines/").map_or(call.id(), |(set, _)| set);
    world.find(set)?;
    if name_of(call.id()).parse::<u64>().is_err() {
        return Err(Failure::invalid("instanceId", "Virtual Machine Scale Set VM instanceId must be a number."));
    }
    Ok(())
}

fn list(world: &mut World, call: &Call, expand: bool) -> Result<Answer, Failure> {
    let set_id = call.id().rsplit_once('/').map_or(call.id(), |(set, _)| set);
    let set = world.find(set_id)?;
    let found: BTreeMap<String, Value> = if is_flexible(set) {
        members(world, set_id).iter().map(|member| (key(member), named(world, set_id, member))).collect()
    } else {
        let mut found = rows(world, call);
        for (id, member) in found.iter_mut().filter(|_| expand) {
            member["properties"]["instanceView"] = machines::view(world, id);
        }
        found
    };
    Ok(world.page(call, found))
}

/// What a flexible set says about a member: which one it is, and little else.
fn named(world: &World, set: &str, member: &str) -> Value {
    let machine = world.get(member).cloned().unwrap_or_default();
    let name = name_of(member);
    let mut named = json!({
        "id": format!("{set}/virtualMachines/{name}"),
        "name": name,
        "type": "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
        "location": machine["location"],
        "instanceId": name,
        "properties": {
            "provisioningState": machine["properties"]["provisioningState"],
            "vmId": machine["properties"]["vmId"],
        },
    });
    if let Some(zones) = machine.get("zones") {
        named["zones"] = zones.clone();
    }
    named
}

fn delete(world: &mut World, call: &Call) -> Answer {
    if world.get(call.id()).is_none() {
        return Answer::nothing();
    }
    let id = call.id().to_owned();
    let operation = world.operate(call, move |world| {
        leave(world, &id);
        machines::delete(world, &id);
        Ok(Outcome::When(super::still(world, vec![id]), Ok(())))
    });
    world.accepted(call, &operation)
}
