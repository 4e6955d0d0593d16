//! The driver: observe, ask the machine, write the journal, act, and again.
//!
//! This is the only place that waits, and the only one that spawns.

#![expect(clippy::disallowed_methods, reason = "the driver is what waits and spawns")]

mod acting;
mod blame;
mod judging;
mod looking;
mod obstacles;
mod scaling;
mod settling;
mod superseding;
mod way_back;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::absence::Absence;
use super::assess::Assessor;
use super::attempts::{Attempts, Trouble};
use super::calls::Calls;
use super::clock::later;
use super::entry;
use super::error::DriverError;
use super::event::{Event, Outcome, Reason};
use super::machine::{Command, Machine, Step};
use super::rollout::Shared;
use super::sizes::Sizes;
use super::unsettled::Unsettled;
use crate::analysis::Evidence;
use crate::journal::{Journal, JournalError, Lease};
use crate::provider::Platform;
use looking::{Observed, Probed};

/// What somebody wants of a rollout, and where to say that it is in the journal.
pub(super) enum Wish {
    Command(Command, oneshot::Sender<()>),
    /// To end for another rollout, whose first events these are.
    GiveWay(Vec<Event>, oneshot::Sender<()>),
}

/// Drives one rollout to its end.
pub(super) struct Driver {
    pub(super) platform: Platform,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) lease: Lease,
    pub(super) next_seq: u64,
    pub(super) calls: Calls,
    pub(super) machine: Machine,
    pub(super) shared: Arc<Shared>,
    pub(super) wishes: mpsc::Receiver<Wish>,
    pub(super) assessor: Assessor,
    pub(super) probes: JoinSet<Probed>,
    pub(super) attempts: Attempts,
    /// What does not work: observing, looking at instances, acting.
    pub(super) sight: Trouble,
    pub(super) looks: Trouble,
    pub(super) acts: Trouble,
    /// What does not grow for want of capacity.
    pub(super) growth: Trouble,
    /// What is missing from lists for now, and what may still happen.
    pub(super) absence: Absence,
    pub(super) unsettled: Unsettled,
    /// Who scales the fleets.
    pub(super) sizes: Sizes,
    /// What is known of the new release, ahead of what is in the journal, and since when it is counted.
    pub(super) evidence: Option<(Option<Timestamp>, Evidence)>,
    /// How soon to count the intervals that were too many for one turn.
    pub(super) catch_up_in: Option<Duration>,
    /// From when on the checks are measured while both releases fail them.
    pub(super) judged_since: Option<Timestamp>,
    /// The stage in which the image of what serves now was last seen to be there.
    pub(super) way_back_seen: Option<usize>,
    /// Until then nothing is tried, because the last try failed.
    pub(super) not_before: Option<Timestamp>,
    /// Whether it has not looked yet.
    pub(super) is_new: bool,
    /// Whether nothing was observed lately.
    pub(super) blind: bool,
    /// When something was last observed.
    pub(super) seen_at: Option<Timestamp>,
    /// Whether nobody can wish any more: all handles are gone, the rollout goes on.
    pub(super) deaf: bool,
}

/// What to do after one turn of the loop.
enum Turn {
    /// Something was done: look again at once.
    Again,
    /// Nothing can be done before this time, unless something happens.
    Until(Timestamp),
    /// It is over.
    Over,
}

impl Driver {
    /// Runs until the rollout ends, and gives the lease back.
    pub(super) async fn run(mut self) -> Result<Outcome, DriverError> {
        let result = self.drive().await;
        self.probes.shutdown().await;
        let plan = self.machine.plan();
        let took = self.calls.now().duration_since(self.machine.started_at());
        match &result {
            Ok(outcome) => tracing::info!(
                service = %plan.service, release = %plan.release.id(), strategy = plan.strategy, %outcome, ?took, "rollout ended"
            ),
            Err(error) => {
                tracing::error!(service = %plan.service, release = %plan.release.id(), %error, "driver stopped");
            }
        }
        if let Err(error) = self.journal.release(self.lease).await {
            tracing::warn!(%error, "the lease could not be given back; it ends with this process");
        }
        result.map_err(|error| DriverError::Journal(error.to_string()))
    }

