//! What a journal consists of.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One entry of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1.
    pub seq: u64,
    /// The epoch of the lease that it was written with.
    pub epoch: u64,
    /// Which call wrote it.
    pub nonce: Nonce,
    /// When it was written, by its writer's clock.
    pub at: Timestamp,
    /// What it says.
    pub body: Value,
}

/// Tells one write from every other: drawn anew for each call. Sixteen hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(u64);

/// A text that is not a [`Nonce`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nonce: must be 16 lower-case hexadecimal digits")]
pub struct NonceError(());

impl Nonce {
    /// A nonce of a known value, for journals that count.
    pub fn new(value: u64) -> Self {
        Self(value)
    }

    /// A random nonce.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        getrandom::u64().map(Self)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        if text.len() != 16 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(NonceError(()));
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NonceError(()))
    }
}

impl TryFrom<String> for Nonce {
    type Error = NonceError;
    fn try_from(text: String) -> Result<Self, NonceError> {
        text.parse()
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> String {
        nonce.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_survives_its_text_and_other_texts_are_refused() {
        for value in [0, 1, 0xdead_beef, u64::MAX] {
            assert_eq!(Nonce::new(value).to_string().parse(), Ok(Nonce::new(value)));
        }
        for text in ["", "1", "00000000000000zz", "00000000000000FF", "+000000000000001", "00000000000000000"] {
            assert!(text.parse::<Nonce>().is_err(), "{text}");
        }
    }
}
