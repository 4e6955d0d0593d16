//! The driver: observe, ask the machine, write the journal, act, and again.
//!
//! This is the only place that waits, and the only one that spawns.

#![expect(clippy::disallowed_methods, reason = "the driver is what waits and spawns")]

mod blame;
mod obstacles;
mod scaling;
mod settling;
mod superseding;
mod way_back;

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::absence::Absence;
use super::assess::Assessor;
use super::attempts::{Attempts, Trouble};
use super::blame::Beside;
use super::calls::Calls;
use super::clock::later;
use super::entry;
use super::error::DriverError;
use super::event::{Event, Outcome, Reason};
use super::machine::{Command, Machine, Step};
use super::rollout::Shared;
use super::sizes::Sizes;
use super::unsettled::Unsettled;
use crate::decide::{Action, RetireProof, RouteChange, World, check};
use crate::journal::{Journal, JournalError, Lease};
use crate::model::{FleetId, FleetSpec, InstanceId, Sample};
use crate::provider::{
    Assignment, ErrorKind, FleetsState, MemberHealth, MemberTarget, Platform, ProbeTarget, Progress, ProviderError,
    TrafficState,
};

/// Looks at instances are made in batches, so that one that hangs delays few others.
const BATCH: usize = 64;

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

/// The answer of one batch of looks.
pub(super) struct Probed {
    targets: Vec<InstanceId>,
    samples: Result<Vec<Sample>, ProviderError>,
}

/// What was observed at one time.
struct Observed {
    /// When the look began.
    begun: Timestamp,
    fleets: Arc<FleetsState>,
    traffic: TrafficState,
    world: World,
    wake: Option<Timestamp>,
    beside: Beside,
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
        let horizon = self.platform.pace.ambiguity_horizon;
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

