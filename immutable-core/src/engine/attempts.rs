//! What was tried, and what did not work: so that nothing is tried in a busy loop, nor written twice.

use jiff::Timestamp;

use super::calls::Calls;
use crate::decide::Action;
use crate::provider::{ErrorKind, ProviderError};

/// Actions that were tried lately. An action that is not known to be done keeps its intent, and with it its key.
#[derive(Debug, Default)]
pub(super) struct Attempts(Vec<Attempt>);

#[derive(Debug)]
struct Attempt {
    action: Action,
    /// The entry in which it was first intended.
    intent: u64,
    /// When the same action makes sense again, at the earliest.
    not_before: Timestamp,
    done: bool,
}

impl Attempts {
    /// The actions that make sense now. What is done and decided again is not to be seen yet: an observation lags.
    pub(super) fn ready(&mut self, now: Timestamp, decided: Vec<Action>) -> Vec<Action> {
        self.0.retain(|tried| tried.not_before > now || (!tried.done && decided.contains(&tried.action)));
        let waits = |action: &Action| self.0.iter().any(|tried| tried.not_before > now && tried.action == *action);
        decided.into_iter().filter(|action| !waits(action)).collect()
    }

    /// When the next of those that have to wait makes sense again.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.iter().map(|tried| tried.not_before).filter(|at| *at > now).min()
    }

    /// The entry in which an action that is not known to be done was first intended.
    pub(super) fn intent(&self, action: &Action) -> Option<u64> {
        self.0.iter().find(|tried| !tried.done && tried.action == *action).map(|tried| tried.intent)
    }

    pub(super) fn tried(&mut self, action: &Action, intent: u64, not_before: Timestamp, done: bool) {
        self.0.retain(|tried| tried.action != *action);
        self.0.push(Attempt { action: action.clone(), intent, not_before, done });
    }
}

/// Something that does not work at the moment.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
    text: Option<String>,
    /// What a provider said last, and since when something is wrong.
    told: Option<(ErrorKind, String)>,
    since: Option<Timestamp>,
}

impl Trouble {
    /// One more failure in a row; says when to try again.
    pub(super) fn failed(&mut self, calls: &Calls, error: Option<&ProviderError>) -> Timestamp {
        let pause = calls.backoff(self.failures, error);
        self.failures = self.failures.saturating_add(1);
        calls.now().checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn say(&mut self, text: String) {
        (self.text, self.told) = (Some(text), None);
    }

    /// Says what a provider answered.
    pub(super) fn tell(&mut self, now: Timestamp, waits_for: &str, error: &ProviderError) {
        self.text = Some(format!("{waits_for}: {error}"));
        self.told = Some((error.kind(), error.to_string()));
        self.since.get_or_insert(now);
    }

    /// Since when it does not work, and what the provider said, if it is of this kind.
    pub(super) fn of_kind(&self, kind: ErrorKind) -> Option<(Timestamp, &str)> {
        let told = self.told.as_ref().filter(|(told, _)| *told == kind);
        self.since.zip(told.map(|(_, error)| error.as_str()))
    }

    pub(super) fn is_over(&mut self) {
        *self = Self::default();
    }

    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}
