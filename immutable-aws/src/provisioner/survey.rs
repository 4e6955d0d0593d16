//! All that exists of a service or of one fleet, read from AWS and from nowhere else.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_autoscaling::types::{AutoScalingGroup, Filter as GroupFilter, LifecycleState};
use aws_sdk_ec2::types::{Filter, Instance, InstanceStateName, LaunchTemplate};
use immutable_core::model::{
    Endpoint, Fingerprint, FleetId, InstanceId, Lifecycle, ObservedFleet, ObservedInstance, ReleaseId, ServiceName,
};
use immutable_core::provider::{Effect, ErrorKind, FleetsState, ProviderError};
use jiff::Timestamp;

use crate::config::{Config, Fleets};
use crate::error::failed;
use crate::tags::{self, Tags};

/// Of what everything is to be found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    Service(&'a ServiceName),
    Fleet(&'a FleetId),
}

impl Of<'_> {
    /// The tag that all of it has, and what stands in it.
    fn tag(self) -> (&'static str, String) {
        match self {
            Self::Service(service) => (tags::SERVICE, service.to_string()),
            Self::Fleet(fleet) => (tags::FLEET, fleet.to_string()),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Survey {
    as_of: Timestamp,
    fleets: BTreeMap<FleetId, Parts>,
    port: u16,
}

/// What was found of one fleet: any of it may be missing, as a fleet may be half made or half removed.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) template: Option<LaunchTemplate>,
    pub(super) group: Option<AutoScalingGroup>,
    /// Those that are not gone for good.
    pub(super) instances: Vec<Instance>,
    /// Those that are gone. EC2 lists them for about an hour.
    pub(super) gone: Vec<Instance>,
}

/// Looks at everything, all pages of it.
pub(super) async fn look(config: &Config, operation: &'static str, of: Of<'_>) -> Result<Survey, ProviderError> {
    let as_of = Timestamp::now().checked_sub(config.list_lag).unwrap_or(Timestamp::MIN);
    let (templates, groups) = (templates(config, operation, of).await?, groups(config, operation, of).await?);
    // Last, so that who is listed in a group is not missing here because it was started in between.
    let instances = instances(config, operation, of).await?;
    let mut fleets: BTreeMap<FleetId, Parts> = BTreeMap::new();
    for template in templates {
        if let Some(fleet) = fleet(&tags::read(template.tags())) {
            fleets.entry(fleet).or_default().template = Some(template);
        }
    }
    for group in groups {
        if let Some(fleet) = fleet(&group_tags(&group)) {
            fleets.entry(fleet).or_default().group = Some(group);
        }
    }
    let mut gone = Vec::new();
    for instance in instances {
        // Whatever has no fleet is something else of ours, such as the builder of an image.
        let Some(fleet) = fleet(&tags::read(instance.tags())) else { continue };
        if lifecycle_of(&instance).is_some() {
            fleets.entry(fleet).or_default().instances.push(instance);
        } else {
            gone.push((fleet, instance));
        }
    }
    // A fleet of which nothing else is left does not exist any more.
    for (fleet, instance) in gone {
        if let Some(parts) = fleets.get_mut(&fleet) {
            parts.gone.push(instance);
        }
    }
    Ok(Survey { as_of, fleets, port: config.port })
}

/// Looks at one fleet.
pub(super) async fn of_fleet(
    config: &Config,
    operation: &'static str,
    fleet: &FleetId,
) -> Result<Parts, ProviderError> {
    let mut found = look(config, operation, Of::Fleet(fleet)).await?;
    Ok(found.fleets.remove(fleet).unwrap_or_default())
}

async fn templates(config: &Config, operation: &'static str, of: Of<'_>) -> Result<Vec<LaunchTemplate>, ProviderError> {
    let (key, value) = of.tag();
    let pages = config.clients.ec2.describe_launch_templates().filters(ec2_filter(key, value)).into_paginator();
    let found = pages.items().send().collect::<Result<Vec<_>, _>>().await;
    found.map_err(|error| failed(operation, Effect::None, error))
}

async fn groups(config: &Config, operation: &'static str, of: Of<'_>) -> Result<Vec<AutoScalingGroup>, ProviderError> {
    if config.fleets != Fleets::AutoScaling {
        return Ok(Vec::new());
    }
    let (key, value) = of.tag();
    let filter = GroupFilter::builder().name(format!("tag:{key}")).values(value).build();
    let pages = config.clients.autoscaling.describe_auto_scaling_groups().filters(filter).into_paginator();
    let found = pages.items().send().collect::<Result<Vec<_>, _>>().await;
    found.map_err(|error| failed(operation, Effect::None, error))
}

async fn instances(config: &Config, operation: &'static str, of: Of<'_>) -> Result<Vec<Instance>, ProviderError> {
    let (key, value) = of.tag();
    let request = config.clients.ec2.describe_instances().filters(ec2_filter(key, value));
    // A thousand is the most that a page can have:
    // https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
    let pages = request.into_paginator().page_size(1000).items().send();
    let reservations = pages.collect::<Result<Vec<_>, _>>().await;
    let reservations = reservations.map_err(|error| failed(operation, Effect::None, error))?;
    Ok(reservations.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default()).collect())
}

