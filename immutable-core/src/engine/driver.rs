//! The driver: observe, ask the machine, write the journal, act, and again.
//!
//! This is the only place that waits, and the only one that spawns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::assess::Assessor;
use super::calls::Calls;
use super::error::DriverError;
use super::event::{Event, Outcome};
use super::machine::{Command, Machine, Step};
use super::rollout::Shared;
use crate::analysis::Judgement;
use crate::decide::{Action, RetireProof, RouteChange, World};
use crate::journal::{Journal, JournalError, Lease};
use crate::model::{FleetId, FleetSpec, InstanceId, Sample};
use crate::provider::{
    Assignment, ErrorKind, FleetsState, MemberHealth, MemberTarget, Platform, ProbeTarget, Progress, ProviderError,
    TrafficState,
};

/// Looks at instances are made in batches, so that one that hangs delays few others.
const BATCH: usize = 64;

/// A person's wish, and where to say that it is in the journal.
pub(super) type Wish = (Command, oneshot::Sender<()>);

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
    /// Failures in a row, and the pause that they cause.
    pub(super) failures: u32,
    pub(super) not_before: Option<Timestamp>,
    pub(super) trouble: Option<String>,
    /// The entry in which an action was first intended, as long as it is not known to be done.
    pub(super) open: HashMap<String, u64>,
}

/// The answer of one batch of looks.
pub(super) struct Probed {
    targets: Vec<InstanceId>,
    samples: Result<Vec<Sample>, ProviderError>,
}

/// What was observed at one time.
struct Observed {
    fleets: FleetsState,
    traffic: TrafficState,
    world: World,
    wake: Option<Timestamp>,
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
        loop {
            let turn = self.turn().await?;
            if let Some(outcome) = self.machine.outcome() {
                return Ok(outcome.clone());
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
                wish = self.wishes.recv() => match wish {
                    Some(wish) => return self.obey(wish).await,
                    // Nobody can wish any more: the handle is gone, the rollout goes on.
                    None => tokio::time::sleep(time.unsigned_abs()).await,
                },
                Some(probed) = self.probes.join_next() => {
                    if let Ok(probed) = probed && self.looked(probed) {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(time.unsigned_abs()) => return Ok(()),
            }
        }
    }

    /// Takes all wishes and looks that have come in meanwhile.
    async fn hear(&mut self) -> Result<(), JournalError> {
        while let Some(Ok(probed)) = self.probes.try_join_next() {
            self.looked(probed);
        }
        while let Ok(wish) = self.wishes.try_recv() {
            self.obey(wish).await?;
        }
        Ok(())
    }

    fn looked(&mut self, probed: Probed) -> bool {
        let samples = probed.samples.unwrap_or_else(|error| {
            self.trouble = Some(format!("health looks to work again: {error}"));
            Vec::new()
        });
        self.assessor.looked(&self.machine, &probed.targets, samples)
    }

    async fn obey(&mut self, (command, done): Wish) -> Result<(), JournalError> {
        let events = self.machine.command(self.calls.now(), command);
        self.record(events).await?;
        // The one who wished may have gone.
        let _ = done.send(());
        Ok(())
    }

    /// Writes events to the journal, and only then takes them as happened.
    async fn record(&mut self, events: Vec<Event>) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        let body = serde_json::to_value(&events).expect("invariant: events are plain data");
        self.journal.append(&self.lease, self.next_seq, self.calls.now(), &body).await?;
        self.next_seq += 1;
        for event in &events {
            tracing::debug!(service = %self.machine.plan().service, %event, "rollout event");
            self.machine.apply(event);
        }
        self.shared.publish(events);
        Ok(())
    }

