//! The scale set of a fleet, and what can be asked of it.

use azure_mgmt_compute::package_2024_07_01::models::{
    VirtualMachineScaleSetUpdate, VirtualMachineScaleSetVmInstanceRequiredIDs,
};
use immutable_core::model::{FleetId, ServiceName};
use immutable_core::provider::{ErrorKind, ProviderError};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Failure, Request};
use crate::config::Config;
use crate::error::unseen;
use crate::looks;
use crate::members::{self, COMPUTE, SETS};
use crate::operation::Standing;
use crate::ownership::{self, Record};

/// A scale set as it was a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) name: String,
    /// Whose it is.
    pub(super) record: Record,
    pub(super) document: Value,
}

/// What has the name of a fleet's set.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Ours(Box<Set>),
    Strange,
}

/// The set of a fleet.
pub(super) async fn of_fleet(
    config: &Config,
    operation: &'static str,
    fleet: &FleetId,
) -> Result<Found, ProviderError> {
    let path = format!("{SETS}/{}", ownership::name(operation, fleet)?);
    let request = Request::new(Method::GET, &config.resource(&path), COMPUTE);
    let Some(answer) = looks::one(&config.clients, operation, request).await? else { return Ok(Found::Nothing) };
    let document = answer.json().map_err(|failure| unseen(operation, failure))?;
    Ok(match Set::read(operation, document)? {
        Some(set) if set.record.fleet == *fleet => Found::Ours(Box::new(set)),
        _ => Found::Strange,
    })
}

/// All sets of a service in the resource group.
pub(super) async fn of_service(
    config: &Config,
    operation: &'static str,
    service: &ServiceName,
) -> Result<Vec<Set>, ProviderError> {
    let request = Request::new(Method::GET, &config.resource(SETS), COMPUTE);
    let found = looks::all(&config.clients, operation, request).await?;
    let found = found.ok_or_else(|| {
        let problem = format!("there is no list of scale sets in {}: look again", config.resource_group);
        ProviderError::new(ErrorKind::Unavailable, operation, problem).without_effect()
    })?;
    // What is wrong with the tags of another service is no matter here.
    let is_others = |document: &Value| {
        let other = tag(document, ownership::SERVICE).and_then(|name| ServiceName::new(name).ok());
        other.is_some_and(|other| other != *service)
    };
    let found = found.into_iter().filter(|document| !is_others(document));
    found.filter_map(|document| Set::read(operation, document).transpose()).collect()
}

fn tag<'a>(document: &'a Value, key: &str) -> Option<&'a str> {
    let tags = document["tags"].as_object()?;
    tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?.1.as_str()
}

impl Set {
    fn read(operation: &'static str, document: Value) -> Result<Option<Self>, ProviderError> {
        let name = document["name"].as_str().ok_or_else(|| unseen(operation, Failure::Unreadable))?;
        let name = name.to_ascii_lowercase();
        let record = Record::read(operation, &name, document.get("tags"))?;
        Ok(record.map(|record| Self { name, record, document }))
    }

    /// Its id, from its service on.
    pub(super) fn path(&self) -> String {
        format!("{SETS}/{}", self.name)
    }

    pub(super) fn is_flexible(&self) -> bool {
        members::is_flexible(&self.document)
    }

    /// How many members it has, or is to have.
    pub(super) fn capacity(&self) -> u32 {
        self.document["sku"]["capacity"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        tag(&self.document, key)
    }

    fn state(&self) -> Option<&str> {
        self.document["properties"]["provisioningState"].as_str()
    }

    pub(super) fn standing(&self) -> Standing {
        Standing::of(self.state())
    }

    pub(super) fn is_going(&self) -> bool {
        self.state().is_some_and(|state| state.eq_ignore_ascii_case("Deleting"))
    }

    /// Changes the capacity, if the set is still as it was, and notes who was replaced.
    pub(super) async fn resize(
        &self,
        config: &Config,
        capacity: u32,
        replaced: Option<&str>,
    ) -> Result<Answer, Failure> {
        let mut change = json!({ "sku": self.document["sku"] });
        change["sku"]["capacity"] = capacity.into();
        if let Some(replaced) = replaced {
            // A change of tags names all of them.
            change["tags"] = self.document["tags"].clone();
            if let Some(tags) = change["tags"].as_object_mut() {
                tags.retain(|key, _| !key.eq_ignore_ascii_case(super::tags::REPLACED));
                tags.insert(super::tags::REPLACED.to_owned(), replaced.into());
            }
        }
        let sets = config.clients.compute().virtual_machine_scale_sets_client();
        let change: VirtualMachineScaleSetUpdate =
            serde_json::from_value(change).map_err(|_| Failure::Unmade("its size or its tags are none"))?;
        let mut request = sets.update(&config.resource_group, &self.name, change, &config.subscription);
        if let Some(etag) = self.document["etag"].as_str() {
            request = request.if_match(etag);
        }
        Answer::of(request.send().await).await
    }

    /// Ends these members, and lowers the capacity with them. Each system is asked to shut down before it is forced to:
    /// <https://learn.microsoft.com/rest/api/compute/virtual-machine-scale-sets/delete-instances>.
    pub(super) async fn end(&self, config: &Config, keys: &[&str]) -> Result<Answer, Failure> {
        let sets = config.clients.compute().virtual_machine_scale_sets_client();
        let members =
            VirtualMachineScaleSetVmInstanceRequiredIDs::new(keys.iter().map(|&key| key.to_owned()).collect());
        let request = sets.delete_instances(&config.resource_group, &self.name, members, &config.subscription);
        Answer::of(request.force_deletion(false).send().await).await
    }

    /// Removes the set, if it is still as it was.
    pub(super) async fn remove(&self, config: &Config) -> Result<Answer, Failure> {
        // The crate for Compute has no condition for this.
        let mut request = Request::new(Method::DELETE, &config.resource(&self.path()), COMPUTE);
        if let Some(etag) = self.document["etag"].as_str() {
            request = request.if_match(etag);
        }
        config.clients.send(request.query("forceDeletion", "false")).await
    }
}

/// Makes a set, if there is none of this name.
pub(super) async fn make(config: &Config, name: &str, document: &Value) -> Result<Answer, Failure> {
    // Not by the crate for Compute: it would say `timeCreated: null`, which is not ours to say.
    let path = config.resource(&format!("{SETS}/{name}"));
    config.clients.send(Request::new(Method::PUT, &path, COMPUTE).if_absent().json(document)?).await
}
