//! Virtual machine scale sets, flexible and uniform.

mod growth;
pub(super) mod members;
pub(super) mod repairs;
mod writing;

pub(super) use writing::check_image;

use serde_json::{Value, json};

use super::{machines, read, rows, unknown};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::What;
use crate::world::{Outcome, World, key};

pub(super) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => read(world, call),
        ("GET", What::List) => Ok(world.page(call, rows(world, call))),
        ("GET", What::Action(action)) if action == "instanceView" => view(world, call),
        ("PUT", What::Resource) => writing::put(world, call),
        ("PATCH", What::Resource) => writing::patch(world, call),
        ("DELETE", What::Resource) => delete(world, call),
        ("POST", What::Action(action)) if action == "delete" => delete_instances(world, call),
        _ => unknown(world, call),
    }
}

/// How many members a set is to have.
fn capacity(set: &Value) -> usize {
    set["sku"]["capacity"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or_default()
}

/// Whether the members are virtual machines of their own.
fn is_flexible(set: &Value) -> bool {
    set["properties"]["orchestrationMode"].as_str().is_some_and(|mode| mode.eq_ignore_ascii_case("Flexible"))
}

/// The ids of the members of a set, those that come and go included.
fn members(world: &World, id: &str) -> Vec<String> {
    let own = format!("{}/virtualmachines/", key(id));
    let of_set = |machine: &String| {
        machine.to_ascii_lowercase().starts_with(&own)
            || world.get(machine).is_some_and(|machine| {
                let set = machine["properties"]["virtualMachineScaleSet"]["id"].as_str();
                set.is_some_and(|set| set.eq_ignore_ascii_case(id))
            })
    };
    let mut all = world.all_of("Microsoft.Compute/virtualMachines");
    all.extend(world.all_of("Microsoft.Compute/virtualMachineScaleSets/virtualMachines"));
    all.retain(of_set);
    all
}

/// The members that are not on their way out.
fn staying(world: &World, id: &str) -> Vec<String> {
    let mut all = members(world, id);
    all.retain(|member| world.state(member) != "Deleting");
    all
}

/// The id of the set that a machine is a member of.
fn set_of(world: &World, machine: &str) -> Option<String> {
    let machine = world.get(machine)?;
    if let Some(set) = machine["properties"]["virtualMachineScaleSet"]["id"].as_str() {
        return Some(set.to_owned());
    }
    let (set, _) = machine["id"].as_str()?.split_once("/virtualMachines/")?;
    set.contains("/virtualMachineScaleSets/").then(|| set.to_owned())
}

/// The extension by which a machine's set knows how the application on it is.
pub(super) fn health_extension<'a>(world: &'a World, machine: &str) -> Option<&'a Value> {
    let set = world.get(&set_of(world, machine)?)?;
    let extensions = set["properties"]["virtualMachineProfile"]["extensionProfile"]["extensions"].as_array()?;
    extensions.iter().find(|extension| {
        let kind = extension["properties"]["type"].as_str().unwrap_or_default();
        matches!(kind, "ApplicationHealthLinux" | "ApplicationHealthWindows")
    })
}

/// A member leaves its set for good: the set wants one less.
pub(super) fn leave(world: &mut World, machine: &str) {
    let Some(set) = set_of(world, machine).filter(|_| world.state(machine) != "Deleting") else { return };
    if world.options.leaves_late {
        world.machines.leaving.insert(key(machine), set);
    } else {
        lower(world, &set);
    }
}

/// A set wants one less.
pub(super) fn lower(world: &mut World, set: &str) {
    let left = world.get(set).map(capacity).unwrap_or_default().saturating_sub(1);
    world.update(set, |set| set["sku"]["capacity"] = left.into());
}

fn delete(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.check_conditions(call, call.id())?;
    if world.get(call.id()).is_none() {
        return Ok(Answer::nothing());
    }
    let id = call.id().to_owned();
    if world.state(&id) == "Deleting" {
        return Err(Failure::conflict());
    }
    world.preempt(&id);
    world.set_state(&id, "Deleting");
    let operation = world.operate(call, move |world| {
        let members = members(world, &id);
        for member in &members {
            machines::delete(world, member);
        }
        Ok(Outcome::When(still(world, members), Ok(())))
    });
    Ok(world.accepted(call, &operation))
}

/// Those of some machines with which something is going on.
pub(super) fn still(world: &World, mut machines: Vec<String>) -> Vec<String> {
    machines.retain(|id| world.is_busy(id));
    machines
}

fn delete_instances(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let id = call.id().to_owned();
    world.find(&id)?;
    if world.state(&id) == "Deleting" {
        return Err(Failure::conflict());
    }
    let named: Vec<&str> =
        call.body["instanceIds"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if named.is_empty() {
        return Err(Failure::invalid("instanceIds", "Required parameter 'instanceIds' is missing (null)."));
    }
    let all = members(world, &id);
    let mut leaving = Vec::new();
    for name in named {
        let of_name = |member: &&String| {
            name == "*" || member.rsplit('/').next().is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let found: Vec<&String> = all.iter().filter(of_name).collect();
        if found.is_empty() && name != "*" {
            let message =
                format!("The provided instanceId {name} is not an active Virtual Machine Scale Set VM instanceId.");
            return Err(Failure::invalid("instanceIds", message));
        }
        leaving.extend(found.into_iter().cloned());
    }
    world.set_state(&id, "Updating");
    let operation = world.operate(call, move |world| {
        for member in &leaving {
            leave(world, member);
            machines::delete(world, member);
        }
        Ok(Outcome::When(still(world, leaving), Ok(())))
    });
    Ok(world.accepted(call, &operation))
}

/// The instance view of a set. That of a flexible one counts no members: ask them one by one.
fn view(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let set = world.find(call.id())?;
    let state = world.state(call.id()).to_lowercase();
    let mut view = json!({
        "statuses": [{
            "code": format!("ProvisioningState/{state}"),
            "level": if state == "failed" { "Error" } else { "Info" },
            "displayStatus": format!("Provisioning {state}"),
        }],
    });
    if repairs::policy(set).is_some() {
        view["orchestrationServices"] = json!([{ "serviceName": "AutomaticRepairs", "serviceState": "Running" }]);
    }
    if !is_flexible(set) {
        let mut summary = std::collections::BTreeMap::<String, u64>::new();
        for member in members(world, call.id()) {
            let view = machines::view(world, &member);
            for status in view["statuses"].as_array().into_iter().flatten() {
                *summary.entry(status["code"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        let summary: Vec<Value> = summary.iter().map(|(code, count)| json!({ "code": code, "count": count })).collect();
        view["virtualMachine"] = json!({ "statusesSummary": summary });
    }
    Ok(Answer::ok(view))
}
