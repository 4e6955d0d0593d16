//! What the errors of Google Cloud mean here: one table, from the vendor's code to a kind and a hint when to try again.

use std::time::Duration;

use google_cloud_compute_v1::model::Operation;
use google_cloud_gax::error::rpc::StatusDetails;
use google_cloud_gax::error::{CredentialsError, Error};
use immutable_core::provider::{Effect, ErrorKind, ProviderError};

/// The longest text of the vendor's that is told on, in characters.
const LONGEST: usize = 500;

/// One code of the vendor's: the `reason` of a refusal, or the `code` of an operation that failed.
struct Row {
    code: &'static str,
    kind: ErrorKind,
    /// When it makes sense to try again, in seconds.
    retry_after: Option<u64>,
}

/// What a failed request means for the call that sent it.
///
/// `before` is `None` as long as the call has changed nothing: then a refusal leaves nothing behind. No answer, or one that says
/// that Google itself failed, may have had an effect.
pub(crate) fn failed(operation: &'static str, before: Effect, error: Error) -> ProviderError {
    let row = reasons(&error).find_map(row).or_else(|| by_words(&error));
    let status = error.http_status_code();
    let (kind, effect) = match (row, status) {
        _ if is_passing(&error) => (ErrorKind::Unavailable, Effect::None),
        _ if error.is_authentication() => (ErrorKind::PermissionDenied, Effect::None),
        _ if error.is_binding() || error.is_serialization() => (ErrorKind::InvalidRequest, Effect::None),
        _ if error.is_timeout() => (ErrorKind::Timeout, Effect::Unknown),
        _ if error.is_connect() => (ErrorKind::Unavailable, Effect::None),
        (Some(row), Some(status)) => (row.kind, by_status(status).1),
        (None, Some(status)) => by_status(status),
        _ if error.is_io() || error.is_transport() => (ErrorKind::Unavailable, Effect::Unknown),
        _ => (ErrorKind::Internal, Effect::Unknown),
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

/// What a failed look means for the call that looked: a look changes nothing, whether it was answered or not.
pub(crate) fn unseen(operation: &'static str, error: Error) -> ProviderError {
    failed(operation, Effect::None, error).without_effect()
}

/// That nothing is missing from a page of a list of all zones and regions: what cannot be seen is not gone. Compute Engine tells it of the page, or
/// as a warning of the zone or region.
macro_rules! reached {
    ($operation:expr, $scopes:expr, $unreachable:expr) => {{
        let lost = $scopes.iter().filter(|(_, scope)| {
            let code = scope.warning.as_ref().and_then(|warning| warning.code.as_ref()?.name());
            matches!(code, Some("UNREACHABLE" | "PARTIAL_SUCCESS"))
        });
        let unreachable: &[String] = $unreachable;
        $crate::error::all_seen($operation, unreachable.iter().chain(lost.map(|(scope, _)| scope)))
    }};
}
pub(crate) use reached;

/// That no place is one that cannot be seen.
pub(crate) fn all_seen<'a>(
    operation: &'static str,
    unseen: impl Iterator<Item = &'a String>,
) -> Result<(), ProviderError> {
    let places: Vec<&str> = unseen.filter_map(|place| place.rsplit('/').next()).collect();
    if places.is_empty() {
        return Ok(());
    }
    let problem = format!("{} cannot be seen now: look again", places.join(", "));
    Err(ProviderError::new(ErrorKind::Unavailable, operation, problem).without_effect())
}

/// What an operation says that was accepted and then failed, if it did. It is over: nothing of it lands any more.
pub(crate) fn of_operation(operation: &'static str, before: Effect, done: &Operation) -> Option<ProviderError> {
    let first = done.error.as_ref().and_then(|error| error.errors.first());
    let status =
        done.http_error_status_code.and_then(|status| u16::try_from(status).ok()).filter(|status| *status >= 400);
    if first.is_none() && status.is_none() {
        return None;
    }
    let code = first.and_then(|error| error.code.as_deref()).unwrap_or("an operation failed");
    let words = first.and_then(|error| error.message.as_deref()).or(done.http_error_message.as_deref());
    Some(of_code(operation, before, (code, words.unwrap_or("without a reason"), status)))
}

/// What a code means that is told of in other ways, such as of an attempt of a group to start an instance.
pub(crate) fn of_code(
    operation: &'static str,
    before: Effect,
    (code, words, status): (&str, &str, Option<u16>),
) -> ProviderError {
    let row = row(code);
    let kind = row.map_or_else(|| status.map_or(ErrorKind::Internal, |status| by_status(status).0), |row| row.kind);
    let mut failed = ProviderError::new(kind, operation, format!("{code}: {}", one_line(words)));
    if before == Effect::None {
        failed = failed.without_effect();
    }
    match row.and_then(|row| row.retry_after) {
        Some(seconds) => failed.with_retry_after(Duration::from_secs(seconds)),
        None => failed,
    }
}

fn row(code: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.code == code)
}

