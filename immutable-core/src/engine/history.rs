//! What the journal of a service says about its past.

use crate::journal::{Entry, JournalError};
use crate::model::{Release, ReleaseId, ServiceName};
use crate::plan::Plan;

use super::entry;
use super::event::{Event, Outcome, Reason};

/// The past of a service: which releases were proven, which failed, and the events of the last rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    proven: Vec<Release>,
    failed: Vec<ReleaseId>,
    last: Vec<Event>,
}

impl History {
    /// Reads the past from the journal's entries.
    pub(super) fn read(service: &ServiceName, entries: Vec<Entry>) -> Result<Self, JournalError> {
        let mut history = Self::default();
        for entry in entries {
            let seq = entry.seq;
            for event in entry::events(service, entry)? {
                let stages = history.last_plan().map_or(0, |plan| plan.stages.len());
                event.fits(stages).map_err(|problem| entry::corrupt(service, seq, problem))?;
                history.add(event);
            }
        }
        Ok(history)
    }

    /// Takes one more event into account.
    pub(super) fn add(&mut self, event: Event) {
        if let Event::Started { .. } = &event {
            self.last.clear();
        }
        let release = self.last_plan().map(|plan| plan.release.clone());
        match (&event, release) {
            (Event::TurnedBack { reason, .. }, Some(release)) if self.is_failure(reason, release.id()) => {
                self.proven.retain(|proven| proven.id() != release.id());
                self.failed.retain(|failed| *failed != release.id());
                self.failed.push(release.id());
            }
            (Event::Ended { outcome: Outcome::Promoted, .. }, Some(release)) => {
                self.failed.retain(|failed| *failed != release.id());
                self.proven.retain(|proven| proven.id() != release.id());
                self.proven.push(release);
            }
            _ => {}
        }
        self.last.push(event);
    }

    /// Whether going back for this reason speaks against the release. One that worked before and does not come up now is more
    /// likely kept from it by its surroundings.
    fn is_failure(&self, reason: &Reason, release: ReleaseId) -> bool {
        match reason {
            Reason::CheckFailed { .. } => true,
            Reason::NoProgress { .. } => !self.proven.iter().any(|proven| proven.id() == release),
            Reason::Asked { .. } | Reason::NotJudged { .. } | Reason::Refused { .. } => false,
        }
    }

    /// Releases that were promoted and did not fail since, the latest last.
    pub fn proven(&self) -> &[Release] {
        &self.proven
    }

    /// Releases that failed and were not promoted since; never a target of going back.
    pub fn failed(&self) -> &[ReleaseId] {
        &self.failed
    }

    /// The events of the last rollout, in order.
    pub fn last_rollout(&self) -> &[Event] {
        &self.last
    }

    /// What the last rollout was to do.
    pub(super) fn last_plan(&self) -> Option<&Plan> {
        match self.last.first() {
            Some(Event::Started { plan, .. }) => Some(plan),
            _ => None,
        }
    }

    /// How many instances the service needed at the end of the last rollout.
    pub(super) fn last_desired(&self) -> Option<u32> {
        let resized = self.last.iter().rev().find_map(|event| match event {
            Event::Resized { desired, .. } => Some(*desired),
            _ => None,
        });
        resized.or(self.last_plan().map(|plan| plan.budget.desired))
    }

    /// Whether the last rollout is still going on.
    pub fn is_live(&self) -> bool {
        !self.last.is_empty() && !self.last.iter().any(|event| matches!(event, Event::Ended { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::machine::tests::{at, plan_of, release};

    /// Rollouts of these versions and how each went, in a word.
    fn history(rollouts: &[(&str, &str)]) -> History {
        let mut history = History::default();
        for (version, course) in rollouts {
            let rollout = "r-1".parse().unwrap();
            history.add(Event::Started { rollout, plan: Box::new(plan_of(version)), at: at(0) });
            let reason = match *course {
                "bad" => Some(Reason::CheckFailed { evidence: "many".into() }),
                "slow" => Some(Reason::NoProgress { waiting: "it".into() }),
                "unwanted" => Some(Reason::Asked { note: "no".into() }),
                "refused" => Some(Reason::Refused { error: "no".into() }),
                _ => None,
            };
            match reason {
                Some(reason) => history.add(Event::TurnedBack { reason, at: at(1), deadline: at(2) }),
                None if *course == "live" => {}
                None => history.add(Event::Ended { outcome: Outcome::Promoted, at: at(1) }),
            }
        }
        history
    }

    #[test]
    fn what_failed_and_what_is_proven_follows_from_how_rollouts_went() {
        let check = |rollouts: &[(&str, &str)], proven: &[&str], failed: &[&str]| {
            let history = history(rollouts);
            let ids = |versions: &[&str]| versions.iter().map(|version| release(version).id()).collect::<Vec<_>>();
            assert_eq!(history.proven().iter().map(Release::id).collect::<Vec<_>>(), ids(proven), "{rollouts:?}");
            assert_eq!(history.failed(), ids(failed), "{rollouts:?}");
        };
        check(&[("1", "good"), ("2", "good"), ("1", "good")], &["2", "1"], &[]);
        check(&[("1", "good"), ("2", "bad"), ("3", "bad"), ("2", "bad")], &["1"], &["3", "2"]);
        check(&[("1", "good"), ("2", "good"), ("2", "bad")], &["1"], &["2"]);
        check(&[("1", "bad"), ("2", "bad"), ("1", "good")], &["1"], &["2"]);
        // Whoever was proven is not proven wrong by a way that was too slow; whoever was not, failed.
        check(&[("1", "good"), ("2", "good"), ("1", "slow"), ("3", "slow")], &["1", "2"], &["3"]);
        check(&[("1", "good"), ("2", "unwanted"), ("3", "refused"), ("1", "unwanted")], &["1"], &[]);
    }

    #[test]
    fn a_service_is_live_from_the_start_of_a_rollout_to_its_end() {
        let live = |rollouts: &[(&str, &str)]| history(rollouts).is_live();
        assert!(!live(&[]) && !live(&[("1", "good")]) && live(&[("1", "live")]));
        assert!(live(&[("1", "good"), ("2", "bad")]));
        let last = history(&[("1", "good"), ("2", "live")]);
        assert_eq!(last.last_rollout().len(), 1);
        assert_eq!(
            (last.last_plan().map(|plan| plan.release.id()), last.last_desired()),
            (Some(release("2").id()), Some(2))
        );
        assert_eq!((history(&[]).last_plan(), history(&[]).last_desired()), (None, None));
    }
}
