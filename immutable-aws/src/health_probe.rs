//! Looking at instances with what AWS itself knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_autoscaling::types::{AutoScalingGroup, Instance, LifecycleState};
use aws_sdk_ec2::types::{InstanceStateName, InstanceStatus, InstanceStatusSummary, SummaryStatus};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use immutable_core::model::{FleetId, InstanceId, Look, Sample};
use immutable_core::provider::{Effect, HealthProbe, MemberHealth, OpContext, ProbeTarget, ProviderError};
use jiff::Timestamp;

use crate::error::unseen;
use crate::provisioner::launch_template;
use crate::traffic_switch::state;
use crate::{Clients, Config, target_groups};

/// So many instances are asked about in a request.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceStatus.html>
const STATUS_BATCH: usize = 100;

/// So many groups are on a page, whatever is asked for:
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html>.
const GROUP_BATCH: usize = 100;

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
    /// The [status checks of EC2](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-system-instance-status-check.html):
    /// whether the machine and its system work. They say nothing about what runs on it, and take minutes to notice.
    ///
    /// Both checks have to be passed; one that is failed, or an instance that does not run any more, is bad.
    ///
    /// # Errors
    /// Only when EC2 cannot be asked. An instance that EC2 does not know has no sample.
    StatusCheckProbe
);

probe!(
    /// What the Auto Scaling group thinks of its instances, which it replaces when they are unhealthy.
    ///
    /// # Errors
    /// Only when the API cannot be asked. An instance that is in no group has no sample.
    GroupHealthProbe
);

probe!(
    /// What the load balancer thinks of the members of the configuration's [routes](crate::ConfigBuilder::routes).
    ///
    /// Bad on one route is bad. An instance that is on none, or on none that uses it yet, is not judged.
    ///
    /// # Errors
    /// Only when the API cannot be asked.
    TargetHealthProbe
);

#[async_trait]
impl HealthProbe for StatusCheckProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let until = Until::half_of(cx);
        let mut samples = Vec::new();
        for batch in ids(targets).chunks(STATUS_BATCH) {
            if until.is_over() {
                break;
            }
            let seen = statuses(&self.config.clients, batch).await?;
            samples.extend(told(seen.iter().filter_map(|status| Some((status.instance_id()?, status_look(status))))));
        }
        Ok(samples)
    }
}

#[async_trait]
impl HealthProbe for GroupHealthProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        const OPERATION: &str = "look at instances of groups";
        let until = Until::half_of(cx);
        let fleets: BTreeSet<&FleetId> = targets.iter().map(|target| &target.fleet).collect();
        let names: Vec<String> = fleets.into_iter().map(launch_template::name).collect();
        let asked: BTreeSet<&str> = targets.iter().map(|target| target.instance.as_str()).collect();
        let mut samples = Vec::new();
        // One request tells of all instances of a group, however many they are.
        for batch in names.chunks(GROUP_BATCH) {
            if until.is_over() {
                break;
            }
            let request = self.config.clients.autoscaling.describe_auto_scaling_groups();
            let pages = request.set_auto_scaling_group_names(Some(batch.to_vec())).into_paginator().items().send();
            let groups = pages.collect::<Result<Vec<_>, _>>().await;
            let groups = groups.map_err(|error| unseen(OPERATION, Effect::None, error))?;
            let members = groups.iter().flat_map(AutoScalingGroup::instances);
            let seen = members.filter_map(|member| Some((member.instance_id()?, group_look(member))));
            samples.extend(told(seen.filter(|(id, _)| asked.contains(id))));
        }
        Ok(samples)
    }
}

#[async_trait]
impl HealthProbe for TargetHealthProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        const OPERATION: &str = "look at targets";
        let until = Until::half_of(cx);
        let clients = &self.config.clients;
        let fleets: BTreeSet<&FleetId> = targets.iter().map(|target| &target.fleet).collect();
        let asked: BTreeSet<&InstanceId> = targets.iter().map(|target| &target.instance).collect();
        let mut looks: BTreeMap<InstanceId, Seen> = BTreeMap::new();
        let routes = self.config.routes.iter();
        let groups =
            fleets.iter().flat_map(|fleet| routes.clone().map(|route| target_groups::name(route.as_str(), fleet)));
        for name in groups.collect::<Vec<_>>() {
            if until.is_over() {
                break;
            }
            let group = target_groups::by_name(clients, OPERATION, Effect::None, &name).await?;
            let Some(group) = group.and_then(|group| group.target_group_arn) else { continue };
            for target in state::targets(clients, OPERATION, &group).await? {
                if asked.contains(&target.instance) {
                    let seen = target_look(target.health, &name);
                    let known = looks.entry(target.instance).or_insert_with(|| seen.clone());
                    if weight(seen.0) > weight(known.0) {
                        *known = seen;
                    }
                }
            }
        }
        Ok(told(looks.iter().map(|(instance, seen)| (instance.as_str(), seen.clone()))).collect())
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

