//! Why a group does not start what it should: what it says of its own attempts.

use aws_sdk_autoscaling::types::{Activity, ScalingActivityStatusCode};
use immutable_core::model::FleetId;
use immutable_core::provider::{Effect, ErrorKind, ProviderError};
use jiff::Timestamp;

use super::{ENSURE, launch_template};
use crate::config::Config;
use crate::error::failed;

/// So many of the newest are looked at: a group tries each missing instance by itself.
const LOOKED_AT: i32 = 20;

/// What failed longer ago says nothing about now: a group tries again, less often the more often it failed.
const FRESH_SECONDS: i64 = 600;

/// The words of a group about a failed start, and what they mean. The groups pass on what EC2 has answered, without its code:
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/CHAP_Troubleshooting.html>.
const WORDS: &[(&str, ErrorKind)] = &[
    ("insufficient capacity", ErrorKind::Capacity),
    ("do not have sufficient", ErrorKind::Capacity),
    ("no Spot capacity", ErrorKind::Capacity),
    ("is not supported in your requested Availability Zone", ErrorKind::Capacity),
    ("requested configuration is currently not supported", ErrorKind::Capacity),
    ("vCPU limit", ErrorKind::Quota),
    ("more vCPU capacity than", ErrorKind::Quota),
    ("Your quota allows", ErrorKind::Quota),
    ("limit exceeded", ErrorKind::Quota),
    ("limit has been exceeded", ErrorKind::Quota),
    ("LimitExceeded", ErrorKind::Quota),
    ("not enough free addresses", ErrorKind::Capacity),
    ("InsufficientInstanceCapacity", ErrorKind::Capacity),
    ("not authorized", ErrorKind::PermissionDenied),
    ("Access denied", ErrorKind::PermissionDenied),
    ("does not exist", ErrorKind::InvalidRequest),
    ("no longer exist", ErrorKind::InvalidRequest),
    // A person has ended it.
    ("Client.UserInitiatedShutdown", ErrorKind::Unavailable),
    ("Client.InstanceInitiatedShutdown", ErrorKind::Unavailable),
    // The reason of an instance that ended as it was started, such as a key for its volume that it may not use.
    ("Client.", ErrorKind::InvalidRequest),
    ("Invalid", ErrorKind::InvalidRequest),
    ("Request limit exceeded", ErrorKind::Throttled),
];

/// Nothing, as long as the group's newest attempt to start an instance goes on or went well, or is too long ago to matter.
///
/// # Errors
/// What the newest attempt failed with. The group tries again by itself.
pub(super) async fn check(config: &Config, fleet: &FleetId) -> Result<(), ProviderError> {
    let request = config.clients.autoscaling.describe_scaling_activities();
    let request = request.auto_scaling_group_name(launch_template::name(fleet));
    let found = request.max_records(LOOKED_AT).send().await.map_err(|error| failed(ENSURE, Effect::None, error))?;
    // The newest comes first; of ends there is nothing to be learned.
    let is_launch = |activity: &&Activity| activity.description().is_some_and(|words| words.contains("Launching"));
    let Some(newest) = found.activities().iter().find(is_launch) else { return Ok(()) };
    let oldest = Timestamp::now().as_second().saturating_sub(FRESH_SECONDS);
    let is_fresh = newest.start_time().is_some_and(|time| time.secs() >= oldest);
    // An instance that ended while it was started is told as cancelled.
    let failed = [ScalingActivityStatusCode::Failed, ScalingActivityStatusCode::Cancelled];
    if !is_fresh || !newest.status_code().is_some_and(|status| failed.contains(status)) {
        return Ok(());
    }
    let words = newest.status_message().unwrap_or("a start failed, and the group does not say why");
    Err(ProviderError::new(meaning(words), ENSURE, format!("group {fleet}: {words}")).without_effect())
}

fn meaning(words: &str) -> ErrorKind {
    let known = WORDS.iter().find(|(part, _)| words.contains(part));
    known.map_or(ErrorKind::Unavailable, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_group_are_understood() {
        let cases = [
            (
                "We currently do not have sufficient m5.large capacity in the Availability Zone you requested \
                 (us-east-1a). Launching EC2 instance failed.",
                ErrorKind::Capacity,
            ),
            (
                "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance \
                 bucket. Launching EC2 instance failed.",
                ErrorKind::Quota,
            ),
            ("The image id '[ami-1]' does not exist. Launching EC2 instance failed.", ErrorKind::InvalidRequest),
            ("You are not authorized to perform this operation.", ErrorKind::PermissionDenied),
            (
                "Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: \
                 Client.InternalError: Client error on launch",
                ErrorKind::InvalidRequest,
            ),
            ("Termination Reason: Client.VolumeLimitExceeded: Volume limit exceeded", ErrorKind::Quota),
            ("Something new.", ErrorKind::Unavailable),
        ];
        for (words, kind) in cases {
            assert_eq!(meaning(words), kind, "{words}");
        }
    }
}
