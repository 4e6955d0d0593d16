//! The network: what its resources have in common.
//!
//! Each is written as a whole, with the parts that are resources in its `properties`; the parts have its `ETag`.

pub(super) mod gateways;
pub(super) mod interfaces;
pub(super) mod load_balancers;
pub(super) mod traffic_manager;

use serde_json::{Value, json};

use super::{check_location, requests, rows, shown, unknown};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::What;
use crate::world::{Outcome, World, merge};

/// Refuses a resource that cannot be, and adds what the server says about its parts.
type Complete = fn(id: &str, resource: &mut Value) -> Result<(), Failure>;

/// What is done with a network resource of its own.
fn handle(world: &mut World, call: &Call, complete: Complete) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => Ok(Answer::ok(shown(world.find(call.id())?))),
        ("GET", What::List) => Ok(world.page(call, rows(world, call))),
        ("PUT", What::Resource) => {
            check_location(world, &call.body)?;
            write(world, call, call.body.clone(), complete)
        }
        ("PATCH", What::Resource) => patch(world, call),
        ("DELETE", What::Resource) => delete(world, call),
        _ => unknown(world, call),
    }
}

/// Writes a resource, for a call that is about it.
fn write(world: &mut World, call: &Call, resource: Value, complete: Complete) -> Result<Answer, Failure> {
    let status = if world.get(call.id()).is_some() { 200 } else { 201 };
    let operation = store(world, call, call.id(), resource, complete)?;
    let answer = Answer::new(status, shown(world.find(call.id())?));
    Ok(world.follow(call, &operation, answer))
}

/// Stores a resource, for a call that is about it or about a part of it. Gives back the operation that this is.
fn store(world: &mut World, call: &Call, id: &str, mut resource: Value, complete: Complete) -> Result<String, Failure> {
    world.check_conditions(call, id)?;
    check_idle(world, call, id)?;
    if !resource["properties"].is_object() {
        resource["properties"] = json!({});
    }
    complete(id, &mut resource)?;
    let there = world.get(id).cloned();
    resource["properties"]["provisioningState"] = "Updating".into();
    if let Some(there) = there {
        requests::keep(world, id, &there);
        world.update(id, |old| {
            for field in ["id", "name", "type", "location"] {
                resource[field] = there[field].clone();
            }
            resource["properties"]["resourceGuid"] = there["properties"]["resourceGuid"].clone();
            *old = resource;
        });
    } else {
        resource["location"] = world.options.location.as_str().into();
        resource["properties"]["resourceGuid"] = world.uuid().into();
        world.create(id, resource);
    }
    Ok(world.operate_on(call, id, false, |_| Ok(Outcome::Done(Value::Null))))
}

/// `PATCH` changes the tags of a network resource and nothing else.
fn patch(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.find(call.id())?;
    world.check_conditions(call, call.id())?;
    let tags = json!({ "tags": call.body["tags"] });
    world.update(call.id(), |resource| merge(resource, &tags));
    Ok(Answer::ok(shown(world.find(call.id())?)))
}

fn delete(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    if world.get(call.id()).is_none() {
        return Ok(Answer::nothing());
    }
    world.check_conditions(call, call.id())?;
    check_idle(world, call, call.id())?;
    world.set_state(call.id(), "Deleting");
    let operation = world.operate(call, |_| Ok(Outcome::Done(Value::Null)));
    Ok(world.accepted(call, &operation))
}

/// Refuses a change while another one is on its way.
fn check_idle(world: &World, call: &Call, id: &str) -> Result<(), Failure> {
    let Some(operation) = world.running(id).into_iter().next().filter(|_| world.is_busy(id)) else { return Ok(()) };
    let message = format!(
        "Another operation on this or dependent resource is in progress. To retrieve status of the operation use uri: \
         {}/subscriptions/{}/providers/Microsoft.Network/locations/{}/operations/{operation}?api-version={}.",
        call.base,
        world.options.subscription,
        world.options.location,
        call.api_version()
    );
    Err(Failure::new(429, "AnotherOperationInProgress", message).later(world.options.retry_after))
}

/// Says of the parts in some lists of a resource what the server does: their ids, types and states.
fn complete_parts(id: &str, kind: &str, resource: &mut Value, lists: &[&str]) -> Result<(), Failure> {
    for list in lists {
        let mut names = std::collections::BTreeSet::new();
        for part in resource["properties"].get_mut(*list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(name) = part["name"].as_str().map(str::to_owned) else {
                let message = format!("A resource in {list} has no name.");
                return Err(Failure::new(400, "InvalidRequestFormat", message));
            };
            if !names.insert(name.to_ascii_lowercase()) {
                let message = format!("Cannot parse the request: {list} has more than one '{name}'.");
                return Err(Failure::new(400, "InvalidRequestFormat", message));
            }
            part["id"] = format!("{id}/{list}/{name}").into();
            part["type"] = format!("{kind}/{list}").into();
            part["properties"]["provisioningState"] = "Succeeded".into();
        }
    }
    Ok(())
}

/// Refuses parts that refer to other parts of the same resource that are not there. `references`: the list, and the field of
/// its parts' properties that refers.
fn check_references(id: &str, resource: &Value, references: &[(&str, &str)]) -> Result<(), Failure> {
    let own = format!("{}/", id.to_ascii_lowercase());
    for (list, field) in references {
        for part in resource["properties"][*list].as_array().into_iter().flatten() {
            let one = std::slice::from_ref(&part["properties"][*field]);
            let all = part["properties"][*field].as_array().map_or(one, Vec::as_slice);
            for target in all.iter().filter_map(|reference| reference["id"].as_str()) {
                let target = target.to_ascii_lowercase();
                let is_there =
                    target.strip_prefix(&own).and_then(|rest| rest.split_once('/')).is_some_and(|(kind, name)| {
                        let lists = resource["properties"].as_object().into_iter().flatten();
                        let mut parts = lists
                            .filter(|(list, _)| list.eq_ignore_ascii_case(kind))
                            .filter_map(|(_, list)| list.as_array());
                        parts.any(|parts| parts.iter().any(|part| is_named(part, name)))
                    });
                if !is_there {
                    let message = format!(
                        "Resource {target} referenced by resource {} was not found. Please make sure that the referenced \
                         resource exists, and that both resources are in the same region.",
                        part["id"].as_str().unwrap_or_default()
                    );
                    return Err(Failure::new(400, "InvalidResourceReference", message));
                }
            }
        }
    }
    Ok(())
}

/// Whether a part has this name, in any letters.
fn is_named(part: &Value, name: &str) -> bool {
    part["name"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name))
}
