//! Ending instances by name, and removing what is left of a fleet.

use std::collections::BTreeSet;

use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, Lifecycle, ServiceName};
use immutable_core::provider::{ErrorKind, OpContext, Progress, ProviderError};

use super::group::{ENDED_AT_ONCE, Group};
use super::survey::{InstanceName, Parts, target_size};
use super::{REMOVE, RETIRE, pending, template};
use crate::backends;
use crate::changes;
use crate::config::Config;
use crate::operation::{Change, Scope};
use crate::ownership;

/// Begins to end those whom the proof names, who are of its fleet, and whom nobody ends already.
pub(super) async fn retire(
    config: &Config,
    cx: &OpContext,
    proof: &RetireProof,
    parts: &Parts,
) -> Result<Progress<()>, ProviderError> {
    let named: BTreeSet<InstanceName> = proof.instances().iter().filter_map(InstanceName::parse).collect();
    let all = parts.all().into_iter();
    // The number tells an instance from the one that the group has put in its place.
    let victims = all.filter(|(name, seen)| seen.lifecycle != Lifecycle::Ending && named.contains(name));
    let (members, alone): (Vec<_>, Vec<_>) =
        victims.map(|(name, seen)| (name, seen.is_managed())).partition(|one| one.1);
    // One change in a call, so that what its error says holds for the call.
    let (answer, left) = if let [(first, _), others @ ..] = alone.as_slice() {
        (delete(config, cx, first).await?, others.len() + members.len())
    } else if members.is_empty() {
        return Ok(Progress::Done(()));
    } else {
        let now = &members[..members.len().min(ENDED_AT_ONCE)];
        let group = Group::new(config, parts.place(config), ownership::name(RETIRE, proof.fleet())?);
        let all: Vec<String> = now.iter().map(|(name, _)| name.to_string()).collect();
        let urls = now.iter().map(|(name, _)| name.url(&config.project)).collect();
        let answer = group.delete_instances(cx, &format!("end {}", all.join(" ")), urls).await?;
        (answer, members.len() - now.len())
    };
    Ok(match left {
        0 => answer,
        left => pending(format!("the other {left} instances of {} to be ended", proof.fleet())),
    })
}

/// Ends an instance that is in no group. Compute Engine shuts the system down before it forces the end.
async fn delete(config: &Config, cx: &OpContext, name: &InstanceName) -> Result<Progress<()>, ProviderError> {
    let scope = Scope::Zone(name.zone.clone());
    let (target, step) = (format!("instances/{}", name.name), format!("end {name}"));
    let change = Change { config, operation: RETIRE, scope: &scope, target, key: &cx.key, step: &step };
    let sent = changes::send(&change, |id| async move {
        let request = config.clients.instances.delete().set_project(&config.project).set_zone(&name.zone);
        request.set_instance(&name.name).set_request_id(id).send().await
    });
    sent.await.or_else(changes::gone)
}

/// Removes a fleet without instances: what it has on routes, its group, and last its template, by which it would be found again.
pub(super) async fn remove(
    config: &Config,
    cx: &OpContext,
    (service, fleet): (&ServiceName, &FleetId),
    parts: &Parts,
) -> Result<Progress<()>, ProviderError> {
    if parts.record.as_ref().is_none_or(|record| record.service != service.as_str()) {
        // This service has no such fleet.
        return Ok(Progress::Done(()));
    }
    let all = parts.all();
    if let Some((instance, seen)) = all.first_key_value() {
        let (count, state) = (all.len(), seen.lifecycle);
        let problem = format!("fleet {fleet} has {count} instances, {instance} is {state:?}: end them first");
        return Err(ProviderError::new(ErrorKind::Conflict, REMOVE, problem).without_effect());
    }
    // In a box: with its many requests it is too large to be a part of this future.
    let off_routes = Box::pin(backends::remove(config, cx, service, fleet)).await?;
    if off_routes != Progress::Done(()) {
        return Ok(off_routes);
    }
    let name = ownership::name(REMOVE, fleet)?;
    if let Some(manager) = &parts.manager {
        let group = Group::new(config, parts.place(config), name);
        // It has no instance only because none could be started. With the group they would go without having been seen.
        if target_size(manager) > 0 {
            group.resize(cx, REMOVE, 0).await?;
            return Ok(pending(format!("group {fleet} to give up what it could not start")));
        }
        if !parts.managed.is_empty() {
            return Ok(pending(format!("group {fleet} to be empty")));
        }
        group.delete(cx).await?;
        return Ok(pending(format!("group {fleet} to be gone")));
    }
    if parts.template.is_none() {
        return Ok(Progress::Done(()));
    }
    template::remove(config, cx, &name).await
}
