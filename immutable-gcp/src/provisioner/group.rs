//! The managed instance group of a fleet: one seam over the two kinds that there are, regional and zonal ones.

use std::fmt;

use google_cloud_compute_v1::model::{
    DistributionPolicy, DistributionPolicyZoneConfiguration, InstanceGroupManager,
    InstanceGroupManagerAutoHealingPolicy, InstanceGroupManagerInstanceLifecyclePolicy,
    InstanceGroupManagerUpdatePolicy, InstanceGroupManagersDeleteInstancesRequest, ManagedInstance, NamedPort,
    Operation, RegionInstanceGroupManagersDeleteInstancesRequest, instance_group_manager,
    instance_group_manager_instance_lifecycle_policy as repair, instance_group_manager_update_policy as update,
};
use google_cloud_gax::paginator::ItemPaginator as _;
use immutable_core::model::FleetSpec;
use immutable_core::provider::{ErrorKind, OpContext, Progress, ProviderError};

use super::{ENSURE, REMOVE, RETIRE, template};
use crate::changes;
use crate::config::{Config, Location};
use crate::error::unseen;
use crate::on_route::existing;
use crate::operation::{Change, SOON, Scope};

/// So many instances are ended with a request:
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/regionInstanceGroupManagers/deleteInstances>.
pub(super) const ENDED_AT_ONCE: usize = 1000;

/// Where a group is, which decides of which kind it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Region(String),
    Zone(String),
}

impl Place {
    /// The place that `regions/...` and `zones/...` name.
    pub(super) fn read(text: &str) -> Option<Self> {
        let region = text.strip_prefix("regions/").map(|region| Self::Region(region.to_owned()));
        region.or_else(|| text.strip_prefix("zones/").map(|zone| Self::Zone(zone.to_owned())))
    }

    /// Where these settings have their groups.
    pub(crate) fn of(config: &Config) -> Self {
        match &config.launch.location {
            Location::Region { region, .. } => Self::Region(region.clone()),
            Location::Zone(zone) => Self::Zone(zone.clone()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "regions/{region}"),
            Self::Zone(zone) => write!(f, "zones/{zone}"),
        }
    }
}

/// A group by its name, whether it exists or not.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    config: &'a Config,
    place: Place,
    name: String,
}

/// The request for a group of either kind: what they are asked is the same, and the types are not.
macro_rules! request {
    ($group:expr, $method:ident, $request:ident => $then:expr) => {{
        let (clients, project, name) = (&$group.config.clients, &$group.config.project, &$group.name);
        match &$group.place {
            Place::Zone(zone) => {
                let $request = clients.instance_group_managers.$method().set_project(project).set_zone(zone);
                let $request = $request.set_instance_group_manager(name);
                $then
            }
            Place::Region(region) => {
                let $request = clients.region_instance_group_managers.$method().set_project(project).set_region(region);
                let $request = $request.set_instance_group_manager(name);
                $then
            }
        }
    }};
}

impl<'a> Group<'a> {
    pub(crate) fn new(config: &'a Config, place: Place, name: String) -> Self {
        Self { config, place, name }
    }

    /// The group, if there is one.
    pub(crate) async fn get(&self, operation: &'static str) -> Result<Option<InstanceGroupManager>, ProviderError> {
        existing(operation, request!(self, get, request => request.send().await))
    }

    /// Its instances, and those that it is still to start; nothing if there is no such group (any more).
    pub(crate) async fn managed(&self, operation: &'static str) -> Result<Option<Vec<ManagedInstance>>, ProviderError> {
        let mut found = Vec::new();
        request!(self, list_managed_instances, request => {
            let mut items = request.by_item();
            while let Some(item) = items.next().await {
                match item {
                    Ok(item) => found.push(item),
                    Err(error) if error.http_status_code() == Some(404) => return Ok(None),
                    Err(error) => return Err(unseen(operation, error)),
                }
            }
        });
        Ok(Some(found))
    }

    /// Makes the group with so many instances to start.
    pub(super) async fn insert(&self, cx: &OpContext, spec: &FleetSpec, size: u32) -> Result<(), ProviderError> {
        let (clients, project, body) = (&self.config.clients, &self.config.project, self.body(spec, size));
        let sent = self.change(cx, ENSURE, "insert", |id| async move {
            match &self.place {
                Place::Zone(zone) => {
                    let request = clients.instance_group_managers.insert().set_project(project).set_zone(zone);
                    request.set_body(body).set_request_id(id).send().await
                }
                Place::Region(region) => {
                    let request = clients.region_instance_group_managers.insert().set_project(project);
                    request.set_region(region).set_body(body).set_request_id(id).send().await
                }
            }
        });
        sent.await.or_else(made).map(drop)
    }

    /// Sets the target size.
    pub(super) async fn resize(&self, cx: &OpContext, operation: &'static str, size: u32) -> Result<(), ProviderError> {
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        let step = format!("resize to {size}");
        let sent = self.change(cx, operation, &step, |id| async move {
            request!(self, resize, request => request.set_size(size).set_request_id(id).send().await)
        });
        sent.await.map(drop)
    }

