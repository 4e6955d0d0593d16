//! The target groups of fleets: one for each route that a fleet is on, made like the one that the route led to before.

use aws_sdk_elasticloadbalancingv2::error::SdkError;
use aws_sdk_elasticloadbalancingv2::operation::describe_target_groups::{
    DescribeTargetGroupsError, DescribeTargetGroupsOutput,
};
use aws_sdk_elasticloadbalancingv2::types::{TargetGroup, TargetGroupAttribute, TargetTypeEnum};
use immutable_core::model::{Fingerprint, FleetId, RolloutId, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};

use crate::Clients;
use crate::error::{failed, unseen};
use crate::tags::{self, Tags};
use crate::traffic_switch::{drop_group, route};

const REMOVE: &str = "remove fleet";

/// What the name of a group of a fleet begins with.
fn prefix(fleet: &FleetId) -> String {
    format!("im-{}-", Fingerprint::of(fleet.as_str()).short())
}

/// The name of the group of a fleet on a route. It follows from both, so that whoever wants it finds it.
///
/// 28 characters of the [32 that are allowed](https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html).
pub(crate) fn name(route: &str, fleet: &FleetId) -> String {
    format!("{}{}", prefix(fleet), Fingerprint::of(route).short())
}

/// A group that is to be.
pub(crate) struct New<'a> {
    pub(crate) route: &'a str,
    pub(crate) fleet: &'a FleetId,
    /// Where the route led before it led to anything of ours.
    pub(crate) like: &'a str,
    pub(crate) rollout: Option<&'a RolloutId>,
}

impl New<'_> {
    fn tags(&self) -> Tags {
        let service = service_of(self.fleet);
        let mut tags = tags::tags([
            ("Name", self.fleet.as_str()),
            (tags::FLEET, self.fleet.as_str()),
            (tags::ROUTE, self.route),
            (tags::LIKE, self.like),
        ]);
        tags.extend(service.map(|service| (tags::SERVICE.to_owned(), service.to_string())));
        tags.extend(self.rollout.map(|rollout| (tags::ROLLOUT.to_owned(), rollout.to_string())));
        tags
    }
}

/// The service of a fleet, which is the first part of its name; the second is its release.
fn service_of(fleet: &FleetId) -> Option<ServiceName> {
    fleet.as_str().rsplit_once('-').and_then(|(service, _)| service.parse().ok())
}

/// Finds the group or makes it, and gives it the attributes of its model: the first of these that is there. A group of
/// which only that is done is found by its name, and the rest is done.
pub(crate) async fn ensure(
    clients: &Clients,
    operation: &'static str,
    new: &New<'_>,
    models: impl Iterator<Item = &str>,
) -> Result<String, ProviderError> {
    let mut model = None;
    for arn in models {
        model = by_arn(clients, operation, arn).await?;
        if model.is_some() {
            break;
        }
    }
    let Some(model) = model else {
        let message = format!(
            "the target group {:?} that new ones are made like is gone: forward {} to another one",
            new.like, new.route
        );
        return Err(ProviderError::new(ErrorKind::InvalidRequest, operation, message));
    };
    if model.target_type.as_ref().is_some_and(|kind| *kind != TargetTypeEnum::Instance) {
        let message = format!(
            "the targets of {} are not instances: forward {} to a group of the target type `instance`",
            model.target_group_name.as_deref().unwrap_or(new.like),
            new.route
        );
        return Err(ProviderError::new(ErrorKind::InvalidRequest, operation, message));
    }
    let found = by_name(clients, operation, Effect::Unknown, &name(new.route, new.fleet)).await?;
    let arn = match found.and_then(|group| group.target_group_arn) {
        Some(arn) => owned(clients, operation, new, arn).await?,
        None => create(clients, operation, new, &model).await?,
    };
    copy_attributes(clients, operation, model.target_group_arn.as_deref().unwrap_or_default(), &arn).await?;
    Ok(arn)
}

/// The group, if it is ours: a group of the same name that is not may be anything.
async fn owned(
    clients: &Clients,
    operation: &'static str,
    new: &New<'_>,
    arn: String,
) -> Result<String, ProviderError> {
    let tags = route::tags(clients, operation, Effect::Unknown, &[&arn]).await?.remove(&arn).unwrap_or_default();
    let has = |key: &str, value: &str| tags.get(key).is_some_and(|found| found == value);
    if has(tags::FLEET, new.fleet.as_str()) && has(tags::ROUTE, new.route) {
        return Ok(arn);
    }
    let message = format!("{arn} has the name that the group of fleet {} is to have: remove or rename it", new.fleet);
    Err(ProviderError::new(ErrorKind::Conflict, operation, message))
}

async fn create(
    clients: &Clients,
    operation: &'static str,
    new: &New<'_>,
    model: &TargetGroup,
) -> Result<String, ProviderError> {
    let model = model.clone();
    let request = clients.elb.create_target_group().name(name(new.route, new.fleet));
    let request = request
        .set_protocol(model.protocol)
        .set_protocol_version(model.protocol_version)
        .set_port(model.port)
        .set_vpc_id(model.vpc_id)
        .set_target_type(model.target_type)
        .set_target_control_port(model.target_control_port)
        .set_ip_address_type(model.ip_address_type)
        .set_health_check_protocol(model.health_check_protocol)
        .set_health_check_port(model.health_check_port)
        .set_health_check_enabled(model.health_check_enabled)
        .set_health_check_path(model.health_check_path)
        .set_health_check_interval_seconds(model.health_check_interval_seconds)
        .set_health_check_timeout_seconds(model.health_check_timeout_seconds)
        .set_healthy_threshold_count(model.healthy_threshold_count)
        .set_unhealthy_threshold_count(model.unhealthy_threshold_count)
        .set_matcher(model.matcher)
        .set_tags(Some(tags::of_balancer(&new.tags())));
    let answer = request.send().await.map_err(|error| failed(operation, Effect::Unknown, error))?;
    let made = answer.target_groups.unwrap_or_default().into_iter().next();
    made.and_then(|group| group.target_group_arn).ok_or_else(|| {
        ProviderError::new(ErrorKind::Internal, operation, "a target group was made, and the answer does not name it")
    })
}

