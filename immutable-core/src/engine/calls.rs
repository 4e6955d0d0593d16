//! Every provider call goes through here: the shared budget, the lease, the time limit, the span.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::Instrument;

use super::clock::{Clock, Entropy};
use super::throttle::{Slot, Throttle, jittered};
use crate::journal::{Journal, JournalError, Lease};
use crate::model::RolloutId;
use crate::provider::{ErrorKind, IdempotencyKey, OpContext, ProviderError};

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

    /// Makes a call that only looks, again and again while the platform throttles: that is never a failure.
    pub(super) async fn look_patiently<T, F>(
        &self,
        operation: &'static str,
        call: impl Fn() -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        loop {
            // The next try waits until the budget is open again.
            match self.look(operation, call()).await {
                Err(error) if error.kind() == ErrorKind::Throttled => {}
                answer => return answer,
            }
        }
    }

    /// The permit to make one call that changes something, if the lease still holds once it is the call's turn.
    pub(super) async fn permit(&self, journal: &dyn Journal, lease: &Lease) -> Result<Slot<'_>, JournalError> {
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
        let (begun, span) = (Instant::now(), tracing::debug_span!("provider_call", operation));
        let answer = tokio::time::timeout(self.timeout, call.instrument(span)).await.unwrap_or_else(|_| {
            Err(ProviderError::new(ErrorKind::Timeout, operation, format!("no answer within {:?}", self.timeout)))
        });
        if let Err(error) = &answer {
            tracing::debug!(operation, %error, "provider call failed");
        }
        match &answer {
            Err(error) if error.kind() == ErrorKind::Throttled => {
                self.throttle.throttled(begun, error.retry_after(), self.jitter());
            }
            // No answer says nothing about how many calls there may be.
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable) => {}
            _ => self.throttle.answered(),
        }
        answer
    }

    /// How long to wait after the `failures`-th failure in a row: as told, or doubling from a fifth of a second to half a
    /// minute; plus up to as much again, so that many drivers do not come back at the same moment.
    pub(super) fn backoff(&self, failures: u32, error: Option<&ProviderError>) -> Duration {
        let told = error.and_then(ProviderError::retry_after);
        let doubled = Duration::from_millis(200).saturating_mul(1 << failures.min(8)).min(Duration::from_secs(30));
        jittered(told.unwrap_or(doubled), self.jitter())
    }

    /// Thousandths of a wait to be added to it.
    fn jitter(&self) -> u32 {
        u32::try_from(self.entropy.next_u64() % 1000).unwrap_or(0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::engine::throttle::ApiBudget;

    #[derive(Debug)]
    struct Fixed<T>(T);

    impl Clock for Fixed<Timestamp> {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    impl Entropy for Fixed<u64> {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    /// Calls at this time, with this random number.
    pub(crate) fn calls(now: Timestamp, random: u64) -> Calls {
        Calls {
            throttle: Arc::new(Throttle::new(ApiBudget::default())),
            clock: Arc::new(Fixed(now)),
            entropy: Arc::new(Fixed(random)),
            timeout: Duration::from_secs(5),
            rollout: None,
            epoch: 1,
        }
    }

    #[test]
    fn the_pause_doubles_to_half_a_minute_is_what_was_told_and_is_drawn_out_by_chance() {
        let millis = |random, failures| calls(Timestamp::UNIX_EPOCH, random).backoff(failures, None).as_millis();
        assert_eq!(
            [0, 1, 4, 7, 8, 1_000].map(|failures| millis(0, failures)),
            [200, 400, 3_200, 25_600, 30_000, 30_000]
        );
        assert_eq!([500, 1_999, 3_000].map(|random| millis(random, 0)), [300, 399, 200]);
        let told = ProviderError::new(ErrorKind::Throttled, "look", "slower").with_retry_after(Duration::from_secs(7));
        assert_eq!(calls(Timestamp::UNIX_EPOCH, 0).backoff(8, Some(&told)), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_patient_look_is_repeated_while_it_is_throttled_and_only_then() {
        for (kind, tries) in [(ErrorKind::Throttled, 3), (ErrorKind::Unavailable, 1), (ErrorKind::PermissionDenied, 1)]
        {
            let (calls, tried) = (calls(Timestamp::UNIX_EPOCH, 0), AtomicU32::new(0));
            let answer = calls.look_patiently("look", async || match tried.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(ProviderError::new(kind, "look", "no")),
                _ => Ok(()),
            });
            assert_eq!(answer.await.is_ok(), tries == 3, "{kind:?}");
            assert_eq!(tried.into_inner(), tries, "{kind:?}");
        }
    }

    /// Begins with a throttled answer, so that only what is answered well or refused lets more calls be made again.
    #[tokio::test(start_paused = true)]
    async fn no_answer_says_nothing_about_how_many_calls_there_may_be() {
        let after = async |kind: Option<ErrorKind>| {
            let calls = calls(Timestamp::UNIX_EPOCH, 0);
            let answer = async |kind: Option<ErrorKind>| {
                let answer = kind.map_or(Ok(()), |kind| Err(ProviderError::new(kind, "look", "no")));
                let _ = calls.look("look", async { answer }).await;
            };
            answer(Some(ErrorKind::Throttled)).await;
            for _ in 0..8 {
                answer(kind).await;
            }
            calls.throttle.window()
        };
        assert_eq!(after(None).await, 9);
        assert_eq!(after(Some(ErrorKind::Capacity)).await, 9);
        assert_eq!(after(Some(ErrorKind::Timeout)).await, 8);
        assert_eq!(after(Some(ErrorKind::Unavailable)).await, 8);
        assert_eq!(after(Some(ErrorKind::Throttled)).await, 1);
    }
}
