//! The members of the scale set of a fleet, as lists show them: read only.

use std::collections::BTreeMap;

use immutable_core::model::{FleetId, InstanceId};
use immutable_core::provider::ProviderError;
use reqwest::Method;
use serde_json::Value;

use crate::client::Request;
use crate::config::Config;
use crate::error::unseen;
use crate::{instance, looks, ownership};

/// The version of the API of scale sets and machines. As of 2024-11-01 machines are killed and not shut down, unless one asks for that.
pub(crate) const COMPUTE: &str = "2024-07-01";

/// The type of scale sets.
pub(crate) const SETS: &str = "Microsoft.Compute/virtualMachineScaleSets";

/// The instances that members of a uniform set are, by their numbers.
pub(crate) type Numbers = BTreeMap<String, InstanceId>;

/// The scale set of a fleet.
#[derive(Debug)]
pub(crate) struct ScaleSet<'a> {
    config: &'a Config,
    name: String,
    document: Value,
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
        let request = Request::new(Method::GET, &config.resource(&format!("{SETS}/{name}")), COMPUTE);
        let Some(answer) = looks::one(&config.clients, operation, request).await? else { return Ok(None) };
        let document = answer.json().map_err(|failure| unseen(operation, failure))?;
        Ok(Some(Self { config, name, document }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_flexible(&self) -> bool {
        is_flexible(&self.document)
    }

    /// The instance that a member is; nothing, as long as it has no name.
    pub(crate) fn instance(&self, member: &Value) -> Option<InstanceId> {
        instance(&self.name, self.is_flexible(), member)
    }

    /// Whether Azure looks at what runs on the members: by the application health extension or by a probe of a load balancer, of which a
    /// [scale set has one at most](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension).
    pub(crate) fn is_checked(&self) -> bool {
        let profile = &self.document["properties"]["virtualMachineProfile"];
        let extensions = profile["extensionProfile"]["extensions"].as_array();
        let is_health = |extension: &Value| {
            let kind = extension["properties"]["type"].as_str().unwrap_or_default();
            ["ApplicationHealthLinux", "ApplicationHealthWindows"]
                .iter()
                .any(|health| health.eq_ignore_ascii_case(kind))
        };
        extensions.into_iter().flatten().any(is_health) || profile["networkProfile"]["healthProbe"]["id"].is_string()
    }

    /// The members, each with its instance view; none, if the set is gone.
    ///
    /// # Errors
    /// When not all of them can be looked at.
    pub(crate) async fn members(&self, operation: &'static str) -> Result<Vec<Value>, ProviderError> {
        let found = list(self.config, operation, &self.name, self.is_flexible()).await?;
        Ok(found.unwrap_or_default())
    }
}

/// Whether the members of a set are machines of their own. They are numbered parts of it unless it says so: sets from before there were flexible
/// ones do not say.
pub(crate) fn is_flexible(set: &Value) -> bool {
    let mode = set["properties"]["orchestrationMode"].as_str();
    mode.is_some_and(|mode| mode.eq_ignore_ascii_case("Flexible"))
}

/// The instance that a member of a set is; nothing, as long as it has no name.
pub(crate) fn instance(set: &str, is_flexible: bool, member: &Value) -> Option<InstanceId> {
    if is_flexible { instance::id(member["name"].as_str()?).ok() } else { instance::numbered(set, member) }
}

/// Which number of a uniform set which of these members has.
pub(crate) fn numbers(set: &str, members: &[Value]) -> Numbers {
    let numbered = |member: &Value| Some((member["instanceId"].as_str()?.to_owned(), instance::numbered(set, member)?));
    members.iter().filter_map(numbered).collect()
}

/// The members of a set, each with its instance view: one list, whatever the size. Nothing, if the set is gone.
///
/// # Errors
/// When not all of them can be looked at.
pub(crate) async fn list(
    config: &Config,
    operation: &'static str,
    set: &str,
    is_flexible: bool,
) -> Result<Option<Vec<Value>>, ProviderError> {
    let path = config.resource(&format!("{SETS}/{set}"));
    let request = if is_flexible {
        // Only with this filter are there instance views in a list: https://learn.microsoft.com/rest/api/compute/virtual-machines/list
        let machines = config.resource("Microsoft.Compute/virtualMachines");
        Request::new(Method::GET, &machines, COMPUTE)
            .query("$filter", format!("'virtualMachineScaleSet/id' eq '{path}'"))
    } else {
        Request::new(Method::GET, &format!("{path}/virtualMachines"), COMPUTE)
    };
    looks::all(&config.clients, operation, request.query("$expand", "instanceView")).await
}
