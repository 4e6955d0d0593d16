//! Where a fleet is on a route, for those who only look at it.

use google_cloud_gax::error::Error;
use immutable_core::model::{FleetId, RouteId};
use immutable_core::provider::ProviderError;

use crate::backends::Place;
use crate::error::unseen;
use crate::ownership::name_on;
use crate::traffic_switch::Route;

/// Where a fleet is on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnRoute {
    pub(crate) service: Place,
    /// The name of the endpoint groups, one in each zone, that the fleet's instances are in.
    pub(crate) group: String,
    /// Whether the backend service is the fleet's own.
    pub(crate) is_alone: bool,
}

impl OnRoute {
    /// The place of a fleet on a route, if that is one: behind a URL map each fleet has a backend service of its own, and in a backend service
    /// only groups of its own.
    pub(crate) fn of(route: &RouteId, fleet: &FleetId) -> Option<Self> {
        let group = name_on(route, fleet);
        match Route::parse(route) {
            Some(Route { scope, .. }) => {
                Some(Self { service: Place { scope, name: group.clone() }, group, is_alone: true })
            }
            None => Some(Self { service: Place::parse(route.as_str())?, group, is_alone: false }),
        }
    }

    /// Whether this is the id of a route.
    pub(crate) fn is_route(id: &RouteId) -> bool {
        Route::parse(id).is_some() || Place::parse(id.as_str()).is_some()
    }
}

/// What was found, if it is there: what is not there is nothing to look at.
pub(crate) fn existing<T>(operation: &'static str, found: Result<T, Error>) -> Result<Option<T>, ProviderError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.http_status_code() == Some(404) => Ok(None),
        Err(error) => Err(unseen(operation, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Scope;

    #[test]
    fn a_fleet_is_behind_a_service_of_its_own_or_among_others() {
        let fleet: FleetId = "web-1".parse().unwrap();
        let region = || Scope::Region("europe-west3".to_owned());
        let cases = [
            ("global/urlMaps/web", Some((Scope::Global, None))),
            ("global/urlMaps/web/pathMatchers/api", Some((Scope::Global, None))),
            ("regions/europe-west3/urlMaps/web", Some((region(), None))),
            ("global/backendServices/web", Some((Scope::Global, Some("web")))),
            ("regions/europe-west3/backendServices/web", Some((region(), Some("web")))),
            ("global/targetPools/web", None),
            ("web", None),
        ];
        for (route, expected) in cases {
            let route: RouteId = route.parse().unwrap();
            let group = name_on(&route, &fleet);
            let expected = expected.map(|(scope, shared)| OnRoute {
                service: Place { scope, name: shared.unwrap_or(&group).to_owned() },
                group: group.clone(),
                is_alone: shared.is_none(),
            });
            assert_eq!(OnRoute::of(&route, &fleet), expected, "{route}");
        }
    }
}
