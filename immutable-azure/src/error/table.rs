//! The vendor's codes, each with what it says of them.

use immutable_core::provider::ErrorKind;

/// One code of the vendor's.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) code: &'static str,
    pub(super) kind: ErrorKind,
    /// When it makes sense to try again, in seconds.
    pub(super) retry_after: Option<u64>,
    /// Whether it says no more than a status does, so that a code inside it is heard first.
    pub(super) is_vague: bool,
}

pub(super) fn row(code: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.code == code)
}

const fn is(code: &'static str, kind: ErrorKind) -> Row {
    Row { code, kind, retry_after: None, is_vague: false }
}

impl Row {
    const fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    const fn vague(self) -> Self {
        Self { is_vague: true, ..self }
    }
}

/// The codes of [Azure Resource Manager](https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors) and of
/// the services behind it. Beside each stands what the vendor says of it. `OperationNotAllowed` is not here: it says nothing without its words.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    // "The server rejected the request because too many requests have been received for this subscription."
    is("TooManyRequests", ErrorKind::Throttled).after(20),
    // "Number of requests for subscription ... and operation ... exceeded the backend storage limit. Please try again after '6' seconds."
    is("SubscriptionRequestsThrottled", ErrorKind::Throttled).after(10),
    // "The request is being throttled as the limit has been reached for operation type - ..."
    is("ResourceRequestsThrottled", ErrorKind::Throttled).after(10),
    is("ResourceCollectionRequestsThrottled", ErrorKind::Throttled).after(10),

    // "The cluster or region doesn't have resources available or can't support the requested VM size. Retry the request at a later time, or
    // request a different VM size."
    is("AllocationFailed", ErrorKind::Capacity).after(60),
    // "Allocation failed. We do not have sufficient capacity for the requested VM size in this zone."
    is("ZonalAllocationFailed", ErrorKind::Capacity).after(60),
    // "Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too restrictive."
    is("OverconstrainedAllocationRequest", ErrorKind::Capacity).after(60),
    is("OverconstrainedZonalAllocationRequest", ErrorKind::Capacity).after(60),
    // "The requested tier for resource '...' is currently not available in location '...'. Try another tier or deploy to a different location."
    is("SkuNotAvailable", ErrorKind::Capacity).after(60),
    // "There aren't enough available addresses in the subnet to deploy resources."
    is("SubnetIsFull", ErrorKind::Capacity).after(60),

    // "Operation could not be completed as it results in exceeding approved Total Regional Cores quota."
    is("QuotaExceeded", ErrorKind::Quota).after(60),
    // "The deployment is trying to create resources that exceed the quota for the subscription, resource group, or region."
    is("ResourceQuotaExceeded", ErrorKind::Quota).after(60),
    // "You've reached the limit for the number of running public IPs."
    is("PublicIPCountLimitReached", ErrorKind::Quota).after(60),
    // "Select a different region or submit a quota support request for Region access."
    is("RegionDoesNotAllowProvisioning", ErrorKind::Quota).after(60),

    // "Another operation on this or dependent resource is in progress."
    is("AnotherOperationInProgress", ErrorKind::Conflict).after(10),
    // "A retryable error occurred." Why is said inside.
    is("RetryableError", ErrorKind::Conflict).after(10).vague(),
    // "Operation ... is updating resource .... The call can be retried in 14 seconds."
    is("RetryableErrorDueToAnotherOperation", ErrorKind::Conflict).after(10),
    // "Cannot proceed with operation because resource ... is not in Succeeded state."
    is("ReferencedResourceNotProvisioned", ErrorKind::Conflict).after(10),
    // "Operation ... was canceled and superseded by operation ...."
    is("CanceledAndSupersededDueToAnotherOperation", ErrorKind::Conflict).after(10),
    // "The operation has been preempted by a more recent operation."
    is("OperationPreempted", ErrorKind::Conflict).after(10),
    // "Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please provide another nic(s) or retry after 180 seconds."
    is("NicReservedForAnotherVm", ErrorKind::Conflict).after(180),
    // "Network Interface ... is used by existing resource ...": what is being deleted still has it.
    is("NicInUse", ErrorKind::Conflict).after(10),
    // "Wait for deletion to complete."
    is("ResourceGroupBeingDeleted", ErrorKind::Conflict).after(60),
    // "The condition specified using HTTP conditional header(s) is not met": somebody else has changed it.
    is("PreconditionFailed", ErrorKind::Conflict),
    // "You're requesting an operation that isn't allowed in the resource's current state."
    is("Conflict", ErrorKind::Conflict).vague(),

    // "The Resource '...' under resource group '...' was not found."
    is("ResourceNotFound", ErrorKind::NotFound),
    // "Make sure a parent resource exists before creating the child resources."
    is("ParentResourceNotFound", ErrorKind::NotFound),
    // "The target resource group must already exist in your subscription."
    is("ResourceGroupNotFound", ErrorKind::NotFound),
    is("NotFound", ErrorKind::NotFound).vague(),

    // "Your account or service principal doesn't have sufficient access to complete the deployment."
    is("AuthorizationFailed", ErrorKind::PermissionDenied),
    // "Check if your account belongs to the same tenant as the resource group that you're deploying to."
    is("LinkedAuthorizationFailed", ErrorKind::PermissionDenied),
    // "Your subscription includes a resource policy that prevents an action you're trying to do."
    is("RequestDisallowedByPolicy", ErrorKind::PermissionDenied),
    // "The scope '...' cannot perform delete operation because following scope(s) are locked": a person has to unlock it.
    is("ScopeLocked", ErrorKind::PermissionDenied),
    // "A specified subscription for deployment can't be accessed." What is in it is not gone.
    is("SubscriptionNotFound", ErrorKind::PermissionDenied),
    // "Register your subscription with the resource provider."
    is("MissingSubscriptionRegistration", ErrorKind::PermissionDenied),
    // "The subscription '...' is disabled and therefore marked as read only."
    is("ReadOnlyDisabledSubscription", ErrorKind::PermissionDenied),
    // "Get access token for the appropriate tenant."
    is("InvalidAuthenticationTokenTenant", ErrorKind::PermissionDenied),
    // "The access token expiry UTC time '...' is earlier than current UTC time": the next attempt has another token.
    is("ExpiredAuthenticationToken", ErrorKind::Unavailable).after(1),

    // "One of the values you provided for a resource doesn't match the expected value."
    is("InvalidParameter", ErrorKind::InvalidRequest),
    // "The deployment values either include values that aren't recognized, or required values are missing."
    is("InvalidRequestContent", ErrorKind::InvalidRequest),
    is("InvalidRequestFormat", ErrorKind::InvalidRequest),
    // "The resource either doesn't yet exist or is incorrectly referenced."
    is("InvalidResourceReference", ErrorKind::InvalidRequest),
    // "The resource ID for a resource isn't resolved."
    is("LinkedInvalidPropertyId", ErrorKind::InvalidRequest),
    // "Some properties can't be changed on a deployed resource."
    is("PropertyChangeNotAllowed", ErrorKind::InvalidRequest),
    // "Check resource provider registration status": there is no such type, version or location.
    is("NoRegisteredProviderFound", ErrorKind::InvalidRequest),
    // "You sent deployment values that don't match what is expected by Resource Manager. Check the inner status message."
    is("BadRequest", ErrorKind::InvalidRequest).vague(),

    // "Caused by a temporary problem. Retry the deployment."
    is("InternalServerError", ErrorKind::Unavailable).after(10).vague(),
    // "An internal execution error occurred. Please retry later."
    is("InternalExecutionError", ErrorKind::Unavailable).after(10),
    is("InternalOperationError", ErrorKind::Unavailable).after(10),
    // "An unexpected error occured while processing the network profile of the VM. Please retry later."
    is("NetworkingInternalOperationError", ErrorKind::Unavailable).after(10),
    is("ServiceUnavailable", ErrorKind::Unavailable).after(10).vague(),
    // "The gateway did not receive a response from '...' within the specified time period."
    is("GatewayTimeout", ErrorKind::Timeout).after(10),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_row() {
        for (index, one) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.code != one.code), "{}", one.code);
        }
    }
}
