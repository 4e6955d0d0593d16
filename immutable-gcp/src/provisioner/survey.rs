//! All that exists of a service or of one fleet, read from Compute Engine and from nowhere else.

use std::collections::BTreeMap;
use std::fmt;

use google_cloud_compute_v1::model::{Instance, InstanceGroupManager, InstanceTemplate, ManagedInstance};
use google_cloud_gax::paginator::{ItemPaginator as _, Paginator as _};
use immutable_core::model::{
    Endpoint, Fingerprint, FleetId, InstanceId, Lifecycle, ObservedFleet, ObservedInstance, ReleaseId, ServiceName,
};
use immutable_core::provider::{ErrorKind, FleetsState, ProviderError};
use jiff::Timestamp;

use super::group::{Group, Place};
use super::{lifecycle, template};
use crate::config::Config;
use crate::error::{reached, unseen};
use crate::on_route::existing;
use crate::ownership::{self, Record};

/// The most entries that a page can have. More pages mean more requests, and a quota on requests is what a large project is short of first.
const PAGE: u32 = 500;

/// What an instance is called here: where it is, its name, and the number by which it differs from those that had its name before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceName {
    pub(crate) zone: String,
    pub(crate) name: String,
    pub(crate) number: u64,
}

impl InstanceName {
    /// The parts of an id of ours.
    pub(crate) fn parse(id: &InstanceId) -> Option<Self> {
        let mut parts = id.as_str().split('/');
        let (zone, name, number) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then(|| Self { zone: zone.to_owned(), name: name.to_owned(), number })
    }

    /// A URL of the instance, which no request takes with the number.
    pub(super) fn url(&self, project: &str) -> String {
        format!("projects/{project}/zones/{}/instances/{}", self.zone, self.name)
    }

    fn of_managed(managed: &ManagedInstance) -> Option<Self> {
        let (zone, name) = zone_and_name(managed)?;
        Some(Self { zone: zone.to_owned(), name: name.to_owned(), number: managed.id? })
    }

    fn of_instance(instance: &Instance) -> Option<Self> {
        let zone = instance.zone.as_deref()?.rsplit('/').next()?;
        Some(Self { zone: zone.to_owned(), name: instance.name.clone()?, number: instance.id? })
    }
}

fn zone_and_name(managed: &ManagedInstance) -> Option<(&str, &str)> {
    let mut url = managed.instance.as_deref()?.rsplit('/');
    let (name, _, zone) = (url.next()?, url.next()?, url.next()?);
    Some((zone, name))
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.zone, self.name, self.number)
    }
}

/// What was found of one fleet: any of it may be missing, as a fleet may be half made or half removed.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// What the fleet is bound to.
    pub(super) record: Option<Record>,
    pub(super) template: Option<InstanceTemplate>,
    pub(super) manager: Option<InstanceGroupManager>,
    /// What the group has and is still to start.
    pub(super) managed: Vec<ManagedInstance>,
    /// The machines with the labels of the fleet.
    instances: Vec<Instance>,
    place: Option<Place>,
}

/// An instance that exists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) lifecycle: Lifecycle,
    managed: Option<&'a ManagedInstance>,
    instance: Option<&'a Instance>,
}

impl Seen<'_> {
    pub(super) fn is_managed(&self) -> bool {
        self.managed.is_some()
    }
}

/// Looks at one fleet, by its names: what is asked for by its name is as it is now.
pub(super) async fn of_fleet(
    config: &Config,
    operation: &'static str,
    fleet: &FleetId,
) -> Result<Parts, ProviderError> {
    let name = ownership::name(operation, fleet)?;
    let template = config.clients.instance_templates.get().set_project(&config.project);
    let template = existing(operation, template.set_instance_template(&name).send().await)?;
    let record = template.as_ref().and_then(|template| Record::read(template.description.as_deref()));
    let place = record.as_ref().and_then(template::place_of);
    let mut parts = Parts { record, template, place, ..Parts::default() };
    // First, so that who is listed here and not in the group was not started in between.
    parts.instances = instances(config, operation, (ownership::FLEET, fleet.as_str())).await?;
    let group = Group::new(config, parts.place(config), name);
    if let Some(manager) = group.get(operation).await?
        && let Some(managed) = group.managed(operation).await?
    {
        (parts.manager, parts.managed) = (Some(manager), managed);
    }
    parts.instances = confirmed(config, operation, &parts).await?;
    Ok(parts)
}

/// The machines of the fleet as they are now. Lists may lag: a machine that was of the group and is gone would look like one that lives outside of it.
async fn confirmed(config: &Config, operation: &'static str, parts: &Parts) -> Result<Vec<Instance>, ProviderError> {
    let all = parts.all();
    let mut found = Vec::new();
    for instance in &parts.instances {
        let Some(name) = InstanceName::of_instance(instance) else { continue };
        if all.get(&name).is_some_and(Seen::is_managed) {
            found.push(instance.clone());
            continue;
        }
        let request = config.clients.instances.get().set_project(&config.project).set_zone(&name.zone);
        let now = existing(operation, request.set_instance(&name.name).send().await)?;
        found.extend(now.filter(|now| now.id == instance.id));
    }
    Ok(found)
}

