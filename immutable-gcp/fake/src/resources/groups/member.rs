//! The instances of a group, as the group knows them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::Call;
use crate::failure::{Failure, OperationError};
use crate::resources::machines;
use crate::world::{Row, World, link};

/// What a group does with one of its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Creating,
    /// It runs, and its first health check is awaited.
    Verifying,
    Recreating,
    Deleting,
    Abandoning,
}

impl Action {
    /// Whether the instance counts towards the size of the group.
    pub(super) fn stays(self) -> bool {
        !matches!(self, Self::Deleting | Self::Abandoning)
    }

    /// As the API calls it.
    fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Creating => "CREATING",
            Self::Verifying => "VERIFYING",
            Self::Recreating => "RECREATING",
            Self::Deleting => "DELETING",
            Self::Abandoning => "ABANDONING",
        }
    }

    /// As a group counts it in its `currentActions`.
    pub(super) fn count(self) -> String {
        self.name().to_lowercase()
    }
}

/// An instance of a group. Its machine may not be there.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) zone: String,
    /// The path of the template that it is made of, now and when it is repaired.
    pub(super) template: String,
    pub(super) action: Action,
    /// Why the last attempt to make its machine failed.
    pub(super) error: Option<OperationError>,
    /// When the next attempt is due.
    pub(super) retry: Duration,
    /// The machine that is to be replaced.
    pub(super) replaced: Option<Value>,
    /// Since when the machine runs.
    pub(super) runs: Option<Duration>,
    /// Since when the machine is off, as long as the group does nothing about it.
    pub(super) off: Option<Duration>,
}

impl Member {
    pub(super) fn new(zone: String, template: String) -> Self {
        let action = Action::Creating;
        Self { zone, template, action, error: None, retry: Duration::ZERO, replaced: None, runs: None, off: None }
    }

    /// The path of its machine.
    pub(super) fn path(&self, world: &World, name: &str) -> String {
        format!("{}/zones/{}/instances/{name}", world.project(), self.zone)
    }

    /// Its health by the group's health check.
    fn health(&self, world: &World, path: &str) -> Option<&'static str> {
        let since = self.runs.filter(|_| machines::status(world, path).is_some())?;
        match since {
            _ if machines::status(world, path) != Some("RUNNING") => Some("UNKNOWN"),
            _ if machines::is_ill(world, path) => Some("UNHEALTHY"),
            since if world.now() >= since + world.options.health_time => Some("HEALTHY"),
            _ => None,
        }
    }

    fn show(&self, world: &World, name: &str, check: Option<&str>) -> Value {
        let path = self.path(world, name);
        let mut shown = json!({
            "name": name,
            "instance": link(&path),
            "currentAction": self.action.name(),
            "targetStatus": match self.action {
                Action::Deleting => "DELETED",
                Action::Abandoning => "ABANDONED",
                _ => "RUNNING",
            },
        });
        if self.action.stays() {
            shown["version"] = json!({ "instanceTemplate": link(&self.template) });
        }
        if let Some(machine) = world.get(&path) {
            shown["id"] = machine["id"].clone();
            shown["instanceStatus"] = machine["status"].clone();
        }
        if let Some(error) = &self.error {
            shown["lastAttempt"] = json!({ "errors": error.to_json() });
        }
        // Nothing is said before the first check.
        if let (Some(check), Some(health)) = (check, self.health(world, &path)) {
            shown["instanceHealth"] = json!([{ "healthCheck": check, "detailedHealthState": health }]);
        }
        shown
    }
}

/// The answer that lists the instances of a group. A group has pages only if it was told to.
pub(super) fn list(world: &mut World, call: &Call, path: &str) -> Result<Value, Failure> {
    let group = world.find(path)?;
    let pages = group["listManagedInstancesResults"] == "PAGINATED";
    let check = group["autoHealingPolicies"][0]["healthCheck"].as_str().map(str::to_owned);
    let members = world.groups.0.get(path).into_iter().flat_map(|group| &group.members);
    let rows: Vec<Row> =
        members.map(|(name, member)| (name.clone(), member.show(world, name, check.as_deref()))).collect();
    if let Some(order) = call.query("orderBy") {
        return Err(Failure::invalid("orderBy", order, "Sorting is not supported."));
    }
    if let (Some(token), false) = (call.query("pageToken"), pages) {
        return Err(Failure::invalid("pageToken", token, "The group's list of managed instances has no pages."));
    }
    let page = world.options.page;
    if !pages {
        world.options.page = usize::MAX;
    }
    let answer = world.page(call, rows);
    world.options.page = page;
    let (rows, next) = answer?;
    let mut list = json!({});
    if !rows.is_empty() {
        list["managedInstances"] = rows.into_iter().map(|(_, member)| member).collect();
    }
    if let Some(next) = next {
        list["nextPageToken"] = next.into();
    }
    Ok(list)
}
