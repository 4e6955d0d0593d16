//! Nothing is done on top of what may still happen, and a rollout does not end before it has.

use jiff::Timestamp;

use super::Driver;
use super::looking::Observed;
use crate::decide::Action;
use crate::engine::event::{Event, Outcome};
use crate::engine::hold::Hold;
use crate::engine::machine::Step;
use crate::journal::JournalError;
use crate::provider::{Effect, Progress, ProviderError, VersionCheck};

impl Driver {
    /// An action was tried: what is known about it now.
    pub(super) fn was_sent(
        &mut self,
        now: Timestamp,
        action: &Action,
        answer: &Result<Progress<()>, ProviderError>,
        observed: &Observed,
    ) {
        let lost = match answer {
            Ok(_) => false,
            Err(error) if error.effect() == Effect::None => return,
            Err(_) => true,
        };
        let version = match self.platform.traffic.capabilities().version_check {
            VersionCheck::WithTheChange => Some(&observed.world.version),
            VersionCheck::BeforeTheChange => None,
        };
        self.unsettled.sent(now, action, lost, version, &self.platform.pace);
        if let Action::End { instances, .. } = action {
            self.absence.ended(instances, (!lost).then_some(now));
        }
    }

    /// Leaves out of a step what must wait for what may still happen, and says so.
    pub(super) fn wait_for_what_may_happen(&mut self, now: Timestamp, observed: &Observed, step: &mut Step) {
        let pace = &self.platform.pace;
        let mut first = self.unsettled.hold_back(now, &observed.world, pace, &mut step.actions);
        if let Some(outcome) = end(&step.events) {
            first = first.or(self.unsettled.end_waits(now, outcome, pace));
        }
        if let Some(until) = self.machine.quiet_until(observed.begun) {
            step.actions.clear();
            let why = format!("requests of the driver before, which may still land until {until}");
            first = Some((until, why));
        }
        let Some((until, why)) = first else { return };
        step.events.retain(|event| !matches!(event, Event::Ended { .. }));
        step.waiting.push(why);
        step.wake = Some(step.wake.map_or(until, |wake| wake.min(until)));
    }

    /// Holds the rollout while something waits for an answer that was lost. A short while is not worth a write.
    pub(super) async fn mind_lost_answers(&mut self) -> Result<(), JournalError> {
        let now = self.calls.now();
        let events = match (self.unsettled.waits(), self.machine.hold()) {
            (Some((since, call)), _) if self.machine.is_worth_a_hold(since, now) => {
                self.machine.hold_since(since, now, Hold::AnswerLost { call })
            }
            (None, Some(Hold::AnswerLost { .. })) => self.machine.go_on(now),
            _ => return Ok(()),
        };
        self.record(events).await
    }

    /// A provider said that trying again does not help. Nothing as long as that would end a rollout too early.
    pub(super) fn refused(&self, now: Timestamp, error: &ProviderError) -> Vec<Event> {
        let events = self.machine.refused(now, error.to_string());
        let quiet = self.machine.quiet_until(now).is_some();
        let waits = |outcome| quiet || self.unsettled.end_waits(now, outcome, &self.platform.pace).is_some();
        if end(&events).is_some_and(waits) { Vec::new() } else { events }
    }
}

fn end(events: &[Event]) -> Option<&Outcome> {
    events.iter().find_map(|event| match event {
        Event::Ended { outcome, .. } => Some(outcome),
        _ => None,
    })
}
