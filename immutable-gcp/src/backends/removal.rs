//! Removing what a fleet has on routes.

use std::collections::BTreeMap;

use google_cloud_compute_v1::model::BackendService;
use immutable_core::model::{FleetId, ServiceName};
use immutable_core::provider::{OpContext, Progress, ProviderError};

use super::{Place, ROUTE};
use crate::Config;
use crate::changes::until_seen;
use crate::endpoint_groups::{self, EndpointGroup};
use crate::error::{reached, unseen};
use crate::ownership::{self, Record};
use crate::task::Task;
use crate::traffic_switch::{drop_groups, drop_service};

const REMOVE: &str = "remove fleet";

/// Removes what a fleet without instances has on routes, from the routes first. None is left when it is done.
///
/// # Errors
/// `Conflict` when something of it still has traffic, or is used by something else.
pub(crate) async fn remove(
    config: &Config,
    cx: &OpContext,
    service: &ServiceName,
    fleet: &FleetId,
) -> Result<Progress<()>, ProviderError> {
    let task = &Task::new(config, REMOVE, cx);
    // One change in a call, so that what its error says holds for the call.
    let mut services = of_fleet(task, fleet).await?.into_iter();
    if let Some((place, found, record)) = services.find(|(_, _, record)| record.service == service.as_str()) {
        let link = found.self_link.unwrap_or_default();
        // Both hold whole URL maps and backend services, which are large.
        let step = match Box::pin(drop_service(task, record.get(ROUTE).unwrap_or_default(), &link)).await? {
            Progress::Done(()) => place.delete(task).await?,
            pending @ Progress::Pending { .. } => pending,
        };
        return Ok(until_seen(step, "the end of a backend service"));
    }
    let groups = endpoint_groups::of_fleet(task, fleet).await?;
    let mut by_route: BTreeMap<String, Vec<EndpointGroup>> = BTreeMap::new();
    for (group, record) in groups.into_iter().filter(|(_, record)| record.service == service.as_str()) {
        by_route.entry(record.get(ROUTE).unwrap_or_default().to_owned()).or_default().push(group);
    }
    let Some((route, groups)) = by_route.first_key_value() else { return Ok(Progress::Done(())) };
    let step = match Box::pin(drop_groups(task, route, groups)).await? {
        Progress::Done(()) => endpoint_groups::delete(task, groups).await?,
        pending @ Progress::Pending { .. } => pending,
    };
    Ok(until_seen(step, "the end of endpoint groups"))
}

/// The backend services of a fleet, global and regional ones. They are found by their names and known by their records.
async fn of_fleet(task: &Task<'_>, fleet: &FleetId) -> Result<Vec<(Place, BackendService, Record)>, ProviderError> {
    let (mut services, mut token) = (Vec::new(), None);
    loop {
        let request = task.config.clients.backend_services.aggregated_list().set_project(&task.config.project);
        let request = request.set_filter(ownership::names_on_routes(fleet)).set_or_clear_page_token(token);
        let answer = request.send().await.map_err(|error| unseen(task.operation, error))?;
        reached!(task.operation, answer.items, &answer.unreachables)?;
        for found in answer.items.into_values().flat_map(|scope| scope.backend_services) {
            let record = Record::read(found.description.as_deref()).filter(|record| record.fleet == fleet.as_str());
            let place = found.self_link.as_deref().and_then(Place::parse);
            services.extend(place.zip(record).map(|(place, record)| (place, found, record)));
        }
        token = answer.next_page_token.filter(|token| !token.is_empty());
        if token.is_none() {
            services.sort_by(|one, other| (&one.0.scope, &one.0.name).cmp(&(&other.0.scope, &other.0.name)));
            return Ok(services);
        }
    }
}
