//! A gateway as a document: read as a whole, changed in places, written as a whole.
//!
//! # Guarantees
//! What is not changed is written as it was read, whether it is known here or not: Resource Manager takes
//! [what it told](https://github.com/Azure/azure-resource-manager-rpc/blob/master/v1.0/resource-api-reference.md#put-resource). It is written only if nobody has changed the gateway
//! since it was read.
//!
//! # Assumptions
//! What a gateway does not tell it keeps when it is not written: the private part of a certificate (`data` and `password` of `sslCertificates`), as the tools of
//! Azure rely on, which change a gateway in the same way. A certificate from Key Vault is named by its `keyVaultSecretId`, which is told.
//!
//! A version of the API does not tell what only later ones know, so this one has to be no older than what the gateway was made with.

use std::collections::BTreeSet;
use std::net::IpAddr;

use immutable_core::provider::{Effect, Progress, ProviderError};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::Config;
use crate::client::{Answer, Failure, Request};
use crate::error::{Complaint, failed, unseen};
use crate::looks;
use crate::operation::{Begun, SOON, Standing, begun};

/// The version of the API: <https://learn.microsoft.com/azure/templates/microsoft.network/change-log/applicationgateways>.
pub(crate) const API: &str = "2025-05-01";

const POOLS: &str = "backendAddressPools";

/// A gateway, as it was read and with what is to be changed.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    id: String,
    value: Value,
    etag: String,
    pub(super) standing: Standing,
}

/// How a write went.
#[derive(Debug)]
pub(super) enum Written {
    Begun(Begun),
    /// Something else goes on with the gateway, or with what it depends on. Nothing was written.
    Busy(Progress<()>),
}

impl Document {
    /// The gateway of this id, as it is now.
    ///
    /// # Errors
    /// `NotFound` when there is none; why it cannot be seen.
    pub(crate) async fn read(config: &Config, operation: &'static str, id: &str) -> Result<Self, ProviderError> {
        let request = Request::new(Method::GET, id, API);
        let answer = config.clients.send(request).await.map_err(|failure| unseen(operation, failure))?;
        Self::of(id, &answer).map_err(|failure| unseen(operation, failure))
    }

    /// The gateway of this id, if it is there.
    ///
    /// # Errors
    /// Why it cannot be seen.
    pub(super) async fn find(
        config: &Config,
        operation: &'static str,
        id: &str,
    ) -> Result<Option<Self>, ProviderError> {
        let Some(answer) = looks::one(&config.clients, operation, Request::new(Method::GET, id, API)).await? else {
            return Ok(None);
        };
        Self::of(id, &answer).map(Some).map_err(|failure| unseen(operation, failure))
    }

