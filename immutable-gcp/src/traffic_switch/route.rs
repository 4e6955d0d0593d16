//! URL maps: reading where the default route of one leads, and writing that with all else as it was.

use google_cloud_compute_v1::model::{HttpRouteAction, Operation, UrlMap, WeightedBackendService};
use google_cloud_gax::error::Error;
use immutable_core::model::RouteId;
use immutable_core::provider::{ErrorKind, Progress, ProviderError};

use super::plan::LARGEST;
use crate::changes;
use crate::endpoint_groups::path;
use crate::operation::Scope;
use crate::task::Task;

/// The default route of a URL map, or of one of its path matchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    pub(crate) scope: Scope,
    map: String,
    matcher: Option<String>,
}

impl Route {
    /// What the id names: `global/urlMaps/<name>` or `regions/<region>/urlMaps/<name>`, and perhaps `/pathMatchers/<name>`; nothing, when it
    /// is something else.
    pub(crate) fn parse(id: &RouteId) -> Option<Self> {
        let parts: Vec<&str> = id.as_str().split('/').collect();
        let (scope, rest) = match parts[..] {
            ["global", ref rest @ ..] => (Scope::Global, rest),
            ["regions", region, ref rest @ ..] if !region.is_empty() => (Scope::Region(region.to_owned()), rest),
            _ => return None,
        };
        let (map, matcher) = match *rest {
            ["urlMaps", map] => (map, None),
            ["urlMaps", map, "pathMatchers", matcher] if !matcher.is_empty() => (map, Some(matcher.to_owned())),
            _ => return None,
        };
        (!map.is_empty()).then(|| Self { id: id.clone(), scope, map: map.to_owned(), matcher })
    }

    /// The URL map as it is now.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it has no such path matcher.
    pub(crate) async fn read(&self, task: &Task<'_>) -> Result<UrlMap, ProviderError> {
        let (clients, project) = (&task.config.clients, &task.config.project);
        let answer = match &self.scope {
            Scope::Region(region) => {
                let request = clients.region_url_maps.get().set_project(project).set_region(region);
                request.set_url_map(&self.map).send().await
            }
            Scope::Global | Scope::Zone(_) => {
                clients.url_maps.get().set_project(project).set_url_map(&self.map).send().await
            }
        };
        let found = task.found(answer)?.filter(|map| self.leads(map).is_some());
        found.ok_or_else(|| {
            let message = format!("there is no {} in project {project}", self.id);
            ProviderError::new(ErrorKind::NotFound, task.operation, message).without_effect()
        })
    }

    /// Writes the URL map. Who has read it before somebody else changed it is told.
    pub(crate) async fn write(&self, task: &Task<'_>, map: UrlMap) -> Result<Progress<()>, ProviderError> {
        let step = format!("write {}", super::short(&map));
        let change = task.change(&self.scope, self.target(), &step);
        changes::send(&change, |id| self.update(task, map, id)).await
    }

    async fn update(&self, task: &Task<'_>, map: UrlMap, id: String) -> Result<Operation, Error> {
        let (clients, project) = (&task.config.clients, &task.config.project);
        match &self.scope {
            Scope::Region(region) => {
                let request = clients.region_url_maps.update().set_project(project).set_region(region);
                request.set_url_map(&self.map).set_body(map).set_request_id(id).send().await
            }
            Scope::Global | Scope::Zone(_) => {
                let request = clients.url_maps.update().set_project(project).set_url_map(&self.map);
                request.set_body(map).set_request_id(id).send().await
            }
        }
    }

    /// The URL map as the target of operations.
    pub(crate) fn target(&self) -> String {
        format!("urlMaps/{}", self.map)
    }

    fn leads<'a>(&self, map: &'a UrlMap) -> Option<(Option<&'a String>, Option<&'a HttpRouteAction>)> {
        match &self.matcher {
            None => Some((map.default_service.as_ref(), map.default_route_action.as_ref())),
            Some(name) => {
                let matcher = map.path_matchers.iter().find(|matcher| matcher.name.as_ref() == Some(name))?;
                Some((matcher.default_service.as_ref(), matcher.default_route_action.as_ref()))
            }
        }
    }

    fn leads_mut<'a>(&self, map: &'a mut UrlMap) -> Option<(&'a mut Option<String>, &'a mut Option<HttpRouteAction>)> {
        match &self.matcher {
            None => Some((&mut map.default_service, &mut map.default_route_action)),
            Some(name) => {
                let matcher = map.path_matchers.iter_mut().find(|matcher| matcher.name.as_ref() == Some(name))?;
                Some((&mut matcher.default_service, &mut matcher.default_route_action))
            }
        }
    }

    /// The backend services that the route leads to, with their weights. The only one has all.
    pub(crate) fn forwards(&self, map: &UrlMap) -> Vec<(String, u32)> {
        let Some((service, action)) = self.leads(map) else { return Vec::new() };
        let weighted = action.map(|action| action.weighted_backend_services.as_slice()).unwrap_or_default();
        let listed = weighted.iter().filter_map(|one| Some((one.backend_service.clone()?, one.weight.unwrap_or(0))));
        let listed: Vec<_> = listed.collect();
        match (service, listed.is_empty()) {
            (Some(service), true) => vec![(service.clone(), LARGEST)],
            _ => listed,
        }
    }

    /// The URL map with this route leading to other backend services, and all else as it was. One that leads to a single service that
    /// has nothing of its own to be said names it as its default, as it did before there were weights.
    pub(crate) fn leading_to(&self, map: &UrlMap, services: &[(String, u32)], is_plain: bool) -> UrlMap {
        let mut map = map.clone();
        let Some((service, action)) = self.leads_mut(&mut map) else { return map };
        let before = action.as_ref().map(|action| action.weighted_backend_services.clone()).unwrap_or_default();
        let weighted = services.iter().map(|(url, weight)| {
            let known = before.iter().find(|one| one.backend_service.as_deref().map(path) == Some(path(url)));
            let one = known.cloned().unwrap_or_else(|| WeightedBackendService::new().set_backend_service(url));
            one.set_weight(*weight)
        });
        let weighted: Vec<_> = weighted.collect();
        match &weighted[..] {
            [only] if is_plain && only.header_action.is_none() => {
                service.clone_from(&only.backend_service);
                if let Some(mut rest) = action.take() {
                    rest.weighted_backend_services.clear();
                    *action = Some(rest).filter(|rest| *rest != HttpRouteAction::new());
                }
            }
            _ => {
                *service = None;
                *action = Some(action.take().unwrap_or_default().set_weighted_backend_services(weighted));
            }
        }
        map
    }

    /// Which backend services requests go to, as a text that is the same whenever they and their weights are.
    pub(crate) fn traffic(&self, map: &UrlMap) -> String {
        let some = self.forwards(map).into_iter().filter(|(_, weight)| *weight > 0);
        some.map(|(url, weight)| format!("{} {weight}\n", path(&url))).collect::<Vec<_>>().concat()
    }

    /// All that the default route does, as a text that is the same whenever that is.
    pub(crate) fn text(&self, map: &UrlMap) -> String {
        self.leads(map).map(super::text).unwrap_or_default()
    }
}
