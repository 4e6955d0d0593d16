//! The handle of a rollout: follow it, and steer it.

use std::sync::{Arc, Mutex, PoisonError};

use futures_core::Stream;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot, watch};

use super::driver::Wish;
use super::error::DriverError;
use super::event::{Event, Outcome};
use super::machine::{Command, Machine};
use super::status::Status;
use crate::model::{ApprovalName, RolloutId};
use crate::plan::Plan;

/// A rollout that is going on, or has ended. Cheap to clone; dropping it changes nothing about the rollout.
#[derive(Debug, Clone)]
pub struct Rollout {
    pub(super) plan: Arc<Plan>,
    pub(super) shared: Arc<Shared>,
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) end: watch::Receiver<Option<Result<Outcome, DriverError>>>,
}

/// What the driver shows to its handles.
#[derive(Debug)]
pub(super) struct Shared {
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
    status: watch::Sender<Status>,
}

impl Shared {
    pub(super) fn new(machine: &Machine, events: Vec<Event>) -> Self {
        let count = watch::Sender::new(events.len());
        Self { events: Mutex::new(events), count, status: watch::Sender::new(status(machine, Vec::new())) }
    }

    pub(super) fn publish(&self, events: Vec<Event>) {
        let mut all = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(events);
        self.count.send_replace(all.len());
    }

    pub(super) fn show(&self, machine: &Machine, waiting: Vec<String>) {
        let status = status(machine, waiting);
        self.status.send_if_modified(|shown| {
            let changed = *shown != status;
            *shown = status;
            changed
        });
    }

    fn event(&self, index: usize) -> Option<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }
}

fn status(machine: &Machine, waiting: Vec<String>) -> Status {
    let plan = machine.plan();
    Status {
        rollout: machine.rollout().clone(),
        service: plan.service.clone(),
        release: plan.release.id(),
        stage: machine.stage().map(|stage| (stage + 1, plan.stages[stage].name.clone())),
        stages: plan.stages.len(),
        going_back: machine.reason().map(ToString::to_string),
        paused: machine.is_paused(),
        frozen: machine.frozen().map(ToOwned::to_owned),
        waiting: if machine.outcome().is_none() { waiting } else { Vec::new() },
        outcome: machine.outcome().cloned(),
    }
}

impl Rollout {
    /// The rollout's name.
    pub fn id(&self) -> RolloutId {
        self.shared.status.borrow().rollout.clone()
    }

    /// What it does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// All events from the beginning, and then each as it happens; ends with the rollout.
    ///
    /// No event is lost, however slowly it is read. Dropping the stream leaves nothing behind.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        let (shared, count) = (Arc::clone(&self.shared), self.shared.count.subscribe());
        let state = (shared, count, self.end.clone(), 0);
        Box::pin(stream::unfold(state, |(shared, mut count, mut end, index)| async move {
            loop {
                // Before the last look, so that no event can come between them. A driver that is gone says nothing more.
                let ended = end.borrow().is_some() || end.has_changed().is_err();
                if let Some(event) = shared.event(index) {
                    return Some((event, (shared, count, end, index + 1)));
                }
                if ended {
                    return None;
                }
                tokio::select! {
                    _ = count.changed() => {}
                    _ = end.changed() => {}
                }
            }
        }))
    }

    /// Where it stands, and what it waits for.
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Stops it at once, in any stage: nothing is started, moved or ended until [`resume`](Self::resume).
    /// Time in a pause burns no deadline. Returns when the pause is in the journal. The way back is not paused.
    ///
    /// # Errors
    /// [`DriverError`] when nobody drives the rollout any more.
    pub async fn pause(&self) -> Result<(), DriverError> {
        self.wish(Command::Pause).await
    }

    /// Lets it go on after a [`pause`](Self::pause).
    ///
    /// # Errors
    /// [`DriverError`] when nobody drives the rollout any more.
    pub async fn resume(&self) -> Result<(), DriverError> {
        self.wish(Command::Resume).await
    }

    /// Lets the gate that waits for this approval pass; also before the gate is reached.
    ///
    /// # Errors
    /// [`DriverError::NoSuchApproval`] when no gate of the plan waits for it; others when nobody drives the rollout any more.
    pub async fn approve(&self, approval: ApprovalName) -> Result<(), DriverError> {
        if !self.plan.stages.iter().any(|stage| stage.gate.approval.as_ref() == Some(&approval)) {
            return Err(DriverError::NoSuchApproval(approval));
        }
        self.wish(Command::Approve(approval)).await
    }

    /// Skips the exposure stages and gates that are left, never the health rules. It also waives a
    /// [way back that is gone](super::Hold::NoWayBack).
    ///
    /// # Errors
    /// [`DriverError`] when nobody drives the rollout any more.
    pub async fn promote(&self) -> Result<(), DriverError> {
        self.wish(Command::Promote).await
    }

    /// Goes back, from wherever it is, also from a pause. Nothing happens when it goes back already or has ended.
    ///
    /// # Errors
    /// [`DriverError`] when nobody drives the rollout any more.
    pub async fn abort(&self, why: impl Into<String>) -> Result<(), DriverError> {
        self.wish(Command::Abort(why.into())).await
    }

    /// Waits for the end. Dropping the future changes nothing about the rollout.
    ///
    /// # Errors
    /// [`DriverError`] when its driver stopped before the rollout ended.
    pub async fn wait(&self) -> Result<Outcome, DriverError> {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await.map_err(|_| DriverError::Dropped)?;
        ended.clone().unwrap_or(Err(DriverError::Dropped))
    }

    /// Whether somebody drives it.
    pub(super) fn is_driven(&self) -> bool {
        // Without an end, a closed channel is a driver that is gone.
        self.end.borrow().is_none() && self.end.has_changed().is_ok()
    }

    pub(super) async fn wish(&self, command: Command) -> Result<(), DriverError> {
        self.send(|done| Wish::Command(command, done)).await
    }

    /// Ends it for another rollout, whose first events these are. Returns when both are in the journal, or when it has ended.
    pub(super) async fn give_way(&self, to: Vec<Event>) -> Result<(), DriverError> {
        self.send(|done| Wish::GiveWay(to, done)).await
    }

    async fn send(&self, wish: impl FnOnce(oneshot::Sender<()>) -> Wish) -> Result<(), DriverError> {
        let (done, heard) = oneshot::channel();
        let sent = self.wishes.send(wish(done)).await.is_ok() && heard.await.is_ok();
        // A rollout that has ended takes no wishes, and that is no failure.
        if sent || self.status().outcome.is_some() { Ok(()) } else { Err(DriverError::Dropped) }
    }
}
