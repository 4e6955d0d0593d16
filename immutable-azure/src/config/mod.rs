//! What the provider has to know beside the release: where instances run, and how they are reached.

mod env;
mod fleets;
mod names;
mod routes;

use std::time::Duration;

use immutable_core::health::HttpProbe;
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

impl ConfigBuilder {
    /// The availability zones that instances are spread over, such as `1`, `2` and `3`. None unless said otherwise: then Azure puts them where it
    /// likes, and all may be in one.
    pub fn zones(mut self, zones: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.launch.zones = zones.into_iter().map(Into::into).collect();
        self
    }

    /// The size of machines, such as `Standard_D2s_v5`.
    pub fn vm_size(mut self, size: impl Into<String>) -> Self {
        self.0.launch.vm_size = size.into();
        self
    }

    /// The subnet that instances are in: its id from `/subscriptions/` on.
    pub fn subnet(mut self, id: impl Into<String>) -> Self {
        self.0.launch.subnet = id.into();
        self
    }

    /// The user-assigned managed identity of the instances: its id from `/subscriptions/` on. With it they read their secrets. None unless said
    /// otherwise.
    pub fn identity(mut self, id: impl Into<String>) -> Self {
        self.0.launch.identity = Some(id.into());
        self
    }

    /// The port that instances answer on; 80 unless said otherwise.
    pub fn port(mut self, port: u16) -> Self {
        self.0.port = port;
        self
    }

