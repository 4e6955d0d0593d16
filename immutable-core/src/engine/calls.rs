//! Every provider call goes through here: the shared budget, the lease, the time limit, the span.

#![expect(clippy::disallowed_methods, reason = "calls wait for their turn here")]

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::Instrument;

use super::clock::{Clock, Entropy};
use crate::journal::{Journal, JournalError, Lease};
use crate::model::RolloutId;
use crate::provider::{ErrorKind, IdempotencyKey, OpContext, ProviderError};

/// How much of a platform's API all rollouts of one engine may use together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ApiBudget {
    /// The most calls at once.
    pub concurrency: usize,
    /// The most calls in a second, on average; `None`: as many as there are.
    pub calls_per_second: Option<u32>,
}

impl Default for ApiBudget {
    /// Sixteen calls at once, no limit of their rate.
    fn default() -> Self {
        Self { concurrency: 16, calls_per_second: None }
    }
}

/// The budget in use, shared by all rollouts of an engine.
#[derive(Debug)]
pub(super) struct Throttle {
    slots: Semaphore,
    pause: Option<Duration>,
    next: Mutex<tokio::time::Instant>,
}

impl Throttle {
    pub(super) fn new(budget: ApiBudget) -> Self {
        Self {
            slots: Semaphore::new(budget.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            pause: budget.calls_per_second.map(|rate| Duration::from_secs(1) / rate.max(1)),
            next: Mutex::new(tokio::time::Instant::now()),
        }
    }

    /// Waits until a call may be made; the permit is held while it is.
    async fn enter(&self) -> SemaphorePermit<'_> {
        let permit = self.slots.acquire().await.expect("invariant: the semaphore is never closed");
        // The slot first: a turn in the rate that is taken is used at once.
        if let Some(pause) = self.pause {
            tokio::time::sleep_until(self.take_turn(pause)).await;
        }
        permit
    }

    fn take_turn(&self, pause: Duration) -> tokio::time::Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(tokio::time::Instant::now());
        *next = at + pause;
        at
    }
}

/// Makes calls for one rollout.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    pub(super) throttle: Arc<Throttle>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) timeout: Duration,
    pub(super) rollout: Option<RolloutId>,
    pub(super) epoch: u64,
}

impl Calls {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A context whose key is the same for the same parts of the same rollout.
    pub(super) fn context(&self, parts: &[&str]) -> OpContext {
        let rollout = self.rollout.as_ref().map_or("", |rollout| rollout.as_str());
        let parts: Vec<&str> = std::iter::once(rollout).chain(parts.iter().copied()).collect();
        OpContext {
            rollout: self.rollout.clone(),
            epoch: self.epoch,
            key: IdempotencyKey::of(&parts),
            timeout: self.timeout,
        }
    }

    /// Makes a call that only looks.
    pub(super) async fn look<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let _permit = self.throttle.enter().await;
        self.limited(operation, call).await
    }

    /// The permit to make one call that changes something, if the lease still holds once it is the call's turn.
    pub(super) async fn permit(
        &self,
        journal: &dyn Journal,
        lease: &Lease,
    ) -> Result<SemaphorePermit<'_>, JournalError> {
        let permit = self.throttle.enter().await;
        journal.check(lease).await?;
        Ok(permit)
    }

    /// Waits for the answer, and not for ever. Whoever calls this holds a permit.
    pub(super) async fn limited<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let span = tracing::debug_span!("provider_call", operation);
        let answer = tokio::time::timeout(self.timeout, call.instrument(span)).await.unwrap_or_else(|_| {
            Err(ProviderError::new(ErrorKind::Timeout, operation, format!("no answer within {:?}", self.timeout)))
        });
        if let Err(error) = &answer {
            tracing::debug!(operation, %error, "provider call failed");
        }
        answer
    }

    /// How long to wait after the `failures`-th failure in a row: as told, or doubling from a fifth of a second to half a
    /// minute; plus up to as much again, so that many drivers do not come back at the same moment.
    pub(super) fn backoff(&self, failures: u32, error: Option<&ProviderError>) -> Duration {
        let told = error.and_then(ProviderError::retry_after);
        let doubled = Duration::from_millis(200).saturating_mul(1 << failures.min(8)).min(Duration::from_secs(30));
        let base = told.unwrap_or(doubled);
        let jitter = u32::try_from(self.entropy.next_u64() % 1000).unwrap_or(0);
        base + base / 1000 * jitter
    }
}