/// Looks at everything of a service, all pages of it.
pub(super) async fn of_service(
    config: &Config,
    operation: &'static str,
    service: &ServiceName,
) -> Result<FleetsState, ProviderError> {
    let as_of = Timestamp::now().checked_sub(config.list_lag).unwrap_or(Timestamp::MIN);
    let mut fleets: BTreeMap<FleetId, Parts> = BTreeMap::new();
    for template in templates(config, operation, service).await? {
        let Some((fleet, record)) = owned(template.description.as_deref(), service) else { continue };
        let parts = fleets.entry(fleet).or_default();
        (parts.template, parts.record) = (Some(template), Some(record));
    }
    for instance in instances(config, operation, (ownership::SERVICE, service.as_str())).await? {
        // Whatever has no fleet is something else of ours, such as the builder of an image.
        let fleet = instance.labels.get(ownership::FLEET).and_then(|name| FleetId::new(name).ok());
        if let Some(fleet) = fleet {
            fleets.entry(fleet).or_default().instances.push(instance);
        }
    }
    for (place, manager) in managers(config, operation, service).await? {
        let Some((fleet, record)) = owned(manager.description.as_deref(), service) else { continue };
        let Some(name) = manager.name.clone() else { continue };
        let Some(managed) = Group::new(config, place, name).managed(operation).await? else { continue };
        let parts = fleets.entry(fleet).or_default();
        (parts.manager, parts.managed) = (Some(manager), managed);
        parts.record.get_or_insert(record);
    }
    let observed = fleets.iter().map(|(fleet, parts)| parts.observed(config, fleet, as_of));
    Ok(FleetsState { as_of, fleets: observed.collect::<Result<_, _>>()? })
}

/// The fleet that a description is about, if it is one of this service.
fn owned(description: Option<&str>, service: &ServiceName) -> Option<(FleetId, Record)> {
    let record = Record::read(description).filter(|record| record.service == service.as_str())?;
    Some((FleetId::new(&record.fleet).ok()?, record))
}

async fn templates(
    config: &Config,
    operation: &'static str,
    service: &ServiceName,
) -> Result<Vec<InstanceTemplate>, ProviderError> {
    let request = config.clients.instance_templates.list().set_project(&config.project);
    let mut items = request.set_filter(ownership::names_of(service.as_str())).set_max_results(PAGE).by_item();
    let mut found = Vec::new();
    while let Some(item) = items.next().await {
        found.push(item.map_err(|error| unseen(operation, error))?);
    }
    Ok(found)
}

/// The groups of the service, wherever they are: with other settings they may have been made elsewhere.
async fn managers(
    config: &Config,
    operation: &'static str,
    service: &ServiceName,
) -> Result<Vec<(Place, InstanceGroupManager)>, ProviderError> {
    let request = config.clients.instance_group_managers.aggregated_list().set_project(&config.project);
    let mut pages = request.set_filter(ownership::names_of(service.as_str())).set_max_results(PAGE).by_page();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unseen(operation, error))?;
        reached!(operation, page.items, &page.unreachables)?;
        for (place, scoped) in page.items {
            let Some(place) = Place::read(&place) else { continue };
            found.extend(scoped.instance_group_managers.into_iter().map(|manager| (place.clone(), manager)));
        }
    }
    Ok(found)
}

/// The machines with this label, wherever they are.
async fn instances(
    config: &Config,
    operation: &'static str,
    (label, value): (&str, &str),
) -> Result<Vec<Instance>, ProviderError> {
    let request = config.clients.instances.aggregated_list().set_project(&config.project);
    let filter = format!("labels.{label} = {}", ownership::label(value));
    let mut pages = request.set_filter(filter).set_max_results(PAGE).by_page();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unseen(operation, error))?;
        reached!(operation, page.items, &page.unreachables)?;
        found.extend(page.items.into_values().flat_map(|scoped| scoped.instances));
    }
    Ok(found)
}

/// The size that a group keeps itself at.
pub(super) fn target_size(manager: &InstanceGroupManager) -> u32 {
    manager.target_size.and_then(|size| u32::try_from(size).ok()).unwrap_or(0)
}

impl Parts {
    /// Where the group is, or is to be.
    pub(super) fn place(&self, config: &Config) -> Place {
        self.place.clone().unwrap_or_else(|| Place::of(config))
    }

