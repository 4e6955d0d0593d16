//! Virtual machines: how they come, stop and go, whoever asked for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::images;
use crate::Fake;
use crate::failure::OperationError;
use crate::world::{World, link, name};

/// What is so with machines, but not to be seen in any resource.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    ill: BTreeSet<String>,
    short: BTreeSet<String>,
    quota: Option<usize>,
}

impl Fake {
    /// Makes a machine fail its health checks, or pass them again: `zones/z/instances/i`. A new machine is well.
    pub fn set_ill(&self, instance: &str, ill: bool) {
        self.world(|world| {
            let path = world.path_of(instance);
            if ill { world.machines.ill.insert(path) } else { world.machines.ill.remove(&path) }
        });
    }

    /// Turns a machine off at once, as when its host is lost: `zones/z/instances/i`. Whether there is such a machine.
    pub fn kill(&self, instance: &str) -> bool {
        self.world(|world| {
            let path = world.path_of(instance);
            let is_there = world.get(&path).is_some();
            if is_there {
                stopped(world, &path);
            }
            is_there
        })
    }

    /// Makes a zone run out of machines of every type, or have them again.
    pub fn set_out_of_stock(&self, zone: &str, short: bool) {
        self.world(|world| {
            let zone = zone.to_owned();
            if short { world.machines.short.insert(zone) } else { world.machines.short.remove(&zone) }
        });
    }

    /// How many machines the project may have; none given: any number.
    pub fn set_quota(&self, machines: Option<usize>) {
        self.world(|world| world.machines.quota = machines);
    }
}

/// Whether a machine fails its health checks.
pub(super) fn is_ill(world: &World, path: &str) -> bool {
    world.machines.ill.contains(path)
}

/// Whether a zone has no machines left.
pub(super) fn is_short(world: &World, zone: &str) -> bool {
    world.machines.short.contains(zone)
}

/// The status of a machine, if it is there.
pub(super) fn status<'a>(world: &'a World, path: &str) -> Option<&'a str> {
    world.get(path)?["status"].as_str()
}

/// Makes a machine: it boots from now on. `wanted`: as in an `instances.insert`.
pub(super) fn start(world: &mut World, path: &str, mut wanted: Value) -> Result<(), OperationError> {
    let zone = zone(path).to_owned();
    if is_short(world, &zone) {
        let message = format!(
            "The zone '{}' does not have enough resources available to fulfill the request. Try a different zone, or try \
             again later.",
            format_args!("{}/zones/{zone}", world.project())
        );
        return Err(OperationError::new("ZONE_RESOURCE_POOL_EXHAUSTED", message));
    }
    let machines = world.below(&format!("{}/zones/", world.project())).filter(|(path, _)| is_machine(path)).count();
    if world.machines.quota.is_some_and(|quota| machines >= quota) {
        let limit = world.machines.quota.unwrap_or_default();
        let message = format!("Quota 'INSTANCES' exceeded. Limit: {limit}.0 in region {}.", region(&zone));
        return Err(OperationError::new("QUOTA_EXCEEDED", message));
    }
    let disks = disks(world, path, &wanted)?;
    let interfaces = interfaces(world, &wanted);
    if let Some(machine) = wanted["machineType"].as_str().filter(|machine| !machine.contains('/')) {
        wanted["machineType"] = link(&format!("{}/zones/{zone}/machineTypes/{machine}", world.project())).into();
    }
    for part in ["metadata", "tags"] {
        if wanted.get(part).is_some() {
            wanted[part]["fingerprint"] = world.fingerprint().into();
        }
    }
    wanted["disks"] = disks;
    wanted["networkInterfaces"] = interfaces;
    wanted["status"] = "PROVISIONING".into();
    world.create(path, wanted);
    boot(world, path);
    Ok(())
}

/// What a machine goes through until it runs.
fn boot(world: &mut World, path: &str) {
    let time = world.options.boot_time;
    on_the_way(world, path, time / 2, "PROVISIONING", |world, path| world.show(path, "status", "STAGING"));
    on_the_way(world, path, time, "STAGING", |world, path| {
        let now = world.timestamp();
        world.show(path, "lastStartTimestamp", now);
        world.show(path, "status", "RUNNING");
    });
}

/// Ends what runs on a machine. It is `STOPPING`, and `TERMINATED` when it is told to be.
pub(super) fn stop(world: &mut World, path: &str) {
    world.show(path, "status", "STOPPING");
}

/// What [`stop`] began is over.
pub(super) fn stopped(world: &mut World, path: &str) {
    let now = world.timestamp();
    world.show(path, "lastStopTimestamp", now);
    world.show(path, "status", "TERMINATED");
}

/// Deletes a machine: it stops, and then it is gone with the disks that are to go with it.
pub(super) fn delete(world: &mut World, path: &str) {
    let time = world.options.stop_time;
    world.show(path, "status", "STOPPING");
    on_the_way(world, path, time, "STOPPING", gone);
}

