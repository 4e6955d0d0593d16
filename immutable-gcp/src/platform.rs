//! All parts together.

use std::sync::Arc;

use immutable_core::health::{AllOf, HttpProbe};
use immutable_core::provider::{HealthProbe, Pace, Platform};

use crate::{ComputeImageBuilder, Config, GroupHealthProbe, GroupProvisioner, MonitoringMetrics, UrlMapSwitch};

/// The platform with these settings, of which any part can be replaced. Traffic goes by the weights of URL maps.
///
/// With a [`health_path`](crate::ConfigBuilder::health_path), an instance is good when it answers there, which needs a way from here to its
/// internal address. It also has to be good in the eyes of its group: without
/// [`autohealing`](crate::ConfigBuilder::autohealing) that is no more than a machine that runs, which tells little. What the balancer itself
/// finds counts besides: the engine gives no traffic to a member that the balancer does not find healthy.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use immutable_core::provider::Platform;
/// use immutable_gcp::{BackendServiceSwitch, Config};
/// use std::sync::Arc;
///
/// let config = Config::from_env().await?;
/// // In front of a network load balancer there is no URL map: fleets are members of its backend service.
/// let traffic = Arc::new(BackendServiceSwitch::new(config.clone()));
/// let platform = Platform { traffic, ..immutable_gcp::platform(&config) };
/// # Ok(())
/// # }
/// ```
pub fn platform(config: &Config) -> Platform {
    Platform {
        images: Arc::new(ComputeImageBuilder::new(config.clone())),
        fleets: Arc::new(GroupProvisioner::new(config.clone())),
        health: Arc::new(health(config)),
        traffic: Arc::new(UrlMapSwitch::new(config.clone())),
        metrics: Arc::new(MonitoringMetrics::new(config.clone())),
        pace: Pace { list_lag: config.list_lag, ..Pace::default() },
    }
}

fn health(config: &Config) -> AllOf {
    let mut probes: Vec<Arc<dyn HealthProbe>> = vec![Arc::new(GroupHealthProbe::new(config.clone()))];
    if let Some(path) = &config.health_path {
        probes.push(Arc::new(HttpProbe::get(path).build().expect("invariant: the settings were checked")));
    }
    AllOf::new(probes).expect("invariant: there is at least one probe")
}
