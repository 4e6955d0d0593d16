//! How Resource Manager says no: at once, or by an operation.

use serde_json::{Value, json};

use crate::route::name_of;

/// A refused request, or the end of an operation that did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    /// Such as `ResourceNotFound`.
    pub(crate) code: String,
    pub(crate) message: String,
    /// What of the request it is about.
    pub(crate) target: Option<String>,
    /// In how many seconds to try again.
    pub(crate) retry_after: Option<u32>,
}

impl Failure {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), target: None, retry_after: None }
    }

    /// With the parameter that it is about.
    #[must_use]
    pub(crate) fn about(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    /// With the time until the next try, in seconds.
    #[must_use]
    pub(crate) fn later(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// There is no such resource.
    pub(crate) fn not_found(kind: &str, id: &str) -> Self {
        let group = id.split('/').nth(4).unwrap_or_default();
        let message = format!(
            "The Resource '{kind}/{}' under resource group '{group}' was not found. For more details please go to \
             https://aka.ms/ARMResourceNotFoundFix",
            name_of(id)
        );
        Self::new(404, "ResourceNotFound", message)
    }

    /// A parameter has a value that cannot be.
    pub(crate) fn invalid(target: &str, message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameter", message).about(target)
    }

    /// The resource is not as the caller said.
    pub(crate) fn precondition_failed(id: &str) -> Self {
        Self::new(412, "PreconditionFailed", format!("The condition on the ETag of resource '{id}' is not met."))
    }

    /// Another change of the resource is on its way.
    pub(crate) fn conflict() -> Self {
        Self::new(
            409,
            "Conflict",
            "The request failed due to conflict with a concurrent request. To resolve it, please refer to \
             https://aka.ms/activitylog to get more details on the conflicting requests.",
        )
    }

    /// The caller may not.
    pub(crate) fn forbidden(action: &str, scope: &str) -> Self {
        let message = format!(
            "The client 'tester' with object id '00000000-0000-0000-0000-000000000001' does not have authorization to \
             perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, \
             please refresh your credentials."
        );
        Self::new(403, "AuthorizationFailed", message)
    }

    /// The caller may do what is asked, but not with what the body refers to.
    pub(crate) fn linked_forbidden(action: &str, scope: &str, linked_action: &str, linked: &str) -> Self {
        let message = format!(
            "The client 'tester' with object id '00000000-0000-0000-0000-000000000001' has permission to perform action \
             '{action}' on scope '{scope}'; however, it does not have permission to perform action(s) '{linked_action}' \
             on the linked scope(s) '{linked}' (respectively) or the linked scope(s) are invalid."
        );
        Self::new(403, "LinkedAuthorizationFailed", message)
    }

    /// The `error` of an answer's body or of an operation.
    pub(crate) fn error(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(target) = &self.target {
            error["target"] = target.as_str().into();
        }
        error
    }
}