/// Gives a group the attributes in which its model is other than a new group.
async fn copy_attributes(
    clients: &Clients,
    operation: &'static str,
    model: &str,
    group: &str,
) -> Result<(), ProviderError> {
    let (wanted, found) = (attributes(clients, operation, model).await?, attributes(clients, operation, group).await?);
    // An empty value means that the attribute is not used, and cannot be set.
    let is_set = |attribute: &TargetGroupAttribute| attribute.value.as_ref().is_some_and(|value| !value.is_empty());
    let other: Vec<_> = wanted.into_iter().filter(|one| is_set(one) && !found.contains(one)).collect();
    if other.is_empty() {
        return Ok(());
    }
    let request = clients.elb.modify_target_group_attributes().target_group_arn(group).set_attributes(Some(other));
    request.send().await.map(drop).map_err(|error| failed(operation, Effect::Unknown, error))
}

async fn attributes(
    clients: &Clients,
    operation: &'static str,
    group: &str,
) -> Result<Vec<TargetGroupAttribute>, ProviderError> {
    let answer = clients.elb.describe_target_group_attributes().target_group_arn(group).send().await;
    let answer = answer.map_err(|error| unseen(operation, Effect::Unknown, error))?;
    Ok(answer.attributes.unwrap_or_default())
}

async fn by_arn(clients: &Clients, operation: &'static str, arn: &str) -> Result<Option<TargetGroup>, ProviderError> {
    let answer = clients.elb.describe_target_groups().target_group_arns(arn).send().await;
    first(operation, Effect::Unknown, answer)
}

/// The group of that name; `before` is what the call has done already.
pub(crate) async fn by_name(
    clients: &Clients,
    operation: &'static str,
    before: Effect,
    name: &str,
) -> Result<Option<TargetGroup>, ProviderError> {
    let answer = clients.elb.describe_target_groups().names(name).send().await;
    first(operation, before, answer)
}

type Described = Result<DescribeTargetGroupsOutput, SdkError<DescribeTargetGroupsError>>;

/// The group that was asked for. That it is not there is told as an error.
fn first(operation: &'static str, before: Effect, answer: Described) -> Result<Option<TargetGroup>, ProviderError> {
    match answer {
        Ok(answer) => Ok(answer.target_groups.unwrap_or_default().into_iter().next()),
        Err(error)
            if error.as_service_error().is_some_and(DescribeTargetGroupsError::is_target_group_not_found_exception) =>
        {
            Ok(None)
        }
        Err(error) => Err(unseen(operation, before, error)),
    }
}

/// A group that is there, and the route that it was made for.
pub(crate) struct Found {
    pub(crate) arn: String,
    pub(crate) route: String,
    service: Option<String>,
}

/// The groups of a fleet, on all routes. They are found by their names and known by their tags.
pub(crate) async fn of_fleet(
    clients: &Clients,
    operation: &'static str,
    fleet: &FleetId,
) -> Result<Vec<Found>, ProviderError> {
    let mut named = Vec::new();
    let mut marker = None;
    loop {
        let answer = clients.elb.describe_target_groups().set_marker(marker).send().await;
        let answer = answer.map_err(|error| unseen(operation, Effect::None, error))?;
        let arns = answer.target_groups.unwrap_or_default().into_iter();
        let arns = arns.filter_map(|group| Some((group.target_group_arn?, group.target_group_name?)));
        named.extend(arns.filter(|(_, name)| name.starts_with(&prefix(fleet))).map(|(arn, _)| arn));
        marker = answer.next_marker;
        if marker.is_none() {
            break;
        }
    }
    let arns: Vec<&str> = named.iter().map(String::as_str).collect();
    let mut tags = route::tags(clients, operation, Effect::None, &arns).await?;
    let found = named.into_iter().filter_map(|arn| {
        let mut tags = tags.remove(&arn)?;
        let is_of = tags.get(tags::FLEET).is_some_and(|of| of == fleet.as_str());
        is_of.then(|| Found {
            arn,
            route: tags.remove(tags::ROUTE).unwrap_or_default(),
            service: tags.remove(tags::SERVICE),
        })
    });
    Ok(found.collect())
}

/// Removes the groups of a fleet without instances, from their routes first. None is left when it is done.
///
/// # Errors
/// `Conflict` when one still has traffic, or is used by something else.
pub(crate) async fn remove(
    clients: &Clients,
    service: &ServiceName,
    fleet: &FleetId,
) -> Result<Progress<()>, ProviderError> {
    let mut before = Effect::None;
    for group in of_fleet(clients, REMOVE, fleet).await? {
        if group.service.as_deref().is_some_and(|of| of != service.as_str()) {
            continue;
        }
        drop_group(clients, REMOVE, &group.route, &group.arn).await?;
        let answer = clients.elb.delete_target_group().target_group_arn(&group.arn).send().await;
        answer.map_err(|error| failed(REMOVE, before, error))?;
        before = Effect::Unknown;
    }
    Ok(Progress::Done(()))
}

#[cfg(test)]
mod tests;
