//! What a process has seen of changes on the way: a gateway says that it changes, and not which change of it has ended.
//!
//! Nothing depends on it but how long is waited: who has not seen a change end, because the process is a new one, counts from its own first look.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use immutable_core::provider::{Effect, ErrorKind, ProviderError};
use jiff::Timestamp;

use super::document::Document;
use crate::Config;
use crate::operation::{Handle, Standing};

/// After this time a change is believed to be in effect, whatever was seen: ten times what changes of gateways take. The vendor gives no figure.
pub(super) const LONGEST: Duration = Duration::from_hours(1);

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Since when a change is known to be in effect. A change is named by the route and by what it has left there.
    in_effect: BTreeMap<(String, String), Timestamp>,
    /// The last change that was begun here, by the gateway: who knows it can be told why it failed.
    begun: BTreeMap<String, Handle>,
}

impl Memory {
    /// Since when each of these changes of a route is known to be in effect, by this look or by an earlier one. All others of the route are
    /// forgotten.
    pub(super) fn look(
        &self,
        route: &str,
        changes: &[String],
        document: &Document,
        now: Timestamp,
    ) -> BTreeMap<String, Timestamp> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.in_effect.retain(|(of, change), _| of != route || changes.contains(change));
        if document.standing == Standing::Settled {
            for change in changes {
                known.in_effect.entry((route.to_owned(), change.clone())).or_insert(now);
            }
        }
        let of_route = known.in_effect.iter().filter(|((of, _), _)| of == route);
        of_route.map(|((_, change), since)| (change.clone(), *since)).collect()
    }

    pub(super) fn begin(&self, gateway: &str, handle: Option<Handle>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match handle {
            Some(handle) => known.begun.insert(gateway.to_owned(), handle),
            None => known.begun.remove(gateway),
        };
    }

    /// The last change that was begun here, once.
    pub(super) fn take_begun(&self, gateway: &str) -> Option<Handle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).begun.remove(gateway)
    }
}

/// Why the last change of a gateway failed, if it was begun here and was not told yet.
pub(super) async fn failure(
    memory: &Memory,
    config: &Config,
    operation: &'static str,
    document: &Document,
) -> Result<(), ProviderError> {
    let Some(handle) = memory.take_begun(document.id()) else { return Ok(()) };
    match handle.look(&config.clients, operation, Effect::None, document.id()).await {
        Ok(_) => Ok(()),
        // It was somebody else's that failed, or Azure has forgotten it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
