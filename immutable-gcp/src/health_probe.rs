//! Looking at instances with what Google Cloud itself knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use async_trait::async_trait;
use google_cloud_compute_v1::model::managed_instance::{CurrentAction, InstanceStatus};
use google_cloud_compute_v1::model::managed_instance_instance_health::DetailedHealthState;
use google_cloud_compute_v1::model::{HealthStatus, ManagedInstance, health_status};
use immutable_core::model::{FleetId, InstanceId, Look, Sample};
use immutable_core::provider::{HealthProbe, OpContext, ProbeTarget, ProviderError};
use jiff::Timestamp;

use crate::Config;
use crate::endpoint_groups::name;
use crate::on_route::{OnRoute, existing};
use crate::ownership::{self, Record};
use crate::provisioner::{Group, Place, place_of};
use crate::task::Task;

const LOOK: &str = "look at instances of a group";

/// What was seen of an instance, and the evidence.
type Seen = (Look, String);

macro_rules! probe {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name {
            config: Config,
        }

        impl $name {
            /// A probe with the clients of this configuration.
            pub fn new(config: Config) -> Self {
                Self { config }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

probe!(
    /// What the managed instance group thinks of its instances: whether the machine runs, and what the health check of its
    /// [autohealing](crate::ConfigBuilder::autohealing) finds. Without autohealing, a machine that runs is good, which says nothing about what runs
    /// on it.
    ///
    /// # Errors
    /// Only when the API cannot be asked. An instance that is in no group has no sample.
    GroupHealthProbe
);

probe!(
    /// What the load balancer thinks of the members of the configuration's [routes](crate::ConfigBuilder::routes), by its own health checks.
    ///
    /// Bad on one route is bad. An instance that is on none has no sample; one that the balancer has not looked at yet is not judged. The
    /// balancer knows instances by their names: of one that a group has just made anew under its old name, the look can be at the
    /// new one.
    ///
    /// # Errors
    /// Only when the API cannot be asked.
    BackendHealthProbe
);

#[async_trait]
impl HealthProbe for GroupHealthProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let until = Until::half_of(cx);
        let asked: BTreeSet<&str> = targets.iter().map(|target| target.instance.as_str()).collect();
        let mut samples = Vec::new();
        for fleet in fleets(targets) {
            if until.is_over() {
                break;
            }
            let (members, is_checked) = self.members(fleet).await?;
            let seen = members.iter().filter_map(|member| Some((id_of(member)?, group_look(member, is_checked))));
            samples.extend(told(seen.filter(|(id, _)| asked.contains(id.as_str()))));
        }
        Ok(samples)
    }
}

impl GroupHealthProbe {
    /// The instances of a fleet's group, and whether it checks them, which it may not have done yet.
    async fn members(&self, fleet: &FleetId) -> Result<(Vec<ManagedInstance>, bool), ProviderError> {
        let Some((group, members)) = self.group(fleet).await? else { return Ok((Vec::new(), false)) };
        // It may have been made with other settings than these.
        let is_checked = members.iter().any(|member| !member.instance_health.is_empty())
            || group.get(LOOK).await?.is_some_and(|group| !group.auto_healing_policies.is_empty());
        Ok((members, is_checked))
    }

    /// A fleet's group, if there is one: where these settings have theirs, or else where the fleet was made.
    async fn group(&self, fleet: &FleetId) -> Result<Option<(Group<'_>, Vec<ManagedInstance>)>, ProviderError> {
        let (config, here) = (&self.config, Place::of(&self.config));
        let name = ownership::name(LOOK, fleet)?;
        let group = Group::new(config, here.clone(), name.clone());
        if let Some(members) = group.managed(LOOK).await? {
            return Ok(Some((group, members)));
        }
        let template = config.clients.instance_templates.get().set_project(&config.project);
        let template = existing(LOOK, template.set_instance_template(&name).send().await)?;
        let record = template.and_then(|template| Record::read(template.description.as_deref()));
        let there = record.as_ref().and_then(place_of).filter(|there| *there != here);
        let Some(there) = there else { return Ok(None) };
        let group = Group::new(config, there, name);
        let members = group.managed(LOOK).await?;
        Ok(members.map(|members| (group, members)))
    }
}

#[async_trait]
impl HealthProbe for BackendHealthProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let until = Until::half_of(cx);
        let asked: BTreeMap<&str, &InstanceId> =
            targets.iter().filter_map(|target| Some((place(target.instance.as_str())?, &target.instance))).collect();
        let mut looks: BTreeMap<&InstanceId, Seen> = BTreeMap::new();
        let (fleets, routes) = (fleets(targets), &self.config.routes);
        let places = fleets.iter().flat_map(|fleet| routes.iter().filter_map(|route| OnRoute::of(route, fleet)));
        for place in places.collect::<Vec<_>>() {
            for (instance, seen) in self.members(cx, &place, &until).await? {
                let Some(instance) = asked.get(instance.as_str()) else { continue };
                let known = looks.entry(instance).or_insert_with(|| seen.clone());
                if weight(seen.0) > weight(known.0) {
                    *known = seen;
                }
            }
        }
        Ok(told(looks.into_iter().map(|(instance, seen)| (instance.to_string(), seen))).collect())
    }
}

