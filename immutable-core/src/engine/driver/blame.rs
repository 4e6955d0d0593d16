//! Judging the checks of a gate, and asking what serves beside the new release before it is blamed.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::Driver;
use crate::analysis::{Check, Judgement};
use crate::engine::hold::{Hold, Signal};
use crate::journal::JournalError;
use crate::model::FleetId;
use crate::provider::{ErrorKind, ProviderError, Window};

type Read = Result<Judgement, ProviderError>;

impl Driver {
    /// Judges the checks of the stage that is at its gate. A metric that cannot be read is no data; one that may never be
    /// read is a refusal.
    pub(super) async fn judge(&mut self) -> Result<Vec<Judgement>, JournalError> {
        let now = self.calls.now();
        let Some((checks, mut window)) = self.machine.measures(now) else { return Ok(Vec::new()) };
        let checks = checks.to_vec();
        let by_checks = matches!(self.machine.hold(), Some(Hold::EnvironmentDegraded { signal: Signal::Checks, .. }));
        if by_checks {
            // Only what is measured from now and then on can show that it has become better.
            window.from = window.from.max(self.judged_since.unwrap_or(window.from));
        }
        let read = self.read(&checks, &self.machine.plan().target, window).await;
        if let Some(error) = refusal(&read) {
            self.record(self.machine.refused(now, error)).await?;
            return Ok(Vec::new());
        }
        let mut judgements: Vec<Judgement> = checks.iter().zip(read).map(no_data_unless_read).collect();
        let beside = self.machine.plan().replaces.clone().filter(|fleet| *fleet != self.machine.plan().target);
        match beside {
            Some(beside) if by_checks => self.watch(now, &checks, &judgements, &beside, window).await?,
            Some(beside) if !self.machine.is_blamed() && judgements.iter().any(fails) => {
                self.ask_beside(now, &checks, &mut judgements, &beside, window).await?;
            }
            _ => {}
        }
        Ok(judgements)
    }

    async fn read(&self, checks: &[Check], fleet: &FleetId, window: Window) -> Vec<Read> {
        let context = self.calls.context(&["measure"]);
        let read = checks.iter().map(|check| async {
            let query = self.platform.metrics.query(&context, check.metric(), fleet, window);
            self.calls.look("read a metric", query).await.map(|samples| check.judge(&samples))
        });
        join_all(read).await
    }

    /// Before the new release is blamed: does each check that it fails also fail for what serves beside it, in the same time?
    ///
    /// What failed the check before the rollout began is broken by itself, and no excuse. Where nothing can be said about
    /// what serves beside it, the new release is to blame.
    async fn ask_beside(
        &mut self,
        now: Timestamp,
        checks: &[Check],
        judgements: &mut [Judgement],
        beside: &FleetId,
        window: Window,
    ) -> Result<(), JournalError> {
        let failed: Vec<usize> = (0..checks.len()).filter(|index| fails(&judgements[*index])).collect();
        let asked: Vec<Check> = failed.iter().map(|index| checks[*index].clone()).collect();
        let same_time = self.read(&asked, beside, window).await;
        if same_time.iter().any(is_throttled) {
            // Nobody is blamed before the question can be asked.
            for index in failed {
                let evidence = format!("{}: whether {beside} fails it, too, is not known yet", checks[index].metric());
                judgements[index] = Judgement::NotEnoughData { evidence };
            }
            return Ok(());
        }
        if !same_time.iter().all(is_failure) {
            return Ok(());
        }
        let started = self.machine.started_at();
        let length = window.to.duration_since(window.from).unsigned_abs();
        let from = started.checked_sub(length).unwrap_or(Timestamp::MIN);
        let before = self.read(&asked, beside, Window { from, to: started }).await;
        if before.iter().any(is_failure) {
            return Ok(());
        }
        let evidence = both(failed.iter().map(|index| &judgements[*index]), &same_time, beside);
        self.judged_since = Some(now);
        let hold = Hold::EnvironmentDegraded { signal: Signal::Checks, evidence };
        self.record(self.machine.hold_since(now, now, hold)).await
    }

    /// While the environment is held to be at fault: it is over when all checks pass for either fleet. As long as both fail
    /// one, what was measured is forgotten, so that a better time can show.
    async fn watch(
        &mut self,
        now: Timestamp,
        checks: &[Check],
        judgements: &[Judgement],
        beside: &FleetId,
        window: Window,
    ) -> Result<(), JournalError> {
        let read = self.read(checks, beside, window).await;
        let passes = |judgement: &Judgement| matches!(judgement, Judgement::Pass { .. });
        if judgements.iter().all(passes) || read.iter().all(|read| read.as_ref().is_ok_and(passes)) {
            self.judged_since = None;
            return self.record(self.machine.go_on(now)).await;
        }
        if judgements.iter().any(fails) && read.iter().any(is_failure) {
            self.judged_since = Some(now);
        }
        Ok(())
    }
}

fn fails(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::Fail { .. })
}

fn is_failure(read: &Read) -> bool {
    read.as_ref().is_ok_and(fails)
}

fn is_throttled(read: &Read) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Throttled)
}

fn refusal(read: &[Read]) -> Option<String> {
    let errors = read.iter().filter_map(|read| read.as_ref().err());
    errors.filter(|error| !error.kind().is_transient()).map(ToString::to_string).next()
}

fn no_data_unless_read((check, read): (&Check, Read)) -> Judgement {
    read.unwrap_or_else(|error| Judgement::NotEnoughData { evidence: format!("{}: {error}", check.metric()) })
}

/// What is known about both, for people.
fn both<'a>(new: impl Iterator<Item = &'a Judgement>, old: &[Read], beside: &FleetId) -> String {
    let words = |judgement: &Judgement| match judgement {
        Judgement::Pass { evidence } | Judgement::Fail { evidence } | Judgement::NotEnoughData { evidence } => {
            evidence.clone()
        }
    };
    let old = old.iter().filter_map(|read| read.as_ref().ok()).map(words).collect::<Vec<_>>().join(", ");
    let new = new.map(words).collect::<Vec<_>>().join(", ");
    format!("new release: {new}; {beside}: {old}")
}
