//! What every call to a provider carries, and what it may answer besides a value.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Fingerprint, RolloutId};

/// The context of one call: who asks, and how the call is recognised when it is sent twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpContext {
    /// The rollout on whose behalf the call is made; becomes an ownership tag. `None` outside any rollout.
    pub rollout: Option<RolloutId>,
    /// The fencing number of the caller's right to act. Zero where there is no lease.
    pub epoch: u64,
    /// The same key for the same intent, however often it is tried.
    pub key: IdempotencyKey,
    /// How long the one attempt may take. The engine drops the future after this time.
    pub timeout: Duration,
}

impl OpContext {
    /// A context for a call outside any rollout: looking around, building an image, a test.
    pub fn standalone(purpose: &str) -> Self {
        Self { rollout: None, epoch: 0, key: IdempotencyKey::of(&[purpose]), timeout: Duration::from_secs(30) }
    }
}

/// A deterministic key: the same intent always has the same key.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of an intent, given by its parts.
    pub fn of(parts: &[&str]) -> Self {
        // 32 digits: within the 64 characters that EC2's ClientToken allows, and as a UUID for others.
        let mut digits = Fingerprint::of(parts.join("\u{1f}")).to_string();
        digits.truncate(32);
        Self(digits)
    }

    /// 32 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer of a call that may need more time than one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// It is done.
    Done(T),
    /// It goes on; ask again.
    Pending {
        /// When to ask again at the earliest.
        retry_after: Duration,
        /// What it waits for, in words for people.
        note: String,
    },
}

impl<T> Progress<T> {
    /// The value, if it is done.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Pending { .. } => None,
        }
    }
}
