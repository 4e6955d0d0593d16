//! Acting: each action is one call of a provider, made while the lease holds, and never against the safety rules.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::looking::Observed;
use super::{Driver, Turn};
use crate::decide::{Action, RetireProof, RouteChange, check};
use crate::engine::clock::later;
use crate::journal::JournalError;
use crate::model::{FleetId, FleetSpec, InstanceId};
use crate::provider::{Assignment, ErrorKind, MemberHealth, MemberTarget, Progress, ProviderError};

impl Driver {
    /// Tries all actions of one intent at once; they are safe in any order.
    pub(super) async fn act_all(
        &mut self,
        actions: &[Action],
        intent: u64,
        observed: &Observed,
    ) -> Result<Turn, JournalError> {
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
