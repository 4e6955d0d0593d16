//! Resources: made, found, changed, removed; their links, ids and fingerprints.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};

use super::World;
use crate::failure::Failure;

/// What the links in resources begin with.
const LINK: &str = "https://www.googleapis.com/compute/v1/";

/// What lists know less well than the resources themselves.
#[derive(Debug, Default)]
pub(super) struct Lag {
    made: BTreeMap<String, Duration>,
    gone: BTreeMap<String, (Duration, Value)>,
}

impl World {
    /// Makes a resource: its type is that of its collection, and the server's fields are added.
    pub(crate) fn create(&mut self, path: &str, mut body: Value) {
        let id = self.id();
        body["kind"] = format!("compute#{}", kind(path)).into();
        body["id"] = id.into();
        body["name"] = name(path).into();
        body["creationTimestamp"] = self.timestamp().into();
        body["selfLink"] = link(path).into();
        for scope in ["zone", "region"] {
            let parts: Vec<&str> = path.splitn(5, '/').collect();
            if parts.len() == 5 && parts[2] == format!("{scope}s") {
                body[scope] = link(&parts[..4].join("/")).into();
            }
        }
        let schema = schema(path);
        for field in ["fingerprint", "labelFingerprint"] {
            if self.api.compute().has_field(&schema, field) {
                body[field] = self.fingerprint().into();
            }
        }
        self.lag.made.insert(path.to_owned(), self.now());
        self.resources.insert(path.to_owned(), body);
    }

    /// Keeps something that is no resource with a name of its own, such as an operation, as it is.
    pub(super) fn keep(&mut self, path: &str, value: Value) {
        self.resources.insert(path.to_owned(), value);
    }

    /// A resource, if it is there.
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        self.resources.get(path)
    }

    /// A resource, or the answer that there is none.
    pub(crate) fn find(&self, path: &str) -> Result<&Value, Failure> {
        self.get(path).ok_or_else(|| Failure::not_found(path))
    }

    /// The whole path that a link or the end of a path means, such as `zones/z/instances/i`.
    pub(crate) fn path_of(&self, link: &str) -> String {
        path_of(&self.options.project, link)
    }

    /// What is not as the Discovery document says about a resource.
    pub(crate) fn check(&self, path: &str) -> Vec<String> {
        let resource = self.get(path).unwrap_or(&Value::Null);
        self.api.compute().check_resource(&schema(path), resource)
    }

    /// Changes a resource; whoever has its fingerprint has an old one now.
    pub(crate) fn update(&mut self, path: &str, change: impl FnOnce(&mut Value)) {
        let fingerprint = self.fingerprint();
        if let Some(resource) = self.resources.get_mut(path) {
            change(resource);
            if resource.get("fingerprint").is_some() {
                resource["fingerprint"] = fingerprint.into();
            }
        }
    }

    /// Changes what a resource shows of itself, such as its status: nobody changed it.
    pub(crate) fn show(&mut self, path: &str, field: &str, value: impl Into<Value>) {
        if let Some(resource) = self.resources.get_mut(path) {
            resource[field] = value.into();
        }
    }

    /// Removes a resource.
    pub(crate) fn remove(&mut self, path: &str) -> Option<Value> {
        let gone = self.resources.remove(path)?;
        self.lag.made.remove(path);
        self.lag.gone.insert(path.to_owned(), (self.now(), gone.clone()));
        Some(gone)
    }

    /// Refuses a change by somebody who has not seen the resource as it is. `given`: the fingerprint in the request.
    pub(crate) fn expect_fingerprint(&self, path: &str, given: &Value) -> Result<(), Failure> {
        if self.find(path)?["fingerprint"] == *given { Ok(()) } else { Err(Failure::condition_not_met()) }
    }

    /// The resources in a folder, such as `projects/p/zones/z/instances`, each with its path.
    pub(crate) fn children<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        let prefix = format!("{folder}/");
        self.below(&prefix).filter(move |(path, _)| !path[prefix.len()..].contains('/'))
    }

    /// The resources whose paths begin so.
    pub(crate) fn below<'a>(&'a self, prefix: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        let prefix = prefix.to_owned();
        self.resources.range(prefix.clone()..).take_while(move |(path, _)| path.starts_with(&prefix))
    }

    /// A resource of one of these collections that has a link to this one.
    pub(crate) fn user_of(&self, path: &str, collections: &[&str]) -> Option<&String> {
        let project = &self.options.project;
        let users = self.resources.iter().filter(|(user, value)| {
            collections.contains(&collection(user)) && user.as_str() != path && mentions(value, path, project)
        });
        users.map(|(user, _)| user).next()
    }

    /// What a list shows of these resources: with a lag, what was.
    pub(super) fn listed(&self, matches: impl Fn(&str) -> bool) -> BTreeMap<String, Value> {
        let lag = self.options.list_lag;
        let seen = |at: Duration| at + lag <= self.now();
        let gone = self.lag.gone.iter().filter(|(path, (at, _))| matches(path) && !seen(*at));
        let mut listed: BTreeMap<_, _> = gone.map(|(path, (_, value))| (path.clone(), value.clone())).collect();
        let there = self.resources.iter().filter(|(path, _)| matches(path));
        let there = there.filter(|(path, _)| self.lag.made.get(*path).is_none_or(|at| seen(*at)));
        listed.extend(there.map(|(path, value)| (path.clone(), value.clone())));
        listed
    }

    /// A new numeric id. Later ones are larger.
    pub(crate) fn id(&mut self) -> String {
        (1_000_000_000_000_000_000 + self.serial() * 7_919).to_string()
    }

    /// A new fingerprint.
    pub(crate) fn fingerprint(&mut self) -> String {
        URL_SAFE.encode(self.serial().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
    }
}