    /// Takes the answer of one batch of looks into account; says whether any verdict changed.
    async fn looked(&mut self, probed: Result<Probed, JoinError>) -> Result<bool, JournalError> {
        let Ok(probed) = probed else {
            self.looks.say("health looks to work again: the probe panicked".into());
            self.assessor.looks_lost();
            return Ok(false);
        };
        let samples = match probed.samples {
            Ok(samples) => {
                self.looks.is_over();
                samples
            }
            Err(error) => {
                let now = self.calls.now();
                self.looks.tell(now, "health looks to work again", &error);
                self.assessor.looks_failed(now, &probed.targets);
                if !error.kind().is_transient() {
                    self.record(self.refused(now, &error)).await?;
                    self.assessor.looked(&self.machine, &probed.targets, Vec::new());
                    return Ok(true);
                }
                Vec::new()
            }
        };
        Ok(self.assessor.looked(&self.machine, &probed.targets, samples))
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
        let judgements = self.judge().await?;
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

    async fn observe(&mut self) -> Result<Observed, ProviderError> {
        let begun = self.calls.now();
        let (service, route) = (&self.machine.plan().service, &self.machine.plan().route);
        let context = self.calls.context(&["observe"]);
        let fleets = self.calls.look("observe fleets", self.platform.fleets.observe(&context, service));
        let traffic = self.calls.look("observe route", self.platform.traffic.observe(&context, route));
        let (fleets, traffic) = futures_util::future::try_join(fleets, traffic).await?;
        let now = self.calls.now();
        if let Some(since) = self.seen_at.replace(now).filter(|_| self.blind) {
            self.assessor.was_blind(since, now);
        }
        let fleets = self.absence.fill(now, self.platform.pace.list_lag, fleets);
        let assessment = self.assessor.assess(now, &self.machine, &fleets, &traffic);
        Ok(Observed {
            begun,
            fleets,
            traffic,
            world: assessment.world,
            wake: assessment.wake,
            beside: assessment.beside,
        })
    }

    /// Starts the looks that are due.
    fn probe(&mut self, fleets: &FleetsState) {
        let due = self.assessor.due(self.calls.now(), fleets, &self.platform.pace);
        if due.is_empty() && self.probes.is_empty() && self.assessor.next_look(self.calls.now()).is_none() {
            // There is nobody left to look at, so nothing about it can fail.
            self.looks.is_over();
        }
        let mut due = due.into_iter().peekable();
        while due.peek().is_some() {
            let batch: Vec<ProbeTarget> = due.by_ref().take(BATCH).collect();
            let (health, calls) = (Arc::clone(&self.platform.health), self.calls.clone());
            self.probes.spawn(async move {
                let context = calls.context(&["look"]);
                let samples = calls.look("look at instances", health.sample(&context, &batch)).await;
                Probed { targets: batch.into_iter().map(|target| target.instance).collect(), samples }
            });
        }
    }

    /// Tries all actions of one intent at once; they are safe in any order.
    async fn act_all(&mut self, actions: &[Action], intent: u64, observed: &Observed) -> Result<Turn, JournalError> {
        let intents: Vec<u64> = actions.iter().map(|action| self.attempts.intent(action).unwrap_or(intent)).collect();
        let attempts = actions.iter().zip(&intents).map(|(action, intent)| self.act(action, *intent, observed));
        let answers = join_all(attempts).await;
        let now = self.calls.now();
        let (mut worst, mut next, mut conflict) = (None::<ProviderError>, None::<Timestamp>, None);
        for ((action, intent), answer) in actions.iter().zip(intents).zip(answers) {
            let answer = answer?;
            self.was_sent(now, action, &answer, observed);
            self.sizes.sent(now, action, &answer, &self.platform.pace);
            if answer.is_ok() {
                self.has_grown(now, action).await?;
            }
            let (not_before, done) = match answer {
                Ok(Progress::Done(())) => (later(now, self.platform.pace.observe), true),
                Ok(Progress::Pending { retry_after, .. }) => {
                    let at = later(now, retry_after);
                    next = Some(next.map_or(at, |least| least.min(at)));
                    (at, false)
                }
                Err(error) if let Some((at, hold)) = self.shortage(now, action, &error) => {
                    // Only this waits: what else is to be done can be done.
                    self.record(self.machine.hold_since(now, now, hold)).await?;
                    next = Some(next.map_or(at, |least| least.min(at)));
                    (at, false)
                }
                Err(error) => {
                    let replaces = worst.as_ref().is_none_or(|known| known.kind().is_transient());
                    if error.kind() == ErrorKind::Conflict {
                        conflict = Some(error);
                    } else if replaces {
                        worst = Some(error);
                    }
                    (now, false)
                }
            };
            self.attempts.tried(action, intent, not_before, done);
        }
        if let Some(error) = worst {
            if !error.kind().is_transient() {
                let events = self.refused(now, &error);
                if !events.is_empty() {
                    self.record(events).await?;
                    return Ok(Turn::Again);
                }
            }
            self.acts.tell(now, "the next try", &error);
            self.mind_throttling().await?;
            return Ok(self.try_later(now, Some(&error)));
        }
        if let Some(error) = conflict {
            // Somebody else was first: look again soon, and not at once for ever.
            self.acts.tell(now, "the next try", &error);
            return Ok(self.try_later(now, None));
        }
        self.acts.is_over();
        Ok(next.map_or(Turn::Again, |at| Turn::Until(at.min(later(now, self.platform.pace.observe)))))
    }

    /// Acts again after a pause; the world is looked at meanwhile as always.
    fn try_later(&mut self, now: Timestamp, error: Option<&ProviderError>) -> Turn {
        let at = self.acts.failed(&self.calls, error);
        self.not_before = Some(at);
        Turn::Until(at.min(later(now, self.platform.pace.observe)))
    }

    async fn act(
        &self,
        action: &Action,
        intent: u64,
        observed: &Observed,
    ) -> Result<Result<Progress<()>, ProviderError>, JournalError> {
        let text = serde_json::to_string(action).expect("invariant: actions are plain data");
        let context = self.calls.context(&[&format!("{intent} {text}")]);
        let plan = self.machine.plan();
        if let Err(violation) = check(&observed.world, action, &self.machine.budget(), plan.switch) {
            tracing::error!(%action, %violation, "an action that breaks a safety rule was not tried");
            let error = ProviderError::new(ErrorKind::Conflict, "check an action", violation.to_string());
            return Ok(Err(error.without_effect()));
        }
        let _permit = self.calls.permit(&*self.journal, &self.lease).await?;
        Ok(match action {
            Action::Grow { fleet, to } => {
                let Some(spec) = self.fleet_spec(fleet, *to) else { return Ok(Err(unknown_fleet(fleet))) };
                self.calls.limited("ensure fleet", self.platform.fleets.ensure(&context, &spec)).await
            }
            Action::Route(change) => {
                let assignment = assignment(change, observed);
                let version = &observed.world.version;
                let call = self.platform.traffic.apply(&context, &plan.route, &assignment, version);
                self.calls.limited("apply route", call).await
            }
            Action::End { fleet, instances } => {
                // Made when it is the call's turn: facts grow old in the queue.
                let (now, freshness) = (self.calls.now(), self.calls.timeout);
                match RetireProof::new(&observed.world, fleet, instances, now, freshness) {
                    Ok(proof) => {
                        self.calls.limited("retire instances", self.platform.fleets.retire(&context, &proof)).await
                    }
                    Err(refusal) => {
                        let error = ProviderError::new(ErrorKind::Conflict, "retire instances", refusal.to_string());
                        Err(error.without_effect())
                    }
                }
            }
            Action::Remove { fleet } => {
                let call = self.platform.fleets.remove(&context, &plan.service, fleet);
                self.calls.limited("remove fleet", call).await
            }
        })
    }

    fn fleet_spec(&self, fleet: &FleetId, size: u32) -> Option<FleetSpec> {
        let plan = self.machine.plan();
        let release = plan.release_of(fleet)?.clone();
        Some(FleetSpec {
            id: fleet.clone(),
            service: plan.service.clone(),
            release,
            size,
            rollout: self.machine.rollout().clone(),
        })
    }

    /// When to look again: as often as the platform's pace says, or earlier when something is due.
    fn next_turn(&self, now: Timestamp, observed: &Observed, wake: Option<Timestamp>) -> Timestamp {
        let pace = later(now, self.platform.pace.observe);
        let due = [observed.wake, wake, self.assessor.next_look(now), self.attempts.next(now), self.not_before];
        let due = due.into_iter().flatten().filter(|at| *at > now).min();
        due.map_or(pace, |at| at.min(pace))
    }
}

/// The whole state of the route after a change: those who are members and stay, and those who join.
fn assignment(change: &RouteChange, observed: &Observed) -> Assignment {
    let leaving: std::collections::HashSet<&InstanceId> = change.drain.iter().collect();
    let joining: std::collections::HashSet<&InstanceId> = change.register.iter().collect();
    let staying: std::collections::HashSet<&InstanceId> = observed
        .traffic
        .members
        .iter()
        .filter(|member| member.health != MemberHealth::Draining)
        .map(|member| &member.instance)
        .filter(|id| !leaving.contains(id))
        .collect();
    let mut members = Vec::with_capacity(staying.len() + joining.len());
    for fleet in &observed.world.fleets {
        for instance in &fleet.instances {
            if let Some(endpoint) = &instance.endpoint
                && (joining.contains(&instance.id) || staying.contains(&instance.id))
            {
                let (instance, fleet) = (instance.id.clone(), fleet.id.clone());
                members.push(MemberTarget { instance, fleet, endpoint: endpoint.clone() });
            }
        }
    }
    Assignment { split: change.split.clone(), members }
}

fn unknown_fleet(fleet: &FleetId) -> ProviderError {
    let message = format!("the release of {fleet} is not in the journal; instances of it cannot be started");
    ProviderError::new(ErrorKind::NotFound, "ensure fleet", message).without_effect()
}
