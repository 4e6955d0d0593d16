//! What a route does now, read from the load balancer and from nowhere else.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, TargetDescription, TargetHealth, TargetHealthReasonEnum, TargetHealthStateEnum,
};
use immutable_core::model::{FleetId, InstanceId, NameError, Split, SplitError, Weight};
use immutable_core::provider::{Effect, ErrorKind, Member, MemberHealth, MemberTarget, ProviderError};

use super::claim::{Claim, Version};
use super::route::{self, Route};
use crate::Clients;
use crate::error::unseen;
use crate::tags::{self, Tags};

/// A route as it was read.
pub(super) struct State {
    pub(super) actions: Vec<Action>,
    /// The target groups that it forwards to, in their order.
    pub(super) groups: Vec<Group>,
    pub(super) claim: Claim,
}

/// A target group that a route forwards to.
pub(super) struct Group {
    pub(super) arn: String,
    pub(super) weight: u32,
    /// Of a group that was made for this route: its fleet. Any other is somebody else's.
    pub(super) owner: Option<Owner>,
    /// Of a group that was made for this route.
    pub(super) targets: Vec<Target>,
}

/// What the tags of a target group say.
pub(super) struct Owner {
    pub(super) fleet: FleetId,
    /// The target group that it was made like.
    pub(super) like: Option<String>,
}

/// Who is registered in a target group.
pub(crate) struct Target {
    pub(super) description: TargetDescription,
    pub(crate) instance: InstanceId,
    pub(crate) health: MemberHealth,
}

impl State {
    /// Reads all of it: the actions, the tags, and the targets of each group of ours.
    pub(super) async fn read(clients: &Clients, operation: &'static str, route: &Route) -> Result<Self, ProviderError> {
        let actions = route.actions(clients, operation, Effect::None).await?;
        let forwards = route::forward(&actions).map(route::forwards).unwrap_or_default();
        let arns: Vec<&str> = forwards.iter().map(|(arn, _)| arn.as_str()).chain([route.arn()]).collect();
        let tags = route::tags(clients, operation, Effect::None, &arns).await?;
        let claim = tags.get(route.arn()).and_then(|tags| tags.get(tags::ROUTE_VERSION));
        let claim = claim.map(|tag| Claim::read(tag)).unwrap_or_default();
        let mut groups = Vec::new();
        for (arn, weight) in forwards {
            let owner = tags.get(&arn).and_then(|tags| owner(tags, route));
            let targets = match owner {
                Some(_) => targets(clients, operation, &arn).await?,
                None => Vec::new(),
            };
            groups.push(Group { arn, weight, owner, targets });
        }
        Ok(Self { actions, groups, claim })
    }

    /// Changes with every change of the route, also by hand. What the balancer thinks of a member is no change.
    pub(super) fn version(&self) -> Version {
        let mut targets: Vec<String> = Vec::new();
        for group in &self.groups {
            let registered = group.registered().map(|target| format!("{} {:?}", group.arn, target.place()));
            targets.extend(registered);
        }
        targets.sort();
        let rest = format!("{}\n{}", route::text(&self.actions), targets.join("\n"));
        Version::of(&self.claim, &route::traffic(&self.actions), &rest)
    }

    /// Whether no group of ours has traffic. Then the route is closed, whatever else it forwards to.
    pub(super) fn is_closed(&self) -> bool {
        !self.groups.iter().any(|group| group.owner.is_some() && group.weight > 0)
    }

    /// The shares of the fleets. A group of somebody else's that has traffic beside them counts as a fleet of its name.
    pub(super) fn split(&self) -> Result<Split, SplitOrName> {
        if self.is_closed() {
            return Ok(Split::closed());
        }
        let weights: Vec<u32> = self.groups.iter().map(|group| group.weight).collect();
        let mut shares: BTreeMap<FleetId, u16> = BTreeMap::new();
        for (group, weight) in self.groups.iter().zip(Weight::from_parts(&weights)) {
            if !weight.is_none() {
                *shares.entry(group.fleet()?).or_default() += weight.points();
            }
        }
        let shares = shares.into_iter().map(|(fleet, points)| Ok((fleet, Weight::basis_points(points)?)));
        Ok(Split::new(shares.collect::<Result<Vec<_>, SplitError>>()?)?)
    }

    /// Every member of the groups that are ours, draining ones included.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut members: BTreeMap<(&FleetId, &InstanceId), MemberHealth> = BTreeMap::new();
        for group in &self.groups {
            let Some(owner) = &group.owner else { continue };
            for target in &group.targets {
                // An instance may be registered with two ports, and it is out only when both are.
                let health = members.entry((&owner.fleet, &target.instance)).or_insert(target.health);
                if *health == MemberHealth::Draining {
                    *health = target.health;
                }
            }
        }
        let member = |((fleet, instance), health): ((&FleetId, &InstanceId), MemberHealth)| Member {
            instance: instance.clone(),
            fleet: fleet.clone(),
            health,
            health_as_of: None,
        };
        members.into_iter().map(member).collect()
    }

    /// The group of a fleet.
    pub(super) fn group_of(&self, fleet: &FleetId) -> Option<&Group> {
        self.groups.iter().find(|group| group.owner.as_ref().is_some_and(|owner| owner.fleet == *fleet))
    }

    /// Where the route led before it led to anything of ours, and leads to again when it is closed.
    pub(super) fn original(&self) -> Option<&str> {
        let known = self.groups.iter().find_map(|group| group.owner.as_ref()?.like.as_deref());
        let foreign =
            || self.groups.iter().filter(|group| group.owner.is_none()).rev().max_by_key(|group| group.weight);
        known.or_else(|| Some(foreign()?.arn.as_str()))
    }
}