    async fn turn(&mut self) -> Result<Turn, JournalError> {
        let observed = match self.observe().await {
            Ok(observed) => observed,
            Err(error) => {
                self.trouble = Some(format!("the platform to answer again: {error}"));
                self.shared.show(&self.machine, &[], self.trouble.as_deref());
                return Ok(Turn::Until(self.pause_after(Some(&error))));
            }
        };
        self.probe(&observed.fleets);
        let judgements = self.judge().await;
        let now = self.calls.now();
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Ok(Turn::Until(at.min(self.next_turn(now, &observed, None))));
        }
        let mut step = self.machine.next(now, &observed.world, &judgements);
        self.machine.note(&observed.world);
        self.explain(&mut step);
        let changed = !step.events.is_empty();
        let intent = self.next_seq;
        self.record(std::mem::take(&mut step.events)).await?;
        self.shared.show(&self.machine, &step.waiting, self.trouble.as_deref());
        if self.machine.outcome().is_some() {
            return Ok(Turn::Over);
        }
        if step.actions.is_empty() {
            let again = changed && step.wake.is_some_and(|at| at <= now);
            return Ok(if again { Turn::Again } else { Turn::Until(self.next_turn(now, &observed, step.wake)) });
        }
        self.act_all(&step.actions, intent, &observed).await
    }

    /// Says why instances are not healthy, where that is what is waited for.
    fn explain(&self, step: &mut Step) {
        if let Some(evidence) = self.assessor.evidence() {
            for event in &mut step.events {
                if let Event::TurnedBack { reason: super::event::Reason::NoProgress { waiting }, .. } = event {
                    *waiting = format!("{waiting} ({evidence})");
                }
            }
            step.waiting.push(format!("last look at {evidence}"));
        }
    }

    async fn observe(&mut self) -> Result<Observed, ProviderError> {
        let (service, route) = (&self.machine.plan().service, &self.machine.plan().route);
        let context = self.calls.context(&["observe"]);
        let fleets = self.calls.look("observe fleets", self.platform.fleets.observe(&context, service));
        let traffic = self.calls.look("observe route", self.platform.traffic.observe(&context, route));
        let (fleets, traffic) = futures_util::future::try_join(fleets, traffic).await?;
        let now = self.calls.now();
        let assessment = self.assessor.assess(now, &self.machine, &fleets, &traffic);
        Ok(Observed { fleets, traffic, world: assessment.world, wake: assessment.wake })
    }

    /// Starts the looks that are due.
    fn probe(&mut self, fleets: &FleetsState) {
        let due = self.assessor.due(self.calls.now(), fleets, &self.platform.pace);
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

    /// Judges the checks of the stage that is at its gate. A metric that cannot be read is no data.
    async fn judge(&mut self) -> Vec<Judgement> {
        let Some((checks, window)) = self.machine.measures(self.calls.now()) else { return Vec::new() };
        let target = &self.machine.plan().target;
        let context = self.calls.context(&["measure"]);
        let judge = checks.iter().map(|check| async {
            let query = self.platform.metrics.query(&context, check.metric(), target, window);
            match self.calls.look("read a metric", query).await {
                Ok(samples) => check.judge(&samples),
                Err(error) => Judgement::NotEnoughData { evidence: format!("{}: {error}", check.metric()) },
            }
        });
        join_all(judge).await
    }

    /// Tries all actions of one intent at once; they are safe in any order.
    async fn act_all(&mut self, actions: &[Action], intent: u64, observed: &Observed) -> Result<Turn, JournalError> {
        let mut open = HashMap::with_capacity(actions.len());
        let mut keys = Vec::with_capacity(actions.len());
        for action in actions {
            let text = serde_json::to_string(action).expect("invariant: actions are plain data");
            let first = self.open.get(&text).copied().unwrap_or(intent);
            keys.push(format!("{first} {text}"));
            open.insert(text, first);
        }
        let attempts = actions.iter().zip(&keys).map(|(action, key)| self.act(action, key, observed));
        let answers = join_all(attempts).await;
        self.open = open;
        let (mut worst, mut pending, mut conflict) = (None, None::<Duration>, false);
        for (action, answer) in actions.iter().zip(answers) {
            match answer? {
                Ok(Progress::Done(())) => {
                    let text = serde_json::to_string(action).expect("invariant: actions are plain data");
                    self.open.remove(&text);
                }
                Ok(Progress::Pending { retry_after, .. }) => {
                    pending = Some(pending.map_or(retry_after, |least| least.min(retry_after)));
                }
                Err(error) if error.kind() == ErrorKind::Conflict => conflict = true,
                Err(error) => worst = Some(error),
            }
        }
        let now = self.calls.now();
        if let Some(error) = worst {
            if !error.kind().is_transient() {
                self.record(self.machine.refused(now, error.to_string())).await?;
                return Ok(Turn::Again);
            }
            self.trouble = Some(format!("the next try: {error}"));
            let at = self.pause_after(Some(&error));
            self.not_before = Some(at);
            return Ok(Turn::Until(at));
        }
        if conflict {
            // Somebody else was first: look again soon, and not at once for ever.
            return Ok(Turn::Until(self.pause_after(None)));
        }
        self.failures = 0;
        self.trouble = None;
        match pending {
            Some(retry_after) => Ok(Turn::Until(now + retry_after.min(self.platform.pace.observe))),
            None => Ok(Turn::Again),
        }
    }

    async fn act(
        &self,
        action: &Action,
        key: &str,
        observed: &Observed,
    ) -> Result<Result<Progress<()>, ProviderError>, JournalError> {
        let context = self.calls.context(&[key]);
        let lease = (&*self.journal, &self.lease);
        let plan = self.machine.plan();
        match action {
            Action::Grow { fleet, to } => {
                let Some(spec) = self.fleet_spec(fleet, *to) else { return Ok(Err(unknown_fleet(fleet))) };
                self.calls.act("ensure fleet", lease, self.platform.fleets.ensure(&context, &spec)).await
            }
            Action::Route(change) => {
                let assignment = assignment(change, observed);
                let version = &observed.world.version;
                let call = self.platform.traffic.apply(&context, &plan.route, &assignment, version);
                self.calls.act("apply route", lease, call).await
            }
            Action::End { fleet, instances } => {
                let freshness = self.calls.timeout;
                match RetireProof::new(&observed.world, fleet, instances, self.calls.now(), freshness) {
                    Ok(proof) => {
                        self.calls.act("retire instances", lease, self.platform.fleets.retire(&context, &proof)).await
                    }
                    Err(refusal) => {
                        let error = ProviderError::new(ErrorKind::Conflict, "retire instances", refusal.to_string());
                        Ok(Err(error.without_effect()))
                    }
                }
            }
            Action::Remove { fleet } => {
                let call = self.platform.fleets.remove(&context, &plan.service, fleet);
                self.calls.act("remove fleet", lease, call).await
            }
        }
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

    fn pause_after(&mut self, error: Option<&ProviderError>) -> Timestamp {
        let pause = self.calls.backoff(self.failures, error);
        self.failures = self.failures.saturating_add(1);
        self.calls.now().checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// When to look again: as often as the platform's pace says, or earlier when something is due.
    fn next_turn(&self, now: Timestamp, observed: &Observed, wake: Option<Timestamp>) -> Timestamp {
        let pace = now.checked_add(self.platform.pace.observe).unwrap_or(Timestamp::MAX);
        let due = [observed.wake, wake, self.assessor.next_look()].into_iter().flatten().filter(|at| *at > now).min();
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
