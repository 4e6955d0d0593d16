//! One call at a time changes a route, of all that share a configuration.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use immutable_core::model::RouteId;
use immutable_core::provider::{ErrorKind, ProviderError};

/// The routes that a call changes at the moment, of all that share a configuration. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<BTreeSet<RouteId>>>);

impl Turns {
    fn taken(&self) -> MutexGuard<'_, BTreeSet<RouteId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to change a route, unless another call has it.
    ///
    /// # Errors
    /// `Conflict` when another one has.
    pub(super) fn take(&self, route: &RouteId, operation: &'static str) -> Result<Turn, ProviderError> {
        if self.taken().insert(route.clone()) {
            return Ok(Turn { of: self.clone(), route: route.clone() });
        }
        let problem = format!("another call of this process changes {route}: observe it again");
        Err(ProviderError::new(ErrorKind::Conflict, operation, problem).without_effect())
    }
}

/// The right to change a route, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    of: Turns,
    route: RouteId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.taken().remove(&self.route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_one_turn_at_a_time_and_a_call_that_is_dropped_gives_it_back() {
        let (turns, route): (_, RouteId) = (Turns::default(), "web".parse().unwrap());
        let turn = turns.take(&route, "test").unwrap();
        assert_eq!(turns.clone().take(&route, "test").unwrap_err().kind(), ErrorKind::Conflict);
        assert!(turns.take(&"other".parse().unwrap(), "test").is_ok());
        drop(turn);
        assert!(turns.take(&route, "test").is_ok());
    }
}