/// Why a split could not be read; neither is ever seen as long as weights and names are what the API says they are.
#[derive(Debug, thiserror::Error)]
pub(super) enum SplitOrName {
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Group {
    /// The name, which is a part of the ARN.
    pub(super) fn name(&self) -> &str {
        self.arn.rsplit('/').nth(1).unwrap_or(&self.arn)
    }

    /// The fleet, or for a group of somebody else's its name.
    pub(super) fn fleet(&self) -> Result<FleetId, NameError> {
        self.owner.as_ref().map_or_else(|| FleetId::new(self.name()), |owner| Ok(owner.fleet.clone()))
    }

    /// Those who are in, whatever the balancer thinks of them.
    pub(super) fn registered(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.health != MemberHealth::Draining)
    }
}

impl Target {
    fn place(&self) -> (&str, Option<i32>) {
        (self.instance.as_str(), self.description.port)
    }

    /// Whether it is this member, on its port. A target that is told without a port is on that of the group.
    pub(super) fn is(&self, member: &MemberTarget) -> bool {
        let same_port = self.description.port.is_none_or(|port| port == i32::from(member.endpoint.port()));
        self.instance == member.instance && same_port
    }
}

fn owner(tags: &Tags, route: &Route) -> Option<Owner> {
    let is_ours = tags.get(tags::ROUTE).is_some_and(|of| of == route.arn());
    let fleet = tags.get(tags::FLEET)?.parse().ok()?;
    is_ours.then(|| Owner { fleet, like: tags.get(tags::LIKE).cloned() })
}

/// Who is registered in a group, and who is on the way out.
pub(crate) async fn targets(
    clients: &Clients,
    operation: &'static str,
    group: &str,
) -> Result<Vec<Target>, ProviderError> {
    let answer = clients.elb.describe_target_health().target_group_arn(group).send().await;
    let answer = answer.map_err(|error| unseen(operation, Effect::None, error))?;
    let mut targets = Vec::new();
    for told in answer.target_health_descriptions.unwrap_or_default() {
        let (Some(description), Some(health)) = (told.target, told.target_health.as_ref().and_then(health)) else {
            continue;
        };
        let instance = description.id.as_deref().unwrap_or_default().parse().map_err(|error: NameError| {
            ProviderError::new(ErrorKind::Internal, operation, error.to_string()).without_effect()
        })?;
        targets.push(Target { description, instance, health });
    }
    Ok(targets)
}

/// What the state of a target means; nothing, for one that is not registered.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
fn health(told: &TargetHealth) -> Option<MemberHealth> {
    use TargetHealthStateEnum as State;
    Some(match (told.state.as_ref()?, told.reason.as_ref()) {
        (_, Some(TargetHealthReasonEnum::NotRegistered)) => return None,
        (State::Healthy, _) => MemberHealth::Healthy,
        (State::Draining, _) => MemberHealth::Draining,
        // One is drained because it is unhealthy: it is registered, and gets requests when it recovers. The other's instance has stopped.
        (State::Unhealthy | State::UnhealthyDraining, _)
        | (State::Unused, Some(TargetHealthReasonEnum::InvalidState)) => MemberHealth::Unhealthy,
        (State::Unavailable, _) => MemberHealth::Untold,
        // A state that is not known yet is no reason to hope.
        _ => MemberHealth::Registering,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_target_has_its_meaning() {
        let cases: &[(&str, &str, Option<MemberHealth>)] = &[
            ("initial", "Elb.RegistrationInProgress", Some(MemberHealth::Registering)),
            ("initial", "Elb.InitialHealthChecking", Some(MemberHealth::Registering)),
            ("unused", "Target.NotInUse", Some(MemberHealth::Registering)),
            ("unused", "Target.InvalidState", Some(MemberHealth::Unhealthy)),
            ("unused", "Target.NotRegistered", None),
            ("healthy", "", Some(MemberHealth::Healthy)),
            ("unhealthy", "Target.Timeout", Some(MemberHealth::Unhealthy)),
            ("unhealthy.draining", "Target.Timeout", Some(MemberHealth::Unhealthy)),
            ("draining", "Target.DeregistrationInProgress", Some(MemberHealth::Draining)),
            ("unavailable", "Target.HealthCheckDisabled", Some(MemberHealth::Untold)),
            ("new-in-2030", "", Some(MemberHealth::Registering)),
        ];
        for (state, reason, expected) in cases {
            let told = TargetHealth::builder().state((*state).into());
            let told = if reason.is_empty() { told } else { told.reason((*reason).into()) };
            assert_eq!(health(&told.build()), *expected, "{state} {reason}");
        }
    }
}
