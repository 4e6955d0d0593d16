//! The one error of the provider seam.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong; decides what the engine does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// Too many calls: wait as told. Never counts as a failure.
    Throttled,
    /// The platform has no capacity of this kind now: hold, and try again later or elsewhere.
    Capacity,
    /// A limit of the account is reached: hold until a person raises it or something ends.
    Quota,
    /// Somebody else changed the thing first: observe again and decide again.
    Conflict,
    /// The thing is not there (yet, or any more; absence needs confirmation).
    NotFound,
    /// The caller may not do this. Trying again does not help.
    PermissionDenied,
    /// The request is wrong. Trying again does not help.
    InvalidRequest,
    /// No answer in time.
    Timeout,
    /// The platform does not work right now.
    Unavailable,
    /// A fleet exists with another release: it is bound to that one for ever.
    Immutable,
    /// The provider cannot do this at all.
    Unsupported,
    /// A defect of the provider or of the platform's answer.
    Internal,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody changing it.
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::PermissionDenied | Self::InvalidRequest | Self::Immutable | Self::Unsupported)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Capacity => "no capacity",
            Self::Quota => "quota reached",
            Self::Conflict => "conflict",
            Self::NotFound => "not found",
            Self::PermissionDenied => "permission denied",
            Self::InvalidRequest => "invalid request",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Immutable => "immutable",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal error",
        }
    }
}

/// Whether a failed call may have changed anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing was changed, for certain.
    None,
    /// The call may have worked; observe before anything else.
    #[default]
    Unknown,
}

/// Why a provider call failed.
///
/// `Display` is one line without the source: `{kind} in {operation}: {message}`. The source is for logs of those who want it.
pub struct ProviderError {
    kind: ErrorKind,
    effect: Effect,
    operation: Cow<'static, str>,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ProviderError {
    /// An error of a kind in an operation. The effect is unknown until [`without_effect`](Self::without_effect) says otherwise.
    ///
    /// The message says what to do and never contains a secret.
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = message.into().replace(['\n', '\r'], " ");
        Self { kind, effect: Effect::Unknown, operation: operation.into(), message, retry_after: None, source: None }
    }

    /// States that the call changed nothing.
    #[must_use]
    pub fn without_effect(mut self) -> Self {
        self.effect = Effect::None;
        self
    }

    /// When the platform said to try again.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The cause, for those who log sources.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether anything may have changed.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// When the platform said to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The operation that failed.
    pub fn operation(&self) -> &str {
        &self.operation
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}", self.kind.words(), self.operation, self.message)
    }
}

impl fmt::Debug for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the source: a foreign Debug may print what no log must hold.
        f.debug_struct("ProviderError")
            .field("kind", &self.kind)
            .field("effect", &self.effect)
            .field("operation", &self.operation)
            .field("message", &self.message)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

impl Error for ProviderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_and_hides_its_source() {
        let error = ProviderError::new(ErrorKind::Quota, "ensure fleet web-1", "20 of 20\ninstances; raise the limit")
            .with_source("token=hunter2");
        assert_eq!(error.to_string(), "quota reached in ensure fleet web-1: 20 of 20 instances; raise the limit");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert!(error.source().is_some());
        assert_eq!(error.effect(), Effect::Unknown);
        assert_eq!(error.without_effect().effect(), Effect::None);
    }
}
