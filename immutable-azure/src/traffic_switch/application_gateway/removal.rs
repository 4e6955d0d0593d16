//! Removing the pools that a fleet without instances has left on a gateway.

use immutable_core::model::FleetId;
use immutable_core::provider::{ErrorKind, Progress, ProviderError};

use super::document::{Document, Written, name, same};
use super::memory::Memory;
use super::names;
use super::route::Route;
use super::state::{State, tag_before};
use crate::Config;
use crate::operation::{SOON, Standing};

/// Removes the pools of a fleet on a route, drained or not: nobody of it runs. Done when there are none, or no such gateway. The tag that says
/// who changed the route the last time stays, so that a call that is under way goes on and no version comes back.
///
/// # Errors
/// `Conflict` when members of it are still in, or a rule leads to them.
pub(in crate::traffic_switch) async fn drop_fleet(
    config: &Config,
    operation: &'static str,
    route: Route,
    fleet: &FleetId,
) -> Result<Progress<()>, ProviderError> {
    let Some(document) = Document::find(config, operation, &route.gateway).await? else {
        return Ok(Progress::Done(()));
    };
    let short = route.short();
    let is_its = |pool: &str| names::read(pool, &short).is_some_and(|named| named.fleet == *fleet);
    let pools: Vec<String> = document.pools().filter(|pool| is_its(pool)).map(str::to_owned).collect();
    let before = tag_before(&route);
    let is_before = document.tag(&before).is_some_and(is_its);
    if pools.is_empty() && !is_before {
        return Ok(Progress::Done(()));
    }
    let refuse = |problem: String| Err(ProviderError::new(ErrorKind::Conflict, operation, problem).without_effect());
    let is_used = |pool: &&String| document.uses().iter().any(|(used, _)| same(name(used), pool));
    if let Some(pool) = pools.iter().find(is_used) {
        return refuse(format!("a rule leads to {pool}, which is of fleet {fleet}: lead it elsewhere first"));
    }
    let mut rest = document.clone();
    // A route that is gone, or leads to no pool any more, has no members.
    if route.pool(operation, &document).is_ok() {
        let state = State::of(operation, route, document, &Memory::default())?;
        if state.registered().get(fleet).is_some_and(|members| !members.is_empty()) {
            return refuse(format!("fleet {fleet} still has members on {}: take them out first", state.id()));
        }
    }
    if rest.standing == Standing::Busy {
        return Ok(rest.until_idle(SOON));
    }
    for pool in &pools {
        rest.remove_pool(pool);
    }
    if is_before {
        rest.set_tag(&before, None);
    }
    Ok(match rest.write(config, operation).await? {
        Written::Busy(waits) => waits,
        Written::Begun(begun) if begun.progress == Progress::Done(()) => rest.until_idle(SOON),
        Written::Begun(begun) => begun.progress,
    })
}
