//! The backend service that a fleet is behind on a route, for those who only look at it.

use google_cloud_compute_v1::model::{BackendService, HealthStatus, ResourceGroupReference};
use google_cloud_gax::error::Error;
use immutable_core::model::{FleetId, RouteId};
use immutable_core::provider::ProviderError;

use crate::Config;
use crate::error::unseen;
use crate::ownership::name_on;

/// Where a fleet is on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The region of the load balancer; none of a global one.
    pub(crate) region: Option<String>,
    /// The name of the backend service.
    pub(crate) service: String,
    /// The name of the endpoint groups, one in each zone, that the fleet's instances are in.
    pub(crate) group: String,
}

impl Place {
    /// The place of a fleet on a route, if that is one: behind a URL map each fleet has a backend service of its own, and in a backend service
    /// only groups of its own.
    pub(crate) fn of(route: &RouteId, fleet: &FleetId) -> Option<Self> {
        let group = name_on(route, fleet);
        let parts: Vec<&str> = route.as_str().split('/').collect();
        let (region, kind, name) = match parts[..] {
            ["global", kind, name, ..] => (None, kind, name),
            ["regions", region, kind, name, ..] => (Some(region.to_owned()), kind, name),
            _ => return None,
        };
        let service = match kind {
            "urlMaps" => group.clone(),
            "backendServices" => name.to_owned(),
            _ => return None,
        };
        Some(Self { region, service, group })
    }

    /// The backend service, if there is one yet.
    pub(crate) async fn service(
        &self,
        config: &Config,
        operation: &'static str,
    ) -> Result<Option<BackendService>, ProviderError> {
        let (clients, project) = (&config.clients, &config.project);
        let found = match &self.region {
            None => {
                let request = clients.backend_services.get().set_project(project);
                request.set_backend_service(&self.service).send().await
            }
            Some(region) => {
                let request = clients.region_backend_services.get().set_project(project).set_region(region);
                request.set_backend_service(&self.service).send().await
            }
        };
        existing(operation, found)
    }

    /// What the load balancer finds of the members of a group, of which it gives the URL.
    pub(crate) async fn health(
        &self,
        config: &Config,
        operation: &'static str,
        group: &str,
    ) -> Result<Vec<HealthStatus>, ProviderError> {
        let (clients, project) = (&config.clients, &config.project);
        let group = ResourceGroupReference::new().set_group(group);
        let found = match &self.region {
            None => {
                let request = clients.backend_services.get_health().set_project(project);
                request.set_backend_service(&self.service).set_body(group).send().await
            }
            Some(region) => {
                let request = clients.region_backend_services.get_health().set_project(project).set_region(region);
                request.set_backend_service(&self.service).set_body(group).send().await
            }
        };
        Ok(existing(operation, found)?.map(|found| found.health_status).unwrap_or_default())
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

    #[test]
    fn a_fleet_is_behind_a_service_of_its_own_or_among_others() {
        let fleet: FleetId = "web-1".parse().unwrap();
        let cases = [
            ("global/urlMaps/web", Some((None, None))),
            ("global/urlMaps/web/pathMatchers/api", Some((None, None))),
            ("regions/europe-west3/urlMaps/web", Some((Some("europe-west3"), None))),
            ("global/backendServices/web", Some((None, Some("web")))),
            ("regions/europe-west3/backendServices/web", Some((Some("europe-west3"), Some("web")))),
            ("global/targetPools/web", None),
            ("web", None),
        ];
        for (route, expected) in cases {
            let route: RouteId = route.parse().unwrap();
            let own = name_on(&route, &fleet);
            let expected = expected.map(|(region, service)| Place {
                region: region.map(str::to_owned),
                service: service.map_or(own.clone(), str::to_owned),
                group: own,
            });
            assert_eq!(Place::of(&route, &fleet), expected, "{route}");
        }
    }
}
