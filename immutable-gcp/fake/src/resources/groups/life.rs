//! What a group does on its own: it makes what it lacks, again and again, repairs what fails, deletes what it is told to.

use std::time::Duration;

use serde_json::{Value, json};

use super::Group;
use super::member::{Action, Member};
use crate::failure::OperationError;
use crate::resources::machines;
use crate::world::{World, name};

/// Letters that names of instances end with.
const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Brings all groups to where they are now.
pub(crate) fn settle(world: &mut World) {
    let paths: Vec<String> = world.groups.0.keys().cloned().collect();
    for path in paths {
        let Some(mut group) = world.groups.0.remove(&path) else { continue };
        // Somebody removed it by hand: what it had stays.
        let Some(settings) = world.get(&path).cloned() else { continue };
        fit(world, &path, &settings, &mut group);
        let all: Vec<String> = group.members.keys().cloned().collect();
        for member in all {
            step(world, &path, &settings, &mut group, &member);
        }
        if group.ends && group.members.is_empty() {
            end(world, &path);
            continue;
        }
        show(world, &path, &settings, &group);
        world.groups.0.insert(path, group);
    }
}

/// Adds the instances that the group lacks, and marks those that it has too many.
fn fit(world: &mut World, path: &str, settings: &Value, group: &mut Group) {
    let target = usize::try_from(settings["targetSize"].as_u64().unwrap_or_default()).unwrap_or_default();
    let mut stay: Vec<String> =
        group.members.iter().filter(|(_, member)| member.action.stays()).map(|(name, _)| name.clone()).collect();
    for _ in stay.len()..target {
        let zone = place(world, path, settings, group);
        let template = world.path_of(settings["instanceTemplate"].as_str().unwrap_or_default());
        let name = loop {
            let base = settings["baseInstanceName"].as_str().unwrap_or_default();
            let name = format!("{base}-{}", letters(world.serial()));
            if !group.members.contains_key(&name) {
                break name;
            }
        };
        group.members.insert(name, Member::new(zone, template));
    }
    // First those that do not run yet.
    stay.sort_by_key(|name| group.members[name].action == Action::None);
    let surplus = stay.len().saturating_sub(target);
    for name in stay.into_iter().take(surplus) {
        if let Some(member) = group.members.get_mut(&name) {
            member.action = Action::Deleting;
        }
    }
}

/// The zone for one more instance: the one with the fewest. Groups that need not be even avoid zones without stock.
fn place(world: &World, path: &str, settings: &Value, group: &Group) -> String {
    let zones = settings["distributionPolicy"]["zones"].as_array();
    let mut zones: Vec<&str> = match zones {
        Some(zones) => zones.iter().filter_map(|zone| zone["zone"].as_str()).map(name).collect(),
        None => vec![machines::zone(path)],
    };
    let flexible = settings["distributionPolicy"]["targetShape"].as_str().is_some_and(|shape| shape != "EVEN");
    if flexible && zones.iter().any(|zone| !machines::is_short(world, zone)) {
        zones.retain(|zone| !machines::is_short(world, zone));
    }
    let here =
        |zone: &str| group.members.values().filter(|member| member.action.stays() && member.zone == zone).count();
    zones.into_iter().min_by_key(|zone| here(zone)).unwrap_or_default().to_owned()
}

/// Does what is to be done with one instance now.
fn step(world: &mut World, group_path: &str, settings: &Value, group: &mut Group, name: &str) {
    let Some(member) = group.members.get_mut(name) else { return };
    let path = member.path(world, name);
    let machine = world.get(&path).map(|machine| (machine["id"].clone(), machine["status"].clone()));
    if group.ends {
        member.action = Action::Deleting;
    }
    match (member.action, machine) {
        (Action::Deleting | Action::Abandoning, None) => {
            group.members.remove(name);
        }
        (Action::Deleting, Some((_, status))) if status != "STOPPING" => machines::delete(world, &path),
        (Action::Recreating, Some((id, status))) if member.replaced.as_ref() == Some(&id) && status != "STOPPING" => {
            machines::delete(world, &path);
        }
        (Action::Creating | Action::Recreating, None) => create(world, group_path, member, name),
        (Action::Creating | Action::Recreating, Some((_, status))) if status == "RUNNING" => {
            runs(world, settings, member);
        }
        (Action::None | Action::Verifying, machine) => {
            watch(world, settings, member, &path, machine);
            if member.action == Action::Recreating {
                step(world, group_path, settings, group, name);
            }
        }
        (_, Some((id, status))) if status == "TERMINATED" => {
            (member.action, member.replaced) = (Action::Recreating, Some(id));
            step(world, group_path, settings, group, name);
        }
        _ => {}
    }
}

