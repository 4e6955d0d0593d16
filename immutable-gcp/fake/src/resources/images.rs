//! Images.

use serde_json::{Value, json};

use super::unknown;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{Change, World, link};

const COLLECTION: &str = "images";

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "insert" => insert(world, call),
        "get" => world.find(&call.target(COLLECTION, "image")).cloned(),
        "getFromFamily" => {
            let family = format!("{}/{COLLECTION}/family/{}", call.scope(), call.param("family"));
            let newest = resolve(world, &family)?;
            world.find(&newest).cloned()
        }
        "list" => world.list(call, &format!("{}/{COLLECTION}", call.scope()), "compute#imageList"),
        "delete" => delete(world, call),
        "deprecate" => deprecate(world, call),
        "setLabels" => set_labels(world, call),
        _ => unknown(world, call),
    }
}

/// An image of a disk: it is there at once, and ready when the operation is half done.
fn insert(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.inserted(COLLECTION);
    if world.get(&path).is_some() {
        return Err(Failure::already_exists(&path));
    }
    let Some(disk) = call.body["sourceDisk"].as_str().map(|disk| world.path_of(disk)) else {
        // Copies, and what comes from files and snapshots.
        return unknown(world, call);
    };
    world.require("compute.disks.useReadOnly", &disk)?;
    if call.body.get("labels").is_some() {
        world.require("compute.images.setLabels", &path)?;
    }
    let source = world.find(&disk)?.clone();
    let mut users = source["users"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let runs = |user: &&str| world.get(&world.path_of(user)).is_some_and(|machine| machine["status"] != "TERMINATED");
    if call.query("forceCreate") != Some("true")
        && let Some(user) = users.find(runs)
    {
        return Err(Failure::in_use(&disk, user));
    }
    let mut image = call.body.clone();
    image["status"] = "PENDING".into();
    image["sourceDisk"] = link(&disk).into();
    image["sourceDiskId"] = source["id"].clone();
    image["diskSizeGb"] = source["sizeGb"].clone();
    image["sourceType"] = "RAW".into();
    let (begun, done, time) = (path.clone(), path.clone(), world.options.image_time);
    world.operate(
        call,
        Change::new("insert", &path).lasts(time * 2).at_once(move |world| world.create(&begun, image)).later(
            move |world| {
                world.show(&done, "archiveSizeBytes", "1000000");
                world.show(&done, "status", "READY");
                Ok(())
            },
        ),
    )
}

/// What was started from an image goes on without it.
fn delete(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "image");
    world.find(&path)?;
    let (begun, target) = (path.clone(), path.clone());
    world.operate(
        call,
        Change::new("delete", &path).at_once(move |world| world.show(&begun, "status", "DELETING")).later(
            move |world| {
                world.remove(&target);
                Ok(())
            },
        ),
    )
}

fn deprecate(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "image");
    world.find(&path)?;
    let (wanted, target) = (call.body.clone(), path.clone());
    world.operate(
        call,
        Change::new("deprecate", &path).later(move |world| {
            let is_active = wanted["state"] == "ACTIVE";
            world.show(&target, "deprecated", if is_active { json!({ "state": "ACTIVE" }) } else { wanted });
            Ok(())
        }),
    )
}

fn set_labels(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "resource");
    if world.find(&path)?["labelFingerprint"] != call.body["labelFingerprint"] {
        return Err(Failure::condition_not_met());
    }
    let (labels, target) = (call.body["labels"].clone(), path.clone());
    world.operate(
        call,
        Change::new("setLabels", &path).later(move |world| {
            let fingerprint = world.fingerprint();
            world.show(&target, "labels", if labels.is_null() { json!({}) } else { labels });
            world.show(&target, "labelFingerprint", fingerprint);
            Ok(())
        }),
    )
}

/// The image that a link to an image or to an image family means: of a family, the newest that is not deprecated.
pub(super) fn resolve(world: &World, link: &str) -> Result<String, Failure> {
    let path = world.path_of(link);
    let Some((folder, family)) = path.split_once("/family/") else {
        world.find(&path)?;
        return Ok(path);
    };
    let current = world.children(folder).filter(|(_, image)| {
        image["family"] == family && image["deprecated"]["state"].as_str().is_none_or(|state| state == "ACTIVE")
    });
    let newest = current.max_by_key(|(_, image)| image["id"].as_str().and_then(|id| id.parse::<u64>().ok()));
    newest.map(|(path, _)| path.clone()).ok_or_else(|| Failure::not_found(&path))
}
