//! Managed instance groups, zonal and regional, as clients ask for them.

mod life;
mod member;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{instances, unknown};
use crate::Fake;
use crate::call::Call;
use crate::failure::{Failure, OperationError};
use crate::world::{Change, World, link, merge, name};
use member::{Action, Member};

pub(super) use life::settle;

const COLLECTION: &str = "instanceGroupManagers";

/// The most instances that one request may name
/// (<https://docs.cloud.google.com/compute/docs/reference/rest/v1/regionInstanceGroupManagers/deleteInstances>).
const MAX_INSTANCES: usize = 1000;

/// What groups know beside what they show, by their paths.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<String, Group>);

#[derive(Debug, Default)]
struct Group {
    /// By their names, which are unique in a group.
    members: BTreeMap<String, Member>,
    /// It is being deleted.
    ends: bool,
}

impl Fake {
    /// Has a group hold that an instance of it is made of another template, as after somebody applied that one to it by hand:
    /// `zones/z/instances/i`, `global/instanceTemplates/t`. Whether there is such an instance in any group.
    pub fn set_template(&self, instance: &str, template: &str) -> bool {
        self.world(|world| {
            let (path, template) = (world.path_of(instance), world.path_of(template));
            let mut groups = std::mem::take(&mut world.groups);
            let members = groups.0.values_mut().flat_map(|group| &mut group.members);
            let member = members.map(|(name, member)| (member.path(world, name), member)).find(|(at, _)| *at == path);
            let found = member.map(|(_, member)| member.template = template).is_some();
            world.groups = groups;
            found
        })
    }
}

pub(super) fn handle(world: &mut World, call: &Call, verb: &str) -> Result<Value, Failure> {
    let path = call.params.get("instanceGroupManager").map(|name| format!("{}/{COLLECTION}/{name}", call.scope()));
    let Some(path) = path else {
        return match (verb, call.params.contains_key("region")) {
            ("insert", _) => insert(world, call),
            ("list", true) => world.list(call, &folder(call), "compute#regionInstanceGroupManagerList"),
            ("aggregatedList", _) => world.list_all(call, COLLECTION, "compute#instanceGroupManagerAggregatedList"),
            ("list", false) => world.list(call, &folder(call), "compute#instanceGroupManagerList"),
            _ => unknown(world, call),
        };
    };
    world.find(&path)?;
    match verb {
        "get" => world.find(&path).cloned(),
        "delete" => delete(world, call, &path),
        "patch" => patch(world, call, &path),
        "resize" => resize(world, call, &path),
        "deleteInstances" => release(world, call, &path, Action::Deleting),
        "abandonInstances" => release(world, call, &path, Action::Abandoning),
        "listManagedInstances" => member::list(world, call, &path),
        _ => unknown(world, call),
    }
}

fn folder(call: &Call) -> String {
    format!("{}/{COLLECTION}", call.scope())
}

fn insert(world: &mut World, call: &Call) -> Result<Value, Failure> {
    let path = call.inserted(COLLECTION);
    if world.get(&path).is_some() {
        return Err(Failure::already_exists(&path));
    }
    let mut group = call.body.clone();
    complete(world, call, &path, &mut group);
    refuse_dangling(world, &group)?;
    permit(world, &group, &path)?;
    let target = path.clone();
    world.operate(
        call,
        Change::new("insert", &path).later(move |world| {
            world.create(&target, group);
            world.groups.0.insert(target, Group::default());
            Ok(())
        }),
    )
}

/// Adds what the service has as its defaults.
fn complete(world: &World, call: &Call, path: &str, group: &mut Value) {
    let instance_group = path.replace(COLLECTION, "instanceGroups");
    group["instanceGroup"] = link(&instance_group).into();
    match (
        group["instanceTemplate"].clone(),
        group["versions"].as_array().and_then(|versions| versions.last()).cloned(),
    ) {
        (_, Some(version)) => group["instanceTemplate"] = version["instanceTemplate"].clone(),
        (template, None) => group["versions"] = json!([{ "instanceTemplate": template }]),
    }
    let mut defaults = json!({
        "baseInstanceName": name(path),
        "listManagedInstancesResults": "PAGELESS",
        "instanceLifecyclePolicy": { "defaultActionOnFailure": "REPAIR", "forceUpdateOnRepair": "NO" },
        "updatePolicy": { "type": "OPPORTUNISTIC", "minimalAction": "REPLACE", "replacementMethod": "SUBSTITUTE" },
    });
    if let Some(region) = call.params.get("region") {
        // Unless told otherwise, the service takes three zones of the region.
        let zones = world.options.regions.get(region).into_iter().flatten().take(3);
        let zones = zones.map(|zone| json!({ "zone": link(&format!("{}/zones/{zone}", world.project())) }));
        defaults["distributionPolicy"] = json!({ "zones": zones.collect::<Vec<_>>(), "targetShape": "EVEN" });
        defaults["updatePolicy"]["instanceRedistributionType"] = "PROACTIVE".into();
    }
    merge(&mut defaults, group);
    *group = defaults;
}

