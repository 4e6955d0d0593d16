//! Fleets as Auto Scaling groups.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use aws_sdk_autoscaling::types::{
    AutoScalingGroup, InstancesDistribution, LaunchTemplate, LaunchTemplateOverrides, LaunchTemplateSpecification,
    LifecycleHookSpecification, LifecycleState, MixedInstancesPolicy, Tag,
};
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, Lifecycle, ServiceName};
use immutable_core::provider::{
    Effect, ErrorKind, FleetsState, OpContext, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};

use super::survey::{self, Of, Parts, desired, is_terminating};
use super::{ENSURE, OBSERVE, REMOVE, RETIRE, activities, launch_template, removal, within_limit};
use crate::config::{Config, LifecycleHook};
use crate::error::failed;
use crate::tags::Tags;

/// Detaching takes so many instances in a request:
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DetachInstances.html>.
const DETACHED_AT_ONCE: usize = 20;
/// So many instances are ended in a call, which takes a request for each: well within the time that a call has.
const ENDED_AT_ONCE: usize = 20;

/// Keeps each fleet as one Auto Scaling group, which replaces instances that fail by itself.
///
/// The group is made from one version of one launch template with one AMI, never from `$Latest` or a parameter that is looked up as an
/// instance is launched, so that a year later it still starts the same.
///
/// # What happens to instances that are not as usual
/// * **An autoscaling policy**, or a person, changes the desired capacity: the rollout follows. New instances are protected from scale-in, so that
///   the group itself ends none of them: who goes is chosen by the engine, and drained first.
/// * **Stopped**, by itself or by hand: listed as dead. Where it is missed it is detached, so that the group starts another one at once; it is ended
///   as soon as the engine says so.
/// * **Unhealthy** in the group's eyes: the group ends and replaces it. It is listed as ending.
/// * **Standby**, or detached by hand: still an instance of the fleet and listed as what EC2 says it does. It is ended by name as any other.
/// * **Protected from termination**: the end is refused, and the error says so. Nothing is done about it.
/// * **Suspended processes**: `AZRebalance` is suspended, because it would end instances that are in traffic. Growth while `Launch` is
///   suspended is an error that says so, not a silent wait.
/// * **Lifecycle hooks**: an instance that waits in a launch hook is starting, one that waits in a termination hook is ending.
/// * **Instance refresh** by hand: the instances are replaced by ones of the same version; nothing is changed by it.
#[derive(Clone)]
pub struct AutoScalingProvisioner {
    config: Config,
}

