//! Traffic Manager: profiles, and their endpoints with weights. Nothing of it has an `ETag`, and nothing takes time.

use serde_json::{Value, json};

use super::is_named;
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::resources::{rows, shown, unknown};
use crate::route::{What, name_of};
use crate::world::{World, merge};

const KIND: &str = "Microsoft.Network/trafficManagerProfiles";

pub(in crate::resources) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let id = call.id();
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => Ok(Answer::ok(shown(world.find(id)?))),
        ("GET", What::List) => Ok(world.page(call, rows(world, call))),
        ("PUT", What::Resource) => write(world, id, call.body.clone()),
        ("PATCH", What::Resource) => {
            let mut profile = world.find(id)?.clone();
            merge(&mut profile, &call.body);
            write(world, id, profile)
        }
        ("DELETE", What::Resource) => Ok(match world.remove(id) {
            Some(_) => Answer::new(200, Value::Null),
            None => Answer::nothing(),
        }),
        _ => unknown(world, call),
    }
}

/// One endpoint: a part that can be written by itself.
pub(in crate::resources) fn handle_endpoints(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let (parent, name) = (call.id().rsplitn(3, '/').nth(2).unwrap_or_default().to_owned(), name_of(call.id()));
    let mut profile = world.find(&parent)?.clone();
    let mut endpoints = profile["properties"]["endpoints"].as_array().cloned().unwrap_or_default();
    let there = endpoints.iter().position(|one| is_named(one, name) && one["type"] == call.kind());
    let missing = || Failure::not_found(call.kind(), call.id());
    let mut status = 200;
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => return Ok(Answer::ok(endpoints[there.ok_or_else(missing)?].clone())),
        ("PUT", What::Resource) => {
            let mut endpoint = call.body.clone();
            endpoint["name"] = name.into();
            endpoint["type"] = call.kind().into();
            if let Some(index) = there {
                endpoints[index] = endpoint;
            } else {
                endpoints.push(endpoint);
                status = 201;
            }
        }
        ("PATCH", What::Resource) => merge(&mut endpoints[there.ok_or_else(missing)?], &call.body),
        ("DELETE", What::Resource) => {
            let Some(index) = there else { return Ok(Answer::nothing()) };
            endpoints.remove(index);
        }
        _ => return unknown(world, call),
    }
    profile["properties"]["endpoints"] = endpoints.into();
    let written = write(world, &parent, profile)?.body;
    let endpoints = written["properties"]["endpoints"].as_array().cloned().unwrap_or_default();
    let endpoint = endpoints.into_iter().find(|one| is_named(one, name) && one["type"] == call.kind());
    Ok(Answer::new(status, endpoint.unwrap_or_default()))
}

fn write(world: &mut World, id: &str, mut profile: Value) -> Result<Answer, Failure> {
    let refuse = |message: &str| Err(Failure::new(400, "BadRequest", message));
    if profile["location"] != "global" {
        return refuse("The location of a profile must be 'global'.");
    }
    let properties = &mut profile["properties"];
    for (field, value) in [("profileStatus", json!("Enabled")), ("endpoints", json!([]))] {
        if properties[field].is_null() {
            properties[field] = value;
        }
    }
    let Some(name) = properties["dnsConfig"]["relativeName"].as_str().map(str::to_owned) else {
        return refuse("The dnsConfig of a profile must have a relativeName.");
    };
    if !properties["monitorConfig"]["protocol"].is_string() || !properties["trafficRoutingMethod"].is_string() {
        return refuse("A profile must have a monitorConfig and a trafficRoutingMethod.");
    }
    properties["dnsConfig"]["fqdn"] = format!("{name}.trafficmanager.net").into();
    properties["monitorConfig"]["profileMonitorStatus"] = "Online".into();
    let mut names = std::collections::BTreeSet::new();
    for endpoint in properties["endpoints"].as_array_mut().into_iter().flatten() {
        let kind = endpoint["type"].as_str().and_then(|kind| kind.rsplit('/').next()).unwrap_or_default().to_owned();
        let Some(name) = endpoint["name"].as_str().map(str::to_owned).filter(|name| names.insert(name.clone())) else {
            return refuse("An endpoint of a profile must have a name of its own.");
        };
        if !matches!(kind.as_str(), "azureEndpoints" | "externalEndpoints" | "nestedEndpoints") {
            return refuse("The type of an endpoint is unknown.");
        }
        let said = &mut endpoint["properties"];
        if said["target"].is_null() && said["targetResourceId"].is_null() {
            return refuse("An endpoint must have a target.");
        }
        let weight = said.get("weight").cloned().unwrap_or(json!(1));
        if !weight.as_u64().is_some_and(|weight| (1..=1000).contains(&weight)) {
            return refuse("The weight of an endpoint must be between 1 and 1000.");
        }
        said["weight"] = weight;
        if said["endpointStatus"].is_null() {
            said["endpointStatus"] = "Enabled".into();
        }
        let enabled = said["endpointStatus"] == "Enabled";
        said["endpointMonitorStatus"] = if enabled { "Online" } else { "Disabled" }.into();
        endpoint["id"] = format!("{id}/{kind}/{name}").into();
        endpoint["type"] = format!("{KIND}/{kind}").into();
    }
    let there = world.get(id).is_some();
    if there {
        world.update(id, |old| *old = profile);
    } else {
        world.create(id, profile);
    }
    world.find(id).map(|profile| Answer::new(if there { 200 } else { 201 }, shown(profile)))
}