/// The full link to a resource.
pub(crate) fn link(path: &str) -> String {
    format!("{LINK}{path}")
}

/// The path that a full or partial link means.
fn path_of(project: &str, link: &str) -> String {
    let path = match link.split_once("/compute/v1/") {
        Some((_, path)) => path,
        None => link.trim_start_matches('/'),
    };
    if path.starts_with("projects/") { path.to_owned() } else { format!("projects/{project}/{path}") }
}

/// The last part of a path.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The part before the last.
fn collection(path: &str) -> &str {
    path.rsplit('/').nth(1).unwrap_or_default()
}

/// The type of what is in a collection: `urlMap` in `urlMaps`.
fn kind(path: &str) -> &str {
    collection(path).strip_suffix('s').unwrap_or_default()
}

/// The name of that type in the Discovery document: `UrlMap`.
fn schema(path: &str) -> String {
    let kind = kind(path);
    let (first, rest) = kind.split_at(kind.len().min(1));
    first.to_uppercase() + rest
}

/// Whether there is a link to this path anywhere in a value.
fn mentions(value: &Value, path: &str, project: &str) -> bool {
    match value {
        Value::String(text) => text.ends_with(name(path)) && path_of(project, text) == path,
        Value::Array(items) => items.iter().any(|item| mentions(item, path, project)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, path, project)),
        _ => false,
    }
}

/// Changes a value by a JSON merge patch (RFC 7396), as Google's `patch` methods do.
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
    fn links_of_every_kind_mean_the_same() {
        let path = "projects/p/zones/z/instances/i";
        for link in [
            "https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/i",
            "https://compute.googleapis.com/compute/v1/projects/p/zones/z/instances/i",
            "projects/p/zones/z/instances/i",
            "zones/z/instances/i",
            "/zones/z/instances/i",
        ] {
            assert_eq!(path_of("p", link), path, "{link}");
        }
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name() {
        let mut value = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        merge(&mut value, &json!({ "a": { "c": [3], "e": { "f": null } }, "d": null }));
        assert_eq!(value, json!({ "a": { "b": 1, "c": [3], "e": {} } }));
    }
}
