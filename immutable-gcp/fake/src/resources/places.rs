//! Regions and zones.

use serde_json::{Value, json};

use super::unknown;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{Row, World, link};

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    let regional = call.name().0 == "regions";
    let rows = if regional { regions(world) } else { zones(world) };
    match verb {
        "get" => {
            let name = call.param(if regional { "region" } else { "zone" });
            let found = rows.into_iter().find(|(key, _)| key == name);
            Ok(found.expect("invariant: a call where nothing is was refused before").1)
        }
        "list" => {
            let (rows, next) = world.page(call, rows)?;
            let kind = if regional { "compute#regionList" } else { "compute#zoneList" };
            let items: Vec<Value> = rows.into_iter().map(|(_, value)| value).collect();
            let mut list = json!({ "kind": kind, "items": items });
            if let Some(next) = next {
                list["nextPageToken"] = next.into();
            }
            Ok(list)
        }
        _ => unknown(world, call),
    }
}

fn regions(world: &World) -> Vec<Row> {
    let project = world.project();
    let row = |(region, zones): (&String, &Vec<String>)| {
        let zones: Vec<String> = zones.iter().map(|zone| link(&format!("{project}/zones/{zone}"))).collect();
        let value = json!({
            "kind": "compute#region",
            "name": region,
            "selfLink": link(&format!("{project}/regions/{region}")),
            "status": "UP",
            "zones": zones,
        });
        (region.clone(), value)
    };
    world.options.regions.iter().map(row).collect()
}

fn zones(world: &World) -> Vec<Row> {
    let project = world.project();
    let all = world.options.regions.iter().flat_map(|(region, zones)| zones.iter().map(move |zone| (region, zone)));
    let row = |(region, zone): (&String, &String)| {
        let value = json!({
            "kind": "compute#zone",
            "name": zone,
            "selfLink": link(&format!("{project}/zones/{zone}")),
            "region": link(&format!("{project}/regions/{region}")),
            "status": "UP",
        });
        (zone.clone(), value)
    };
    all.map(row).collect()
}
