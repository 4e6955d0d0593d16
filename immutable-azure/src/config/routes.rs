//! Which kinds of routes there are. A switch moves traffic on one of them.

use immutable_core::model::RouteId;

use super::{ConfigError, names};

/// What a route is, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// A backend pool of a load balancer.
    BalancerPool,
    /// A profile of Traffic Manager.
    Profile,
    /// A backend pool of an application gateway.
    GatewayPool,
    /// A rule of an application gateway, or a map of paths.
    GatewayRule,
}

/// The parts of ids that tell what they are.
const KINDS: &[(RouteKind, &[&str])] = &[
    (RouteKind::BalancerPool, &["loadBalancers", "backendAddressPools"]),
    (RouteKind::Profile, &["trafficManagerProfiles"]),
    (RouteKind::GatewayPool, &["applicationGateways", "backendAddressPools"]),
    (RouteKind::GatewayRule, &["applicationGateways", "requestRoutingRules"]),
    (RouteKind::GatewayRule, &["applicationGateways", "urlPathMaps"]),
    (RouteKind::GatewayRule, &["applicationGateways", "urlPathMaps", "pathRules"]),
];

impl RouteKind {
    /// What a route is, unless it is for nobody here: a switch of somebody's own may move traffic on it, and a gateway may be named for its
    /// metrics.
    pub(crate) fn of(route: &RouteId) -> Option<Self> {
        let is = |parts: &[&str]| names::is_resource(route.as_str(), "Microsoft.Network", Some(parts));
        KINDS.iter().find(|(_, parts)| is(parts)).map(|(kind, _)| *kind)
    }

    /// Whether one switch can have both: behind a profile there are pools of load balancers.
    fn goes_with(self, other: Self) -> bool {
        let by_addresses = |kind| matches!(kind, Self::BalancerPool | Self::Profile);
        self == other || by_addresses(self) && by_addresses(other)
    }
}

/// That one switch can move traffic on all of these.
pub(super) fn check(routes: &[RouteId]) -> Result<(), ConfigError> {
    let wrong = |problem| Err(ConfigError::new("routes", problem));
    if !routes.iter().all(|route| names::is_resource(route.as_str(), "Microsoft.Network", None)) {
        return wrong("must look like \"/subscriptions/.../providers/Microsoft.Network/...\"".to_owned());
    }
    let mut known = routes.iter().filter_map(|route| Some((route, RouteKind::of(route)?)));
    let Some((first, kind)) = known.next() else { return Ok(()) };
    match known.find(|(_, other)| !kind.goes_with(*other)) {
        Some((other, _)) => wrong(format!(
            "one switch cannot move traffic on both {first} and {other}: give each kind of routes a configuration of its own"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::id;

    const POOL: &str = "loadBalancers/web/backendAddressPools/web";
    const PROFILE: &str = "trafficManagerProfiles/web";
    const GATEWAY_POOL: &str = "applicationGateways/web/backendAddressPools/web";
    const RULE: &str = "applicationGateways/web/requestRoutingRules/web";
    const MAP: &str = "applicationGateways/web/urlPathMaps/web";

    fn route(rest: &str) -> RouteId {
        id(&format!("Microsoft.Network/{rest}")).parse().unwrap()
    }

    #[test]
    fn the_id_of_a_route_tells_its_kind() {
        for (rest, kind) in [
            (POOL, Some(RouteKind::BalancerPool)),
            (&POOL.to_uppercase(), Some(RouteKind::BalancerPool)),
            (PROFILE, Some(RouteKind::Profile)),
            (GATEWAY_POOL, Some(RouteKind::GatewayPool)),
            (RULE, Some(RouteKind::GatewayRule)),
            (MAP, Some(RouteKind::GatewayRule)),
            (&format!("{MAP}/pathRules/api"), Some(RouteKind::GatewayRule)),
            ("applicationGateways/web", None),
            ("loadBalancers/web", None),
            ("frontDoors/web", None),
        ] {
            assert_eq!(RouteKind::of(&route(rest)), kind, "{rest}");
        }
    }

    #[test]
    fn routes_that_need_different_switches_are_refused() {
        let check = |rests: &[&str]| {
            let routes: Vec<RouteId> = rests.iter().map(|rest| route(rest)).collect();
            super::check(&routes).map_err(|error| error.to_string())
        };
        for good in [
            &[][..],
            &[POOL, POOL],
            &[PROFILE, POOL],
            &[POOL, PROFILE],
            &[RULE, MAP],
            &["applicationGateways/web", POOL],
            &["frontDoors/web", "natGateways/web"],
        ] {
            assert_eq!(check(good), Ok(()));
        }
        for wrong in [[POOL, GATEWAY_POOL], [GATEWAY_POOL, RULE], [RULE, PROFILE], [PROFILE, GATEWAY_POOL]] {
            let [first, second] = wrong.map(route);
            let problem = format!(
                "routes: one switch cannot move traffic on both {first} and {second}: give each kind of routes a configuration of its own"
            );
            assert_eq!(check(&wrong), Err(problem));
        }
        assert!(check(&["frontDoors/web", POOL, "natGateways/web", RULE]).is_err());
    }
}
