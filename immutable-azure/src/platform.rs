//! All parts together.

use std::sync::Arc;

use immutable_core::health::{AllOf, HttpProbe};
use immutable_core::provider::{HealthProbe, Pace, Platform, TrafficSwitch};

use crate::config::RouteKind;
use crate::{
    Config, GalleryImageBuilder, GatewayPoolSwitch, LoadBalancerSwitch, MonitorMetrics, RoutingRuleSwitch,
    ScaleSetHealthProbe, ScaleSetProvisioner,
};

/// The platform with these settings, of which any part can be replaced.
///
/// What traffic goes by is told by the [routes](crate::ConfigBuilder::routes), which are all of one kind:
///
/// | a route is | traffic goes by |
/// |---|---|
/// | a backend pool of a load balancer | its members: [`LoadBalancerSwitch`] |
/// | a backend pool of an application gateway | its members: [`GatewayPoolSwitch`]; so without any route |
/// | a rule of an application gateway, or a map of paths | the pool that it leads to: [`RoutingRuleSwitch`] |
/// | a profile of Traffic Manager | its weights, when you [say which slots](crate::TrafficManagerSwitch::new) it has; without that, nothing moves it |
///
/// With a [`health_path`](crate::ConfigBuilder::health_path), an instance is good when it answers there with 200, which needs a way from here to its
/// private address. It also has to be good in the eyes of [its scale set](ScaleSetHealthProbe): without the path that is no more than a machine that
/// runs, which tells little. What the balancer itself finds counts besides: the engine gives no traffic to a member that the balancer does not
/// find healthy.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use immutable_azure::{Config, Slot, TrafficManagerSwitch};
/// use immutable_core::provider::Platform;
/// use std::sync::Arc;
///
/// let config = Config::from_env()?;
/// // By the weights of a profile of Traffic Manager, which leads to one load balancer for each fleet.
/// let network = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/web/providers/Microsoft.Network";
/// let slot = |name: &str| {
///     let pool = format!("{network}/loadBalancers/{name}/backendAddressPools/web").parse()?;
///     Ok::<_, Box<dyn std::error::Error>>(Slot { endpoint: name.to_owned(), pool })
/// };
/// let traffic = Arc::new(TrafficManagerSwitch::new(config.clone(), [slot("blue")?, slot("green")?])?);
/// let platform = Platform { traffic, ..immutable_azure::platform(&config) };
/// # Ok(())
/// # }
/// ```
pub fn platform(config: &Config) -> Platform {
    Platform {
        images: Arc::new(GalleryImageBuilder::new(config.clone())),
        fleets: Arc::new(ScaleSetProvisioner::new(config.clone())),
        health: Arc::new(health(config)),
        traffic: traffic(config),
        metrics: Arc::new(MonitorMetrics::new(config.clone())),
        pace: Pace { list_lag: config.list_lag, ..Pace::default() },
    }
}

fn traffic(config: &Config) -> Arc<dyn TrafficSwitch> {
    match config.routes.iter().find_map(RouteKind::of) {
        Some(RouteKind::BalancerPool | RouteKind::Profile) => Arc::new(LoadBalancerSwitch::new(config.clone())),
        Some(RouteKind::GatewayRule) => Arc::new(RoutingRuleSwitch::new(config.clone())),
        Some(RouteKind::GatewayPool) | None => Arc::new(GatewayPoolSwitch::new(config.clone())),
    }
}

fn health(config: &Config) -> AllOf {
    let mut probes: Vec<Arc<dyn HealthProbe>> = vec![Arc::new(ScaleSetHealthProbe::new(config.clone()))];
    if let Some(path) = &config.health_path {
        // As the extension that looks from within the instance.
        let probe = HttpProbe::get(path).expect_status(200..=200);
        probes.push(Arc::new(probe.build().expect("invariant: the settings were checked")));
    }
    AllOf::new(probes).expect("invariant: there is at least one probe")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{SUBSCRIPTION, builder, id};

    #[test]
    fn traffic_goes_by_what_the_routes_are() {
        for (routes, switch) in [
            (&[][..], "GatewayPoolSwitch"),
            (&["applicationGateways/web"], "GatewayPoolSwitch"),
            (&["applicationGateways/web/backendAddressPools/web"], "GatewayPoolSwitch"),
            (&["applicationGateways/web/requestRoutingRules/web"], "RoutingRuleSwitch"),
            (&["applicationGateways/web/urlPathMaps/web/pathRules/api"], "RoutingRuleSwitch"),
            (&["loadBalancers/web/backendAddressPools/web"], "LoadBalancerSwitch"),
            (&["applicationGateways/web", "loadBalancers/web/backendAddressPools/web"], "LoadBalancerSwitch"),
            (&["trafficManagerProfiles/web"], "LoadBalancerSwitch"),
        ] {
            let routes = routes.iter().map(|rest| id(&format!("Microsoft.Network/{rest}")).parse().unwrap());
            let config = builder(SUBSCRIPTION, "web", "westeurope").routes(routes).build().unwrap();
            let traffic = format!("{:?}", platform(&config).traffic);
            assert!(traffic.starts_with(switch), "{traffic}");
        }
    }

    #[test]
    fn a_path_has_instances_asked_beside_their_scale_set() {
        let config = builder(SUBSCRIPTION, "web", "westeurope");
        let health = |config: crate::ConfigBuilder| format!("{:?}", platform(&config.build().unwrap()).health);
        assert!(!health(config.clone()).contains("HttpProbe"), "{}", health(config.clone()));
        let with_path = health(config.clone().health_path("/health"));
        assert!(with_path.contains("HttpProbe") && with_path.contains("status: 200..=200"), "{with_path}");
        assert!(health(config).contains("ScaleSetHealthProbe"));
    }
}
