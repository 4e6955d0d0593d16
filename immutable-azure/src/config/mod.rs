//! What the provider has to know beside the release: where instances run, and how they are reached.

mod builder;
mod env;
mod fleets;
mod names;
mod routes;

use std::time::Duration;

use immutable_core::model::{Fingerprint, LabelKey, RouteId};
use serde::Serialize;

pub(crate) use names::{is_location, is_resource, is_size};
pub(crate) use routes::RouteKind;

use crate::Clients;
use crate::asked::Questions;
use crate::traffic_switch::Turns;

use crate::image_builder::ImageSettings;
pub use fleets::Orchestration;
pub(crate) use fleets::{Boot, Repairs};
use fleets::{Disk, Exceptions};

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    field: &'static str,
    problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// The setting.
    pub fn field(&self) -> &str {
        self.field
    }
}

/// What the provider has to know. Checked as it is built; cheap to clone.
///
/// All that makes an instance what it is, beside its release, is in here: its size, its network, its identity. It is written into the
/// fleet as the fleet is made and never changes in it. So a fleet that exists is not grown under other settings; give the
/// release the label of the settings ([`launch_label`](Self::launch_label)), so that other settings are another release.
///
/// Nobody can log in to an instance with a password: there is no setting for one.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) clients: Clients,
    pub(crate) subscription: String,
    pub(crate) resource_group: String,
    pub(crate) launch: Launch,
    pub(crate) port: u16,
    pub(crate) health_path: Option<String>,
    pub(crate) repairs: Repairs,
    pub(crate) routes: Vec<RouteId>,
    pub(crate) max_fleet_size: u32,
    pub(crate) list_lag: Duration,
    pub(crate) drain_time: Duration,
    pub(crate) questions: Questions,
    pub(crate) metric_lag: Duration,
    pub(crate) turns: Turns,
    pub(crate) images: Option<ImageSettings>,
}

/// What instances are launched with, beside their release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Launch {
    pub(crate) location: String,
    pub(crate) zones: Vec<String>,
    pub(crate) vm_size: String,
    pub(crate) subnet: String,
    pub(crate) identity: Option<String>,
    pub(crate) orchestration: Orchestration,
    pub(crate) ssh_public_key: Option<String>,
    pub(crate) security_group: Option<String>,
    pub(crate) boot: Boot,
    pub(crate) disk: Disk,
    pub(crate) exceptions: Exceptions,
}

impl Launch {
    /// The same for the same settings: a fleet is bound to it.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(serde_json::to_vec(self).expect("invariant: plain data always serialises"))
    }
}

impl Config {
    /// Begins a configuration: in which resource group of which subscription, at which location, such as `westeurope`.
    ///
    /// The [size](ConfigBuilder::vm_size) of machines and their [subnet](ConfigBuilder::subnet) have to be set as well.
    pub fn builder(
        clients: Clients,
        subscription: impl Into<String>,
        resource_group: impl Into<String>,
        location: impl Into<String>,
    ) -> ConfigBuilder {
        let launch = Launch { location: location.into(), ..Launch::default() };
        ConfigBuilder(Self {
            clients,
            subscription: subscription.into(),
            resource_group: resource_group.into(),
            launch,
            port: 80,
            health_path: None,
            repairs: Repairs::default(),
            routes: Vec::new(),
            max_fleet_size: 1000,
            list_lag: Duration::from_secs(10),
            drain_time: Duration::from_mins(4),
            questions: Questions::default(),
            metric_lag: Duration::from_mins(4),
            turns: Turns::default(),
            images: None,
        })
    }

    /// The id of something in the resource group, named from its service on: `Microsoft.Compute/virtualMachines/web`.
    pub(crate) fn resource(&self, rest: &str) -> String {
        format!("/subscriptions/{}/resourceGroups/{}/providers/{rest}", self.subscription, self.resource_group)
    }

    /// The resources that rollouts move traffic on.
    pub fn routes(&self) -> &[RouteId] {
        &self.routes
    }

    /// A label for the releases that are launched with these settings: with other settings, such as another size of machines, the same
    /// image is another release, in a fleet of its own.
    pub fn launch_label(&self) -> (LabelKey, String) {
        let key = LabelKey::new("azure/launch").expect("invariant: letters and a slash are a label key");
        (key, self.launch.fingerprint().short())
    }
}

/// Builds a [`Config`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ConfigBuilder(Config);

impl Launch {
    fn check(&self) -> Result<(), ConfigError> {
        hold("location", names::is_location(&self.location), "must be the name of a location, such as \"westeurope\"")?;
        for (index, zone) in self.zones.iter().enumerate() {
            hold("zones", names::is_zone(zone), "a zone is a number, such as \"1\"")?;
            hold("zones", !self.zones[..index].contains(zone), "name each zone once")?;
        }
        hold("vm_size", names::is_size(&self.vm_size), "must be a size of machines, such as \"Standard_D2s_v5\"")?;
        let is_subnet = names::is_resource(&self.subnet, "Microsoft.Network", Some(&["virtualNetworks", "subnets"]));
        hold("subnet", is_subnet, "must look like \"/subscriptions/.../virtualNetworks/<network>/subnets/<subnet>\"")?;
        let is_identity =
            |id: &str| names::is_resource(id, "Microsoft.ManagedIdentity", Some(&["userAssignedIdentities"]));
        let is_identity = self.identity.as_deref().is_none_or(is_identity);
        hold("identity", is_identity, "must look like \"/subscriptions/.../userAssignedIdentities/<identity>\"")
    }
}

/// The version in the id of a version of an image in a gallery.
pub(crate) fn image_version(id: &str) -> Option<&str> {
    let is_version = names::is_resource(id, "Microsoft.Compute", Some(&["galleries", "images", "versions"]));
    id.rsplit('/').next().filter(|_| is_version)
}

fn hold(field: &'static str, holds: bool, problem: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(field, problem)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Known, TOKEN};

    pub(crate) const SUBSCRIPTION: &str = "01234567-89ab-cdef-0123-456789abcdef";

    pub(crate) fn id(rest: &str) -> String {
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/net/providers/{rest}")
    }

    /// Settings that can be built, with clients that reach nobody.
    pub(crate) fn builder(subscription: &str, group: &str, location: &str) -> ConfigBuilder {
        let clients = Clients::new(Arc::new(Known::default()), Some("http://127.0.0.1:9")).unwrap();
        Config::builder(clients, subscription, group, location)
            .vm_size("Standard_D2s_v5")
            .subnet(id("Microsoft.Network/virtualNetworks/web/subnets/default"))
    }

    #[test]
    fn other_launch_settings_are_another_label_and_other_settings_are_not() {
        let good = builder(SUBSCRIPTION, "web-production", "westeurope");
        let label = |builder: ConfigBuilder| builder.build().unwrap().launch_label();
        assert_ne!(label(good.clone()), label(good.clone().vm_size("Standard_D4s_v5")));
        assert_ne!(label(good.clone()), label(good.clone().zones(["1"])));
        assert_eq!(label(good.clone()), label(good.max_fleet_size(7).health_path("/health")));
    }

    #[test]
    fn no_credential_is_in_the_debug_of_a_configuration() {
        let config = builder(SUBSCRIPTION, "g", "westeurope").build().unwrap();
        for text in [format!("{config:?}"), format!("{:?}", config.clients)] {
            assert!(!text.contains(TOKEN), "{text}");
        }
    }
}
