//! Ending instances by name, and removing what is left of a fleet.

use aws_sdk_autoscaling::types::AutoScalingGroup;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, Lifecycle, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};

use super::survey::{self, Parts, desired};
use super::{REMOVE, RETIRE, launch_template};
use crate::config::Config;
use crate::error::failed;
use crate::{tags, target_groups};

/// So many instances are ended in a request. A thousand would be accepted, and AWS advises
/// [smaller batches](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html).
const BATCH: usize = 50;

/// Those whom the proof names, who are of its fleet, and whom nobody ends already.
pub(super) fn victims<'a>(parts: &'a Parts, proof: &RetireProof) -> Vec<&'a str> {
    let named = |id: &str| proof.instances().iter().any(|instance| instance.as_str() == id);
    let lifecycles = parts.lifecycles().into_iter();
    lifecycles.filter(|(id, state)| *state != Lifecycle::Ending && named(id)).map(|(id, _)| id).collect()
}

/// Ends instances that are in no group. EC2 shuts the system down before it forces the end.
pub(super) async fn terminate(config: &Config, instances: &[&str]) -> Result<(), ProviderError> {
    let mut before = Effect::None;
    for batch in instances.chunks(BATCH) {
        let ids = batch.iter().map(|id| (*id).to_owned()).collect();
        let request = config.clients.ec2.terminate_instances().set_instance_ids(Some(ids));
        if let Err(error) = request.send().await {
            // The others of a batch end all the same, unless they are in the zone of the one that is protected.
            let is_protected = batch.len() > 1 && error.code() == Some("OperationNotPermitted");
            return Err(failed(RETIRE, if is_protected { Effect::Unknown } else { before }, error));
        }
        before = Effect::Unknown;
    }
    Ok(())
}

/// Removes a fleet without instances: its group, its target groups, and last its template, by which it would be found again.
pub(super) async fn remove(
    config: &Config,
    service: &ServiceName,
    fleet: &FleetId,
    parts: &Parts,
) -> Result<Progress<()>, ProviderError> {
    let tags = parts.tags();
    if tags.as_ref().and_then(|tags| tags.get(tags::SERVICE)).is_some_and(|owner| owner != service.as_str()) {
        // This service has no such fleet.
        return Ok(Progress::Done(()));
    }
    let listed = parts.lifecycles();
    if let Some((instance, state)) = listed.first_key_value() {
        let problem = format!("fleet {fleet} has {} instances, {instance} is {state:?}: end them first", listed.len());
        return Err(ProviderError::new(ErrorKind::Conflict, REMOVE, problem).without_effect());
    }
    if let Some(group) = &parts.group {
        return remove_group(config, fleet, group).await;
    }
    if let Progress::Pending { retry_after, note } = target_groups::remove(&config.clients, service, fleet).await? {
        return Ok(Progress::Pending { retry_after, note });
    }
    if let Some(template) = &parts.template {
        launch_template::remove(config, REMOVE, template).await?;
    }
    Ok(Progress::Done(()))
}

async fn remove_group(
    config: &Config,
    fleet: &FleetId,
    group: &AutoScalingGroup,
) -> Result<Progress<()>, ProviderError> {
    let client = &config.clients.autoscaling;
    let waiting = || Progress::Pending { retry_after: survey::retry_soon(), note: format!("group {fleet} to be gone") };
    // The status is only there while a group is being deleted.
    if group.status().is_some() {
        return Ok(waiting());
    }
    let (mut before, name) = (Effect::None, launch_template::name(fleet));
    if desired(group) > 0 {
        // It has no instance only because none could be started.
        let request = client.set_desired_capacity().auto_scaling_group_name(&name).desired_capacity(0);
        request.send().await.map_err(|error| failed(REMOVE, before, error))?;
        before = Effect::Unknown;
    }
    let request = client.delete_auto_scaling_group().auto_scaling_group_name(&name).force_delete(false);
    request.send().await.map_err(|error| failed(REMOVE, before, error))?;
    Ok(waiting())
}
