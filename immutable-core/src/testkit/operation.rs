//! The way into the simulated cloud that every call takes, and failures on demand.

#![expect(clippy::disallowed_methods, reason = "the simulated latency of a call")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::SimCloud;
use super::changes::Change;
use super::faults::FaultKind;
use super::state::State;
use crate::provider::{Effect, ErrorKind, OpContext, ProviderError};

/// A call to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`ImageBuilder::ensure`](crate::provider::ImageBuilder::ensure).
    EnsureImage,
    /// [`ImageBuilder::find`](crate::provider::ImageBuilder::find).
    FindImage,
    /// [`ImageBuilder::list`](crate::provider::ImageBuilder::list).
    ListImages,
    /// [`ImageBuilder::remove`](crate::provider::ImageBuilder::remove).
    RemoveImage,
    /// [`Provisioner::ensure`](crate::provider::Provisioner::ensure).
    EnsureFleet,
    /// [`Provisioner::observe`](crate::provider::Provisioner::observe).
    ObserveFleets,
    /// [`Provisioner::retire`](crate::provider::Provisioner::retire).
    Retire,
    /// [`Provisioner::remove`](crate::provider::Provisioner::remove).
    RemoveFleet,
    /// [`HealthProbe::sample`](crate::provider::HealthProbe::sample).
    SampleHealth,
    /// [`TrafficSwitch::observe`](crate::provider::TrafficSwitch::observe).
    ObserveRoute,
    /// [`TrafficSwitch::apply`](crate::provider::TrafficSwitch::apply).
    ApplyRoute,
    /// [`MetricSource::describe`](crate::provider::MetricSource::describe).
    DescribeMetric,
    /// [`MetricSource::query`](crate::provider::MetricSource::query).
    QueryMetric,
}

impl Operation {
    /// The call in words, as in errors and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnsureImage => "ensure image",
            Self::FindImage => "find image",
            Self::ListImages => "list images",
            Self::RemoveImage => "remove image",
            Self::EnsureFleet => "ensure fleet",
            Self::ObserveFleets => "observe fleets",
            Self::Retire => "retire instances",
            Self::RemoveFleet => "remove fleet",
            Self::SampleHealth => "sample health",
            Self::ObserveRoute => "observe route",
            Self::ApplyRoute => "apply route",
            Self::DescribeMetric => "describe metric",
            Self::QueryMetric => "query metric",
        }
    }

    /// Whether the call can change anything.
    pub fn is_change(self) -> bool {
        use Operation::{ApplyRoute, EnsureFleet, EnsureImage, RemoveFleet, RemoveImage, Retire};
        matches!(self, EnsureImage | RemoveImage | EnsureFleet | Retire | RemoveFleet | ApplyRoute)
    }

    /// An answer that says: not done.
    pub(super) fn refuse(self, kind: ErrorKind, message: impl Into<String>) -> ProviderError {
        ProviderError::new(kind, self.as_str(), message).without_effect()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was drawn for one call.
struct Journey {
    /// Until the cloud has it.
    there: Duration,
    /// Until the caller has the answer.
    back: Duration,
    throttled: Option<Duration>,
    lost: bool,
    doubled: bool,
}

impl SimCloud {
    /// Every call that only looks comes through here: it takes its time, and may fail on demand.
    pub(super) async fn enter<T>(
        &self,
        cx: &OpContext,
        operation: Operation,
        work: impl FnOnce(&mut State) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        let journey = self.with(|state| state.journey(operation));
        pass(journey.there).await;
        let answer = self.with(|state| state.serve(cx, operation, state.now, journey.throttled, work));
        pass(journey.back).await;
        answer
    }

    /// Every call that changes something comes through here.
    ///
    /// Once sent, the request outlives its caller: the cloud's side of it runs in a task of its own. A future that is dropped
    /// takes nothing back, and a request that is late lands when nobody waits for it any more.
    #[expect(clippy::disallowed_methods, reason = "the cloud goes on when its caller is gone")]
    pub(super) async fn change<T: Send + 'static>(
        &self,
        cx: &OpContext,
        operation: Operation,
        work: impl Fn(&mut State) -> Result<T, ProviderError> + Send + Sync + 'static,
    ) -> Result<T, ProviderError> {
        let (sent, journey) = self.with(|state| (state.now, state.journey(operation)));
        let Journey { there, back, throttled, lost, doubled } = journey;
        let (cloud, cx) = (self.clone(), cx.clone());
        let timeout = cx.timeout;
        let land = move || {
            let answer = cloud.with(|state| state.serve(&cx, operation, sent, throttled, &work));
            if doubled {
                // The answer to the second one is for nobody.
                let _ = cloud.with(|state| state.serve(&cx, operation, sent, throttled, &work));
            }
            answer
        };
        let answer = if there.is_zero() {
            land()
        } else {
            let (done, answer) = oneshot::channel();
            tokio::spawn(async move {
                sleep(there).await;
                // Whoever is not there any more does not hear it.
                let _ = done.send(land());
            });
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => {
                    Err(ProviderError::new(ErrorKind::Internal, operation.as_str(), "the cloud was shut down"))
                }
                Err(_) => return Err(ProviderError::new(ErrorKind::Timeout, operation.as_str(), "no answer in time")),
            }
        };
        if lost {
            sleep(timeout.saturating_sub(there)).await;
            return Err(ProviderError::new(ErrorKind::Timeout, operation.as_str(), "the answer was lost"));
        }
        pass(back).await;
        answer
    }
}

/// Nothing waits for no time: a cloud without latency answers within one poll.
async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// Failures on demand, per operation, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Script(BTreeMap<Operation, VecDeque<Failure>>);

