//! Instances, as clients ask for them.

use serde_json::{Value, json};

use super::{builders, machines, unknown};
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{Change, World};

const COLLECTION: &str = "instances";

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "insert" => insert(world, call),
        "get" => world.find(&call.target(COLLECTION, "instance")).cloned(),
        "list" => world.list(call, &format!("{}/{COLLECTION}", call.scope()), "compute#instanceList"),
        "aggregatedList" => world.list_all(call, COLLECTION, "compute#instanceAggregatedList"),
        "delete" => delete(world, call),
        "stop" => stop(world, call),
        "setLabels" => set_labels(world, call),
        "getGuestAttributes" => builders::guest_attributes(world, call),
        "getSerialPortOutput" => builders::serial_port(world, call),
        _ => unknown(world, call),
    }
}

fn insert(world: &mut World, call: &Call) -> Result<Value, Failure> {
    if call.query("sourceInstanceTemplate").is_some() || call.query("sourceMachineImage").is_some() {
        return unknown(world, call);
    }
    let path = call.inserted(COLLECTION);
    if world.get(&path).is_some() {
        return Err(Failure::already_exists(&path));
    }
    permit(world, &call.body, &path)?;
    for image in images(&call.body) {
        super::images::resolve(world, image)?;
    }
    let (wanted, target) = (call.body.clone(), path.clone());
    world.operate(call, Change::new("insert", &path).later(move |world| machines::start(world, &target, wanted)))
}

/// Refuses a machine for what it consists of
/// (<https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/insert>).
pub(super) fn permit(world: &World, machine: &Value, path: &str) -> Result<(), Failure> {
    for (field, permission) in [
        ("labels", "compute.instances.setLabels"),
        ("metadata", "compute.instances.setMetadata"),
        ("serviceAccounts", "compute.instances.setServiceAccount"),
        ("tags", "compute.instances.setTags"),
    ] {
        if machine.get(field).is_some() {
            world.require(permission, path)?;
        }
    }
    act_as(world, machine)?;
    let disks = machine["disks"].as_array().into_iter().flatten();
    for disk in disks.filter_map(|disk| disk.get("initializeParams")) {
        world.require("compute.disks.create", path)?;
        if disk.get("labels").is_some() {
            world.require("compute.disks.setLabels", path)?;
        }
    }
    // Public images are everybody's.
    for image in images(machine).map(|image| world.path_of(image)) {
        if image.starts_with(&format!("{}/", world.project())) {
            world.require("compute.images.useReadOnly", &image)?;
        }
    }
    let interfaces = machine["networkInterfaces"].as_array().into_iter().flatten();
    for interface in interfaces {
        world.require("compute.subnetworks.use", path)?;
        if interface["accessConfigs"].as_array().is_some_and(|configs| !configs.is_empty()) {
            world.require("compute.subnetworks.useExternalIp", path)?;
        }
    }
    Ok(())
}

/// Refuses whoever may not act as the accounts that machines of this kind run as.
pub(super) fn act_as(world: &World, machine: &Value) -> Result<(), Failure> {
    let accounts = machine["serviceAccounts"].as_array().into_iter().flatten();
    accounts
        .filter_map(|account| account["email"].as_str())
        .try_for_each(|email| world.require("iam.serviceAccounts.actAs", email))
}

fn images(machine: &Value) -> impl Iterator<Item = &str> {
    let disks = machine["disks"].as_array().into_iter().flatten();
    disks.filter_map(|disk| disk["initializeParams"]["sourceImage"].as_str())
}

fn delete(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "instance");
    if world.find(&path)?["deletionProtection"] == true {
        let message = format!("Invalid resource usage: 'Resource cannot be deleted if it's protected: {path}'.");
        return Err(Failure::new(400, "invalidResourceUsage", message));
    }
    let (stopping, target, time) = (path.clone(), path.clone(), world.options.stop_time);
    let change = Change::new("delete", &path).lasts(time * 2);
    world.operate(
        call,
        change.at_once(move |world| machines::stop(world, &stopping)).later(move |world| {
            machines::gone(world, &target);
            Ok(())
        }),
    )
}

fn stop(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "instance");
    world.find(&path)?;
    let (stopping, target, time) = (path.clone(), path.clone(), world.options.stop_time);
    let change = Change::new("stop", &path).lasts(time * 2);
    world.operate(
        call,
        change.at_once(move |world| machines::stop(world, &stopping)).later(move |world| {
            machines::stopped(world, &target);
            Ok(())
        }),
    )
}

fn set_labels(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "instance");
    if world.find(&path)?["labelFingerprint"] != call.body["labelFingerprint"] {
        return Err(Failure::condition_not_met());
    }
    let (labels, target) = (call.body["labels"].clone(), path.clone());
    world.operate(
        call,
        Change::new("setLabels", &path).later(move |world| {
            let fingerprint = world.fingerprint();
            world.update(&target, |machine| {
                machine["labels"] = if labels.is_null() { json!({}) } else { labels };
                machine["labelFingerprint"] = fingerprint.into();
            });
            Ok(())
        }),
    )
}
