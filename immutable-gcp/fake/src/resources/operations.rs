//! Operations, as they are read.

use serde_json::Value;

use super::unknown;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::World;

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        // The real `wait` may answer before the operation is done, too.
        "get" | "wait" => world.find(&call.target("operations", "operation")).cloned(),
        "list" => world.list(call, &format!("{}/operations", call.scope()), "compute#operationList"),
        _ => unknown(world, call),
    }
}