/// The next so many calls fail like this.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) effect: Effect,
    pub(super) times: u32,
}

impl Script {
    pub(super) fn add(&mut self, operation: Operation, failure: Failure) {
        self.0.entry(operation).or_default().push_back(failure);
    }

    fn take(&mut self, operation: Operation) -> Option<Failure> {
        let queue = self.0.get_mut(&operation)?;
        while let Some(mut failure) = queue.pop_front() {
            if failure.times > 0 {
                failure.times -= 1;
                queue.push_front(failure);
                return Some(failure);
            }
        }
        None
    }
}

impl State {
    /// Draws what happens to the next call of an operation on its way.
    fn journey(&mut self, operation: Operation) -> Journey {
        let sent = self.sent.entry(operation).or_default();
        let nth = *sent;
        *sent += 1;
        let mut strike = |kind| self.strike(kind, Some(operation), nth);
        let slow = strike(FaultKind::Slow);
        let throttled = strike(FaultKind::Throttled).map(|mut random| Duration::from_secs(1 + random.below(10)));
        let (mut lost, mut doubled, mut late) = (false, false, None);
        if operation.is_change() {
            (lost, doubled) = (strike(FaultKind::Lost).is_some(), strike(FaultKind::Doubled).is_some());
            late = strike(FaultKind::Late);
        }
        let (latency, faults) = (self.options.call_latency, &self.options.faults);
        let (mut there, mut back) = (latency / 2, latency.saturating_sub(latency / 2));
        if let Some(mut random) = slow {
            there += random.within(faults.slow_by);
            back += random.within(faults.slow_by);
        }
        if let Some(mut random) = late {
            there += random.within(faults.late_by);
        }
        Journey { there, back, throttled, lost, doubled }
    }

    /// The server's side of a call.
    fn serve<T>(
        &mut self,
        cx: &OpContext,
        operation: Operation,
        sent: Duration,
        throttled: Option<Duration>,
        work: impl FnOnce(&mut Self) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        *self.calls.entry(operation).or_default() += 1;
        if let Some(wait) = throttled {
            let error = operation.refuse(ErrorKind::Throttled, "too many calls").with_retry_after(wait);
            return self.refused(cx, operation, error);
        }
        let failure = self.script.take(operation);
        if let Some(Failure { kind, effect: Effect::None, .. }) = failure {
            let error = operation.refuse(kind, "asked for by the test");
            return self.refused(cx, operation, error);
        }
        let before = (operation.is_change() && self.changes.is_some()).then(|| self.truth());
        let worked = work(self);
        if let Some(before) = before {
            let (at, after) = (self.clock.at(self.now), self.truth());
            let change = Change { at, sent: self.clock.at(sent), operation, epoch: cx.epoch, before, after };
            self.changes.get_or_insert_default().push(change);
        }
        let done = match worked {
            Ok(value) => Ok(value),
            Err(error) => self.refused(cx, operation, error),
        };
        match failure {
            None => done,
            Some(failure) => {
                let error =
                    ProviderError::new(failure.kind, operation.as_str(), "the answer was lost, as the test asked");
                self.refused(cx, operation, error)
            }
        }
    }

    fn refused<T>(&mut self, cx: &OpContext, operation: Operation, error: ProviderError) -> Result<T, ProviderError> {
        if operation.is_change() {
            let epoch = if cx.epoch == 0 { String::new() } else { format!(" (epoch {})", cx.epoch) };
            self.record(&format!("{error}{epoch}"));
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{cx, fleet};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_without_effect_is_not_done_and_a_lost_answer_is() {
        let cloud = SimCloud::default();
        cloud.fail_next(Operation::EnsureFleet, ErrorKind::Throttled, Effect::None, 2);
        cloud.fail_next(Operation::EnsureFleet, ErrorKind::Timeout, Effect::Unknown, 1);
        let (fleets, spec) = (cloud.platform().fleets, fleet(&cloud, "1", 2));
        for _ in 0..2 {
            let error = fleets.ensure(&cx(), &spec).await.expect_err("throttled");
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Throttled, Effect::None));
            assert!(cloud.instances().is_empty());
        }
        let error = fleets.ensure(&cx(), &spec).await.expect_err("lost");
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown));
        assert_eq!(cloud.instances().len(), 2);
        assert!(fleets.ensure(&cx(), &spec).await.is_ok());
        assert_eq!(cloud.calls()[&Operation::EnsureFleet], 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_has_its_effect_in_the_middle_of_its_time() {
        let cloud = SimCloud::default();
        let (fleets, spec) = (cloud.platform().fleets, fleet(&cloud, "1", 1));
        for (millis, done) in [(20, 0), (30, 1)] {
            let (cx, time) = (cx(), std::time::Duration::from_millis(millis));
            assert!(tokio::time::timeout(time, fleets.ensure(&cx, &spec)).await.is_err());
            assert_eq!(cloud.instances().len(), done, "dropped after {millis} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_in_the_log() {
        let cloud = SimCloud::default();
        cloud.fail_next(Operation::EnsureFleet, ErrorKind::Quota, Effect::None, 1);
        cloud.fail_next(Operation::ObserveFleets, ErrorKind::Throttled, Effect::None, 1);
        let (fleets, spec) = (cloud.platform().fleets, fleet(&cloud, "1", 1));
        let cx = OpContext { epoch: 7, ..cx() };
        assert!(fleets.ensure(&cx, &spec).await.is_err());
        assert!(fleets.observe(&cx, &spec.service).await.is_err());
        let line = "2026-01-01T00:00:00.025Z quota reached in ensure fleet: asked for by the test (epoch 7)";
        assert_eq!(cloud.log(), [line]);
    }
}