fn ec2_filter(key: &str, value: String) -> Filter {
    Filter::builder().name(format!("tag:{key}")).values(value).build()
}

fn fleet(tags: &Tags) -> Option<FleetId> {
    tags.get(tags::FLEET).and_then(|name| FleetId::new(name).ok())
}

/// The tags of a group.
fn group_tags(group: &AutoScalingGroup) -> Tags {
    group.tags().iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect()
}

impl Survey {
    /// What was found, in the words of the contract.
    pub(super) fn state(&self) -> Result<FleetsState, ProviderError> {
        let observed = self.fleets.iter().map(|(fleet, parts)| parts.observed(fleet, self.port, self.as_of));
        Ok(FleetsState { as_of: self.as_of, fleets: observed.collect::<Result<_, _>>()? })
    }
}

impl Parts {
    /// The tags that say what the fleet is bound to.
    pub(super) fn tags(&self) -> Option<Tags> {
        let template = self.template.as_ref().map(|template| tags::read(template.tags()));
        let group = || self.group.as_ref().map(group_tags);
        template.or_else(group).or_else(|| self.instances.first().map(|instance| tags::read(instance.tags())))
    }

    /// Where each instance stands, those included that only the group tells of.
    pub(super) fn lifecycles(&self) -> BTreeMap<&str, Lifecycle> {
        let members = self.group.iter().flat_map(aws_sdk_autoscaling::types::AutoScalingGroup::instances);
        let members = members.filter_map(|member| Some((member.instance_id()?, member.lifecycle_state()?)));
        let members: BTreeMap<&str, &LifecycleState> = members.collect();
        let mut lifecycles: BTreeMap<&str, Lifecycle> = members
            .iter()
            .filter(|(_, state)| is_launching(state))
            .map(|(instance, _)| (*instance, Lifecycle::Starting))
            .collect();
        for instance in &self.instances {
            let (Some(id), Some(lifecycle)) = (instance.instance_id(), lifecycle_of(instance)) else { continue };
            let lifecycle = match members.get(id) {
                Some(state) if is_terminating(state) => Lifecycle::Ending,
                Some(state) if is_launching(state) && lifecycle == Lifecycle::Running => Lifecycle::Starting,
                _ => lifecycle,
            };
            lifecycles.insert(id, lifecycle);
        }
        lifecycles
    }