impl AutoScalingProvisioner {
    /// A provisioner with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    async fn create(&self, spec: &FleetSpec, template: &str) -> Result<(), ProviderError> {
        let config = &self.config;
        let size = |size: u32| i32::try_from(size).unwrap_or(i32::MAX);
        let tags = launch_template::tags_of(config, spec);
        let mut request = config
            .clients
            .autoscaling
            .create_auto_scaling_group()
            .auto_scaling_group_name(launch_template::name(&spec.id))
            .min_size(0)
            .max_size(size(config.max_fleet_size))
            .desired_capacity(size(spec.size))
            .vpc_zone_identifier(config.launch.subnets.join(","))
            .health_check_type("EC2")
            .new_instances_protected_from_scale_in(true)
            .set_tags(Some(group_tags(&tags)))
            .set_lifecycle_hook_specification_list(hooks(&config.launch.lifecycle_hooks));
        let template = LaunchTemplateSpecification::builder()
            .launch_template_id(template)
            .version(launch_template::VERSION)
            .build();
        request = match config.launch.instance_types.as_slice() {
            [_] => request.launch_template(template),
            types => request.mixed_instances_policy(mixed(template, types)),
        };
        match request.send().await {
            Ok(_) => Ok(()),
            // Somebody else has made it just now: the next look tells whether it is the same.
            Err(error) if error.as_service_error().is_some_and(aws_sdk_autoscaling::operation::create_auto_scaling_group::CreateAutoScalingGroupError::is_already_exists_fault) => Ok(()),
            Err(error) => Err(failed(ENSURE, Effect::Unknown, error)),
        }
    }

    /// The group would end instances that are in traffic to have equally many in each zone.
    async fn suspend_rebalancing(&self, group: &AutoScalingGroup) -> Result<(), ProviderError> {
        const PROCESS: &str = "AZRebalance";
        if is_suspended(group, PROCESS) {
            return Ok(());
        }
        let request = self.config.clients.autoscaling.suspend_processes().scaling_processes(PROCESS);
        let request = request.set_auto_scaling_group_name(group.auto_scaling_group_name.clone());
        request.send().await.map(drop).map_err(|error| failed(ENSURE, Effect::None, error))
    }

    /// Takes dead instances out of the group, which starts others in their place.
    async fn detach_dead(&self, fleet: &FleetId, parts: &Parts) -> Result<bool, ProviderError> {
        let lifecycles = parts.lifecycles();
        let is_dead = |id: &&str| lifecycles.get(id) == Some(&Lifecycle::Dead);
        let dead: Vec<String> = members(parts).filter(is_dead).map(str::to_owned).collect();
        for batch in dead.chunks(DETACHED_AT_ONCE) {
            let request = self.config.clients.autoscaling.detach_instances();
            let request = request.auto_scaling_group_name(launch_template::name(fleet));
            let request = request.set_instance_ids(Some(batch.to_vec())).should_decrement_desired_capacity(false);
            request.send().await.map_err(|error| contested(failed(ENSURE, Effect::Unknown, error)))?;
        }
        Ok(!dead.is_empty())
    }

    /// Grows a group that exists and has too few instances.
    async fn grow(&self, spec: &FleetSpec, parts: &Parts, group: &AutoScalingGroup) -> Result<String, ProviderError> {
        if is_suspended(group, "Launch") {
            let problem = format!("the Launch process of group {} is suspended: resume it", spec.id);
            return Err(ProviderError::new(ErrorKind::Unavailable, ENSURE, problem).without_effect());
        }
        if self.detach_dead(&spec.id, parts).await? {
            return Ok(format!("group {} to replace its dead instances", spec.id));
        }
        // Who lives outside the group counts as well: it was detached, or is in standby.
        let outside = parts.live().saturating_sub(u32::try_from(counted(parts).count()).unwrap_or(u32::MAX));
        let wanted = spec.size.saturating_sub(outside);
        if desired(group) < wanted {
            self.set_desired(group, i32::try_from(wanted).unwrap_or(i32::MAX)).await?;
        } else {
            activities::check(&self.config, &spec.id).await?;
        }
        Ok(format!("group {} to start {} of {} instances", spec.id, spec.size - parts.live(), spec.size))
    }

    /// Sets the desired capacity, and with it the largest there may be, if that was less when the group was made.
    async fn set_desired(&self, group: &AutoScalingGroup, wanted: i32) -> Result<(), ProviderError> {
        let (client, name) = (&self.config.clients.autoscaling, group.auto_scaling_group_name.clone());
        if group.max_size().is_some_and(|most| most < wanted) {
            let most = i32::try_from(self.config.max_fleet_size).unwrap_or(i32::MAX);
            let request = client.update_auto_scaling_group().set_auto_scaling_group_name(name);
            let sent = request.max_size(most).desired_capacity(wanted).send().await;
            return sent.map(drop).map_err(|error| failed(ENSURE, Effect::None, error));
        }
        let request = client.set_desired_capacity().set_auto_scaling_group_name(name).honor_cooldown(false);
        let sent = request.desired_capacity(wanted).send().await;
        sent.map(drop).map_err(|error| failed(ENSURE, Effect::None, error))
    }

    /// Ends an instance of the group, and lowers the desired capacity with it if it is to.
    async fn end_member(&self, instance: &str, decrement: bool, before: Effect) -> Result<(), ProviderError> {
        let request = self.config.clients.autoscaling.terminate_instance_in_auto_scaling_group();
        let request = request.instance_id(instance).should_decrement_desired_capacity(decrement);
        let Err(error) = request.send().await else { return Ok(()) };
        let error = failed(RETIRE, before, error);
        // It has left the group meanwhile, so somebody else has ended it, or the next call will.
        if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(contested(error)) }
    }
}

