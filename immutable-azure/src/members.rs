//! The members of the scale set of a fleet, as lists show them: read only.

use std::borrow::Cow;

use immutable_core::model::FleetId;
use immutable_core::provider::{ErrorKind, ProviderError};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::client::Request;
use crate::error::unseen;
use crate::{Config, ownership};

/// The version of the API of Compute.
const COMPUTE: &str = "2024-07-01";

/// The version of the API of Network.
const NETWORK: &str = "2024-05-01";

/// The version that the interfaces of the members of uniform scale sets are documented in:
/// <https://learn.microsoft.com/rest/api/virtualnetwork/network-interface-in-vm-ss/list-virtual-machine-scale-set-network-interfaces>.
const INTERFACES_OF_UNIFORM: &str = "2018-10-01";

/// So many pages of a list are read at most: what has more does not end.
const MOST_PAGES: usize = 1000;

/// The scale set of a fleet.
#[derive(Debug)]
pub(crate) struct ScaleSet<'a> {
    config: &'a Config,
    id: String,
    set: Value,
}

#[derive(Deserialize)]
struct Page {
    value: Vec<Value>,
    #[serde(rename = "nextLink")]
    next: Option<String>,
}

impl<'a> ScaleSet<'a> {
    /// The scale set of a fleet, if there is one.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(crate) async fn of(
        config: &'a Config,
        operation: &'static str,
        fleet: &FleetId,
    ) -> Result<Option<Self>, ProviderError> {
        let name = ownership::name(operation, fleet)?;
        let id = format!("{}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}", group(config));
        let set = one(config, operation, Request::new(Method::GET, &id, COMPUTE)).await?;
        Ok(set.map(|set| Self { config, id, set }))
    }

    /// Whether Azure looks at what runs on the members: by the application health extension or by a probe of a load balancer, of which a
    /// [scale set has one at most](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension).
    pub(crate) fn is_checked(&self) -> bool {
        let profile = &self.set["properties"]["virtualMachineProfile"];
        let extensions = profile["extensionProfile"]["extensions"].as_array();
        let is_health = |extension: &Value| {
            let kind = extension["properties"]["type"].as_str().unwrap_or_default();
            ["ApplicationHealthLinux", "ApplicationHealthWindows"]
                .iter()
                .any(|health| health.eq_ignore_ascii_case(kind))
        };
        extensions.into_iter().flatten().any(is_health) || profile["networkProfile"]["healthProbe"]["id"].is_string()
    }

    /// The members, each with its instance view. One list, whatever the size.
    ///
    /// # Errors
    /// When not all of them can be looked at.
    pub(crate) async fn members(&self, operation: &'static str) -> Result<Vec<Value>, ProviderError> {
        let request = if self.is_flexible() {
            let machines = format!("{}/providers/Microsoft.Compute/virtualMachines", group(self.config));
            let of_this = format!("'virtualMachineScaleSet/id' eq '{}'", self.id);
            Request::new(Method::GET, &machines, COMPUTE).query("$filter", of_this)
        } else {
            Request::new(Method::GET, &format!("{}/virtualMachines", self.id), COMPUTE)
        };
        all(self.config, operation, request.query("$expand", "instanceView")).await
    }

    /// The network interfaces of the members, and perhaps of others.
    ///
    /// # Errors
    /// When not all of them can be looked at.
    pub(crate) async fn interfaces(&self, operation: &'static str) -> Result<Vec<Value>, ProviderError> {
        let request = if self.is_flexible() {
            let id = format!("{}/providers/Microsoft.Network/networkInterfaces", group(self.config));
            Request::new(Method::GET, &id, NETWORK)
        } else {
            Request::new(Method::GET, &format!("{}/networkInterfaces", self.id), INTERFACES_OF_UNIFORM)
        };
        all(self.config, operation, request).await
    }

    /// Whether members are machines of their own; they are numbered parts of the set unless it says so.
    fn is_flexible(&self) -> bool {
        let mode = self.set["properties"]["orchestrationMode"].as_str();
        mode.is_some_and(|mode| mode.eq_ignore_ascii_case("Flexible"))
    }
}

/// The id of an instance: the name of its machine in small letters.
pub(crate) fn instance(machine: &Value) -> Option<String> {
    machine["name"].as_str().map(str::to_ascii_lowercase)
}

/// A thing, if it is there.
///
/// # Errors
/// When it cannot be looked at.
pub(crate) async fn one(
    config: &Config,
    operation: &'static str,
    request: Request,
) -> Result<Option<Value>, ProviderError> {
    let answer = config.clients.send(request).await.and_then(|answer| answer.json());
    existing(answer.map_err(|failure| unseen(operation, failure)))
}

/// All that a list has, from all of its pages; nothing, if what it is in is not there.
async fn all(config: &Config, operation: &'static str, first: Request) -> Result<Vec<Value>, ProviderError> {
    let (mut found, mut request) = (Vec::new(), first);
    for _ in 0..MOST_PAGES {
        let answer = config.clients.send(request).await.and_then(|answer| answer.json::<Page>());
        let page = existing(answer.map_err(|failure| unseen(operation, failure)))?;
        let Some(Page { value, next }) = page else { return Ok(Vec::new()) };
        found.extend(value);
        let Some(next) = next.filter(|next| !next.is_empty()) else { return Ok(found) };
        request = Request::link(&next);
    }
    let problem = Cow::from("a list has no end: look again");
    Err(ProviderError::new(ErrorKind::Internal, operation, problem).without_effect())
}

fn existing<T>(seen: Result<T, ProviderError>) -> Result<Option<T>, ProviderError> {
    match seen {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        seen => seen.map(Some),
    }
}

fn group(config: &Config) -> String {
    format!("/subscriptions/{}/resourceGroups/{}", config.subscription, config.resource_group)
}