/// Refuses a group whose template or health check is not there.
fn refuse_dangling(world: &World, group: &Value) -> Result<(), Failure> {
    let versions = group["versions"].as_array().into_iter().flatten();
    for version in versions {
        let template = world.path_of(version["instanceTemplate"].as_str().unwrap_or_default());
        world.find(&template)?;
        world.require("compute.instanceTemplates.useReadOnly", &template)?;
    }
    let policies = group["autoHealingPolicies"].as_array().into_iter().flatten();
    for check in policies.filter_map(|policy| policy["healthCheck"].as_str()) {
        let check = world.path_of(check);
        world.find(&check)?;
        let kind = if check.contains("/regions/") { "regionHealthChecks" } else { "healthChecks" };
        world.require(&format!("compute.{kind}.useReadOnly"), &check)?;
    }
    Ok(())
}

/// Who makes a group must be allowed to make the machines that its template describes
/// (<https://docs.cloud.google.com/compute/docs/instance-groups/create-mig-with-basic-configs>).
fn permit(world: &World, group: &Value, path: &str) -> Result<(), Failure> {
    world.require("compute.instances.create", path)?;
    for version in group["versions"].as_array().into_iter().flatten() {
        let template = world.find(&world.path_of(version["instanceTemplate"].as_str().unwrap_or_default()))?;
        instances::permit(world, &template["properties"], path)?;
    }
    Ok(())
}

fn delete(world: &mut World, call: &Call, path: &str) -> Result<Value, Failure> {
    let instance_group = path.replace(COLLECTION, "instanceGroups");
    world.require("compute.instanceGroups.delete", &instance_group)?;
    if let Some(user) = world.user_of(&instance_group, &["backendServices"]) {
        return Err(Failure::in_use(&instance_group, user));
    }
    let target = path.to_owned();
    world.operate(
        call,
        Change::new("delete", path).open().later(move |world| {
            world.show(&target, "targetSize", 0);
            if let Some(group) = world.groups.0.get_mut(&target) {
                group.ends = true;
            }
            Ok(())
        }),
    )
}

fn patch(world: &mut World, call: &Call, path: &str) -> Result<Value, Failure> {
    world.expect_fingerprint(path, &call.body["fingerprint"])?;
    let mut changed = world.find(path)?.clone();
    merge(&mut changed, &call.body);
    refuse_dangling(world, &changed)?;
    let (target, body) = (path.to_owned(), call.body.clone());
    world.operate(
        call,
        Change::new("patch", path).later(move |world| {
            world.update(&target, |group| merge(group, &body));
            Ok(())
        }),
    )
}

fn resize(world: &mut World, call: &Call, path: &str) -> Result<Value, Failure> {
    let size: u64 = call.query("size").and_then(|size| size.parse().ok()).unwrap_or_default();
    let target = path.to_owned();
    world.operate(
        call,
        Change::new("compute.instanceGroupManagers.resize", path).later(move |world| {
            world.update(&target, |group| group["targetSize"] = size.into());
            Ok(())
        }),
    )
}

/// Takes instances out of a group for good, and makes it smaller by them: deleted, or left alone.
fn release(world: &mut World, call: &Call, path: &str, action: Action) -> Result<Value, Failure> {
    let named: Vec<String> = call.body["instances"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|link| link.as_str().map(str::to_owned))
        .collect();
    if named.is_empty() || named.len() > MAX_INSTANCES {
        let why = format!("Between 1 and {MAX_INSTANCES} instances must be named.");
        return Err(Failure::invalid("instances", &named.len().to_string(), &why));
    }
    let skip = call.body["skipInstancesOnValidationError"] == true;
    let (target, verb) = (path.to_owned(), call.name().1.to_owned());
    world.operate(
        call,
        Change::new(&format!("compute.instanceGroupManagers.{verb}"), path).later(move |world| {
            let members = members(world, &target, &named, skip)?;
            let size = world.find(&target)?["targetSize"].as_u64().unwrap_or_default();
            let size = size.saturating_sub(members.len() as u64);
            world.update(&target, |group| group["targetSize"] = size.into());
            let Some(group) = world.groups.0.get_mut(&target) else { return Ok(()) };
            for name in members {
                if action == Action::Abandoning {
                    group.members.remove(&name);
                } else if let Some(member) = group.members.get_mut(&name) {
                    member.action = action;
                }
            }
            Ok(())
        }),
    )
}

/// The names of the members that these links mean. What is no member, or goes already, is an error unless it is skipped.
fn members(world: &World, path: &str, links: &[String], skip: bool) -> Result<Vec<String>, OperationError> {
    let mut found = Vec::new();
    let group = world.groups.0.get(path);
    for link in links {
        let name = name(link);
        let member = group.and_then(|group| group.members.get(name));
        let member = member.filter(|member| !link.contains('/') || world.path_of(link) == member.path(world, name));
        match member {
            Some(member) if member.action.stays() => found.push(name.to_owned()),
            _ if skip => {}
            _ => {
                let message = format!("The instance '{link}' is not a member of '{path}', or is being deleted");
                return Err(OperationError::new("INVALID_FIELD_VALUE", message));
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
