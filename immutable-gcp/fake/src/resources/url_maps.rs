//! URL maps: where requests go.

use serde_json::Value;

use super::{backend_services, unknown};
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{World, merge};

const COLLECTION: &str = "urlMaps";

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    match verb {
        "get" => world.find(&call.target(COLLECTION, "urlMap")).cloned(),
        "patch" | "update" => change(world, call, verb),
        _ => unknown(world, call),
    }
}

fn change(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    let path = call.target(COLLECTION, "urlMap");
    world.expect_fingerprint(&path, &call.body["fingerprint"])?;
    let mut next = world.find(&path)?.clone();
    if verb == "patch" {
        merge(&mut next, &call.body);
    } else {
        next = backend_services::replaced(&next, &call.body);
    }
    check(world, &call.scope(), &next)?;
    backend_services::write(world, call, &path, next)
}

/// What Compute Engine says of a URL map that cannot be.
fn check(world: &World, scope: &str, map: &Value) -> Result<(), Failure> {
    let matchers = map["pathMatchers"].as_array().into_iter().flatten();
    for (index, part) in [map].into_iter().chain(matchers).enumerate() {
        let field = if index == 0 { "resource".to_owned() } else { format!("resource.pathMatchers[{}]", index - 1) };
        let weighted = part["defaultRouteAction"]["weightedBackendServices"].as_array();
        let ways = [part.get("defaultService"), part.get("defaultUrlRedirect")].into_iter().flatten().count();
        if ways + usize::from(weighted.is_some()) != 1 {
            let why = "Exactly one of defaultService, defaultUrlRedirect and weightedBackendServices must be set.";
            return Err(Failure::invalid(&field, "", why));
        }
        let weighted = weighted.into_iter().flatten();
        let mut sum = None;
        for one in weighted {
            let url = one["backendService"].as_str().unwrap_or_default();
            let weight = one["weight"].as_u64().unwrap_or_default();
            *sum.get_or_insert(0) += weight;
            if weight > 1000 {
                return Err(Failure::invalid(
                    &format!("{field}.weight"),
                    &weight.to_string(),
                    "Must be from 0 to 1000.",
                ));
            }
            let service = known(world, scope, url)?;
            if service["loadBalancingScheme"] == "EXTERNAL" {
                return Err(Failure::invalid(&field, url, "Classic load balancers do not support weights."));
            }
        }
        if sum == Some(0) {
            return Err(Failure::invalid(&field, "", "At least one weight must be more than 0."));
        }
        if let Some(url) = part["defaultService"].as_str().filter(|url| !url.contains("/backendBuckets/")) {
            known(world, scope, url)?;
        }
    }
    Ok(())
}

/// A backend service in the scope of the URL map.
fn known<'a>(world: &'a World, scope: &str, url: &str) -> Result<&'a Value, Failure> {
    let path = world.path_of(url);
    if !path.starts_with(&format!("{scope}/backendServices/")) {
        return Err(Failure::invalid("resource.backendService", url, "It must be in the scope of the URL map."));
    }
    let service = world.find(&path)?;
    // Of the caller who writes a URL map; which fields are changed is all the same.
    let kind = if path.contains("/regions/") { "regionBackendServices" } else { "backendServices" };
    world.require(&format!("compute.{kind}.use"), &path)?;
    Ok(service)
}

/// Where the default route of a URL map, or of one of its path matchers, leads: backend services with their weights.
pub(super) fn leads_to(world: &World, map: &str, matcher: Option<&str>) -> Vec<(String, u64)> {
    let Some(map) = world.get(map) else { return Vec::new() };
    let mut matchers = map["pathMatchers"].as_array().into_iter().flatten();
    let part = match matcher {
        Some(name) => matchers.find(|matcher| matcher["name"] == name).unwrap_or(&Value::Null),
        None => map,
    };
    let weighted = part["defaultRouteAction"]["weightedBackendServices"].as_array().into_iter().flatten();
    let weighted = weighted.map(|one| (one["backendService"].as_str(), one["weight"].as_u64().unwrap_or_default()));
    let only = part["defaultService"].as_str().map(|service| (Some(service), 1));
    let all = weighted.chain(only).filter_map(|(url, weight)| Some((world.path_of(url?), weight)));
    all.filter(|(_, weight)| *weight > 0).collect()
}
