//! Automatic repairs: a set replaces a member that says that it is ill, after its time of grace.
//!
//! <https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-automatic-instance-repairs>

use jiff::{SignedDuration, Span};
use serde_json::Value;

use super::{growth, health_extension, set_of};
use crate::failure::Failure;
use crate::resources::machines;
use crate::world::World;

/// The time of grace of a set that does not say.
const GRACE: &str = "PT10M";

/// The repairs that a set does, if it does any.
pub(super) fn policy(set: &Value) -> Option<&Value> {
    let policy = &set["properties"]["automaticRepairsPolicy"];
    (policy["enabled"] == true).then_some(policy)
}

/// Refuses repairs that cannot be.
pub(super) fn check(set: &Value) -> Result<(), Failure> {
    let Some(policy) = policy(set) else { return Ok(()) };
    let grace = grace(policy).map(|grace| grace.as_mins());
    if !grace.is_some_and(|minutes| (10..=90).contains(&minutes)) {
        let message = "The grace period must be a duration in ISO 8601 format between 10 and 90 minutes.";
        return Err(Failure::invalid("automaticRepairsPolicy.gracePeriod", message));
    }
    if policy["repairAction"].as_str().is_some_and(|action| action != "Replace") {
        return Err(Failure::new(501, "NotImplemented", "The fake replaces members and does no other repairs."));
    }
    Ok(())
}

fn grace(policy: &Value) -> Option<SignedDuration> {
    let span: Span = policy["gracePeriod"].as_str().unwrap_or(GRACE).parse().ok()?;
    SignedDuration::try_from(span).ok()
}

/// Has a member replaced when its time of grace is over, if it is ill then. The set takes its time to see it, too.
pub(in crate::resources) fn consider(world: &mut World, member: &str) {
    let Some(set) = set_of(world, member) else { return };
    let Some(grace) = world.get(&set).and_then(policy).and_then(grace) else { return };
    if health_extension(world, member).is_none() {
        return;
    }
    let Some(since) = machines::since(world, member) else { return };
    let seconds = u32::try_from(grace.as_secs()).unwrap_or_default();
    let due = since + world.options.second * seconds;
    let wait = due.saturating_sub(world.now()).max(world.options.operation_time).max(world.options.health_time);
    let (member, serial) = (member.to_owned(), machines::serial(world, member));
    world.after(wait, move |world| {
        let same = machines::serial(world, &member) == serial && world.state(&member) == "Succeeded";
        if same && matches!(machines::health(world, &member), Some("unhealthy" | "unknown")) {
            replace(world, &set, &member);
        }
    });
}

fn replace(world: &mut World, id: &str, member: &str) {
    let Some(set) = world.get(id).filter(|_| world.state(id) != "Deleting").cloned() else { return };
    let zone = world.get(member).and_then(|member| member["zones"][0].as_str()).unwrap_or_default().to_owned();
    machines::delete(world, member);
    // Without room for a new one, the set stays without it.
    let _ = growth::make(world, id, &set, &zone);
}
