//! What goes wrong on purpose, once each.

use std::collections::BTreeMap;

use crate::failure::{Failure, OperationError};

/// The faults that wait for a call of their method.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    refusals: BTreeMap<String, Vec<Failure>>,
    failures: BTreeMap<String, Vec<OperationError>>,
    losses: BTreeMap<String, usize>,
}

impl Faults {
    pub(crate) fn refuse(&mut self, method: &str, failure: Failure) {
        self.refusals.entry(method.to_owned()).or_default().push(failure);
    }

    pub(crate) fn fail(&mut self, method: &str, error: OperationError) {
        self.failures.entry(method.to_owned()).or_default().push(error);
    }

    pub(crate) fn lose(&mut self, method: &str) {
        *self.losses.entry(method.to_owned()).or_default() += 1;
    }

    /// The refusal that is due for a call of this method.
    pub(crate) fn refusal(&mut self, method: &str) -> Option<Failure> {
        oldest(&mut self.refusals, method)
    }

    /// The error that is due for an operation of this method.
    pub(crate) fn failure(&mut self, method: &str) -> Option<OperationError> {
        oldest(&mut self.failures, method)
    }

    /// Whether the answer to a call of this method is to be lost.
    pub(crate) fn loss(&mut self, method: &str) -> bool {
        match self.losses.get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

fn oldest<T>(waiting: &mut BTreeMap<String, Vec<T>>, method: &str) -> Option<T> {
    let of_method = waiting.get_mut(method)?;
    (!of_method.is_empty()).then(|| of_method.remove(0))
}