impl BackendHealthProbe {
    /// What the balancer finds of the members of a fleet on one route, as far as there is time to ask.
    async fn members(
        &self,
        cx: &OpContext,
        place: &OnRoute,
        until: &Until,
    ) -> Result<Vec<(String, Seen)>, ProviderError> {
        let task = Task::new(&self.config, "look at members of backend services", cx);
        let mut members = Vec::new();
        if until.is_over() {
            return Ok(members);
        }
        let service = place.service.get(&task).await?.unwrap_or_default();
        let groups = service.backends.iter().filter_map(|backend| backend.group.as_deref());
        for group in groups.filter(|group| name(group) == place.group) {
            if until.is_over() {
                break;
            }
            let found = place.service.health(&task, group).await?;
            members.extend(found.iter().filter_map(|status| {
                Some((zone_and_name(status.instance.as_deref()?)?, backend_look(status, &place.service.name)))
            }));
        }
        Ok(members)
    }
}

/// Which of two looks at one instance counts: bad, then good, then none.
fn weight(look: Look) -> u8 {
    match look {
        Look::Bad => 2,
        Look::Good => 1,
        _ => 0,
    }
}

/// The time after which no new request is begun; the rest is for the last one.
struct Until(Instant);

impl Until {
    fn half_of(cx: &OpContext) -> Self {
        Self(Instant::now() + cx.timeout / 2)
    }

    fn is_over(&self) -> bool {
        Instant::now() > self.0
    }
}

fn fleets(targets: &[ProbeTarget]) -> BTreeSet<&FleetId> {
    targets.iter().map(|target| &target.fleet).collect()
}

fn told(seen: impl Iterator<Item = (String, Seen)>) -> impl Iterator<Item = Sample> {
    let at = Timestamp::now();
    seen.filter_map(move |(id, (look, evidence))| Some(Sample { instance: id.parse().ok()?, at, look, evidence }))
}

/// The zone and the name of an instance by its URL: `europe-west3-a/im-web-1-x2k9`.
fn zone_and_name(url: &str) -> Option<String> {
    let (_, rest) = url.rsplit_once("/zones/")?;
    let (zone, name) = rest.split_once("/instances/")?;
    Some(format!("{zone}/{name}"))
}

/// The zone and the name of an instance by its id, of which they are the first two parts of three.
fn place(id: &str) -> Option<&str> {
    id.rsplit_once('/').map(|(place, _)| place).filter(|place| place.contains('/'))
}

/// The id of a managed instance whose machine has been made.
fn id_of(member: &ManagedInstance) -> Option<String> {
    Some(format!("{}/{}", zone_and_name(member.instance.as_deref()?)?, member.id?))
}

/// `is_checked`: whether the group has a health check, which may not have found anything yet.
fn group_look(member: &ManagedInstance, is_checked: bool) -> Seen {
    let status = member.instance_status.as_ref();
    let action = member.current_action.as_ref();
    let found: Vec<&DetailedHealthState> =
        member.instance_health.iter().filter_map(|health| health.detailed_health_state.as_ref()).collect();
    let is_good = |state: &&DetailedHealthState| **state == DetailedHealthState::Healthy;
    let is_bad =
        |state: &&DetailedHealthState| matches!(state, DetailedHealthState::Unhealthy | DetailedHealthState::Timeout);
    // The others are about to be somebody else's, or to end.
    let stays =
        matches!(action, Some(CurrentAction::None | CurrentAction::Verifying | CurrentAction::Refreshing) | None);
    let look = match status {
        Some(InstanceStatus::Running) if found.iter().any(is_bad) => Look::Bad,
        Some(InstanceStatus::Running) if is_checked && found.is_empty() => Look::Unknown,
        Some(InstanceStatus::Running) if stays && found.iter().all(is_good) => Look::Good,
        // What is new and what has no state yet is on its way up, as far as anybody knows.
        None
        | Some(
            InstanceStatus::Running
            | InstanceStatus::Pending
            | InstanceStatus::Provisioning
            | InstanceStatus::Staging
            | InstanceStatus::UnknownValue(_),
        ) => Look::Unknown,
        Some(_) => Look::Bad,
    };
    let word = |name: Option<&str>| name.unwrap_or("not told").to_owned();
    let mut evidence = vec![word(status.and_then(InstanceStatus::name)), word(action.and_then(CurrentAction::name))];
    evidence.extend(found.into_iter().map(|state| word(state.name())));
    (look, evidence.join(", "))
}

fn backend_look(status: &HealthStatus, service: &str) -> Seen {
    let state = status.health_state.as_ref().and_then(health_status::HealthState::name).unwrap_or("not looked at");
    let look = match state {
        "HEALTHY" => Look::Good,
        // The second is in no list of states; the description of `weightError` tells of it.
        "UNHEALTHY" | "TIMEOUT" => Look::Bad,
        _ => Look::Unknown,
    };
    (look, format!("{state} in {service}"))
}

#[cfg(test)]
mod tests;