#[async_trait]
impl Provisioner for AutoScalingProvisioner {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities { max_fleet_size: Some(self.config.max_fleet_size) }
    }

    async fn ensure(&self, _: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, ENSURE, &spec.id).await?;
        launch_template::bound(&self.config, ENSURE, spec, &parts)?;
        within_limit(&self.config, spec)?;
        let Some(group) = &parts.group else {
            let template = launch_template::ensure(&self.config, ENSURE, spec, &parts).await?;
            self.create(spec, &template).await?;
            return Ok(pending(format!("group {} to be made", spec.id)));
        };
        // The status is only there while a group is being deleted, as when a release is wanted again that was just removed.
        if group.status().is_some() {
            return Ok(pending(format!("the group of {} that is being deleted to be gone", spec.id)));
        }
        self.suspend_rebalancing(group).await?;
        if parts.live() >= spec.size {
            return Ok(Progress::Done(()));
        }
        self.grow(spec, &parts, group).await.map(pending)
    }

    async fn observe(&self, _: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        survey::look(&self.config, OBSERVE, Of::Service(service)).await?.state()
    }

    async fn retire(&self, _: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, RETIRE, proof.fleet()).await?;
        let victims = removal::victims(&parts, proof);
        let in_group: Vec<&str> = members(&parts).filter(|id| victims.contains(id)).collect();
        let alone: Vec<&str> = victims.into_iter().filter(|id| !in_group.contains(id)).collect();
        removal::terminate(&self.config, &alone).await?;
        let mut before = if alone.is_empty() { Effect::None } else { Effect::Unknown };
        let now = &in_group[..in_group.len().min(ENDED_AT_ONCE)];
        let counted: BTreeSet<&str> = counted(&parts).collect();
        let ends = now.iter().filter(|id| counted.contains(*id)).count();
        let mut left = decrements(parts.group.as_ref().map_or(0, desired), counted.len(), ends);
        for instance in now {
            let decrement = left > 0 && counted.contains(instance);
            left -= usize::from(decrement);
            self.end_member(instance, decrement, before).await?;
            before = Effect::Unknown;
        }
        Ok(match in_group.len() - now.len() {
            0 => Progress::Done(()),
            left => pending(format!("the other {left} instances of {} to be ended", proof.fleet())),
        })
    }

    async fn remove(
        &self,
        _: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, REMOVE, fleet).await?;
        removal::remove(&self.config, service, fleet, &parts).await
    }
}

impl fmt::Debug for AutoScalingProvisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoScalingProvisioner").finish_non_exhaustive()
    }
}

fn pending(note: String) -> Progress<()> {
    Progress::Pending { retry_after: survey::retry_soon(), note }
}

fn is_suspended(group: &AutoScalingGroup, process: &str) -> bool {
    group.suspended_processes().iter().any(|suspended| suspended.process_name() == Some(process))
}

/// The members of the group that it does not end already.
fn members(parts: &Parts) -> impl Iterator<Item = &str> {
    let members = parts.group.iter().flat_map(aws_sdk_autoscaling::types::AutoScalingGroup::instances);
    let stay = members.filter(|member| !member.lifecycle_state().is_some_and(is_terminating));
    stay.filter_map(|member| member.instance_id())
}

