//! What traffic goes by.

use std::sync::Arc;

use immutable_azure::{Config, GatewayPoolSwitch, LoadBalancerSwitch, RoutingRuleSwitch, Slot, TrafficManagerSwitch};
use immutable_azure_fake::Fake;
use immutable_core::model::RouteId;
use immutable_core::provider::TrafficSwitch;

use super::balancers::{GATEWAY, LOAD_BALANCER, PROFILE, SLOTS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// The members of a pool of a load balancer.
    LoadBalancer,
    /// The members of a pool of a gateway.
    GatewayPool,
    /// The pool that a rule of a gateway leads to.
    RoutingRule,
    /// The weights of Traffic Manager.
    Profile,
}

impl Traffic {
    /// One of the two routes, `web` and `other`. There is only one profile.
    pub(crate) fn route(self, fake: &Fake, name: &str) -> RouteId {
        let id = match self {
            Self::LoadBalancer => format!("{LOAD_BALANCER}/backendAddressPools/{name}"),
            Self::GatewayPool => format!("{GATEWAY}/backendAddressPools/{name}"),
            Self::RoutingRule => format!("{GATEWAY}/requestRoutingRules/{name}"),
            Self::Profile => PROFILE.to_owned(),
        };
        fake.id(&id).parse().unwrap()
    }

    /// The switch for all of its routes.
    pub(crate) fn switch(self, fake: &Fake, config: &Config) -> Arc<dyn TrafficSwitch> {
        let config = config.clone();
        match self {
            Self::LoadBalancer => Arc::new(LoadBalancerSwitch::new(config)),
            Self::GatewayPool => Arc::new(GatewayPoolSwitch::new(config)),
            Self::RoutingRule => Arc::new(RoutingRuleSwitch::new(config)),
            Self::Profile => {
                let pool =
                    |name: &str| fake.id(&format!("{LOAD_BALANCER}/backendAddressPools/{name}")).parse().unwrap();
                let slots = SLOTS.map(|name| Slot { endpoint: name.to_owned(), pool: pool(name) });
                Arc::new(TrafficManagerSwitch::new(config, slots).unwrap())
            }
        }
    }
}
