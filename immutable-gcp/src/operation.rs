//! Driving long-running operations: one bounded look per call, resumable by whoever comes next.
//!
//! # Flow
//! A call looks at the thing it is about. If that is not as it should be, it takes its [`turn`](Change::turn): it looks at the operations on the
//! thing. While one runs, the call waits. If the last one of the same intent failed just now, the call says why. Otherwise it sends its
//! request, with an id that is made of the intent, so that a request that is sent twice is one operation.
//!
//! # Guarantees
//! Nothing is remembered here: what runs and what failed is read from Compute Engine, which keeps operations for
//! [two weeks](https://docs.cloud.google.com/compute/docs/api/how-tos/api-requests-responses). A failed operation is told for some seconds,
//! for longer the more often it has failed, and then tried anew under another id: with the same one, Compute Engine would answer with the same failure for ever.

use std::time::Duration;

use google_cloud_compute_v1::model::{Operation, operation};
use google_cloud_gax::paginator::ItemPaginator as _;
use immutable_core::model::Fingerprint;
use immutable_core::provider::{Effect, IdempotencyKey, Progress, ProviderError};
use jiff::Timestamp;

use crate::Config;
use crate::error::{of_operation, unseen};

/// When to ask again about an operation: most of those that are used take some seconds.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// For how long a failed operation is the answer to the call that began it. Then it is tried again, and told for twice as long if it fails again: so
/// it is told at last also to somebody who seldom asks, or whose clock is ahead.
const TOLD_FOR: Duration = Duration::from_secs(10);
const TOLD_FOR_AT_MOST: Duration = Duration::from_mins(5);

/// So many operations on one thing are looked at, the newest first.
const LOOKED_AT: u32 = 50;

/// Where a thing is, and so its operations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Global,
    Region(String),
    Zone(String),
}

/// A change that is wanted of one thing.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) config: &'a Config,
    /// What is being done, for errors.
    pub(crate) operation: &'static str,
    pub(crate) scope: &'a Scope,
    /// The thing: `instanceTemplates/web`.
    pub(crate) target: String,
    /// The intent, and which of its steps this is.
    pub(crate) key: &'a IdempotencyKey,
    pub(crate) step: &'a str,
}

/// What a change is to do now.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Send the request with this id.
    Send(String),
    /// Ask again later.
    Wait(Progress<()>),
}

impl Change<'_> {
    /// Whether it is time to send the request.
    ///
    /// # Errors
    /// Why the last attempt of this intent failed, for some seconds after it did.
    pub(crate) async fn turn(&self) -> Result<Turn, ProviderError> {
        let known = self.operations().await?;
        if known.iter().any(|operation| !is_done(operation)) {
            return Ok(Turn::Wait(self.pending()));
        }
        // An attempt is known by its id, which is made of the attempt before it.
        let before = known.iter().filter_map(|operation| operation.name.as_deref()).chain([""]);
        let ids: Vec<String> = before.map(|before| self.id(before)).collect();
        let is_ours =
            |operation: &&Operation| operation.client_operation_id.as_ref().is_some_and(|id| ids.contains(id));
        let Some(last) = known.iter().find(is_ours) else { return Ok(Turn::Send(self.id(""))) };
        let has_failed = |operation: &&Operation| of_operation(self.operation, Effect::None, operation).is_some();
        let failures = known.iter().filter(is_ours).take_while(has_failed).count();
        if let Some(error) = of_operation(self.operation, Effect::None, last)
            && ended_within(last, told_for(failures))
        {
            return Err(error);
        }
        Ok(Turn::Send(self.id(last.name.as_deref().unwrap_or_default())))
    }

    /// What the answer to the request says. `before` is what the call has done so far.
    ///
    /// # Errors
    /// Why the operation failed, if it is over already.
    pub(crate) fn answered(&self, before: Effect, operation: &Operation) -> Result<Progress<()>, ProviderError> {
        match of_operation(self.operation, before, operation) {
            Some(error) if is_done(operation) => Err(error),
            _ if is_done(operation) => Ok(Progress::Done(())),
            _ => Ok(self.pending()),
        }
    }

    fn pending(&self) -> Progress<()> {
        Progress::Pending { retry_after: SOON, note: format!("the operation on {} to be done", self.target) }
    }

    /// The id of the attempt that follows this operation: a UUID of version 8, made of what it is for (RFC 9562, section 5.8).
    fn id(&self, before: &str) -> String {
        // Things in several zones have one name.
        let place = format!("{:?}", self.scope);
        let parts = [self.key.as_str(), self.step, &place, &self.target, before].join("\u{1f}");
        let hex = Fingerprint::of(parts).to_string();
        format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
    }

    /// The newest operations on the thing, the newest first.
    pub(crate) async fn operations(&self) -> Result<Vec<Operation>, ProviderError> {
        let (clients, project) = (&self.config.clients, &self.config.project);
        // The hosts of links differ with the name by which the API is called.
        let place = match self.scope {
            Scope::Global => "global".to_owned(),
            Scope::Region(region) => format!("regions/{region}"),
            Scope::Zone(zone) => format!("zones/{zone}"),
        };
        let filter = format!("targetLink eq .*/projects/{project}/{place}/{}", self.target);
        macro_rules! list {
            ($request:expr) => {{
                let request =
                    $request.set_filter(filter).set_order_by("creationTimestamp desc").set_max_results(LOOKED_AT);
                let (mut items, mut found) = (request.by_item(), Vec::new());
                // A page can be shorter than was asked for.
                while found.len() < LOOKED_AT as usize
                    && let Some(item) = items.next().await
                {
                    found.push(item.map_err(|error| unseen(self.operation, error))?);
                }
                Ok(found)
            }};
        }
        match self.scope {
            Scope::Global => list!(clients.global_operations.list().set_project(project)),
            Scope::Region(region) => list!(clients.region_operations.list().set_project(project).set_region(region)),
            Scope::Zone(zone) => list!(clients.zone_operations.list().set_project(project).set_zone(zone)),
        }
    }
}

/// How long the last of so many failures in a row is told.
fn told_for(failures: usize) -> Duration {
    let doubled = u32::try_from(failures.saturating_sub(1)).ok().and_then(|times| 1_u32.checked_shl(times));
    TOLD_FOR.saturating_mul(doubled.unwrap_or(u32::MAX)).min(TOLD_FOR_AT_MOST)
}

fn is_done(operation: &Operation) -> bool {
    operation.status == Some(operation::Status::Done)
}

fn ended_within(operation: &Operation, time: Duration) -> bool {
    let ended = operation.end_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let since = ended.map(|ended| Timestamp::now().duration_since(ended));
    since.is_some_and(|since| since < jiff::SignedDuration::try_from(time).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_for_longer_the_more_often_it_comes() {
        for (failures, seconds) in [(0, 10), (1, 10), (2, 20), (4, 80), (6, 300), (50, 300), (usize::MAX, 300)] {
            assert_eq!(told_for(failures), Duration::from_secs(seconds), "{failures}");
        }
    }
}