    /// Ends these instances, given by their URLs, and lowers the target size with them.
    pub(super) async fn delete_instances(
        &self,
        cx: &OpContext,
        step: &str,
        instances: Vec<String>,
    ) -> Result<Progress<()>, ProviderError> {
        let (clients, project, name) = (&self.config.clients, &self.config.project, &self.name);
        self.change(cx, RETIRE, step, |id| async move {
            // Who is on the way out already must not keep the others from going.
            match &self.place {
                Place::Zone(zone) => {
                    let body = InstanceGroupManagersDeleteInstancesRequest::new().set_instances(instances);
                    let request = clients.instance_group_managers.delete_instances().set_project(project);
                    let request = request.set_zone(zone).set_instance_group_manager(name).set_request_id(id);
                    request.set_body(body.set_skip_instances_on_validation_error(true)).send().await
                }
                Place::Region(region) => {
                    let body = RegionInstanceGroupManagersDeleteInstancesRequest::new().set_instances(instances);
                    let request = clients.region_instance_group_managers.delete_instances().set_project(project);
                    let request = request.set_region(region).set_instance_group_manager(name).set_request_id(id);
                    request.set_body(body.set_skip_instances_on_validation_error(true)).send().await
                }
            }
        })
        .await
    }

    /// Removes the group.
    pub(super) async fn delete(&self, cx: &OpContext) -> Result<(), ProviderError> {
        let sent = self.change(cx, REMOVE, "delete", |id| async move {
            request!(self, delete, request => request.set_request_id(id).send().await)
        });
        sent.await.or_else(changes::gone).map(drop)
    }

    /// Takes the turn of a change and sends it.
    async fn change<F>(
        &self,
        cx: &OpContext,
        operation: &'static str,
        step: &str,
        send: impl FnOnce(String) -> F,
    ) -> Result<Progress<()>, ProviderError>
    where
        F: Future<Output = google_cloud_gax::Result<Operation>>,
    {
        let scope = match &self.place {
            Place::Region(region) => Scope::Region(region.clone()),
            Place::Zone(zone) => Scope::Zone(zone.clone()),
        };
        let target = format!("instanceGroupManagers/{}", self.name);
        let change = Change { config: self.config, operation, scope: &scope, target, key: &cx.key, step };
        changes::send(&change, send).await
    }

    fn body(&self, spec: &FleetSpec, size: u32) -> InstanceGroupManager {
        let launch = &self.config.launch;
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let policy = InstanceGroupManagerUpdatePolicy::new().set_type(update::Type::Opportunistic);
        let lifecycle = InstanceGroupManagerInstanceLifecyclePolicy::new();
        let port = |(name, port): &(String, u16)| NamedPort::new().set_name(name).set_port(i32::from(*port));
        let healing = launch.autohealing.as_ref().map(|healing| {
            let delay = i32::try_from(healing.initial_delay.as_secs()).unwrap_or(i32::MAX);
            let policy = InstanceGroupManagerAutoHealingPolicy::new().set_health_check(&healing.health_check);
            policy.set_initial_delay_sec(delay)
        });
        let body = InstanceGroupManager::new()
            .set_name(&self.name)
            .set_description(template::record(self.config, spec).description())
            .set_base_instance_name(&self.name)
            .set_instance_template(template::url(self.config, &self.name))
            .set_target_size(number(size))
            .set_named_ports(launch.named_ports.iter().map(port))
            .set_auto_healing_policies(healing)
            .set_instance_lifecycle_policy(lifecycle.set_force_update_on_repair(repair::ForceUpdateOnRepair::No))
            .set_list_managed_instances_results(instance_group_manager::ListManagedInstancesResults::Paginated);
        let Location::Region { zones, .. } = &launch.location else { return body.set_update_policy(policy) };
        let zone = |zone: &String| {
            let url = format!("projects/{}/zones/{zone}", self.config.project);
            DistributionPolicyZoneConfiguration::new().set_zone(url)
        };
        // The group would end instances that are in traffic to have equally many in each zone.
        let policy = policy.set_instance_redistribution_type(update::InstanceRedistributionType::None);
        let distribution = DistributionPolicy::new().set_zones(zones.iter().map(zone));
        body.set_update_policy(policy).set_distribution_policy(distribution)
    }
}

/// What somebody else has made in this moment: the next look tells whether it is the same.
pub(super) fn made(error: ProviderError) -> Result<Progress<()>, ProviderError> {
    let words = error.to_string();
    let exists = ["alreadyExists", "RESOURCE_ALREADY_EXISTS"].iter().any(|code| words.contains(code));
    if error.kind() != ErrorKind::Conflict || !exists {
        return Err(error);
    }
    Ok(Progress::Pending { retry_after: SOON, note: format!("what somebody else has made to be seen ({words})") })
}