    /// The path that answers with 200 on an instance that can serve. No other answer will do, not even 204: the
    /// [application health extension](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension) takes every
    /// other one for ill, and repairs replace who is. Without the path, what the platform finds is all that is looked at.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.0.health_path = Some(path.into());
        self
    }

    /// The routes that rollouts move traffic on: the id, from `/subscriptions/` on, of a resource of `Microsoft.Network` or of a part of one. All
    /// of one kind, as [one switch](crate::platform) moves traffic on one kind; pools of load balancers may stand beside a profile of
    /// Traffic Manager.
    ///
    /// A fleet that is [removed](crate::ScaleSetProvisioner#removal) leaves nothing on them. A profile does not tell which pools are behind
    /// it: name the pools of its [slots](crate::Slot) as well.
    pub fn routes(mut self, routes: impl IntoIterator<Item = RouteId>) -> Self {
        self.0.routes = routes.into_iter().collect();
        self
    }

    /// The largest size of a fleet; 1000 unless said otherwise, which is
    /// [the most that a scale set can have](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-faq).
    pub fn max_fleet_size(mut self, instances: u32) -> Self {
        self.0.max_fleet_size = instances;
        self
    }

    /// How far lists may lag behind; ten seconds unless said otherwise, at most five minutes. Azure gives no figure.
    pub fn list_lag(mut self, lag: Duration) -> Self {
        self.0.list_lag = lag;
        self
    }

    /// How long it takes until metrics are complete; four minutes unless said otherwise, at most an hour. Newer minutes are not told: Azure tells
    /// of them zeros, or a part of what they will have, and gives no figure for how long. Two to three minutes
    /// [were seen](https://github.com/Azure/azure-libraries-for-net/issues/499).
    pub fn metric_lag(mut self, lag: Duration) -> Self {
        self.0.metric_lag = lag;
        self
    }

    /// How long a member that leaves a balancer may finish what it has begun, if the balancer has no setting of its own for that (`drainPeriodInSeconds` of a
    /// backend pool, connection draining of a gateway); four minutes unless said otherwise, at most an hour. No balancer tells when the last connection
    /// ends. Four minutes is when a load balancer gives up a connection on which nothing is said,
    /// [unless told otherwise](https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset#configurable-tcp-idle-timeout).
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.0.drain_time = time;
        self
    }

    /// Where images are kept and how they are built. Without this, none are.
    pub fn images(mut self, settings: ImageSettings) -> Self {
        self.0.images = Some(settings);
        self
    }

    /// The configuration, if it can work.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot work, and what to do.
    pub fn build(self) -> Result<Config, ConfigError> {
        let config = self.0;
        let is_guid = names::is_guid(&config.subscription);
        hold(
            "subscription",
            is_guid,
            "must be the id of a subscription, such as \"01234567-89ab-cdef-0123-456789abcdef\"",
        )?;
        let is_group = names::is_resource_group(&config.resource_group);
        hold("resource_group", is_group, "must be the name of a resource group, such as \"web-production\"")?;
        config.launch.check()?;
        fleets::check(&config)?;
        hold("port", config.port != 0, "must be from 1 to 65535")?;
        routes::check(&config.routes)?;
        hold("max_fleet_size", (1..=1000).contains(&config.max_fleet_size), "must be from 1 to 1000")?;
        hold("list_lag", config.list_lag <= Duration::from_mins(5), "must be at most 5 minutes")?;
        hold("metric_lag", config.metric_lag <= Duration::from_hours(1), "must be at most an hour")?;
        hold("drain_time", config.drain_time <= Duration::from_hours(1), "must be at most an hour")?;
        if let Some(images) = &config.images {
            images.check(&config.launch.location)?;
        }
        let path = config.health_path.as_deref().unwrap_or("/");
        hold("health_path", path.starts_with('/'), "must start with a slash")?;
        HttpProbe::get(path).build().map_err(|error| ConfigError::new("health_path", error.to_string()))?;
        Ok(config)
    }
}

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
    fn a_setting_that_cannot_work_is_named() {
        let good = builder(SUBSCRIPTION, "web-production", "westeurope");
        let subnet = "must look like \"/subscriptions/.../virtualNetworks/<network>/subnets/<subnet>\"";
        let other = |problem: &str| format!("subnet: {problem}");
        let route = "routes: must look like \"/subscriptions/.../providers/Microsoft.Network/...\"".to_owned();
        for (builder, problem) in [
            (
                builder("web", "g", "westeurope"),
                "subscription: must be the id of a subscription, such as \"01234567-89ab-cdef-0123-456789abcdef\""
                    .into(),
            ),
            (
                builder(SUBSCRIPTION, "g/..", "westeurope"),
                "resource_group: must be the name of a resource group, such as \"web-production\"".into(),
            ),
            (
                builder(SUBSCRIPTION, "g", "West Europe"),
                "location: must be the name of a location, such as \"westeurope\"".into(),
            ),
            (good.clone().zones(["westeurope-1"]), "zones: a zone is a number, such as \"1\"".into()),
            (good.clone().zones(["1", "2", "1"]), "zones: name each zone once".into()),
            (good.clone().vm_size(""), "vm_size: must be a size of machines, such as \"Standard_D2s_v5\"".into()),
            (good.clone().subnet("web"), other(subnet)),
            (good.clone().subnet(id("Microsoft.Network/virtualNetworks/web")), other(subnet)),
            (good.clone().subnet(id("Microsoft.Compute/virtualNetworks/web/subnets/a")), other(subnet)),
            (
                good.clone().identity("web"),
                "identity: must look like \"/subscriptions/.../userAssignedIdentities/<identity>\"".into(),
            ),
            (good.clone().port(0), "port: must be from 1 to 65535".into()),
            (good.clone().routes(["web".parse().unwrap()]), route),
            (good.clone().max_fleet_size(0), "max_fleet_size: must be from 1 to 1000".into()),
            (good.clone().max_fleet_size(1001), "max_fleet_size: must be from 1 to 1000".into()),
            (good.clone().list_lag(Duration::from_mins(6)), "list_lag: must be at most 5 minutes".into()),
            (good.clone().metric_lag(Duration::from_mins(61)), "metric_lag: must be at most an hour".into()),
            (good.clone().drain_time(Duration::from_hours(2)), "drain_time: must be at most an hour".into()),
            (good.clone().health_path("health"), "health_path: must start with a slash".into()),
        ] {
            assert_eq!(builder.build().unwrap_err().to_string(), problem);
        }
        let all = good
            .zones(["1", "2", "3"])
            .identity(id("Microsoft.ManagedIdentity/userAssignedIdentities/web"))
            .routes([id("Microsoft.Network/applicationGateways/web/requestRoutingRules/web").parse().unwrap()])
            .health_path("/health");
        assert!(all.build().is_ok());
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
