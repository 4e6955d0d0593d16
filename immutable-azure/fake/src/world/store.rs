//! Resources: made, found, changed, removed; their `ETag`s and states.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::World;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::{kind_of, name_of};

/// The resources, by their ids in small letters: ids mean the same in any.
#[derive(Debug, Default)]
pub(super) struct Resources {
    all: BTreeMap<String, Value>,
    /// When what lists may not show yet was made.
    made: BTreeMap<String, Duration>,
    /// What is gone, and lists may still show.
    gone: BTreeMap<String, (Duration, Value)>,
}

impl World {
    /// Makes a resource. What the server says about it is added: its id, name, type and `ETag`.
    pub(crate) fn create(&mut self, id: &str, mut body: Value) {
        let kind = kind_of(id).unwrap_or_default();
        body["id"] = id.into();
        body["name"] = match id.rsplitn(4, '/').collect::<Vec<_>>()[..] {
            [number, _, set, _] if kind == MEMBER => format!("{set}_{number}").into(),
            _ => name_of(id).into(),
        };
        if kind != NIC_OF_MEMBER {
            body["type"] = kind.into();
        }
        self.stamp(kind, &mut body);
        let now = self.now();
        self.resources.made.insert(key(id), now);
        self.resources.all.insert(key(id), body);
    }

    /// Gives a resource, and what of it has one too, a new `ETag`.
    fn stamp(&mut self, kind: &str, resource: &mut Value) {
        let uuid = self.uuid();
        if kind.starts_with("Microsoft.Network/trafficManagerProfiles") {
            return;
        }
        if kind.starts_with("Microsoft.Network/") || kind == NIC_OF_MEMBER {
            let etag = Value::from(format!("W/\"{uuid}\""));
            let parts = resource["properties"]
                .as_object_mut()
                .into_iter()
                .flatten()
                .filter_map(|(_, part)| part.as_array_mut());
            for part in parts.flatten().filter(|part| part["id"].is_string() && part["name"].is_string()) {
                part["etag"] = etag.clone();
            }
            resource["etag"] = etag;
        } else if TAGGED.contains(&kind) {
            resource["etag"] = format!("\"{uuid}\"").into();
        }
    }

    /// A resource, if it is there.
    pub(crate) fn get(&self, id: &str) -> Option<&Value> {
        self.resources.all.get(&key(id))
    }

    /// A resource, or the answer that there is none.
    pub(crate) fn find(&self, id: &str) -> Result<&Value, Failure> {
        self.get(id).ok_or_else(|| Failure::not_found(kind_of(id).unwrap_or_default(), id))
    }

    /// Changes a resource; whoever has its `ETag` has an old one now.
    pub(crate) fn update(&mut self, id: &str, change: impl FnOnce(&mut Value)) {
        let Some(mut resource) = self.resources.all.remove(&key(id)) else { return };
        change(&mut resource);
        self.stamp(kind_of(id).unwrap_or_default(), &mut resource);
        self.resources.all.insert(key(id), resource);
    }

    /// Changes what a resource shows of itself: nobody changed it. `field`: such as `/properties/provisioningState`.
    pub(crate) fn show(&mut self, id: &str, field: &str, value: impl Into<Value>) {
        let Some(mut place) = self.resources.all.get_mut(&key(id)) else { return };
        for part in field.trim_start_matches('/').split('/') {
            place = &mut place[part];
        }
        *place = value.into();
    }

    /// Shows what is going on with a resource, such as `Updating`.
    pub(crate) fn set_state(&mut self, id: &str, state: &str) {
        self.show(id, "/properties/provisioningState", state);
    }

    /// What is going on with a resource; nothing, if it is not there.
    pub(crate) fn state(&self, id: &str) -> &str {
        self.get(id).and_then(|resource| resource["properties"]["provisioningState"].as_str()).unwrap_or_default()
    }

    /// Removes a resource.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Value> {
        let id = key(id);
        let gone = self.resources.all.remove(&id)?;
        self.resources.made.remove(&id);
        let now = self.now();
        self.resources.gone.insert(id, (now, gone.clone()));
        Some(gone)
    }

    /// Refuses a change by somebody who has not seen the resource as it is.
    pub(crate) fn check_conditions(&self, call: &Call, id: &str) -> Result<(), Failure> {
        let there = self.get(id).and_then(|resource| resource["etag"].as_str());
        let is = |wanted: &str| {
            wanted.split(',').any(|one| there.is_some_and(|etag| one.trim() == "*" || one.trim() == etag))
        };
        let wrong = call.if_match.as_deref().is_some_and(|wanted| !is(wanted));
        if wrong || call.if_none_match.as_deref().is_some_and(is) {
            return Err(Failure::precondition_failed(id));
        }
        Ok(())
    }

    /// The ids of the resources of a type, in the order of their ids.
    pub(crate) fn all_of(&self, kind: &str) -> Vec<String> {
        self.below("").into_iter().filter(|(_, value)| value["type"] == kind).map(|(_, value)| id_in(value)).collect()
    }

    /// The resources whose ids begin so.
    pub(crate) fn below(&self, prefix: &str) -> Vec<(&String, &Value)> {
        let prefix = key(prefix);
        let from = self.resources.all.range(prefix.clone()..);
        from.take_while(|(id, _)| id.starts_with(&prefix)).collect()
    }

    /// What a list shows of the resources whose ids match: with a lag, what was.
    pub(crate) fn listed(&self, matches: impl Fn(&str) -> bool) -> BTreeMap<String, Value> {
        let seen = |at: Duration| at + self.options.list_lag <= self.now();
        let Resources { all, made, gone } = &self.resources;
        let gone = gone.iter().filter(|(id, (at, _))| matches(id) && !seen(*at));
        let mut listed: BTreeMap<_, _> = gone.map(|(id, (_, value))| (id.clone(), value.clone())).collect();
        let there = all.iter().filter(|(id, _)| matches(id) && made.get(*id).is_none_or(|at| seen(*at)));
        listed.extend(there.map(|(id, value)| (id.clone(), value.clone())));
        listed
    }
}

/// Members of a uniform scale set, which are named by their set and their number.
const MEMBER: &str = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines";

/// The interfaces of members of a uniform scale set have no type of their own in answers.
const NIC_OF_MEMBER: &str = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces";

/// What has an `ETag`, beside all of the network.
const TAGGED: &[&str] = &[
    "Microsoft.Compute/virtualMachineScaleSets",
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
    "Microsoft.Compute/virtualMachines",
];

/// What a resource is found by.
pub(crate) fn key(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// The id that a resource has.
pub(crate) fn id_in(resource: &Value) -> String {
    resource["id"].as_str().unwrap_or_default().to_owned()
}

/// Changes a value by a JSON merge patch (RFC 7396), as `PATCH` does.
pub(crate) fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    let Value::Object(fields) = value else { return };
    for (name, change) in patch {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_keeps_what_it_does_not_name() {
        let mut value = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        merge(&mut value, &json!({ "a": { "c": [3], "e": { "f": null } }, "d": null }));
        assert_eq!(value, json!({ "a": { "b": 1, "c": [3], "e": {} } }));
    }
}
