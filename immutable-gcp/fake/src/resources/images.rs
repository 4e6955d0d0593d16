//! Images.

use serde_json::Value;

use super::unknown;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::World;

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "get" => world.find(&call.target("images", "image")).cloned(),
        _ => unknown(world, call),
    }
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