/// Tries to make the machine. A failure is shown, and tried again later.
fn create(world: &mut World, group: &str, member: &mut Member, name: &str) {
    if world.now() < member.retry {
        return;
    }
    let path = member.path(world, name);
    match wanted(world, group, &member.template).and_then(|wanted| machines::start(world, &path, wanted)) {
        Ok(()) => member.error = None,
        Err(error) => {
            let wait = world.options.boot_time.max(Duration::from_millis(1));
            member.error = Some(error);
            member.retry = world.now() + wait;
            // Looked at again then.
            world.after(wait, |_| {});
        }
    }
}

/// The machine that a template describes.
fn wanted(world: &World, group: &str, template: &str) -> Result<Value, OperationError> {
    let mut wanted = world.find(template)?["properties"].clone();
    if let Some(fields) = wanted.as_object_mut() {
        fields.remove("resourceManagerTags");
    }
    let mut items = wanted["metadata"]["items"].as_array().cloned().unwrap_or_default();
    items.push(json!({ "key": "instance-template", "value": template }));
    items.push(json!({ "key": "created-by", "value": group }));
    wanted["metadata"] = json!({ "kind": "compute#metadata", "items": items });
    Ok(wanted)
}

/// The machine runs: from now on its health counts.
fn runs(world: &mut World, settings: &Value, member: &mut Member) {
    member.replaced = None;
    member.runs = Some(world.now());
    let policy = &settings["autoHealingPolicies"][0];
    member.action = if policy["healthCheck"].is_string() { Action::Verifying } else { Action::None };
    world.after(world.options.health_time, |_| {});
    world.after(initial_delay(world, policy), |_| {});
}

/// Looks after an instance that ran: whether it is well, and whether it is to be repaired.
fn watch(world: &mut World, settings: &Value, member: &mut Member, path: &str, machine: Option<(Value, Value)>) {
    let policy = &settings["autoHealingPolicies"][0];
    let since = member.runs.unwrap_or_default();
    let ill = machines::is_ill(world, path);
    let lifecycle = &settings["instanceLifecyclePolicy"];
    let repairs = lifecycle["defaultActionOnFailure"] != "DO_NOTHING";
    let heals = match lifecycle["onFailedHealthCheck"].as_str() {
        Some("REPAIR") => true,
        Some("DO_NOTHING") => false,
        _ => repairs,
    };
    let late = world.now() >= since + initial_delay(world, policy).max(world.options.health_time);
    let (id, fails) = match machine {
        Some((id, status)) if status != "TERMINATED" => {
            member.off = None;
            (Some(id), status == "RUNNING" && policy["healthCheck"].is_string() && ill && late && heals)
        }
        machine => (machine.map(|(id, _)| id), repairs && is_noticed(world, member)),
    };
    if fails {
        (member.action, member.replaced, member.runs, member.off) = (Action::Recreating, id, None, None);
    } else if member.action == Action::Verifying && !ill && world.now() >= since + world.options.health_time {
        member.action = Action::None;
    }
}

/// Whether it is so long ago that a machine went off that the group sees it.
fn is_noticed(world: &mut World, member: &mut Member) -> bool {
    let (now, time) = (world.now(), world.options.notice_time);
    if member.off.is_none() {
        // Looked at again then.
        world.after(time, |_| {});
    }
    now >= *member.off.get_or_insert(now) + time
}

/// How long a new machine's failed health checks do not count.
fn initial_delay(world: &World, policy: &Value) -> Duration {
    let seconds = policy["initialDelaySec"].as_u64().and_then(|seconds| u32::try_from(seconds).ok());
    world.options.second * seconds.unwrap_or_default()
}

/// The group is gone, and with it the operation that deleted it is done.
fn end(world: &mut World, path: &str) {
    let operation = world.running(path, "delete").cloned();
    world.remove(path);
    if let Some(operation) = operation {
        world.finish(&operation, Ok(()));
    }
}

/// What the group shows of what it does.
fn show(world: &mut World, path: &str, settings: &Value, group: &Group) {
    let mut actions = json!({
        "abandoning": 0, "creating": 0, "creatingWithoutRetries": 0, "deleting": 0, "none": 0, "recreating": 0,
        "refreshing": 0, "restarting": 0, "resuming": 0, "starting": 0, "stopping": 0, "suspending": 0, "verifying": 0,
    });
    for member in group.members.values() {
        let action = member.action.count();
        actions[&action] = (actions[&action].as_u64().unwrap_or_default() + 1).into();
    }
    if settings["currentActions"] != actions {
        let stable = group.members.values().all(|member| member.action == Action::None);
        world.show(path, "currentActions", actions);
        world.show(path, "status", json!({ "isStable": stable }));
    }
}

/// Four letters that look like any.
fn letters(serial: u64) -> String {
    let mut mixed = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut next = || {
        let letter = usize::try_from(mixed % 36).unwrap_or_default();
        mixed /= 36;
        char::from(LETTERS[letter])
    };
    (0..4).map(|_| next()).collect()
}