/// The vendor's words for what is wrong, the most exact first.
fn reasons(error: &Error) -> impl Iterator<Item = &str> {
    let details = error.status().into_iter().flat_map(|status| &status.details);
    details.filter_map(|detail| match detail {
        StatusDetails::ErrorInfo(info) => Some(info.reason.as_str()),
        _ => None,
    })
}

/// Whether no token could be had, and may be had soon.
fn is_passing(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<CredentialsError>());
    error.is_authentication() && source.is_some_and(CredentialsError::is_transient)
}

/// What a refusal for a rate or a quota means that has other details than its reason: then the SDK knows nothing but its words.
fn by_words(error: &Error) -> Option<&'static Row> {
    let words = &error.status().filter(|_| error.http_status_code() == Some(403))?.message;
    let is_rate = ["Rate Limit Exceeded", "rate limit", "Quota exceeded for quota metric"];
    let code = match words {
        words if is_rate.iter().any(|rate| words.contains(rate)) => "rateLimitExceeded",
        words if words.starts_with("Quota '") => "quotaExceeded",
        _ => return None,
    };
    row(code)
}

/// A code that is not known yet is no reason to give up, and none to hope.
fn by_status(status: u16) -> (ErrorKind, Effect) {
    match status {
        400 => (ErrorKind::InvalidRequest, Effect::None),
        401 | 403 => (ErrorKind::PermissionDenied, Effect::None),
        404 => (ErrorKind::NotFound, Effect::None),
        409 | 412 => (ErrorKind::Conflict, Effect::None),
        429 => (ErrorKind::Throttled, Effect::None),
        408 | 504 => (ErrorKind::Timeout, Effect::Unknown),
        402..=499 => (ErrorKind::Internal, Effect::None),
        500..=599 => (ErrorKind::Unavailable, Effect::Unknown),
        _ => (ErrorKind::Internal, Effect::Unknown),
    }
}

/// The vendor's code and words, in one line that cannot grow without end.
fn message(error: &Error) -> String {
    if is_passing(error) {
        return "no token could be had now: look again".to_owned();
    }
    if error.is_authentication() {
        return "no credentials could be had: sign in with `gcloud auth application-default login`, or check the service account".to_owned();
    }
    let code = reasons(error).next();
    match (error.status(), error.http_status_code()) {
        (Some(status), _) => {
            let code = code.map_or_else(|| status.code.to_string(), str::to_owned);
            format!("{code}: {}", one_line(&status.message))
        }
        (None, Some(status)) => format!("status {status} without an error that can be read"),
        _ if error.is_binding() => "the request could not be made: a name has characters that no name has".to_owned(),
        _ if error.is_timeout() => "no answer in time".to_owned(),
        _ if error.is_connect() || error.is_io() || error.is_transport() => {
            "the connection to the API failed: look again".to_owned()
        }
        _ => "the answer could not be read: look again".to_owned(),
    }
}

