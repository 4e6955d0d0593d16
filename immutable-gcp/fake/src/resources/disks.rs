//! Disks. They are made with the machines that they belong to.

use serde_json::Value;

use super::unknown;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{Change, World};

const COLLECTION: &str = "disks";

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "get" => world.find(&call.target(COLLECTION, "disk")).cloned(),
        "list" => world.list(call, &format!("{}/{COLLECTION}", call.scope()), "compute#diskList"),
        "aggregatedList" => world.list_all(call, COLLECTION, "compute#diskAggregatedList"),
        "delete" => delete(world, call),
        _ => unknown(world, call),
    }
}

fn delete(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "disk");
    if let Some(user) = world.find(&path)?["users"][0].as_str() {
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
