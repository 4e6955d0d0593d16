//! Removing the entries that a fleet without instances has left in a pool.

use immutable_core::model::FleetId;
use immutable_core::provider::{ErrorKind, Progress, ProviderError};
use jiff::Timestamp;

use super::members::{Entry, Ours};
use super::pool::{Place, Pool};
use crate::Config;
use crate::operation::{SOON, Standing};

/// Removes the entries of a fleet, when it is drained. Done when there are none, or no such pool.
///
/// # Errors
/// `Conflict` when members of it are still in.
pub(in crate::traffic_switch) async fn drop_fleet(
    config: &Config,
    operation: &'static str,
    place: &Place,
    fleet: &FleetId,
) -> Result<Progress<()>, ProviderError> {
    let Some(pool) = Pool::find(&config.clients, operation, place).await? else { return Ok(Progress::Done(())) };
    let is_its = |ours: &&Ours| ours.fleet == *fleet;
    if let Some(ours) = pool.entries.iter().filter_map(Entry::registered).find(is_its) {
        let problem =
            format!("{} of fleet {fleet} is still a member of {}: take it out first", ours.instance, place.id());
        return Err(ProviderError::new(ErrorKind::Conflict, operation, problem).without_effect());
    }
    let mut left = pool.entries.iter().filter_map(Entry::left).filter(is_its).peekable();
    if left.peek().is_none() {
        return Ok(Progress::Done(()));
    }
    if pool.standing == Standing::Busy {
        return Ok(pool.waits(SOON));
    }
    let (now, drain_time) = (Timestamp::now(), pool.drain_time().unwrap_or(config.drain_time));
    if left.any(|ours| ours.drains(drain_time, now)) {
        // The call that took them out knows by them what it has done, and may not have seen it yet.
        return Ok(Progress::Pending {
            retry_after: SOON,
            note: format!("those who leave {} to be drained", place.id()),
        });
    }
    let done = pool.write(&config.clients, operation, &without(&pool.entries, fleet)).await?;
    Ok(pool.until_seen(done))
}

/// The entries without those of a fleet that have left, with a mark on what stays of ours.
pub(super) fn without(entries: &[Entry], fleet: &FleetId) -> Vec<Entry> {
    let goes = |entry: &&Entry| entry.left().is_some_and(|ours| ours.fleet == *fleet);
    let mut rest: Vec<Entry> = entries.iter().filter(|entry| !goes(entry)).cloned().collect();
    if let Some(entry) = rest.iter_mut().find(|entry| entry.ours.as_ref().is_some_and(Ours::has_stamp)) {
        *entry = entry.clone().marked_anew();
    }
    rest
}
