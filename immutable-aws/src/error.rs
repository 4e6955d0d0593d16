//! What the errors of AWS mean here: one table, from the vendor's code to a kind and a hint when to try again.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use immutable_core::provider::{Effect, ErrorKind, ProviderError};

/// One code of the vendor's.
struct Row {
    /// The code; a star at its end stands for any rest.
    code: &'static str,
    kind: ErrorKind,
    /// Whether a refusal with this code left everything as it was.
    effect: Effect,
    /// When it makes sense to try again, in seconds.
    retry_after: Option<u64>,
}

/// What a failed request means for the call that sent it.
///
/// `before` is `None` as long as the call has changed nothing: then a refusal leaves nothing behind. No answer, or one that says
/// that AWS itself failed, may have had an effect.
pub(crate) fn failed<E>(operation: &'static str, before: Effect, error: SdkError<E, HttpResponse>) -> ProviderError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let row = error.code().and_then(row);
    let (kind, effect) = match (&error, row) {
        (_, Some(row)) => (row.kind, row.effect),
        (SdkError::ConstructionFailure(_), None) => (ErrorKind::InvalidRequest, Effect::None),
        (SdkError::TimeoutError(_), None) => (ErrorKind::Timeout, Effect::Unknown),
        (SdkError::DispatchFailure(_), None) => (ErrorKind::Unavailable, Effect::Unknown),
        (SdkError::ServiceError(service), None) => by_status(service.raw().status().as_u16()),
        (_, None) => (ErrorKind::Internal, Effect::Unknown),
    };
    let mut failed = ProviderError::new(kind, operation, message(&error));
    if effect == Effect::None && before == Effect::None {
        failed = failed.without_effect();
    }
    if let Some(seconds) = row.and_then(|row| row.retry_after) {
        failed = failed.with_retry_after(Duration::from_secs(seconds));
    }
    failed.with_source(error)
}

/// What the code of an error that is told of in other ways means, such as of an activity of a group.
pub(crate) fn kind(code: &str) -> Option<ErrorKind> {
    row(code).map(|row| row.kind)
}

fn row(code: &str) -> Option<&'static Row> {
    let matches = |row: &&Row| match row.code.strip_suffix('*') {
        Some(start) => code.starts_with(start),
        None => row.code == code,
    };
    TABLE.iter().find(matches)
}

/// A code that is not known yet is no reason to give up, and none to hope.
fn by_status(status: u16) -> (ErrorKind, Effect) {
    match status {
        429 => (ErrorKind::Throttled, Effect::None),
        401 | 403 => (ErrorKind::PermissionDenied, Effect::None),
        400..=499 => (ErrorKind::Internal, Effect::None),
        503 => (ErrorKind::Unavailable, Effect::Unknown),
        _ => (ErrorKind::Internal, Effect::Unknown),
    }
}

/// The vendor's code and words, in one line that cannot grow without end.
fn message<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> String {
    const LONGEST: usize = 500;
    match (error, error.code(), error.message()) {
        (_, Some(code), Some(words)) => format!("{code}: {}", words.chars().take(LONGEST).collect::<String>()),
        (_, Some(code), None) => code.to_owned(),
        (SdkError::ServiceError(service), None, _) => {
            format!("status {} without an error code that can be read", service.raw().status().as_u16())
        }
        (SdkError::ConstructionFailure(_), ..) => {
            "the request could not be made: check the credentials and the region".to_owned()
        }
        (SdkError::TimeoutError(_), ..) => "no answer in time".to_owned(),
        (SdkError::DispatchFailure(_), ..) => "the connection to the API failed: look again".to_owned(),
        _ => "the answer could not be read: look again".to_owned(),
    }
}

const fn refused(code: &'static str, kind: ErrorKind) -> Row {
    Row { code, kind, effect: Effect::None, retry_after: None }
}

/// The first row that fits counts.
static TABLE: &[Row] = &[
    refused("RequestLimitExceeded", ErrorKind::Throttled),
    refused("Throttling*", ErrorKind::Throttled),
    refused("InsufficientInstanceCapacity", ErrorKind::Capacity),
    refused("UnauthorizedOperation", ErrorKind::PermissionDenied),
];
