//! The SDK's clients, and how they have to be set up.

use std::fmt;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

/// One client of each service of AWS that is used. A plain struct, so that each can be replaced.
///
/// A client that is put in here by hand must not retry by itself ([`RetryConfig::disabled`]): the engine owns time, and a retry that it does
/// not know of can land after what it decided next.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "users replace single clients")]
pub struct Clients {
    /// Instances, images, launch templates.
    pub ec2: aws_sdk_ec2::Client,
    /// Auto Scaling groups.
    pub autoscaling: aws_sdk_autoscaling::Client,
    /// Load balancers and target groups.
    pub elb: aws_sdk_elasticloadbalancingv2::Client,
    /// Metrics.
    pub cloudwatch: aws_sdk_cloudwatch::Client,
}

impl Clients {
    /// Clients with the credentials, the region and the endpoint of this configuration, without retries.
    pub fn new(sdk: &SdkConfig) -> Self {
        // The engine drops a call that takes too long; a limit of the SDK's own would only hide how long it took.
        let sdk = sdk
            .clone()
            .into_builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .build();
        Self {
            ec2: aws_sdk_ec2::Client::new(&sdk),
            autoscaling: aws_sdk_autoscaling::Client::new(&sdk),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(&sdk),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&sdk),
        }
    }

    /// Clients with what the environment, the profile files or the instance's role say: the SDK's default chain.
    pub async fn from_env() -> Self {
        Self::new(&aws_config::load_defaults(BehaviorVersion::latest()).await)
    }
}

impl fmt::Debug for Clients {
    /// Without the clients: what the SDK prints of them is not ours to vouch for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
