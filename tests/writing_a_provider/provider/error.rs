//! What the cloud says, in the words of the engine.

use immutable_core::model::NameError;
use immutable_core::provider::{Effect, ErrorKind, ProviderError};

use crate::acme::Trouble;

/// The kind of each code of the cloud.
fn kind(code: &str) -> ErrorKind {
    match code {
        "TooManyRequests" => ErrorKind::Throttled,
        "NoCapacity" => ErrorKind::Capacity,
        "LimitExceeded" => ErrorKind::Quota,
        "Forbidden" => ErrorKind::PermissionDenied,
        "NotThere" => ErrorKind::NotFound,
        "VersionMismatch" | "AlreadyExists" | "InUse" => ErrorKind::Conflict,
        "BadRequest" => ErrorKind::InvalidRequest,
        // A code that is not known yet is no reason to give up, and none to hope.
        _ => ErrorKind::Internal,
    }
}

/// A request that failed, as the error of the call that sent it.
///
/// `before` is what the call had done when it sent the request: a refusal is without effect only for a call that has changed
/// nothing before.
pub(super) fn failed(operation: &'static str, before: Effect, trouble: Trouble) -> ProviderError {
    match trouble {
        // It may have arrived: the effect stays unknown.
        Trouble::NoAnswer => ProviderError::new(ErrorKind::Timeout, operation, "the connection broke: look again"),
        Trouble::Refused { code, message, retry_after } => {
            let mut error = ProviderError::new(kind(code), operation, message);
            if let Some(delay) = retry_after {
                error = error.with_retry_after(delay);
            }
            if before == Effect::None { error.without_effect() } else { error }
        }
    }
}

/// A request that only looks: whatever happened, nothing was changed.
pub(super) fn unseen(operation: &'static str, trouble: Trouble) -> ProviderError {
    failed(operation, Effect::None, trouble).without_effect()
}

/// A call that is refused before anything is sent.
pub(super) fn refuse(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> ProviderError {
    ProviderError::new(kind, operation, message).without_effect()
}

/// A name of the cloud that is none of ours.
pub(super) fn unreadable(operation: &'static str, error: &NameError) -> ProviderError {
    refuse(ErrorKind::Internal, operation, error.to_string())
}