    fn of(id: &str, answer: &Answer) -> Result<Self, Failure> {
        let value: Value = answer.json()?;
        // Without one, nothing could be written safely.
        let etag = value["etag"].as_str().ok_or(Failure::Unreadable)?.to_owned();
        if !value["properties"].is_object() {
            return Err(Failure::Unreadable);
        }
        let standing = Standing::of(value["properties"]["provisioningState"].as_str());
        let id = value["id"].as_str().unwrap_or(id).to_owned();
        Ok(Self { id, value, etag, standing })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn parts(&self, list: &str) -> impl Iterator<Item = &Value> {
        self.value["properties"][list].as_array().into_iter().flatten()
    }

    /// The part of this name in a list.
    pub(super) fn part(&self, list: &str, part: &str) -> Option<&Value> {
        self.parts(list).find(|one| named(one, part))
    }

    pub(super) fn part_mut(&mut self, list: &str, part: &str) -> Option<&mut Value> {
        let parts = self.value["properties"].get_mut(list)?.as_array_mut()?;
        parts.iter_mut().find(|one| named(one, part))
    }

    /// The names of all backend pools.
    pub(super) fn pools(&self) -> impl Iterator<Item = &str> {
        self.parts(POOLS).filter_map(|pool| pool["name"].as_str())
    }

    pub(super) fn pool(&self, pool: &str) -> Option<&Value> {
        self.part(POOLS, pool)
    }

    /// The id of a pool or of settings, by its name.
    pub(super) fn id_of(&self, list: &str, part: &str) -> String {
        format!("{}/{list}/{part}", self.id)
    }

    /// How many targets a pool has, addresses and names.
    pub(super) fn size(&self, pool: &str) -> usize {
        let targets = self.pool(pool).and_then(|pool| pool["properties"]["backendAddresses"].as_array());
        targets.map_or(0, Vec::len)
    }

    /// The addresses in a pool. Names, which others may have put there, are left out.
    pub(super) fn addresses(&self, pool: &str) -> BTreeSet<IpAddr> {
        let targets = self.pool(pool).and_then(|pool| pool["properties"]["backendAddresses"].as_array());
        targets.into_iter().flatten().filter_map(address).collect()
    }

    /// Takes addresses out of a pool and puts others in, and leaves all others and all else of it as they were. Makes the pool if it is not there.
    pub(super) fn change_pool(&mut self, pool: &str, out: &BTreeSet<IpAddr>, into: &BTreeSet<IpAddr>) {
        if self.pool(pool).is_none() {
            let pools = self.value["properties"].as_object_mut().map(|fields| fields.entry(POOLS).or_insert(json!([])));
            if let Some(pools) = pools.and_then(Value::as_array_mut) {
                pools.push(json!({ "name": pool, "properties": {} }));
            }
        }
        let there = self.addresses(pool);
        let Some(found) = self.part_mut(POOLS, pool) else { return };
        let mut targets = found["properties"]["backendAddresses"].as_array().cloned().unwrap_or_default();
        targets.retain(|target| address(target).is_none_or(|address| !out.contains(&address)));
        let new = into.iter().filter(|address| !there.contains(address) || out.contains(address));
        targets.extend(new.map(|address| json!({ "ipAddress": address.to_string() })));
        found["properties"]["backendAddresses"] = targets.into();
    }

    pub(super) fn remove_pool(&mut self, pool: &str) {
        if let Some(pools) = self.value["properties"].get_mut(POOLS).and_then(Value::as_array_mut) {
            pools.retain(|one| !named(one, pool));
        }
    }

    /// Which pools rules lead to, and by which settings: the ids of both.
    pub(super) fn uses(&self) -> Vec<(&str, &str)> {
        uses(&self.value)
    }

    /// The value of a tag. Azure compares names of tags without regard to case.
    pub(super) fn tag(&self, tag: &str) -> Option<&str> {
        let tags = self.value["tags"].as_object()?;
        tags.iter().find(|(key, _)| same(key, tag))?.1.as_str()
    }

    /// The names of the tags that begin so.
    pub(super) fn tags(&self, prefix: &str) -> Vec<String> {
        let begins = |key: &&String| key.to_ascii_lowercase().starts_with(prefix);
        self.value["tags"].as_object().map(|tags| tags.keys().filter(begins).cloned().collect()).unwrap_or_default()
    }

    /// Sets a tag, or takes it away.
    pub(super) fn set_tag(&mut self, tag: &str, value: Option<&str>) {
        let Some(fields) = self.value.as_object_mut() else { return };
        let tags = fields.entry("tags").or_insert_with(|| json!({}));
        if tags.is_null() {
            *tags = json!({});
        }
        let Some(tags) = tags.as_object_mut() else { return };
        let rest = std::mem::take(tags).into_iter().filter(|(key, _)| !same(key, tag));
        let new = value.map(|value| (tag.to_owned(), Value::from(value)));
        *tags = rest.chain(new).collect::<Map<_, _>>();
    }

    /// Writes the gateway as it is here, if nobody has changed it since it was read.
    ///
    /// # Errors
    /// `Conflict` when somebody has; why Azure does not want it so.
    pub(super) async fn write(&self, config: &Config, operation: &'static str) -> Result<Written, ProviderError> {
        let request = Request::new(Method::PUT, &self.id, API).if_match(&self.etag);
        let request = request.json(&self.value).map_err(|failure| failed(operation, Effect::None, failure))?;
        match config.clients.send(request).await {
            Ok(answer) => begun(operation, Effect::None, name(&self.id), &answer).map(Written::Begun),
            Err(failure) if is_busy(&failure) => {
                let busy = failed(operation, Effect::None, failure);
                let retry_after = busy.retry_after().unwrap_or(SOON);
                Ok(Written::Busy(self.until_idle(retry_after)))
            }
            Err(failure) => Err(failed(operation, Effect::None, failure)),
        }
    }

    /// That another change of the gateway has to end first.
    pub(super) fn until_idle(&self, retry_after: std::time::Duration) -> Progress<()> {
        Progress::Pending { retry_after, note: format!("another change of the gateway {} to end", name(&self.id)) }
    }
}

/// Which pools rules of a gateway lead to, and by which settings: the ids of both.
pub(crate) fn uses(gateway: &Value) -> Vec<(&str, &str)> {
    let parts = |list: &str| gateway["properties"][list].as_array().into_iter().flatten();
    let maps = || parts("urlPathMaps");
    let by_path = maps().flat_map(|map| map["properties"]["pathRules"].as_array().into_iter().flatten());
    let plain = parts("requestRoutingRules").chain(by_path);
    let plain = plain.map(|rule| (rule, "backendAddressPool", "backendHttpSettings"));
    let all = plain.chain(maps().map(|map| (map, "defaultBackendAddressPool", "defaultBackendHttpSettings")));
    let used = all.filter_map(|(part, pool, settings)| {
        let properties = &part["properties"];
        Some((properties[pool]["id"].as_str()?, properties[settings]["id"].as_str()?))
    });
    used.collect()
}

/// Whether Azure says that something else has to end first.
fn is_busy(failure: &Failure) -> bool {
    const CODES: [&str; 3] =
        ["AnotherOperationInProgress", "RetryableErrorDueToAnotherOperation", "ReferencedResourceNotProvisioned"];
    let Failure::Refused(answer) = failure else { return false };
    let code = Complaint::read(&answer.body).and_then(|complaint| complaint.code);
    matches!(answer.status, 409 | 429) && code.is_some_and(|code| CODES.contains(&code.as_str()))
}

fn address(target: &Value) -> Option<IpAddr> {
    target["ipAddress"].as_str()?.parse().ok()
}

/// Whether a part has this name.
pub(super) fn named(part: &Value, name: &str) -> bool {
    part["name"].as_str().is_some_and(|own| same(own, name))
}

/// Whether two names or ids are the same: they are in letters of either size.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The last part of an id.
pub(super) fn name(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::answer;

    const ID: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/applicationGateways/web";

    fn document(properties: &Value) -> Document {
        let body = json!({ "id": ID, "etag": "W/\"1\"", "tags": { "Owner": "somebody" }, "properties": properties });
        Document::of(ID, &answer(200, &[], &body.to_string())).unwrap()
    }

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_pool_is_changed_in_place_and_keeps_what_is_of_others() {
        let targets =
            json!([{ "fqdn": "web.example" }, { "ipAddress": "10.0.0.1" }, { "ipAddress": "10.0.0.2", "x": 1 }]);
        let pool = json!({ "name": "Blue", "id": "i", "properties": { "backendAddresses": targets, "y": 2 } });
        let mut gateway = document(&json!({ "backendAddressPools": [pool] }));
        gateway.change_pool("blue", &set(&["10.0.0.1"]), &set(&["10.0.0.2", "10.0.0.3"]));
        let targets =
            json!([{ "fqdn": "web.example" }, { "ipAddress": "10.0.0.2", "x": 1 }, { "ipAddress": "10.0.0.3" }]);
        let expected = json!({ "name": "Blue", "id": "i", "properties": { "backendAddresses": targets, "y": 2 } });
        assert_eq!(gateway.pool("BLUE"), Some(&expected));
        gateway.change_pool("green", &set(&[]), &set(&["fd00::1"]));
        assert_eq!((gateway.addresses("green"), gateway.size("blue")), (set(&["fd00::1"]), 3));
        gateway.remove_pool("BLUE");
        assert_eq!(gateway.pools().collect::<Vec<_>>(), ["green"]);
        let mut bare = document(&json!({}));
        bare.remove_pool("blue");
        assert_eq!(bare.value["properties"], json!({}));
    }

    #[test]
    fn tags_are_set_and_taken_away_in_letters_of_either_size() {
        let mut gateway = document(&json!({}));
        gateway.set_tag("immutable-a", Some("1"));
        gateway.set_tag("IMMUTABLE-A", Some("2"));
        assert_eq!((gateway.tag("immutable-A"), gateway.tag("owner")), (Some("2"), Some("somebody")));
        assert_eq!(gateway.tags("immutable-"), ["IMMUTABLE-A"]);
        gateway.set_tag("immutable-a", None);
        assert_eq!(gateway.value["tags"], json!({ "Owner": "somebody" }));
    }

    #[test]
    fn every_rule_that_leads_to_a_pool_is_a_use_of_it() {
        let (pool, settings) = (json!({ "id": "p" }), json!({ "id": "s" }));
        let plain = json!({ "properties": { "backendAddressPool": pool, "backendHttpSettings": settings } });
        let elsewhere = json!({ "properties": { "redirectConfiguration": { "id": "r" } } });
        let map = json!({ "properties": {
            "defaultBackendAddressPool": pool, "defaultBackendHttpSettings": settings, "pathRules": [plain, elsewhere],
        } });
        let gateway = document(&json!({ "requestRoutingRules": [plain, elsewhere], "urlPathMaps": [map] }));
        assert_eq!(gateway.uses(), [("p", "s"); 3]);
    }

    #[test]
    fn a_gateway_that_could_not_be_written_back_is_not_read() {
        for body in [json!({ "properties": {} }), json!({ "etag": "1" }), json!([])] {
            assert!(
                matches!(Document::of(ID, &answer(200, &[], &body.to_string())), Err(Failure::Unreadable)),
                "{body}"
            );
        }
    }
}
