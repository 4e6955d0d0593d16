//! What is done to all rollouts at once, or to one for the sake of another.

use std::sync::PoisonError;

use futures_util::future::join_all;

use super::entry;
use super::event::{Event, Outcome};
use super::history::History;
use super::machine::{Command, Machine};
use super::rollout::Rollout;
use super::{Engine, StartError, live_error};
use crate::journal::Lease;
use crate::plan::RolloutSpec;

impl Engine {
    /// Stops every advance of every rollout of this engine at its next safe point, until [`thaw`](Self::thaw): nothing is started,
    /// moved or ended. Going back stays allowed: a rollout that goes back goes on, and so do `abort` and
    /// [`roll_back`](Self::roll_back); no other rollout can be started.
    ///
    /// Returns when it is in the journal of each rollout, so that whoever takes one over finds it frozen. No deadline passes meanwhile.
    /// A rollout whose driver has just stopped is frozen when this engine goes on with it.
    ///
    /// # Cancellation
    /// A dropped future leaves the engine frozen, and maybe not yet each rollout.
    pub async fn freeze(&self, reason: impl Into<String>) {
        let reason = reason.into();
        // First, so that a rollout that begins meanwhile sees it.
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
        tracing::warn!(%reason, "all rollouts are frozen");
        self.tell_all(&Command::Freeze(reason)).await;
    }

    /// Lets all rollouts of this engine go on after a [`freeze`](Self::freeze), also one that another engine has frozen.
    pub async fn thaw(&self) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::info!("all rollouts go on");
        self.tell_all(&Command::Thaw).await;
    }

    /// Why this engine is frozen, if it is.
    pub fn frozen(&self) -> Option<String> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn tell_all(&self, command: &Command) {
        let live: Vec<Rollout> = {
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.values().filter(|rollout| rollout.is_driven()).cloned().collect()
        };
        // A driver that stops instead acts no more either.
        join_all(live.iter().map(|rollout| rollout.wish(command.clone()))).await;
    }

    pub(super) async fn freeze_if_frozen(&self, rollout: &Rollout) {
        if let Some(reason) = self.frozen() {
            let _ = rollout.wish(Command::Freeze(reason)).await;
        }
    }

    /// Starts a rollout in the place of the one that is going on, if one is: that one ends as
    /// [`Superseded`](Outcome::Superseded), and the new one goes on from what is there. What the other would have gone back to, this
    /// one goes back to; nothing of the superseded release stays in traffic or is left over, and the capacity never falls below the
    /// budget on the way. Superseding by the same release gives the rollout that is going on.
    ///
    /// Both are in the journal at once, after the new plan is known to be possible.
    ///
    /// # Errors
    /// Those of [`start`](Self::start); nothing was touched then. [`StartError::Live`] when yet another rollout was started meanwhile.
    ///
    /// # Cancellation
    /// A dropped future may leave the new rollout in the journal without a driver; [`recover`](Self::recover) goes on with it.
    pub async fn supersede(&self, spec: RolloutSpec) -> Result<Rollout, StartError> {
        let service = spec.service.clone();
        let starting = self.starting(&service);
        let _one_at_a_time = starting.lock().await;
        let history = self.history(&service).await?;
        let old = Machine::replay(history.last_rollout().to_vec()).filter(|_| history.is_live());
        let Some(old) = old.filter(|old| old.plan().release.id() != spec.release.id()) else {
            return Box::pin(self.start_alone(spec)).await;
        };
        let plan = Box::pin(self.compile(&spec, &history, Some(old.plan()))).await?;
        let (machine, started) = self.begin(plan)?;
        let started = started.unwrap_or_default();
        if let Some(live) = self.live(&service) {
            // A driver that has just stopped leaves the rollout as it is.
            let _ = live.give_way(started.clone()).await;
            let _ = live.wait().await;
        }
        let (lease, entries) = self.journal.take_over(&service, &self.owner).await?;
        let next_seq = entries.last().map_or(1, |entry| entry.seq + 1);
        let history = History::read(&service, entries)?;
        match Machine::replay(history.last_rollout().to_vec()) {
            Some(begun) if begun.rollout() == machine.rollout() => {
                Ok(self.drive(begun, history.last_rollout().to_vec(), lease, next_seq).await)
            }
            Some(left) if left.rollout() == old.rollout() && history.is_live() => {
                Box::pin(self.replace_left(&left, &machine, started, lease, next_seq)).await
            }
            other => {
                self.journal.release(lease).await?;
                match other.filter(|_| history.is_live()) {
                    Some(other) => Err(live_error(&service, other.rollout().clone(), other.plan().release.id())),
                    // It has ended meanwhile.
                    None => Box::pin(self.start_alone(spec)).await,
                }
            }
        }
    }

    /// Puts a rollout in the place of one that its driver has left.
    async fn replace_left(
        &self,
        left: &Machine,
        machine: &Machine,
        mut started: Vec<Event>,
        lease: Lease,
        next_seq: u64,
    ) -> Result<Rollout, StartError> {
        let (now, horizon) = (self.clock.now(), self.platform.pace.quiet_time());
        let until = left.take_over(now, horizon).into_iter().find_map(|event| match event {
            Event::TakenOver { until, .. } => Some(until),
            _ => None,
        });
        let until = until.or(left.quiet_until(now));
        started.extend(until.map(|until| machine.begin_quietly(now, until)).unwrap_or_default());
        let end = Event::Ended { outcome: Outcome::Superseded { by: machine.rollout().clone() }, at: now };
        let both: Vec<Event> = [end].into_iter().chain(started.clone()).collect();
        self.journal.append(&lease, next_seq, now, &entry::body(&both)).await?;
        let machine = Machine::replay(started.clone()).expect("invariant: the first event is the start");
        Ok(self.drive(machine, started, lease, next_seq + 1).await)
    }
}
