//! What the fake knows to do: a module for each kind of resource.

mod backend_services;
pub(crate) mod builders;
mod disks;
pub(crate) mod endpoint_groups;
pub(crate) mod groups;
mod images;
mod instances;
pub(crate) mod machines;
pub(crate) mod monitoring;
mod operations;
mod places;
pub(crate) mod requests;
mod templates;
mod url_maps;

use serde_json::Value;

use crate::call::Call;
use crate::failure::Failure;
use crate::world::World;

/// Does what a call asks for. Zonal, regional and global variants of a resource have one handler.
pub(crate) fn handle(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let (resource, verb) = call.name();
    match resource {
        "backendServices" | "regionBackendServices" => backend_services::handle(world, call, verb),
        "globalOperations" | "regionOperations" | "zoneOperations" => operations::handle(world, call, verb),
        "disks" => disks::handle(world, call, verb),
        "images" => images::handle(world, call, verb),
        "instanceGroupManagers" | "regionInstanceGroupManagers" => groups::handle(world, call, verb),
        "instanceTemplates" => templates::handle(world, call, verb),
        "instances" => instances::handle(world, call, verb),
        "networkEndpointGroups" => endpoint_groups::handle(world, call, verb),
        "regionUrlMaps" | "urlMaps" => url_maps::handle(world, call, verb),
        "regions" | "zones" => places::handle(world, call, verb),
        "timeSeries" => monitoring::handle(world, call, verb),
        _ => unknown(world, call),
    }
}

/// Google knows this method, the fake does not: a client that calls it cannot be tested with it.
pub(crate) fn unknown(world: &mut World, call: &Call) -> Result<Value, Failure> {
    world.violation(format!("{}: the fake does not do this", call.method));
    Err(Failure::new(501, "notImplemented", "The fake does not do this."))
}

/// Brings what acts on its own to where it is now: after each thing that happened.
pub(crate) fn settle(world: &mut World) {
    groups::settle(world);
    endpoint_groups::settle(world);
    builders::settle(world);
}