    async fn drive(&mut self) -> Result<Outcome, JournalError> {
        let horizon = self.platform.pace.quiet_time();
        self.record(self.machine.take_over(self.calls.now(), horizon)).await?;
        let mut stage = self.machine.stage();
        let mut span = self.stage_span();
        loop {
            if self.machine.stage() != stage {
                (stage, span) = (self.machine.stage(), self.stage_span());
            }
            let turn = self.turn().instrument(span.clone()).await?;
            if let Some(outcome) = self.machine.outcome().cloned() {
                self.show(Vec::new());
                return Ok(outcome);
            }
            match turn {
                // Even then others must be heard: a busy loop would starve them.
                Turn::Again => tokio::task::yield_now().await,
                Turn::Until(at) => self.wait(at).await?,
                Turn::Over => {}
            }
            self.hear().await?;
        }
    }

    /// What the log lines and calls of a stage, or of the way back, belong to.
    fn stage_span(&self) -> tracing::Span {
        let stages = &self.machine.plan().stages;
        let name = self.machine.stage().map_or("way back", |stage| stages[stage].name.as_str());
        tracing::info_span!("stage", name)
    }

    /// Waits for the time, a wish, or a changed verdict, whichever is first.
    async fn wait(&mut self, until: Timestamp) -> Result<(), JournalError> {
        loop {
            let now = self.calls.now();
            let time = until.duration_since(now);
            if !time.is_positive() {
                return Ok(());
            }
            tokio::select! {
                biased;
                wish = self.wishes.recv(), if !self.deaf => match wish {
                    Some(wish) => return self.obey(wish).await,
                    None => self.deaf = true,
                },
                Some(probed) = self.probes.join_next() => {
                    if self.looked(probed).await? {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(time.unsigned_abs()) => return Ok(()),
            }
        }
    }

    /// Takes all wishes and looks that have come in meanwhile.
    async fn hear(&mut self) -> Result<(), JournalError> {
        while let Some(probed) = self.probes.try_join_next() {
            self.looked(probed).await?;
        }
        while let Ok(wish) = self.wishes.try_recv() {
            self.obey(wish).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, wish: Wish) -> Result<(), JournalError> {
        let done = match wish {
            Wish::Command(command, done) => {
                let events = self.machine.command(self.calls.now(), command);
                if !events.is_empty() {
                    self.record(events).await?;
                    self.show(Vec::new());
                }
                done
            }
            Wish::GiveWay(to, done) => {
                self.give_way(to).await?;
                done
            }
        };
        // The one who wished may have gone.
        let _ = done.send(());
        Ok(())
    }

    /// Writes events to the journal, and only then takes them as happened.
    async fn record(&mut self, events: Vec<Event>) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        self.append(&events).await?;
        self.happened(events);
        Ok(())
    }

    async fn append(&mut self, events: &[Event]) -> Result<(), JournalError> {
        self.journal.append(&self.lease, self.next_seq, self.calls.now(), &entry::body(events)).await?;
        self.next_seq += 1;
        Ok(())
    }

    fn happened(&mut self, events: Vec<Event>) {
        for event in &events {
            tracing::debug!(service = %self.machine.plan().service, %event, "rollout event");
            self.machine.apply(event);
        }
        self.shared.publish(events);
    }

    async fn turn(&mut self) -> Result<Turn, JournalError> {
        // Also while there is nothing to do: a lease that nobody renews runs out.
        self.journal.check(&self.lease).await?;
        // Before the world is observed: a source that takes its time must not make those facts old.
        let mut judgements = self.judge().await?;
        judgements.extend(self.compare().await?);
        let observed = match self.observe().await {
            Ok(observed) => observed,
            Err(error) => {
                if !error.kind().is_transient() {
                    self.record(self.refused(self.calls.now(), &error)).await?;
                }
                self.blind = true;
                self.sight.tell(self.calls.now(), "the platform to answer again", &error);
                self.mind_throttling().await?;
                self.show(Vec::new());
                return Ok(Turn::Until(self.sight.failed(&self.calls, Some(&error))));
            }
        };
        self.sight.is_over();
        self.unsettled.looked(observed.begun, &observed.world);
        self.mind_throttling().await?;
        self.mind_lost_answers().await?;
        if std::mem::take(&mut self.blind) {
            let first = std::mem::take(&mut self.is_new);
            self.record(self.machine.looked_again(self.calls.now(), first)).await?;
        }
        self.probe(&observed.fleets);
        let now = self.calls.now();
        self.record(self.machine.compare(now, &observed.beside)).await?;
        self.follow_others(now, &observed).await?;
        let mut step = self.machine.next(now, &observed.world, &judgements);
        if step.actions.is_empty() {
            // There is nothing left that could fail.
            self.acts.is_over();
        }
        self.explain(&mut step);
        self.mind_the_way_back(now, &observed, &mut step).await?;
        self.wait_for_others(&mut step);
        self.wait_for_what_may_happen(now, &observed, &mut step);
        self.hold_back(now, &mut step);
        if step.events.iter().any(|event| matches!(event, Event::GoalReached { .. } | Event::StageEntered { .. })) {
            step.events.splice(..0, self.unwritten_evidence());
        }
        let changed = !step.events.is_empty();
        let intent = self.next_seq;
        self.record(std::mem::take(&mut step.events)).await?;
        self.show(step.waiting);
        if self.machine.outcome().is_some() {
            return Ok(Turn::Over);
        }
        if step.actions.is_empty() {
            let again = changed && step.wake.is_some_and(|at| at <= now);
            return Ok(if again { Turn::Again } else { Turn::Until(self.next_turn(now, &observed, step.wake)) });
        }
        self.act_all(&step.actions, intent, &observed).await
    }

    /// Leaves out what makes no sense to try yet; an intent that is in the journal already is not written again.
    fn hold_back(&mut self, now: Timestamp, step: &mut Step) {
        step.actions = self.attempts.ready(now, std::mem::take(&mut step.actions));
        if self.not_before.is_some_and(|at| at > now) {
            step.actions.clear();
        }
        step.events.retain(|event| !matches!(event, Event::Intended { .. }));
        if step.actions.iter().any(|action| self.attempts.intent(action).is_none()) {
            step.events.push(Event::Intended { actions: step.actions.clone(), at: now });
        }
    }

    fn show(&self, mut waiting: Vec<String>) {
        waiting.splice(..0, self.machine.hold().map(ToString::to_string));
        let troubles = [&self.sight, &self.looks, &self.acts];
        waiting.extend(troubles.into_iter().filter_map(|trouble| trouble.text()).map(ToOwned::to_owned));
        self.shared.show(&self.machine, waiting);
    }

    /// Says why instances are not healthy and what does not work, where that is what is waited for.
    fn explain(&self, step: &mut Step) {
        let fleet = self.machine.pursued();
        let evidence = fleet.as_ref().and_then(|fleet| self.assessor.evidence(fleet));
        let fate = fleet.as_ref().and_then(|fleet| self.assessor.fate(fleet));
        let trouble = [&self.looks, &self.acts].into_iter().filter_map(|trouble| trouble.text());
        let why: Vec<&str> = fate.as_deref().into_iter().chain(evidence.as_deref()).chain(trouble).collect();
        if why.is_empty() {
            return;
        }
        for event in &mut step.events {
            let text = match event {
                Event::TurnedBack { reason: Reason::NoProgress { waiting }, .. } => waiting,
                Event::Ended { outcome: Outcome::Stuck { reason }, .. } => reason,
                _ => continue,
            };
            *text = format!("{text} ({})", why.join("; "));
        }
        step.waiting.extend(evidence);
    }

    /// When to look again: as often as the platform's pace says, or earlier when something is due.
    fn next_turn(&self, now: Timestamp, observed: &Observed, wake: Option<Timestamp>) -> Timestamp {
        let pace = later(now, self.platform.pace.observe);
        let looks = [observed.wake, wake, self.assessor.next_look(now), self.attempts.next(now)];
        let catching_up = self.catch_up_in.map(|pause| later(now, pause));
        let due = looks.into_iter().chain([self.not_before, catching_up]).flatten().filter(|at| *at > now).min();
        due.map_or(pace, |at| at.min(pace))
    }
}
