//! Galleries, image definitions and image versions.

use serde_json::{Value, json};

use super::{check_location, machines, rows, shown, unknown};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::{What, kind_of, name_of};
use crate::world::{Outcome, World, key, merge};

const IMAGES: &str = "Microsoft.Compute/galleries/images";
const VERSIONS: &str = "Microsoft.Compute/galleries/images/versions";

pub(super) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => {
            let mut found = shown(world.find(call.id())?);
            match call.query("$expand") {
                Some("ReplicationStatus") if call.kind() == VERSIONS => {
                    found["properties"]["replicationStatus"] = replication(&found);
                }
                Some(_) => return unknown(world, call),
                None => {}
            }
            Ok(Answer::ok(found))
        }
        ("GET", What::List) => {
            check_parent(world, call)?;
            Ok(world.page(call, rows(world, call)))
        }
        ("PUT", What::Resource) => write(world, call, call.body.clone()),
        ("PATCH", What::Resource) => {
            let mut resource = world.find(call.id())?.clone();
            merge(&mut resource, &call.body);
            write(world, call, resource)
        }
        ("DELETE", What::Resource) => delete(world, call),
        _ => unknown(world, call),
    }
}

fn write(world: &mut World, call: &Call, mut resource: Value) -> Result<Answer, Failure> {
    let id = call.id();
    check_location(world, &resource)?;
    check_parent(world, call)?;
    if world.is_busy(id) {
        return Err(Failure::conflict());
    }
    if !resource["properties"].is_object() {
        resource["properties"] = json!({});
    }
    let there = world.get(id).cloned();
    match call.kind() {
        IMAGES => check_image(&resource)?,
        VERSIONS => check_version(world, id, &mut resource, there.as_ref())?,
        _ => {}
    }
    let (status, state) = if there.is_some() { (200, "Updating") } else { (201, "Creating") };
    resource["properties"]["provisioningState"] = state.into();
    resource["location"] = world.options.location.as_str().into();
    if there.is_some() {
        for field in ["id", "name", "type"] {
            resource[field] = there.as_ref().map(|there| there[field].clone()).unwrap_or_default();
        }
        world.update(id, |there| *there = resource);
    } else {
        world.create(id, resource);
    }
    let operation = world.operate(call, |_| Ok(Outcome::Done(Value::Null)));
    let answer = Answer::new(status, shown(world.find(id)?));
    Ok(world.follow(call, &operation, answer))
}

fn delete(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let id = call.id();
    if world.get(id).is_none() {
        return Ok(Answer::nothing());
    }
    if !world.below(&format!("{id}/")).is_empty() {
        let message = "Can not delete resource before nested resources are deleted.";
        return Err(Failure::new(409, "CannotDeleteResource", message));
    }
    if world.is_busy(id) {
        return Err(Failure::conflict());
    }
    world.set_state(id, "Deleting");
    let operation = world.operate(call, |_| Ok(Outcome::Done(Value::Null)));
    Ok(world.accepted(call, &operation))
}

/// Refuses what is in a gallery or an image that is not there.
fn check_parent(world: &World, call: &Call) -> Result<(), Failure> {
    let parts: Vec<&str> = call.id().split('/').collect();
    let depth = call.kind().split('/').count();
    // `/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute` and a type and a name for each level.
    let parent = parts.get(..3 + depth * 2).map(|parts| parts.join("/")).unwrap_or_default();
    if depth == 2 || world.get(&parent).is_some() {
        return Ok(());
    }
    let message = format!(
        "Failed to perform 'read or write' on resource(s) of type '{}', because the parent resource '{parent}' could not be \
         found.",
        call.kind()
    );
    Err(Failure::new(404, "ParentResourceNotFound", message))
}

fn check_image(image: &Value) -> Result<(), Failure> {
    let properties = &image["properties"];
    for field in ["osType", "osState"] {
        if !properties[field].is_string() {
            return Err(Failure::invalid(field, format!("Required parameter '{field}' is missing (null).")));
        }
    }
    for field in ["publisher", "offer", "sku"] {
        if !properties["identifier"][field].is_string() {
            let field = format!("identifier.{field}");
            return Err(Failure::invalid(&field, format!("Required parameter '{field}' is missing (null).")));
        }
    }
    Ok(())
}

/// Refuses a version that cannot be, and adds when it was published.
fn check_version(world: &World, id: &str, version: &mut Value, there: Option<&Value>) -> Result<(), Failure> {
    let name = name_of(id);
    let numbers: Vec<&str> = name.split('.').collect();
    if numbers.len() != 3 || numbers.iter().any(|number| number.parse::<u32>().is_err()) {
        let message = format!("Gallery image version name '{name}' must be of the form Major.Minor.Patch.");
        return Err(Failure::invalid("galleryImageVersionName", message));
    }
    let source = version["properties"]["storageProfile"]["source"].clone();
    if let Some(there) = there {
        if there["properties"]["storageProfile"] != version["properties"]["storageProfile"] {
            let message = "Changing property 'galleryImageVersion.properties.storageProfile' is not allowed.";
            return Err(Failure::new(409, "PropertyChangeNotAllowed", message));
        }
    } else {
        let source = source["virtualMachineId"].as_str().or(source["id"].as_str());
        let Some(source) = source else {
            let message = "Required parameter 'storageProfile.source' is missing (null).";
            return Err(Failure::invalid("storageProfile.source", message));
        };
        world.find(source)?;
        let is_machine = kind_of(source) == Some("Microsoft.Compute/virtualMachines");
        if is_machine && !machines::is_generalized(world, source) {
            let message = "Capture operation cannot be completed because the VM is not marked generalized.";
            return Err(Failure::new(409, "OperationNotAllowed", message));
        }
    }
    let regions = version["properties"]["publishingProfile"]["targetRegions"].as_array().cloned().unwrap_or_default();
    let home = key(&world.options.location);
    if !regions.iter().any(|region| region["name"].as_str().is_some_and(|name| key(name).replace(' ', "") == home)) {
        let message = "The publishing profile's target regions must contain the location of the version.";
        return Err(Failure::invalid("publishingProfile.targetRegions", message));
    }
    let published = there.map(|there| there["properties"]["publishingProfile"]["publishedDate"].clone());
    version["properties"]["publishingProfile"]["publishedDate"] = published.unwrap_or_else(|| world.timestamp().into());
    Ok(())
}

/// Where a version is by now: everywhere, as soon as it is made.
fn replication(version: &Value) -> Value {
    let properties = &version["properties"];
    let (all, one, progress) = match properties["provisioningState"].as_str() {
        Some("Succeeded") => ("Completed", "Completed", 100),
        Some("Failed") => ("Failed", "Failed", 0),
        _ => ("InProgress", "Replicating", 0),
    };
    let regions = properties["publishingProfile"]["targetRegions"].as_array().into_iter().flatten();
    let summary: Vec<Value> =
        regions.map(|region| json!({ "region": region["name"], "state": one, "progress": progress })).collect();
    json!({ "aggregatedState": all, "summary": summary })
}
