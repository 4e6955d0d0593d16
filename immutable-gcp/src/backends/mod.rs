//! The backend services of fleets: one for each route of a URL map that a fleet is on, made like the one that the route led to before.

mod making;
mod removal;

use google_cloud_compute_v1::model::backend_service::LoadBalancingScheme;
use google_cloud_compute_v1::model::{BackendService, HealthStatus, ResourceGroupReference, SecurityPolicyReference};
use immutable_core::provider::{Progress, ProviderError};

pub(crate) use self::making::{Made, New, backend, endpoint_type, ensure, record, widen, write_claim};
pub(crate) use self::removal::remove;
use crate::changes;
use crate::endpoint_groups::{name, path};
use crate::operation::Scope;
use crate::ownership;
use crate::task::Task;
use crate::traffic_switch::short;

/// What the records of backend services and endpoint groups say beside whose they are: the route that they were made for, the backend
/// service that they were made like, and the last change of the route.
pub(crate) const ROUTE: &str = "route";
pub(crate) const LIKE: &str = "like";
pub(crate) const CLAIM: &str = "claim";

/// Sends a request for a backend service, global or regional.
macro_rules! send {
    ($place:expr, $task:expr, $verb:ident, |$request:ident| $complete:expr) => {{
        let (clients, project) = (&$task.config.clients, &$task.config.project);
        match &$place.scope {
            Scope::Region(region) => {
                let $request = clients.region_backend_services.$verb().set_project(project).set_region(region);
                $complete.send().await
            }
            Scope::Global | Scope::Zone(_) => {
                let $request = clients.backend_services.$verb().set_project(project);
                $complete.send().await
            }
        }
    }};
}

/// A backend service, by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) scope: Scope,
    pub(crate) name: String,
}

impl Place {
    /// What a link, or the end of one, names; nothing, when it is no backend service.
    pub(crate) fn parse(link: &str) -> Option<Self> {
        let scope = match path(link).split('/').collect::<Vec<_>>()[..] {
            [.., "global", "backendServices", _] => Scope::Global,
            [.., "regions", region, "backendServices", _] => Scope::Region(region.to_owned()),
            _ => return None,
        };
        Some(Self { scope, name: name(link).to_owned() }).filter(|place| !place.name.is_empty())
    }

    /// Whether the name is like one of ours. The record says whether it is one.
    pub(crate) fn may_be_ours(&self) -> bool {
        self.name.starts_with(ownership::PREFIX)
    }

    /// Whether the balancers that use it send packets on as they are, and know no ports.
    pub(crate) fn is_passthrough(&self, service: &BackendService) -> bool {
        match service.load_balancing_scheme.as_ref().and_then(LoadBalancingScheme::name) {
            Some("INTERNAL" | "EXTERNAL_PASSTHROUGH") => true,
            Some("EXTERNAL") => self.scope != Scope::Global,
            _ => false,
        }
    }

    /// What a route is called that is this backend service.
    pub(crate) fn id(&self) -> String {
        match &self.scope {
            Scope::Region(region) => format!("regions/{region}/backendServices/{}", self.name),
            Scope::Global | Scope::Zone(_) => format!("global/backendServices/{}", self.name),
        }
    }

    fn target(&self) -> String {
        format!("backendServices/{}", self.name)
    }

    /// The backend service as it is now.
    pub(crate) async fn get(&self, task: &Task<'_>) -> Result<Option<BackendService>, ProviderError> {
        task.found(send!(self, task, get, |request| request.set_backend_service(&self.name)))
    }

    /// What the load balancer finds of the members of one of its groups, of which this is the link.
    pub(crate) async fn health(&self, task: &Task<'_>, group: &str) -> Result<Vec<HealthStatus>, ProviderError> {
        let body = ResourceGroupReference::new().set_group(group);
        let found = send!(self, task, get_health, |request| request.set_backend_service(&self.name).set_body(body));
        Ok(task.found(found)?.map(|found| found.health_status).unwrap_or_default())
    }

    async fn insert(&self, task: &Task<'_>, body: BackendService) -> Result<Progress<()>, ProviderError> {
        let step = format!("make {}", short(&body));
        let change = task.change(&self.scope, self.target(), &step);
        changes::send(&change, |id| async move {
            send!(self, task, insert, |request| request.set_body(body).set_request_id(id))
        })
        .await
    }

    /// Changes what the body names, if nobody has changed anything since it was read.
    pub(crate) async fn patch(&self, task: &Task<'_>, body: BackendService) -> Result<Progress<()>, ProviderError> {
        let step = format!("change {}", short(&body));
        let change = task.change(&self.scope, self.target(), &step);
        changes::send(&change, |id| async move {
            send!(self, task, patch, |request| request
                .set_backend_service(&self.name)
                .set_body(body)
                .set_request_id(id))
        })
        .await
    }

    /// Writes the whole, if nobody has changed anything since it was read: the only way to leave a list empty.
    pub(crate) async fn update(&self, task: &Task<'_>, body: BackendService) -> Result<Progress<()>, ProviderError> {
        let step = format!("write {}", short(&body));
        let change = task.change(&self.scope, self.target(), &step);
        changes::send(&change, |id| async move {
            send!(self, task, update, |request| request
                .set_backend_service(&self.name)
                .set_body(body)
                .set_request_id(id))
        })
        .await
    }

    async fn delete(&self, task: &Task<'_>) -> Result<Progress<()>, ProviderError> {
        let change = task.change(&self.scope, self.target(), "delete");
        changes::send(&change, |id| async move {
            send!(self, task, delete, |request| request.set_backend_service(&self.name).set_request_id(id))
        })
        .await
        .or_else(changes::gone)
    }

    /// Gives it the security policy of its model: a request that was refused there is to be refused here.
    async fn protect(&self, task: &Task<'_>, policy: &str) -> Result<Progress<()>, ProviderError> {
        let step = format!("protect {policy}");
        let change = task.change(&self.scope, self.target(), &step);
        let body = SecurityPolicyReference::new().set_security_policy(policy);
        changes::send(&change, |id| async move {
            send!(self, task, set_security_policy, |request| request
                .set_backend_service(&self.name)
                .set_body(body)
                .set_request_id(id))
        })
        .await
    }
}