/// Takes a machine away.
pub(super) fn gone(world: &mut World, path: &str) {
    let Some(machine) = world.remove(path) else { return };
    world.machines.ill.remove(path);
    for disk in machine["disks"].as_array().into_iter().flatten() {
        let source = world.path_of(disk["source"].as_str().unwrap_or_default());
        if disk["autoDelete"] == true {
            world.remove(&source);
        } else {
            world.show(&source, "users", json!([]));
        }
    }
}

/// Has something happen to this very machine, if it still has this status then.
fn on_the_way(
    world: &mut World,
    path: &str,
    time: std::time::Duration,
    status: &'static str,
    effect: impl FnOnce(&mut World, &str) + Send + 'static,
) {
    let Some(id) = world.get(path).map(|machine| machine["id"].clone()) else { return };
    let path = path.to_owned();
    world.after(time, move |world| {
        let same = world.get(&path).is_some_and(|machine| machine["id"] == id && machine["status"] == status);
        if same {
            effect(world, &path);
        }
    });
}

/// The disks of a new machine: those that it brings along are made.
fn disks(world: &mut World, path: &str, wanted: &Value) -> Result<Value, OperationError> {
    let folder = format!("{}/zones/{}", world.project(), zone(path));
    let mut attached = Vec::new();
    let mut made = Vec::new();
    for (index, disk) in wanted["disks"].as_array().into_iter().flatten().enumerate() {
        let mut disk = disk.clone();
        let source = match (disk["source"].as_str(), disk["initializeParams"].clone()) {
            (Some(source), _) => {
                let source = world.path_of(source);
                world.find(&source)?;
                source
            }
            (None, params) => {
                let beside = if index == 0 { name(path).to_owned() } else { format!("{}-{index}", name(path)) };
                let source = format!("{folder}/disks/{}", params["diskName"].as_str().unwrap_or(&beside));
                if world.get(&source).is_some() {
                    return Err(crate::failure::Failure::already_exists(&source).into());
                }
                made.push((source.clone(), new_disk(world, &params)?));
                source
            }
        };
        disk["source"] = link(&source).into();
        disk["index"] = index.into();
        for (field, value) in [
            ("kind", "compute#attachedDisk"),
            ("type", "PERSISTENT"),
            ("mode", "READ_WRITE"),
            ("interface", "SCSI"),
            ("deviceName", name(&source)),
        ] {
            if disk.get(field).is_none() {
                disk[field] = value.into();
            }
        }
        if let Some(fields) = disk.as_object_mut() {
            fields.remove("initializeParams");
        }
        attached.push(disk);
    }
    for (source, mut disk) in made {
        disk["users"] = json!([link(path)]);
        world.create(&source, disk);
    }
    Ok(attached.into())
}

fn new_disk(world: &World, params: &Value) -> Result<Value, OperationError> {
    let mut disk = json!({ "status": "READY", "sizeGb": params["diskSizeGb"].as_str().unwrap_or("10") });
    if let Some(image) = params["sourceImage"].as_str() {
        let path = images::resolve(world, image)?;
        disk["sourceImage"] = link(&path).into();
        disk["sourceImageId"] = world.find(&path)?["id"].clone();
    }
    for (field, from) in [("labels", "labels"), ("type", "diskType")] {
        if let Some(value) = params.get(from) {
            disk[field] = value.clone();
        }
    }
    Ok(disk)
}

fn interfaces(world: &mut World, wanted: &Value) -> Value {
    let mut interfaces = wanted["networkInterfaces"].as_array().cloned().unwrap_or_default();
    for (index, interface) in interfaces.iter_mut().enumerate() {
        let host = world.serial();
        let [.., b, c, d] = host.to_be_bytes();
        interface["kind"] = "compute#networkInterface".into();
        interface["name"] = format!("nic{index}").into();
        interface["fingerprint"] = world.fingerprint().into();
        if interface.get("networkIP").is_none() {
            interface["networkIP"] = format!("10.{b}.{c}.{d}").into();
        }
        if interface.get("network").is_none() && interface.get("subnetwork").is_none() {
            interface["network"] = link(&format!("{}/global/networks/default", world.project())).into();
        }
        for access in interface.get_mut("accessConfigs").and_then(Value::as_array_mut).into_iter().flatten() {
            access["kind"] = "compute#accessConfig".into();
            if access.get("natIP").is_none() {
                access["natIP"] = format!("203.0.113.{d}").into();
            }
        }
    }
    interfaces.into()
}

/// Whether a path is that of a machine.
pub(super) fn is_machine(path: &str) -> bool {
    path.split('/').nth(4) == Some("instances")
}

/// The zone in a path.
pub(super) fn zone(path: &str) -> &str {
    path.split('/').nth(3).unwrap_or_default()
}

/// The region of a zone: its name without the letter.
fn region(zone: &str) -> &str {
    zone.rsplit_once('-').map_or(zone, |(region, _)| region)
}
