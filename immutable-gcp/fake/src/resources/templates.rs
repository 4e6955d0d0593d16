//! Instance templates. They cannot be changed.

use serde_json::Value;

use super::unknown;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{Change, World};

const COLLECTION: &str = "instanceTemplates";

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "insert" => insert(world, call),
        "get" => world.find(&call.target(COLLECTION, "instanceTemplate")).cloned(),
        "list" => world.list(call, &format!("{}/{COLLECTION}", call.scope()), "compute#instanceTemplateList"),
        "aggregatedList" => world.list_all(call, COLLECTION, "compute#instanceTemplateAggregatedList"),
        "delete" => delete(world, call),
        _ => unknown(world, call),
    }
}

/// The real service looks at the image only when a machine is to be made of it, and so does the fake.
fn insert(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.inserted(COLLECTION);
    if world.get(&path).is_some() {
        return Err(Failure::already_exists(&path));
    }
    if call.body["properties"]["disks"].as_array().is_none_or(Vec::is_empty) {
        return Err(Failure::invalid("resource.properties.disks", "", "At least one disk is required."));
    }
    super::instances::act_as(world, &call.body["properties"])?;
    let (template, target) = (call.body.clone(), path.clone());
    world.operate(
        call,
        Change::new("insert", &path).later(move |world| {
            world.create(&target, template);
            Ok(())
        }),
    )
}

fn delete(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "instanceTemplate");
    world.find(&path)?;
    if let Some(user) = world.user_of(&path, &["instanceGroupManagers"]) {
        return Err(Failure::in_use(&path, user));
    }
    let target = path.clone();
    world.operate(
        call,
        Change::new("delete", &path).later(move |world| {
            world.remove(&target);
            Ok(())
        }),
    )
}
