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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::calls::tests::calls;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn grow(to: u32) -> Action {
        Action::Grow { fleet: "a".parse().unwrap(), to }
    }

    #[test]
    fn what_was_tried_waits_for_its_time_and_only_that() {
        for done in [true, false] {
            let mut attempts = Attempts::default();
            attempts.tried(&grow(1), 7, at(10), done);
            attempts.tried(&grow(2), 8, at(20), done);
            assert_eq!(attempts.ready(at(9), vec![grow(1), grow(3)]), [grow(3)]);
            assert_eq!((attempts.next(at(9)), attempts.next(at(10))), (Some(at(10)), Some(at(20))));
            assert_eq!(attempts.ready(at(10), vec![grow(1), grow(2)]), [grow(1)]);
            assert_eq!(attempts.ready(at(20), vec![grow(1), grow(2)]), [grow(1), grow(2)]);
            assert_eq!(attempts.next(at(20)), None);
        }
    }

    #[test]
    fn an_intent_is_known_until_it_is_done_or_no_longer_decided() {
        let mut attempts = Attempts::default();
        attempts.tried(&grow(1), 7, at(10), false);
        attempts.tried(&grow(2), 8, at(10), true);
        assert_eq!([1, 2, 3].map(|to| attempts.intent(&grow(to))), [Some(7), None, None]);
        // Decided again when its time has come: the same intent. Tried again: the time counts from there.
        assert_eq!(attempts.ready(at(10), vec![grow(1)]), [grow(1)]);
        assert_eq!(attempts.intent(&grow(1)), Some(7));
        attempts.tried(&grow(1), 7, at(30), false);
        attempts.tried(&grow(4), 9, at(30), false);
        assert_eq!(attempts.ready(at(29), vec![grow(1), grow(4)]), []);
        assert_eq!(attempts.ready(at(30), vec![grow(4)]), [grow(4)]);
        assert_eq!([1, 4].map(|to| attempts.intent(&grow(to))), [None, Some(9)], "it is not wanted any more");
        attempts.tried(&grow(4), 9, at(40), true);
        assert_eq!(attempts.intent(&grow(4)), None);
    }

    #[test]
    fn trouble_is_told_since_when_it_began_and_each_failure_in_a_row_waits_longer() {
        let (calls, mut trouble) = (calls(at(100), 0), Trouble::default());
        let error = |kind| ProviderError::new(kind, "grow", "no");
        let waits: Vec<_> = (0..3).map(|_| trouble.failed(&calls, None).duration_since(at(100)).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800]);
        let told = error(ErrorKind::Throttled).with_retry_after(Duration::from_secs(9));
        assert_eq!(trouble.failed(&calls, Some(&told)), at(109));
        trouble.tell(at(5), "the fleet", &error(ErrorKind::Capacity));
        trouble.tell(at(6), "the fleet", &error(ErrorKind::Quota));
        let quota = error(ErrorKind::Quota).to_string();
        assert_eq!(trouble.of_kind(ErrorKind::Quota), Some((at(5), quota.as_str())));
        assert_eq!(trouble.of_kind(ErrorKind::Capacity), None);
        assert_eq!(trouble.text(), Some(format!("the fleet: {quota}").as_str()));
        trouble.say("the journal".into());
        assert_eq!((trouble.text(), trouble.of_kind(ErrorKind::Quota)), (Some("the journal"), None));
        trouble.is_over();
        assert_eq!((trouble.text(), trouble.of_kind(ErrorKind::Quota)), (None, None));
        assert_eq!(trouble.failed(&calls, None).duration_since(at(100)).as_millis(), 200);
    }
}
