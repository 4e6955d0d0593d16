use std::error::Error as _;

use azure_core::error::ErrorKind as TokenErrorKind;

use super::*;
use crate::testing::answer;

fn refusal(status: u16, headers: &[(&str, &str)], body: &str) -> Failure {
    Failure::Refused(Box::new(answer(status, headers, body)))
}

fn of(status: u16, body: &str) -> ProviderError {
    failed("test", Effect::None, refusal(status, &[], body))
}

#[test]
fn answers_mean_what_the_vendor_says_of_them() {
    use ErrorKind as Kind;
    let nested = |outer: &str, inner: &str| {
        format!(
            r#"{{"error":{{"code":"{outer}","message":"outer","details":[{{"code":"{inner}","message":"inner"}}]}}}}"#
        )
    };
    let one = |code: &str, words: &str| format!(r#"{{"error":{{"code":"{code}","message":"{words}"}}}}"#);
    let quota = "Operation could not be completed as it results in exceeding approved Total Regional Cores quota.";
    for (status, body, kind, effect) in [
        (409, one("SkuNotAvailable", "m"), Kind::Capacity, Effect::None),
        (409, one("AllocationFailed", "m"), Kind::Capacity, Effect::None),
        (409, one("ZonalAllocationFailed", "m"), Kind::Capacity, Effect::None),
        (409, one("OverconstrainedAllocationRequest", "m"), Kind::Capacity, Effect::None),
        (400, one("SubnetIsFull", "m"), Kind::Capacity, Effect::None),
        (409, one("QuotaExceeded", "m"), Kind::Quota, Effect::None),
        (409, one("OperationNotAllowed", quota), Kind::Quota, Effect::None),
        (409, one("OperationNotAllowed", "the machine is being deleted"), Kind::Conflict, Effect::None),
        (403, one("OperationNotAllowed", "the size is not for you"), Kind::PermissionDenied, Effect::None),
        (429, one("OperationNotAllowed", "more than your quota of requests"), Kind::Throttled, Effect::None),
        (429, nested("OperationNotAllowed", "TooManyRequests"), Kind::Throttled, Effect::None),
        (409, one("Conflict", "m"), Kind::Conflict, Effect::None),
        (400, one("NicReservedForAnotherVm", "m"), Kind::Conflict, Effect::None),
        (400, one("NicInUse", "m"), Kind::Conflict, Effect::None),
        (409, one("AnotherOperationInProgress", "m"), Kind::Conflict, Effect::None),
        (412, one("PreconditionFailed", "m"), Kind::Conflict, Effect::None),
        (412, String::new(), Kind::Conflict, Effect::None),
        (429, nested("RetryableError", "RetryableErrorDueToAnotherOperation"), Kind::Conflict, Effect::None),
        (429, one("RetryableError", "m"), Kind::Throttled, Effect::None),
        (429, String::new(), Kind::Throttled, Effect::None),
        (400, nested("InvalidTemplateDeployment", "QuotaExceeded"), Kind::Quota, Effect::None),
        (400, nested("BadRequest", "SkuNotAvailable"), Kind::Capacity, Effect::None),
        (400, nested("SkuNotAvailable", "BadRequest"), Kind::Capacity, Effect::None),
        (409, one("ScopeLocked", "m"), Kind::PermissionDenied, Effect::None),
        (403, one("AuthorizationFailed", "m"), Kind::PermissionDenied, Effect::None),
        (404, one("SubscriptionNotFound", "m"), Kind::PermissionDenied, Effect::None),
        (404, one("ResourceNotFound", "m"), Kind::NotFound, Effect::None),
        (404, "<html>not found</html>".to_owned(), Kind::NotFound, Effect::None),
        (401, one("ExpiredAuthenticationToken", "m"), Kind::Unavailable, Effect::None),
        (401, one("SomethingNew", "m"), Kind::PermissionDenied, Effect::None),
        (400, one("SomethingNew", "m"), Kind::InvalidRequest, Effect::None),
        (418, one("SomethingNew", "m"), Kind::Internal, Effect::None),
        (500, one("InternalServerError", "m"), Kind::Unavailable, Effect::Unknown),
        (500, one("AllocationFailed", "m"), Kind::Capacity, Effect::Unknown),
        (502, "<html>Bad gateway</html>".to_owned(), Kind::Unavailable, Effect::Unknown),
        (504, one("GatewayTimeout", "m"), Kind::Timeout, Effect::Unknown),
        (408, String::new(), Kind::Timeout, Effect::Unknown),
        (307, String::new(), Kind::Internal, Effect::Unknown),
    ] {
        let error = of(status, &body);
        assert_eq!((error.kind(), error.effect()), (kind, effect), "{status} {body}");
        assert!(!error.to_string().contains(['\n', '<']), "{error}");
        assert!(error.source().is_some());
        assert_eq!(unseen("test", refusal(status, &[], &body)).effect(), Effect::None);
        assert_eq!(failed("test", Effect::Unknown, refusal(status, &[], &body)).effect(), Effect::Unknown);
    }
}

#[test]
fn the_words_are_those_of_the_complaint_that_says_most_in_one_line() {
    let inner = r#"{"code":"QuotaExceeded","message":"20 of\r\n20"}"#;
    let error = of(400, &format!(r#"{{"error":{{"code":"DeploymentFailed","message":"m","details":[{inner}]}}}}"#));
    assert_eq!(error.to_string(), "quota reached in test: QuotaExceeded: 20 of  20");
    let error = of(400, r#"{"error":{"code":"New","message":"m","details":[{"code":"Newer","message":"n"}]}}"#);
    assert_eq!(error.to_string(), "invalid request in test: New: m");
    assert_eq!(of(503, "<html>").to_string(), "unavailable in test: status 503 without an error that can be read");
    assert!(of(400, &format!(r#"{{"code":"A","message":"{}"}}"#, "x".repeat(100_000))).to_string().len() < 600);
}

#[test]
fn the_time_to_wait_is_the_vendors_or_else_that_of_the_code() {
    let hint = |status, headers: &[(&str, &str)], code: &str| {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        failed("test", Effect::None, refusal(status, headers, &body)).retry_after().map(|delay| delay.as_secs())
    };
    assert_eq!(hint(429, &[("retry-after", "7")], "TooManyRequests"), Some(7));
    assert_eq!(hint(409, &[("retry-after", "7")], "AllocationFailed"), Some(7));
    assert_eq!(hint(429, &[], "TooManyRequests"), Some(20));
    assert_eq!(hint(429, &[], "SomethingNew"), Some(20));
    assert_eq!(hint(409, &[], "AllocationFailed"), Some(60));
    assert_eq!(hint(400, &[], "NicReservedForAnotherVm"), Some(180));
    assert_eq!(hint(400, &[], "NicInUse"), Some(10));
    assert_eq!(hint(409, &[], "SomethingNew"), None);
}

#[test]
fn who_is_throttled_learns_by_which_limit() {
    let headers = [
        ("x-ms-ratelimit-remaining-subscription-reads", "0"),
        ("x-ms-ratelimit-remaining-resource", "Microsoft.Compute/HighCostGet3Min;0"),
        ("x-ms-ratelimit-remaining-resource", "Microsoft.Compute/HighCostGet30Min;139"),
    ];
    let text = failed("test", Effect::None, refusal(429, &headers, "")).to_string();
    for told in ["subscription-reads 0", "resource Microsoft.Compute/HighCostGet3Min;0", "HighCostGet30Min;139"] {
        assert!(text.contains(told), "{text}");
    }
    assert!(!failed("test", Effect::None, refusal(409, &headers, "")).to_string().contains("reads"));
}

#[test]
fn what_was_never_sent_has_no_effect_and_what_was_not_answered_may_have_one() {
    use ErrorKind as Kind;
    let no_token = |kind| Failure::NoToken(Box::new(azure_core::Error::with_message(kind, "m")));
    for (failure, kind, effect) in [
        (no_token(TokenErrorKind::Io), Kind::Unavailable, Effect::None),
        (no_token(TokenErrorKind::Credential), Kind::PermissionDenied, Effect::None),
        (Failure::Foreign("evil.example".into()), Kind::PermissionDenied, Effect::None),
        (Failure::Unmade("m"), Kind::InvalidRequest, Effect::None),
        (Failure::Unreadable, Kind::Internal, Effect::Unknown),
    ] {
        let error = failed("test", Effect::None, failure);
        assert_eq!((error.kind(), error.effect()), (kind, effect), "{error}");
    }
    assert_eq!(failed("test", Effect::Unknown, Failure::Unmade("m")).effect(), Effect::Unknown);
    assert_eq!(unseen("test", Failure::Unreadable).effect(), Effect::None);
}

#[test]
fn an_operation_that_failed_says_why() {
    let of = |body: &str| of_operation("test", Effect::None, &Complaint::read(body.as_bytes()).unwrap());
    let error = of(r#"{"error":{"code":"ZonalAllocationFailed","message":"full"}}"#);
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None));
    assert_eq!(error.to_string(), "no capacity in test: ZonalAllocationFailed: full");
    assert_eq!(error.retry_after(), Some(Duration::from_mins(1)));
    let superseded = r#"{"code":"Canceled","details":[{"code":"CanceledAndSupersededDueToAnotherOperation"}]}"#;
    assert_eq!(of(superseded).kind(), ErrorKind::Conflict);
    assert_eq!(of(r#"{"code":"SomethingNew"}"#).kind(), ErrorKind::Internal);
    let complaint = Complaint::read(br#"{"code":"Conflict"}"#).unwrap();
    assert_eq!(of_operation("test", Effect::Unknown, &complaint).effect(), Effect::Unknown);
}
