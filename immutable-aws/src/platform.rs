//! All parts together.

use std::sync::Arc;

use immutable_core::health::{AllOf, HttpProbe};
use immutable_core::provider::{HealthProbe, Pace, Platform, Provisioner};

use crate::config::{Config, Fleets};
use crate::{
    AmiBuilder, AutoScalingProvisioner, CloudWatchMetrics, Ec2Provisioner, ElbSwitch, GroupHealthProbe,
    StatusCheckProbe,
};

/// The platform with these settings, of which any part can be replaced.
///
/// With a [`health_path`](crate::ConfigBuilder::health_path), an instance is good when it answers there, which needs a way from here to its
/// private address; without, when the status checks of EC2 are passed, which takes some minutes and tells little. In a group, it also has
/// to be healthy in the group's eyes. What the balancer itself finds counts besides: the engine gives no traffic to a target that the balancer
/// does not find healthy.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use immutable_aws::{Config, TargetHealthProbe};
/// use immutable_core::provider::Platform;
/// use std::sync::Arc;
///
/// let config = Config::from_env().await?;
/// // Where instances cannot be reached from here, the balancer's look at them can be enough.
/// let health = Arc::new(TargetHealthProbe::new(config.clone()));
/// let platform = Platform { health, ..immutable_aws::platform(&config) };
/// # Ok(())
/// # }
/// ```
pub fn platform(config: &Config) -> Platform {
    let fleets: Arc<dyn Provisioner> = match config.fleets {
        Fleets::AutoScaling => Arc::new(AutoScalingProvisioner::new(config.clone())),
        Fleets::Instances => Arc::new(Ec2Provisioner::new(config.clone())),
    };
    Platform {
        images: Arc::new(AmiBuilder::new(config.clone())),
        fleets,
        health: Arc::new(health(config)),
        traffic: Arc::new(ElbSwitch::new(config.clone())),
        metrics: Arc::new(CloudWatchMetrics::new(config.clone())),
        pace: Pace { list_lag: config.list_lag, ..Pace::default() },
    }
}

fn health(config: &Config) -> AllOf {
    let mut probes: Vec<Arc<dyn HealthProbe>> = vec![match &config.health_path {
        Some(path) => Arc::new(HttpProbe::get(path).build().expect("invariant: the settings were checked")),
        None => Arc::new(StatusCheckProbe::new(config.clone())),
    }];
    if config.fleets == Fleets::AutoScaling {
        probes.push(Arc::new(GroupHealthProbe::new(config.clone())));
    }
    AllOf::new(probes).expect("invariant: there is at least one probe")
}