/// The members that the desired capacity counts: not those in standby, nor those on their way into it or out of the group.
fn counted(parts: &Parts) -> impl Iterator<Item = &str> {
    let members = parts.group.iter().flat_map(aws_sdk_autoscaling::types::AutoScalingGroup::instances);
    let counts = |state: &LifecycleState| {
        !is_terminating(state)
            && !matches!(
                state,
                LifecycleState::Standby
                    | LifecycleState::EnteringStandby
                    | LifecycleState::Detaching
                    | LifecycleState::Detached
            )
    };
    members.filter(move |member| member.lifecycle_state().is_some_and(counts)).filter_map(|member| member.instance_id())
}

/// With how many of the ends the desired capacity goes down, so that none of those who go is replaced.
///
/// It is not lowered below what is left: an autoscaling policy that has lowered it already wanted just these ends, and would otherwise see twice as
/// many.
fn decrements(desired: u32, counted: usize, ends: usize) -> usize {
    let left = counted.saturating_sub(ends);
    usize::try_from(desired).unwrap_or(usize::MAX).saturating_sub(left).min(ends)
}

/// What the group refuses because it is ending or replacing the instance itself is looked at again.
fn contested(error: ProviderError) -> ProviderError {
    if error.kind() != ErrorKind::InvalidRequest {
        return error;
    }
    let conflict = ProviderError::new(ErrorKind::Conflict, error.operation().to_owned(), error.to_string());
    if error.effect() == Effect::None { conflict.without_effect() } else { conflict }
}

fn group_tags(tags: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| {
        Tag::builder().resource_type("auto-scaling-group").key(key).value(value).propagate_at_launch(true).build()
    };
    tags.iter().map(tag).collect()
}

fn hooks(hooks: &[LifecycleHook]) -> Option<Vec<LifecycleHookSpecification>> {
    let hook = |(index, hook): (usize, &LifecycleHook)| {
        let (transition, time, default) = match hook {
            LifecycleHook::Launching(time) => ("autoscaling:EC2_INSTANCE_LAUNCHING", time, "ABANDON"),
            LifecycleHook::Terminating(time) => ("autoscaling:EC2_INSTANCE_TERMINATING", time, "CONTINUE"),
        };
        LifecycleHookSpecification::builder()
            .lifecycle_hook_name(format!("immutable-{index}"))
            .lifecycle_transition(transition)
            .heartbeat_timeout(i32::try_from(time.as_secs()).unwrap_or(i32::MAX))
            .default_result(default)
            .build()
    };
    let hooks: Vec<_> = hooks.iter().enumerate().map(hook).collect();
    (!hooks.is_empty()).then_some(hooks)
}

/// Several types, the first that there is room for, and nothing that AWS takes away again at will.
fn mixed(template: LaunchTemplateSpecification, types: &[String]) -> MixedInstancesPolicy {
    let overrides = types.iter().map(|name| LaunchTemplateOverrides::builder().instance_type(name).build()).collect();
    let template =
        LaunchTemplate::builder().launch_template_specification(template).set_overrides(Some(overrides)).build();
    let distribution = InstancesDistribution::builder()
        .on_demand_allocation_strategy("prioritized")
        .on_demand_percentage_above_base_capacity(100)
        .build();
    MixedInstancesPolicy::builder().launch_template(template).instances_distribution(distribution).build()
}

#[cfg(test)]
mod tests {
    use super::decrements;

    #[test]
    fn the_desired_capacity_goes_down_with_those_who_go_and_no_further_than_to_who_is_left() {
        // Desired, members, ends, and with how many of them it is lowered.
        let cases = [(3, 3, 1, 1), (3, 3, 3, 3), (5, 3, 1, 1), (4, 5, 1, 0), (4, 5, 2, 1), (0, 2, 2, 0), (0, 0, 0, 0)];
        for (desired, members, ends, lowered) in cases {
            assert_eq!(decrements(desired, members, ends), lowered, "{desired} {members} {ends}");
        }
    }
}
