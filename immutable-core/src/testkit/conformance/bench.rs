//! What the tests of clauses have in common: calls that are bounded and listened to, waits with an end, and clearing away.

use std::cell::RefCell;
use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::harness::{Ability, Fault, Harness};
use super::report::{Gap, Part};
use crate::model::RolloutId;
use crate::provider::{IdempotencyKey, OpContext, Platform, Progress, ProviderError};

/// What was seen instead of what the clause promises.
#[derive(Debug)]
pub(super) struct Seen(pub(super) String);

/// What a test of a clause comes to.
pub(super) type Check = Result<(), Seen>;

/// Ends a test with what was seen, unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($seen:tt)+) => {
        if !$condition {
            return Err($crate::testkit::conformance::Seen(format!($($seen)+)));
        }
    };
}
pub(super) use hold;

/// A platform under test, and what is heard from it.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) harness: &'a dyn Harness,
    pub(super) platform: Platform,
    parts: &'a [Part],
    lacks: Vec<(Ability, &'static str)>,
    gaps: RefCell<Vec<Gap>>,
    /// Everything that the provider has said in words.
    said: RefCell<Vec<String>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(harness: &'a dyn Harness, parts: &'a [Part]) -> Self {
        let (platform, lacks) = (harness.platform(), harness.lacks());
        Self { harness, platform, parts, lacks, gaps: RefCell::default(), said: RefCell::default() }
    }

    /// Whether a trait is under test.
    pub(super) fn tests(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        let mut gaps = self.gaps.borrow().clone();
        gaps.sort();
        gaps.dedup();
        gaps
    }

    /// Notes that something was not exercised.
    pub(super) fn gap(&self, what: impl Display, why: impl Display) {
        let gap = Gap { what: what.to_string(), why: why.to_string() };
        self.gaps.borrow_mut().push(gap);
    }

    /// Compares what the harness could do with what it says that it cannot.
    pub(super) fn able(&self, ability: Ability, could: bool) -> Result<bool, Seen> {
        let lack = self.lacks.iter().find(|(lacking, _)| *lacking == ability);
        match (could, lack) {
            (true, None) => Ok(true),
            (false, Some((_, reason))) => {
                self.gap(ability, reason);
                Ok(false)
            }
            (true, Some(_)) => Err(Seen(format!("the harness can {ability}: take it out of `Harness::lacks`"))),
            (false, None) => {
                Err(Seen(format!("the harness cannot {ability}: write it, or say in `Harness::lacks` why not")))
            }
        }
    }

    /// Brings a fault about; whether the harness can.
    pub(super) async fn inject(&self, fault: Fault) -> Result<bool, Seen> {
        let could = self.harness.inject(&fault).await;
        self.able(fault.ability(), could)
    }

    /// The context of an intent of this suite.
    pub(super) fn cx(&self, purpose: &str) -> OpContext {
        let key = IdempotencyKey::of(&["conformance", self.harness.service().as_str(), purpose]);
        let timeout = self.platform.pace.call_timeout;
        OpContext { rollout: Some(self.rollout()), epoch: 1, key, timeout }
    }

    #[expect(clippy::unused_self, reason = "it is a fact of the bench, whatever it is made of")]
    pub(super) fn rollout(&self) -> RolloutId {
        RolloutId::new("conformance-1").expect("invariant: letters, a hyphen and a digit are a rollout id")
    }

    /// One attempt of one call, which has to end in its time. What an error says is listened to.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Result<T, ProviderError>, Seen> {
        let limit = self.platform.pace.call_timeout;
        match select(pin!(call), self.harness.wait(limit)).await {
            Either::Left((answer, _)) => {
                if let Err(error) = &answer {
                    self.hear(error);
                    self.hear(format!("{error:?}"));
                }
                Ok(answer)
            }
            Either::Right(_) => Err(Seen(format!("{what} had no answer after {limit:?}, its time limit"))),
        }
    }

    /// One call that has to succeed.
    pub(super) async fn good<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, Seen> {
        self.call(what, call).await?.map_err(|error| Seen(format!("{what} failed: {error}")))
    }

    /// The same call again and again until it is done, as the engine does it.
    pub(super) async fn done<T, F>(&self, what: &str, mut call: impl FnMut() -> F) -> Result<T, Seen>
    where
        F: Future<Output = Result<Progress<T>, ProviderError>>,
    {
        let mut waited = Duration::ZERO;
        loop {
            match self.good(what, call()).await? {
                Progress::Done(value) => return Ok(value),
                Progress::Pending { retry_after, note } => {
                    self.hear(&note);
                    hold!(waited <= self.harness.patience(), "{what} is still pending after {waited:?}: {note}");
                    let pause = retry_after.max(self.step());
                    self.harness.wait(pause).await;
                    waited += pause;
                }
            }
        }
    }

    /// Looks until it holds.
    pub(super) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> Result<bool, Seen>) -> Check {
        let mut waited = Duration::ZERO;
        while !holds().await? {
            hold!(waited <= self.harness.patience(), "after {waited:?}, still not: {what}");
            self.harness.wait(self.step()).await;
            waited += self.step();
        }
        Ok(())
    }

    fn step(&self) -> Duration {
        self.platform.pace.observe.max(Duration::from_millis(1))
    }

    /// Listens to what a provider says in words.
    pub(super) fn hear(&self, words: impl Display) {
        self.said.borrow_mut().push(words.to_string());
    }

    pub(super) fn said(&self) -> Vec<String> {
        self.said.borrow().clone()
    }
}
