//! Lists: filtered, ordered, a page at a time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Map, Value, json};

use super::World;
use super::store::link;
use crate::call::Call;
use crate::failure::Failure;
use crate::filter::Filter;

/// One entry of a list, and what lists sort by unless told otherwise.
pub(crate) type Row = (String, Value);

impl World {
    /// The answer that lists a folder, such as `projects/p/zones/z/instances`. `kind`: such as `compute#instanceList`.
    pub(crate) fn list(&mut self, call: &Call, folder: &str, kind: &str) -> Result<Value, Failure> {
        let prefix = format!("{folder}/");
        let inside = |path: &str| path.strip_prefix(&prefix).is_some_and(|name| !name.contains('/'));
        let (rows, next) = self.page(call, self.listed(inside).into_iter().collect())?;
        let mut list = json!({ "kind": kind, "id": folder, "selfLink": link(folder) });
        if !rows.is_empty() {
            list["items"] = rows.into_iter().map(|(_, value)| value).collect();
        }
        if let Some(next) = next {
            list["nextPageToken"] = next.into();
        }
        Ok(list)
    }

    /// The answer that lists a collection, such as `instances`, of all scopes of its kind (`zones`, `regions`).
    pub(crate) fn list_all(&mut self, call: &Call, collection: &str, kind: &str) -> Result<Value, Failure> {
        let project = self.project();
        let inside = |path: &str| {
            path.strip_prefix(&project).is_some_and(|rest| rest.split('/').rev().nth(1) == Some(collection))
        };
        let unseen = self.options.unreachable.clone();
        let is_seen = |(path, _): &Row| !unseen.iter().any(|scope| path.starts_with(&format!("{project}/{scope}/")));
        let (rows, next) = self.page(call, self.listed(inside).into_iter().filter(is_seen).collect())?;
        let mut items = Map::new();
        for scope in self.scopes(collection) {
            let code = if unseen.contains(&scope) { "UNREACHABLE" } else { "NO_RESULTS_ON_PAGE" };
            items.insert(scope.clone(), nothing_in(&scope, code));
        }
        for (path, value) in rows {
            let scope =
                path[project.len() + 1..].split(&format!("/{collection}/")).next().unwrap_or_default().to_owned();
            let here = items.entry(scope).or_insert(Value::Null);
            if here.get(collection).is_none() {
                *here = json!({ collection: [] });
            }
            here[collection].as_array_mut().expect("invariant: made one line above").push(value);
        }
        let folder = format!("{project}/aggregated/{collection}");
        let mut list = json!({ "kind": kind, "id": folder, "selfLink": link(&folder), "items": items });
        if let Some(next) = next {
            list["nextPageToken"] = next.into();
        }
        Ok(list)
    }

    /// The entries of the page that a call asks for, and the token of the next one.
    pub(crate) fn page(&mut self, call: &Call, mut rows: Vec<Row>) -> Result<(Vec<Row>, Option<String>), Failure> {
        if let Some(text) = call.query("filter") {
            let filter = Filter::parse(text).map_err(|why| {
                self.violation(format!("{}: filter {text}: {why}", call.method));
                Failure::invalid("filter", text, "Invalid list filter expression.")
            })?;
            rows.retain(|(_, value)| filter.takes(value));
        }
        match call.query("orderBy") {
            None | Some("" | "name") => {}
            // Later ids are larger.
            Some("creationTimestamp desc") => {
                for (key, value) in &mut rows {
                    let id: u64 = value["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
                    *key = format!("{:020}/{key}", u64::MAX - id);
                }
            }
            Some(order) => return Err(Failure::invalid("orderBy", order, "Sorting is not supported.")),
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(token) = call.query("pageToken").filter(|token| !token.is_empty()) {
            let last = URL_SAFE.decode(token).ok().and_then(|last| String::from_utf8(last).ok());
            let last = last.ok_or_else(|| Failure::invalid("pageToken", token, "Invalid page token."))?;
            rows.retain(|(key, _)| *key > last);
        }
        let wanted = call.query("maxResults").and_then(|wanted| wanted.parse().ok()).filter(|wanted| *wanted > 0);
        let page = wanted.unwrap_or(usize::MAX).min(self.options.page).max(1);
        let more = rows.len() > page;
        rows.truncate(page);
        let next = rows.last().filter(|_| more).map(|(key, _)| URL_SAFE.encode(key));
        // The order is no part of where an entry is.
        if call.query("orderBy") == Some("creationTimestamp desc") {
            for (key, _) in &mut rows {
                *key = key.split_off(21);
            }
        }
        Ok((rows, next))
    }

    /// Where resources of a collection can be: answers for all scopes name those with none as well.
    fn scopes(&self, collection: &str) -> Vec<String> {
        let regions = self.options.regions.iter();
        match collection {
            "backendServices" | "urlMaps" | "healthChecks" | "instanceTemplates" => {
                let regions = regions.map(|(region, _)| format!("regions/{region}"));
                regions.chain(["global".to_owned()]).collect()
            }
            "instanceGroupManagers" => {
                let places = |(region, zones): (&String, &Vec<String>)| {
                    let zones = zones.iter().map(|zone| format!("zones/{zone}"));
                    zones.chain([format!("regions/{region}")]).collect::<Vec<_>>()
                };
                regions.flat_map(places).collect()
            }
            _ => regions.flat_map(|(_, zones)| zones).map(|zone| format!("zones/{zone}")).collect(),
        }
    }
}

fn nothing_in(scope: &str, code: &str) -> Value {
    json!({ "warning": {
        "code": code,
        "message": format!("There are no results for scope '{scope}' on this page."),
        "data": [{ "key": "scope", "value": scope }],
    } })
}