/// The instances, each once. What does not look like an instance of EC2 is none, and one such would spoil the request for all.
fn ids(targets: &[ProbeTarget]) -> Vec<String> {
    let ids: BTreeSet<&str> = targets.iter().map(|target| target.instance.as_str()).collect();
    ids.into_iter().filter(|id| id.starts_with("i-")).map(str::to_owned).collect()
}

fn told<'a>(seen: impl Iterator<Item = (&'a str, Seen)>) -> impl Iterator<Item = Sample> {
    let at = Timestamp::now();
    seen.filter_map(move |(id, (look, evidence))| Some(Sample { instance: id.parse().ok()?, at, look, evidence }))
}

/// The states of those that EC2 knows. It refuses the whole request for one that it does not know, and names it; then it is asked
/// about the others, once.
async fn statuses(clients: &Clients, ids: &[String]) -> Result<Vec<InstanceStatus>, ProviderError> {
    const OPERATION: &str = "look at instances";
    let mut asked = ids.to_vec();
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let request = clients.ec2.describe_instance_status().include_all_instances(true);
        match request.set_instance_ids(Some(asked.clone())).set_next_token(token).send().await {
            Ok(answer) => {
                found.extend(answer.instance_statuses.unwrap_or_default());
                token = answer.next_token.filter(|token| !token.is_empty());
                if token.is_none() {
                    return Ok(found);
                }
            }
            Err(error) if error.code().is_some_and(|code| code.starts_with("InvalidInstanceID")) => {
                let words = error.message().unwrap_or_default();
                let known: Vec<_> = asked.iter().filter(|id| !words.contains(id.as_str())).cloned().collect();
                if known.len() == asked.len() || asked.len() < ids.len() {
                    return Err(unseen(OPERATION, Effect::None, error));
                }
                if known.is_empty() {
                    return Ok(Vec::new());
                }
                (asked, found, token) = (known, Vec::new(), None);
            }
            Err(error) => return Err(unseen(OPERATION, Effect::None, error)),
        }
    }
}

fn status_look(status: &InstanceStatus) -> Seen {
    match status.instance_state().and_then(|state| state.name()) {
        Some(InstanceStateName::Running) => {}
        Some(InstanceStateName::Pending) | None => return (Look::Unknown, "starting".to_owned()),
        Some(state) => return (Look::Bad, format!("{state}")),
    }
    let of = |summary: Option<&InstanceStatusSummary>| summary.and_then(InstanceStatusSummary::status).cloned();
    let (instance, system) = (of(status.instance_status()), of(status.system_status()));
    let look = match (&instance, &system) {
        (Some(SummaryStatus::Impaired), _) | (_, Some(SummaryStatus::Impaired)) => Look::Bad,
        (Some(SummaryStatus::Ok), Some(SummaryStatus::Ok)) => Look::Good,
        _ => Look::Unknown,
    };
    let word = |status: &Option<SummaryStatus>| status.as_ref().map_or("not told", SummaryStatus::as_str).to_owned();
    (look, format!("instance check {}, system check {}", word(&instance), word(&system)))
}

fn group_look(member: &Instance) -> Seen {
    let health = member.health_status().unwrap_or_default();
    let state = member.lifecycle_state().map_or("no state", LifecycleState::as_str);
    let in_service = matches!(member.lifecycle_state(), Some(LifecycleState::InService | LifecycleState::Standby));
    let look = if health.eq_ignore_ascii_case("unhealthy") {
        Look::Bad
    } else if health.eq_ignore_ascii_case("healthy") && in_service {
        Look::Good
    } else {
        Look::Unknown
    };
    (look, format!("{health}, {state}"))
}

fn target_look(health: MemberHealth, group: &str) -> Seen {
    let look = match health {
        MemberHealth::Healthy => Look::Good,
        MemberHealth::Unhealthy => Look::Bad,
        _ => Look::Unknown,
    };
    (look, format!("{health:?} in {group}"))
}

#[cfg(test)]
mod tests;
