//! Looking: at the fleets and the route at once, and at each instance in the background.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinError;

use super::Driver;
use crate::decide::World;
use crate::engine::blame::Beside;
use crate::journal::JournalError;
use crate::model::{InstanceId, Sample};
use crate::provider::{FleetsState, ProbeTarget, ProviderError, TrafficState};

/// Looks at instances are made in batches, so that one that hangs delays few others.
const BATCH: usize = 64;

/// The answer of one batch of looks.
pub(in crate::engine) struct Probed {
    targets: Vec<InstanceId>,
    samples: Result<Vec<Sample>, ProviderError>,
}

/// What was observed at one time.
pub(super) struct Observed {
    /// When the look began.
    pub(super) begun: Timestamp,
    pub(super) fleets: Arc<FleetsState>,
    pub(super) traffic: TrafficState,
    pub(super) world: World,
    pub(super) wake: Option<Timestamp>,
    pub(super) beside: Beside,
}

impl Driver {
    pub(super) async fn observe(&mut self) -> Result<Observed, ProviderError> {
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
        let fleets = self.absence.fill(begun, now, self.platform.pace.list_lag, fleets);
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
    pub(super) fn probe(&mut self, fleets: &FleetsState) {
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

    /// Takes the answer of one batch of looks into account; says whether any verdict changed.
    pub(super) async fn looked(&mut self, probed: Result<Probed, JoinError>) -> Result<bool, JournalError> {
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
}