    /// Every instance that exists. What the group is still to start does not.
    pub(super) fn all(&self) -> BTreeMap<InstanceName, Seen<'_>> {
        let managed = self.managed.iter().filter_map(|managed| Some((zone_and_name(managed)?, managed)));
        let managed: BTreeMap<_, _> = managed.collect();
        let machines = self.instances.iter().filter_map(|instance| {
            let name = InstanceName::of_instance(instance)?;
            // What has the name of a member is the group's, also before the group knows its number.
            let managed = managed.get(&(name.zone.as_str(), name.name.as_str())).copied();
            let seen =
                Seen { lifecycle: lifecycle::alone(instance.status.as_ref()), managed, instance: Some(instance) };
            Some((name, seen))
        });
        let mut all: BTreeMap<InstanceName, Seen<'_>> = machines.collect();
        for managed in &self.managed {
            let Some(name) = InstanceName::of_managed(managed) else { continue };
            let instance = all.get(&name).and_then(|seen| seen.instance);
            all.insert(name, Seen { lifecycle: lifecycle::managed(managed), managed: Some(managed), instance });
        }
        all
    }

    /// How many instances are starting or running.
    pub(super) fn live(&self) -> u32 {
        count(self.all().values().filter(|seen| lifecycle::is_live(seen.lifecycle)))
    }

    /// How many of them are in no group.
    pub(super) fn outside(&self) -> u32 {
        count(self.all().values().filter(|seen| lifecycle::is_live(seen.lifecycle) && !seen.is_managed()))
    }

    fn observed(&self, config: &Config, fleet: &FleetId, as_of: Timestamp) -> Result<ObservedFleet, ProviderError> {
        let observed = |(name, seen): (InstanceName, Seen<'_>)| {
            let unreadable = |error: immutable_core::model::NameError| {
                ProviderError::new(ErrorKind::Internal, "observe fleets", error.to_string()).without_effect()
            };
            Ok(ObservedInstance {
                id: InstanceId::new(name.to_string()).map_err(unreadable)?,
                lifecycle: seen.lifecycle,
                image: seen.managed.and_then(|managed| self.runs(managed)),
                endpoint: seen.instance.and_then(|instance| endpoint(instance, config.port)),
                started_at: seen.instance.and_then(created).unwrap_or(as_of),
            })
        };
        Ok(ObservedFleet {
            id: fleet.clone(),
            release: release(fleet, self.record.as_ref()),
            instances: self.all().into_iter().map(observed).collect::<Result<_, _>>()?,
            wanted: self.manager.as_ref().map(target_size),
        })
    }

    /// The content of an instance, by the template that Compute Engine says it is from: another one than the fleet's is content that we do not know.
    fn runs(&self, managed: &ManagedInstance) -> Option<Fingerprint> {
        let from = managed.version.as_ref()?.instance_template.as_deref()?;
        let from = from.split_once("/global/").map_or(from, |(_, from)| from);
        let ours = self.template.as_ref()?.name.as_deref()?;
        if from.strip_prefix("instanceTemplates/") == Some(ours) {
            return self.record.as_ref()?.get(template::IMAGE)?.parse().ok();
        }
        Some(Fingerprint::of(from))
    }
}

fn count<'a>(seen: impl Iterator<Item = &'a Seen<'a>>) -> u32 {
    u32::try_from(seen.count()).unwrap_or(u32::MAX)
}

fn endpoint(instance: &Instance, port: u16) -> Option<Endpoint> {
    let address = instance.network_interfaces.first()?.network_ip.as_deref()?;
    Endpoint::new(address, port).ok()
}

fn created(instance: &Instance) -> Option<Timestamp> {
    instance.creation_timestamp.as_deref()?.parse().ok()
}

/// The release in the record. A record that somebody has broken is a release that nobody knows.
fn release(fleet: &FleetId, record: Option<&Record>) -> ReleaseId {
    let unknown = Fingerprint::of(format!("unreadable release of {fleet}")).to_string();
    let recorded = record.and_then(|record| record.get(template::RELEASE)).and_then(|release| release.parse().ok());
    recorded.unwrap_or_else(|| unknown.parse().expect("invariant: a fingerprint is a release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_ours_is_a_zone_a_name_and_a_number() {
        let id = |text: &str| InstanceName::parse(&text.parse().unwrap());
        let name = id("europe-west3-a/im-web-1-x7f2/42").unwrap();
        assert_eq!((name.to_string(), name.number), ("europe-west3-a/im-web-1-x7f2/42".to_owned(), 42));
        for foreign in ["i-1", "europe-west3-a/im-web-1-x7f2", "a/b/c", "a/b/1/2"] {
            assert_eq!(id(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_machine_that_the_group_makes_anew_is_the_groups_also_before_the_group_knows_its_number() {
        let instance = |number| {
            let instance = Instance::new().set_name("im-web-1-x").set_id(number);
            instance.set_zone("https://compute.googleapis.com/compute/v1/projects/p/zones/europe-west3-a")
        };
        let member =
            ManagedInstance::new().set_instance("https://c/projects/p/zones/europe-west3-a/instances/im-web-1-x");
        for member in [member.clone(), member.set_id(1_u64)] {
            let parts = Parts { managed: vec![member], instances: vec![instance(2_u64)], ..Parts::default() };
            assert!(parts.all().values().all(Seen::is_managed));
            assert_eq!(parts.outside(), 0);
        }
        let alone = Parts { instances: vec![instance(2_u64).set_status("RUNNING")], ..Parts::default() };
        assert_eq!(alone.outside(), 1);
    }
}
