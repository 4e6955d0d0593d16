//! How Compute Engine says no: at once, or by an operation.

use serde_json::{Value, json};

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into() }
    }

    /// There is no such resource.
    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(404, "notFound", format!("The resource '{path}' was not found"))
    }

    /// There is one of this name.
    pub(crate) fn already_exists(path: &str) -> Self {
        Self::new(409, "alreadyExists", format!("The resource '{path}' already exists"))
    }

    /// It is being made, or being deleted.
    pub(crate) fn not_ready(path: &str) -> Self {
        Self::new(400, "resourceNotReady", format!("The resource '{path}' is not ready"))
    }

    /// Another resource needs it.
    pub(crate) fn in_use(path: &str, by: &str) -> Self {
        let message = format!("The resource '{path}' is already being used by '{by}'");
        Self::new(400, "resourceInUseByAnotherResource", message)
    }

    /// Somebody else changed it since the caller read it.
    pub(crate) fn condition_not_met() -> Self {
        Self::new(412, "conditionNotMet", "Invalid fingerprint.")
    }

    /// A field or parameter has a value that cannot be.
    pub(crate) fn invalid(field: &str, value: &str, why: &str) -> Self {
        Self::new(400, "invalid", format!("Invalid value for field '{field}': '{value}'. {why}"))
    }

    /// The caller may not.
    pub(crate) fn forbidden(permission: &str, resource: &str) -> Self {
        Self::new(403, "forbidden", format!("Required '{permission}' permission for '{resource}'"))
    }

    /// The body of the answer. Compute Engine does not say `status` everywhere: a client that needs it must be seen to.
    pub(crate) fn to_json(&self) -> Value {
        let domain = if self.reason == "rateLimitExceeded" { "usageLimits" } else { "global" };
        let mut error = json!({
            "code": self.status,
            "message": self.message,
            "errors": [{ "message": self.message, "domain": domain, "reason": self.reason }],
        });
        let status = match self.status {
            401 => Some("UNAUTHENTICATED"),
            403 => Some("PERMISSION_DENIED"),
            429 => Some("RESOURCE_EXHAUSTED"),
            503 => Some("UNAVAILABLE"),
            _ => None,
        };
        if let Some(status) = status {
            error["status"] = status.into();
        }
        json!({ "error": error })
    }
}

/// Why an operation that was accepted did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperationError {
    /// Such as `QUOTA_EXCEEDED`.
    pub(crate) code: String,
    pub(crate) message: String,
    /// What the operation gives as `httpErrorStatusCode`.
    pub(crate) status: u16,
}

impl OperationError {
    /// An error with the HTTP status that goes with its code.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        let status = match code {
            "RESOURCE_NOT_FOUND" => 404,
            "RESOURCE_ALREADY_EXISTS" => 409,
            "CONDITION_NOT_MET" => 412,
            "QUOTA_EXCEEDED" | "PERMISSIONS_ERROR" => 403,
            _ if code.starts_with("ZONE_RESOURCE_POOL_EXHAUSTED") => 503,
            _ if code.ends_with("INTERNAL_ERROR") => 500,
            _ => 400,
        };
        Self { code: code.to_owned(), message: message.into(), status }
    }

    /// The `error` of an operation and the `errors` of a managed instance's last attempt.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "errors": [{ "code": self.code, "message": self.message }] })
    }
}

impl From<Failure> for OperationError {
    /// The same refusal, found out too late to be the answer.
    fn from(failure: Failure) -> Self {
        let code = match failure.reason.as_str() {
            "notFound" => "RESOURCE_NOT_FOUND",
            "alreadyExists" => "RESOURCE_ALREADY_EXISTS",
            "conditionNotMet" => "CONDITION_NOT_MET",
            "resourceInUseByAnotherResource" => "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
            "resourceNotReady" => "RESOURCE_NOT_READY",
            "quotaExceeded" => "QUOTA_EXCEEDED",
            _ => "INVALID_FIELD_VALUE",
        };
        Self { code: code.to_owned(), message: failure.message, status: failure.status }
    }
}
