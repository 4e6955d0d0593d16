//! Where instances run and how they are reached, setting by setting, and whether all of it can work.

use std::time::Duration;

use immutable_core::health::HttpProbe;
use immutable_core::model::RouteId;

use super::{Config, ConfigBuilder, ConfigError, fleets, hold, names, routes};
use crate::image_builder::ImageSettings;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{SUBSCRIPTION, builder, id};

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
}
