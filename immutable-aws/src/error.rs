//! What the errors of AWS mean here: one table, from the vendor's code to a kind and a hint when to try again.

use std::error::Error;
use std::iter;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
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
        _ if has_no_credentials(&error) => (ErrorKind::PermissionDenied, Effect::None),
        (_, Some(row)) if is_absent(&error) => (ErrorKind::NotFound, row.effect),
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

/// What a failed look means for the call that looked: a look changes nothing, whether it was answered or not.
pub(crate) fn unseen<E>(operation: &'static str, before: Effect, error: SdkError<E, HttpResponse>) -> ProviderError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let failed = failed(operation, before, error);
    if before == Effect::None { failed.without_effect() } else { failed }
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

/// Auto Scaling has no code of its own for what it does not find: "Instance Id not found", "The specified launch template ... does not exist".
fn is_absent<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let is_absence = |words: &str| words.contains("not found") || words.contains("does not exist");
    error.code() == Some("ValidationError") && error.message().is_some_and(is_absence)
}

/// Whether the request was never signed, and so never sent.
fn has_no_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut causes = iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    causes.any(<dyn Error>::is::<CredentialsError>)
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
fn message<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    const LONGEST: usize = 500;
    match (error, error.code(), error.message()) {
        _ if has_no_credentials(error) => {
            "no credentials could be had: sign in, or check the role and the profile that are to be used".to_owned()
        }
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

/// A refusal: nothing was changed by the request.
const fn refused(code: &'static str, kind: ErrorKind) -> Row {
    Row { code, kind, effect: Effect::None, retry_after: None }
}

/// An answer after which nobody knows.
const fn unclear(code: &'static str, kind: ErrorKind) -> Row {
    Row { code, kind, effect: Effect::Unknown, retry_after: None }
}

impl Row {
    const fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

/// The codes of [EC2](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html),
/// [Auto Scaling](https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html),
/// [Elastic Load Balancing](https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html) and
/// [CloudWatch](https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CommonErrors.html). Beside each stands what the vendor says of it.
/// The first row that fits counts.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    // "The maximum request rate permitted by the Amazon EC2 APIs has been exceeded for your account."
    refused("RequestLimitExceeded", ErrorKind::Throttled),
    // "The request was denied due to request throttling."
    refused("Throttling*", ErrorKind::Throttled),
    // "Your account is currently blocked" for a time by too many requests; "Rate exceeded".
    refused("RequestThrottled*", ErrorKind::Throttled),
    refused("TooManyRequestsException", ErrorKind::Throttled),
    // "Reduce your request rate", of the services behind.
    refused("SlowDown", ErrorKind::Throttled),

    // "There is not enough capacity to fulfill your request. Try a different Availability Zone or instance type."
    refused("InsufficientInstanceCapacity", ErrorKind::Capacity).after(30),
    // "There is not enough capacity to fulfill your Dedicated Host request."
    refused("InsufficientHostCapacity", ErrorKind::Capacity).after(30),
    // "There are not enough available Reserved Instances to satisfy your minimum request."
    refused("InsufficientReservedInstanceCapacity", ErrorKind::Capacity).after(30),
    // "There is not enough capacity to fulfill your EBS volume provision request."
    refused("InsufficientVolumeCapacity", ErrorKind::Capacity).after(30),
    // "There is not enough capacity to fulfill your request": Spot, capacity reservations, and addresses of a subnet.
    refused("InsufficientCapacity*", ErrorKind::Capacity).after(30),
    refused("InsufficientFreeAddressesInSubnet", ErrorKind::Capacity).after(30),
    refused("InsufficientAddressCapacity", ErrorKind::Capacity).after(30),
    refused("SpotMaxPriceTooLow", ErrorKind::Capacity).after(30),
    refused("UnfulfillableCapacity", ErrorKind::Capacity).after(30),
    refused("ReservationCapacityExceeded", ErrorKind::Capacity).after(30),
    // "The specified request is unsupported": of an instance type, in this zone. Another choice may be supported, so it waits like a shortage.
    refused("Unsupported", ErrorKind::Capacity).after(60),
    refused("UnsupportedHostConfiguration", ErrorKind::Capacity).after(60),

    // "You've reached the limit on the number of vCPUs assigned to the running instances in your account."
    refused("VcpuLimitExceeded", ErrorKind::Quota).after(60),
    // "You've reached the limit on the number of instances you can run concurrently."
    refused("InstanceLimitExceeded", ErrorKind::Quota).after(60),
    // "You've reached the limit on the number of Spot Instances that you can launch."
    refused("MaxSpotInstanceCountExceeded", ErrorKind::Quota).after(60),
    // "You've reached the limit on your Amazon EBS volume storage", snapshots, interfaces, groups, templates, hooks and so on.
    refused("MaxFleetCountExceeded", ErrorKind::Quota).after(60),
    refused("VolumeLimitExceeded", ErrorKind::Quota).after(60),
    refused("MaxIOPSLimitExceeded", ErrorKind::Quota).after(60),
    refused("SnapshotLimitExceeded", ErrorKind::Quota).after(60),
    refused("ConcurrentSnapshotLimitExceeded", ErrorKind::Quota).after(60),
    refused("ResourceCountExceeded", ErrorKind::Quota).after(60),
    refused("ResourceLimitExceeded", ErrorKind::Quota).after(60),
    refused("NetworkInterfaceLimitExceeded", ErrorKind::Quota).after(60),
    refused("PrivateIpAddressLimitExceeded", ErrorKind::Quota).after(60),
    refused("LimitExceeded*", ErrorKind::Quota).after(60),
    // Elastic Load Balancing: "You've reached the limit on the number of target groups", of targets, of registrations.
    refused("TooManyTargetGroups", ErrorKind::Quota).after(60),
    refused("TooManyUniqueTargetGroupsPerLoadBalancer", ErrorKind::Quota).after(60),
    refused("TargetGroupAssociationLimit", ErrorKind::Quota).after(60),
    refused("TooManyTargets", ErrorKind::Quota).after(60),
    refused("TooManyRegistrationsForTargetId", ErrorKind::Quota).after(60),
    refused("TooManyActions", ErrorKind::Quota).after(60),
    refused("TooManyTags", ErrorKind::Quota).after(60),

    // "You already have an Auto Scaling group or launch configuration with this name", a template, a target group, an image.
    refused("AlreadyExists*", ErrorKind::Conflict),
    refused("InvalidLaunchTemplateName.AlreadyExistsException", ErrorKind::Conflict),
    refused("DuplicateTargetGroupName", ErrorKind::Conflict),
    refused("InvalidAMIName.Duplicate", ErrorKind::Conflict),
    // "You already have a pending update to an Amazon EC2 Auto Scaling resource."
    refused("ResourceContention*", ErrorKind::Conflict),
    // "The operation can't be performed because there are scaling activities in progress."
    refused("ScalingActivityInProgress*", ErrorKind::Conflict),
    // "The operation can't be performed because the resource is in use."
    refused("ResourceInUse*", ErrorKind::Conflict),
    // "The snapshot is in use by an AMI."
    refused("InvalidSnapshot.InUse", ErrorKind::Conflict),
    // "The instance is in an incorrect state, so you can't perform this action."
    refused("IncorrectInstanceState", ErrorKind::Conflict),
    refused("IncorrectState*", ErrorKind::Conflict),
    // "The image is not available", yet or any more.
    refused("InvalidAMIID.Unavailable", ErrorKind::Conflict),
    // "The request has the same client token as an earlier request, but different parameters", and that of an instance that has ended.
    refused("IdempotentParameterMismatch", ErrorKind::Conflict),
    refused("IdempotentInstanceTerminated", ErrorKind::Conflict),

    // "The specified ... does not exist."
    refused("InvalidInstanceID.NotFound", ErrorKind::NotFound),
    refused("InvalidAMIID.NotFound", ErrorKind::NotFound),
    refused("InvalidSnapshot.NotFound", ErrorKind::NotFound),
    refused("InvalidLaunchTemplateId.NotFound*", ErrorKind::NotFound),
    refused("InvalidLaunchTemplateId.VersionNotFound", ErrorKind::NotFound),
    refused("InvalidLaunchTemplateName.NotFound*", ErrorKind::NotFound),
    refused("InvalidFleetId.NotFound", ErrorKind::NotFound),
    refused("ListenerNotFound*", ErrorKind::NotFound),
    refused("RuleNotFound*", ErrorKind::NotFound),
    refused("TargetGroupNotFound*", ErrorKind::NotFound),
    refused("LoadBalancerNotFound*", ErrorKind::NotFound),

    // "You are not authorized to perform this operation."
    refused("UnauthorizedOperation", ErrorKind::PermissionDenied),
    refused("AccessDenied*", ErrorKind::PermissionDenied),
    refused("OptInRequired", ErrorKind::PermissionDenied),
    // "The provided credentials could not be validated", or are no longer valid.
    refused("AuthFailure*", ErrorKind::PermissionDenied),
    refused("InvalidClientTokenId", ErrorKind::PermissionDenied),
    refused("UnrecognizedClientException", ErrorKind::PermissionDenied),
    refused("SignatureDoesNotMatch", ErrorKind::PermissionDenied),
    refused("IncompleteSignature*", ErrorKind::PermissionDenied),
    refused("MissingAuthenticationToken*", ErrorKind::PermissionDenied),
    refused("NotAuthorized*", ErrorKind::PermissionDenied),
    // "The request has expired": the clock, or a session that has ended. Whoever signs it anew may get it through.
    refused("RequestExpired", ErrorKind::Unavailable),
    refused("ExpiredToken*", ErrorKind::PermissionDenied),
    // "The specified operation is not permitted", as for an instance that is protected from termination.
    refused("OperationNotPermitted*", ErrorKind::PermissionDenied),

    // "The specified target does not exist, is not in the same VPC": it may have ended just now.
    refused("InvalidTarget*", ErrorKind::Conflict),
    refused("PriorityInUse*", ErrorKind::Conflict),

    // "An input parameter is invalid", by whichever name it has.
    refused("ValidationError", ErrorKind::InvalidRequest),
    refused("Invalid*", ErrorKind::InvalidRequest),
    refused("Malformed*", ErrorKind::InvalidRequest),
    refused("Missing*", ErrorKind::InvalidRequest),
    refused("Unknown*", ErrorKind::InvalidRequest),
    refused("IncompatibleProtocols", ErrorKind::InvalidRequest),
    refused("VPCIdNotSpecified", ErrorKind::InvalidRequest),
    refused("UnsupportedOperation", ErrorKind::Unsupported),

    // "The request processing has failed because of an unknown error, exception or failure."
    unclear("InternalError", ErrorKind::Unavailable),
    unclear("InternalFailure", ErrorKind::Unavailable),
    unclear("InternalServiceFault", ErrorKind::Unavailable),
    unclear("ServerInternal", ErrorKind::Unavailable),
    // "The request has failed due to a temporary failure of the server."
    unclear("ServiceUnavailable*", ErrorKind::Unavailable).after(5),
    unclear("Unavailable", ErrorKind::Unavailable).after(5),
    unclear("RequestTimeout*", ErrorKind::Timeout),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_vendor_says_of_them() {
        use ErrorKind::{Capacity, Conflict, InvalidRequest, NotFound, PermissionDenied, Quota, Throttled};
        let cases = [
            ("RequestLimitExceeded", Throttled),
            ("ThrottlingException", Throttled),
            ("Throttling", Throttled),
            ("InsufficientInstanceCapacity", Capacity),
            ("InsufficientHostCapacity", Capacity),
            ("Unsupported", Capacity),
            ("VcpuLimitExceeded", Quota),
            ("InstanceLimitExceeded", Quota),
            ("AlreadyExistsFault", Conflict),
            ("InvalidAMIName.Duplicate", Conflict),
            ("InvalidInstanceID.NotFound", NotFound),
            ("UnauthorizedOperation", PermissionDenied),
            ("AccessDenied", PermissionDenied),
            ("InvalidParameterValue", InvalidRequest),
            ("UnsupportedOperation", ErrorKind::Unsupported),
        ];
        for (code, expected) in cases {
            assert_eq!(kind(code), Some(expected), "{code}");
        }
        assert_eq!(kind("SomethingNew"), None);
    }

    /// A row behind one that fits whatever it fits is never read.
    #[test]
    fn every_row_can_be_reached() {
        for known in TABLE {
            let code = known.code.trim_end_matches('*');
            assert_eq!(row(code).map(|row| row.code), Some(known.code));
        }
    }
}
