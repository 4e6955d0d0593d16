//! What goes wrong on purpose, once each.

use std::collections::{BTreeMap, VecDeque};

use crate::failure::Failure;

/// The faults that wait for a call of their operation, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    refusals: BTreeMap<String, VecDeque<Failure>>,
    failures: BTreeMap<String, VecDeque<Failure>>,
    losses: BTreeMap<String, usize>,
}

impl Faults {
    pub(crate) fn refuse(&mut self, operation: &str, failure: Failure) {
        self.refusals.entry(operation.to_owned()).or_default().push_back(failure);
    }

    pub(crate) fn fail(&mut self, operation: &str, failure: Failure) {
        self.failures.entry(operation.to_owned()).or_default().push_back(failure);
    }

    pub(crate) fn lose(&mut self, operation: &str) {
        *self.losses.entry(operation.to_owned()).or_default() += 1;
    }

    /// The refusal that is due for a call.
    pub(crate) fn refusal(&mut self, operation: &str) -> Option<Failure> {
        self.refusals.get_mut(operation)?.pop_front()
    }

    /// What the asynchronous operation of a call is to end with.
    pub(crate) fn failure(&mut self, operation: &str) -> Option<Failure> {
        self.failures.get_mut(operation)?.pop_front()
    }

    /// Whether the answer to a call is to be lost.
    pub(crate) fn loss(&mut self, operation: &str) -> bool {
        let Some(left) = self.losses.get_mut(operation).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
    }
}