    /// How many instances are starting or running.
    pub(super) fn live(&self) -> u32 {
        let live = self.lifecycles().into_values().filter(|state| is_live(*state)).count();
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    fn observed(&self, fleet: &FleetId, port: u16, as_of: Timestamp) -> Result<ObservedFleet, ProviderError> {
        let tags = self.tags().unwrap_or_default();
        let known: BTreeMap<&str, &Instance> =
            self.instances.iter().filter_map(|instance| Some((instance.instance_id()?, instance))).collect();
        let observed = |(id, lifecycle): (&str, Lifecycle)| {
            let instance = known.get(id);
            Ok(ObservedInstance {
                id: InstanceId::new(id).map_err(|error| unreadable(&error))?,
                lifecycle,
                image: instance.and_then(|instance| runs(instance.image_id()?, &tags)),
                endpoint: instance.and_then(|instance| Endpoint::new(instance.private_ip_address()?, port).ok()),
                started_at: instance.and_then(|instance| launched(instance)).unwrap_or(as_of),
            })
        };
        Ok(ObservedFleet {
            id: fleet.clone(),
            release: release(fleet, &tags),
            instances: self.lifecycles().into_iter().map(observed).collect::<Result<_, _>>()?,
            wanted: self.group.as_ref().map(desired),
        })
    }
}

/// The size that a group keeps itself at.
pub(super) fn desired(group: &AutoScalingGroup) -> u32 {
    group.desired_capacity().and_then(|size| u32::try_from(size).ok()).unwrap_or(0)
}

pub(super) fn is_live(lifecycle: Lifecycle) -> bool {
    matches!(lifecycle, Lifecycle::Starting | Lifecycle::Running)
}

/// Asked for by a group and not in service yet; a launch hook may keep it there while the instance runs.
fn is_launching(state: &LifecycleState) -> bool {
    matches!(state, LifecycleState::Pending | LifecycleState::PendingWait | LifecycleState::PendingProceed)
}

/// On its way out by the group's doing.
pub(super) fn is_terminating(state: &LifecycleState) -> bool {
    matches!(
        state,
        LifecycleState::Terminating
            | LifecycleState::TerminatingWait
            | LifecycleState::TerminatingProceed
            | LifecycleState::TerminatingRetained
            | LifecycleState::Terminated
    )
}

/// Where an instance stands as EC2 tells it; `None` once it is gone, though EC2 lists it for up to an hour more.
fn lifecycle_of(instance: &Instance) -> Option<Lifecycle> {
    match instance.state().and_then(|state| state.name())? {
        InstanceStateName::Pending => Some(Lifecycle::Starting),
        InstanceStateName::Running => Some(Lifecycle::Running),
        InstanceStateName::Stopping | InstanceStateName::Stopped => Some(Lifecycle::Dead),
        InstanceStateName::Terminated => None,
        // Still counted until it is known to be gone.
        _ => Some(Lifecycle::Ending),
    }
}

/// The content of an instance, by the AMI that EC2 says it runs: another one than its fleet's is content that we do not know.
fn runs(ami: &str, tags: &Tags) -> Option<Fingerprint> {
    if tags.get(tags::AMI).is_some_and(|born| born == ami) {
        tags.get(tags::IMAGE).and_then(|image| image.parse().ok())
    } else {
        Some(Fingerprint::of(ami))
    }
}

/// The release in the tags. Tags that somebody has broken are a release that nobody knows.
fn release(fleet: &FleetId, tags: &Tags) -> ReleaseId {
    let unknown = Fingerprint::of(format!("unreadable release of {fleet}")).to_string();
    let tagged = tags.get(tags::RELEASE).and_then(|release| release.parse().ok());
    tagged.unwrap_or_else(|| unknown.parse().expect("invariant: a fingerprint is a release"))
}

fn launched(instance: &Instance) -> Option<Timestamp> {
    let time = instance.launch_time()?;
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// Time that a member has not been listed for by EC2 yet is given by [`Config::list_lag`].
pub(super) fn retry_soon() -> Duration {
    Duration::from_secs(3)
}

fn unreadable(error: &immutable_core::model::NameError) -> ProviderError {
    ProviderError::new(ErrorKind::Internal, "observe fleets", error.to_string()).without_effect()
}