fn one_line(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

const fn is(code: &'static str, kind: ErrorKind) -> Row {
    Row { code, kind, retry_after: None }
}

impl Row {
    const fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

/// The [reasons](https://docs.cloud.google.com/compute/docs/api/troubleshooting-errors) and
/// [codes of operations](https://docs.cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability).
/// Beside each stands what the vendor says of it.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    // "Rate Limit Exceeded": too many requests for the project, the user or the region.
    is("rateLimitExceeded", ErrorKind::Throttled).after(5),
    is("RATE_LIMIT_EXCEEDED", ErrorKind::Throttled).after(5),
    is("userRateLimitExceeded", ErrorKind::Throttled).after(5),
    is("concurrentLimitExceeded", ErrorKind::Throttled).after(5),
    // "Quota exceeded for quota metric 'Concurrent ... operations'": https://docs.cloud.google.com/compute/operations-quota
    is("CONCURRENT_OPERATIONS_QUOTA_EXCEEDED", ErrorKind::Throttled).after(5),
    // "Operation rate exceeded for resource": too many changes of one thing.
    is("RESOURCE_OPERATION_RATE_EXCEEDED", ErrorKind::Throttled).after(10),
    is("resourceOperationRateExceeded", ErrorKind::Throttled).after(10),

    // "The zone does not have enough resources available to fulfill the request. Try a different zone, or try again later."
    is("ZONE_RESOURCE_POOL_EXHAUSTED", ErrorKind::Capacity).after(30),
    is("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", ErrorKind::Capacity).after(30),
    is("REGION_RESOURCE_POOL_EXHAUSTED", ErrorKind::Capacity).after(30),
    is("RESOURCE_POOL_EXHAUSTED", ErrorKind::Capacity).after(30),
    is("RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", ErrorKind::Capacity).after(30),
    is("STOCKOUT", ErrorKind::Capacity).after(30),
    // "IP space of the subnetwork is exhausted."
    is("IP_SPACE_EXHAUSTED", ErrorKind::Capacity).after(30),
    is("IP_SPACE_EXHAUSTED_WITH_DETAILS", ErrorKind::Capacity).after(30),

    // "Quota 'CPUS' exceeded. Limit: 24.0 in region us-central1."
    is("QUOTA_EXCEEDED", ErrorKind::Quota).after(60),
    is("quotaExceeded", ErrorKind::Quota).after(60),
    is("LIMIT_EXCEEDED", ErrorKind::Quota).after(60),
    is("limitExceeded", ErrorKind::Quota).after(60),

    // "The resource already exists."
    is("alreadyExists", ErrorKind::Conflict),
    is("RESOURCE_ALREADY_EXISTS", ErrorKind::Conflict),
    // "The resource is already being used by another resource."
    is("resourceInUseByAnotherResource", ErrorKind::Conflict),
    is("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", ErrorKind::Conflict),
    // "The resource is not ready": it is being made, or another operation works on it.
    is("resourceNotReady", ErrorKind::Conflict).after(5),
    is("RESOURCE_NOT_READY", ErrorKind::Conflict).after(5),
    // "Supplied fingerprint does not match current": somebody else has changed it.
    is("conditionNotMet", ErrorKind::Conflict),
    is("CONDITION_NOT_MET", ErrorKind::Conflict),
    is("invalidFingerprint", ErrorKind::Conflict),

    // "The resource was not found."
    is("notFound", ErrorKind::NotFound),
    is("RESOURCE_NOT_FOUND", ErrorKind::NotFound),

    // "Required '...' permission for '...'"
    is("forbidden", ErrorKind::PermissionDenied),
    is("PERMISSIONS_ERROR", ErrorKind::PermissionDenied),
    is("IAM_PERMISSION_DENIED", ErrorKind::PermissionDenied),
    // "Compute Engine API has not been used in project ... before or it is disabled."
    is("accessNotConfigured", ErrorKind::PermissionDenied),
    is("SERVICE_DISABLED", ErrorKind::PermissionDenied),
    is("authError", ErrorKind::PermissionDenied),
    // An organisation's policy forbids it, as external addresses.
    is("CONSTRAINT_CONDITION_NOT_MET", ErrorKind::PermissionDenied),

    // "Invalid value for field ..."
    is("invalid", ErrorKind::InvalidRequest),
    is("INVALID_FIELD_VALUE", ErrorKind::InvalidRequest),
    is("INVALID_USAGE", ErrorKind::InvalidRequest),
    is("invalidParameter", ErrorKind::InvalidRequest),
    is("badRequest", ErrorKind::InvalidRequest),
    is("required", ErrorKind::InvalidRequest),
    is("UNSUPPORTED_OPERATION", ErrorKind::Unsupported),

    // "An internal error has occurred. Try again later."
    is("backendError", ErrorKind::Unavailable).after(5),
    is("internalError", ErrorKind::Unavailable).after(5),
    is("INTERNAL_ERROR", ErrorKind::Unavailable).after(5),
    is("SERVICE_UNAVAILABLE", ErrorKind::Unavailable).after(5),
];

#[cfg(test)]
mod tests {
    use google_cloud_compute_v1::model::operation;
    use google_cloud_gax::error::rpc::Status;

    use super::*;

    /// The error that the SDK makes of an answer.
    fn answered(status: u16, body: &str) -> Error {
        let (headers, body) = (http::HeaderMap::new(), bytes::Bytes::copy_from_slice(body.as_bytes()));
        match Status::try_from(&body) {
            Ok(found) => Error::service_with_http_metadata(found, Some(status), Some(headers)),
            Err(_) => Error::http(status, headers, body),
        }
    }

    #[test]
    fn answers_mean_what_the_vendor_says_of_them() {
        let body = |status: u16, reason: &str| {
            format!(
                r#"{{"error":{{"code":{status},"message":"some\nwords","errors":[{{"message":"some words","domain":"global","reason":"{reason}"}}]}}}}"#
            )
        };
        let cases = [
            (403, body(403, "rateLimitExceeded"), ErrorKind::Throttled, Effect::None),
            (403, body(403, "quotaExceeded"), ErrorKind::Quota, Effect::None),
            (403, body(403, "forbidden"), ErrorKind::PermissionDenied, Effect::None),
            (400, body(400, "resourceInUseByAnotherResource"), ErrorKind::Conflict, Effect::None),
            (400, body(400, "resourceNotReady"), ErrorKind::Conflict, Effect::None),
            (409, body(409, "alreadyExists"), ErrorKind::Conflict, Effect::None),
            (412, body(412, "conditionNotMet"), ErrorKind::Conflict, Effect::None),
            (404, body(404, "notFound"), ErrorKind::NotFound, Effect::None),
            (400, body(400, "somethingNew"), ErrorKind::InvalidRequest, Effect::None),
            (503, body(503, "backendError"), ErrorKind::Unavailable, Effect::Unknown),
            (502, "<html>Bad gateway</html>".to_owned(), ErrorKind::Unavailable, Effect::Unknown),
        ];
        for (status, body, kind, effect) in cases {
            let error = failed("test", Effect::None, answered(status, &body));
            assert_eq!((error.kind(), error.effect()), (kind, effect), "{body}");
            assert!(!error.to_string().contains(['\n', '<']), "{error}");
            assert_eq!(unseen("test", answered(status, &body)).effect(), Effect::None);
            assert_eq!(failed("test", Effect::Unknown, answered(status, &body)).effect(), Effect::Unknown);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_taken_for_gone() {
        use google_cloud_compute_v1::model::instances_scoped_list::{Warning, warning::Code};
        use google_cloud_compute_v1::model::{InstanceAggregatedList, InstancesScopedList};
        let scope = |code: Code| InstancesScopedList::new().set_warning(Warning::new().set_code(code));
        let page = |code| InstanceAggregatedList::new().set_items([("zones/europe-west3-a", scope(code))]);
        let told = |page: InstanceAggregatedList| reached!("test", page.items, &page.unreachables);
        assert!(told(page(Code::NoResultsOnPage)).is_ok());
        for page in
            [page(Code::Unreachable), page(Code::NoResultsOnPage).set_unreachables(["projects/p/zones/europe-west3-a"])]
        {
            let error = told(page).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains("europe-west3-a cannot be seen"), "{error}");
        }
    }

    #[test]
    fn a_rate_that_is_exceeded_is_no_lack_of_a_permission_whatever_else_the_answer_says() {
        let details = |words: &str, detail: &str| {
            format!(
                r#"{{"error":{{"code":403,"message":"{words}","errors":[{{"message":"{words}","domain":"usageLimits","reason":"rateLimitExceeded"}}],"details":[{detail}]}}}}"#
            )
        };
        let info = |reason: &str| {
            format!(
                r#"{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"{reason}","domain":"compute.googleapis.com"}}"#
            )
        };
        let help = r#"{"@type":"type.googleapis.com/google.rpc.Help","links":[]}"#;
        for (body, kind) in [
            (details("too many", &info("CONCURRENT_OPERATIONS_QUOTA_EXCEEDED")), ErrorKind::Throttled),
            (details("Rate Limit Exceeded", help), ErrorKind::Throttled),
            (details("Quota exceeded for quota metric 'Queries'", help), ErrorKind::Throttled),
            (details("Quota 'CPUS' exceeded. Limit: 24.0", help), ErrorKind::Quota),
            (details("Required 'a' permission for 'b'", help), ErrorKind::PermissionDenied),
        ] {
            let error = failed("test", Effect::None, answered(403, &body));
            assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{body}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_had_for_a_moment_ends_nothing() {
        for (is_transient, kind) in [(true, ErrorKind::Unavailable), (false, ErrorKind::PermissionDenied)] {
            let error = Error::authentication(CredentialsError::from_msg(is_transient, "no answer"));
            let error = failed("test", Effect::None, error);
            assert_eq!((error.kind(), error.effect()), (kind, Effect::None));
        }
    }

    #[test]
    fn an_operation_that_failed_is_an_error_and_one_that_did_not_is_none() {
        let of = |operation: &Operation| of_operation("test", Effect::None, operation);
        assert!(of(&Operation::new().set_http_error_status_code(200)).is_none());
        let errors = [operation::error::Errors::new().set_code("ZONE_RESOURCE_POOL_EXHAUSTED").set_message("full")];
        let failed =
            Operation::new().set_error(operation::Error::new().set_errors(errors)).set_http_error_status_code(503);
        let error = of(&failed).unwrap();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None));
        assert!(error.to_string().contains("ZONE_RESOURCE_POOL_EXHAUSTED: full"), "{error}");
        let error = of(&Operation::new().set_http_error_status_code(404)).unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
