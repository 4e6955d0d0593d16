//! Immutable rollouts of real processes on one machine: the embedded default, for Linux and macOS, without root.
//!
//! * An image is a read-only directory tree, named by the SHA-256 of its content ([`LocalImageBuilder`]).
//! * An instance is a child process in a process group of its own, with its own directory and port ([`LocalProvisioner`]).
//! * The switch is an HTTP/1.1 reverse proxy inside this process ([`LocalSwitch`]), and its counters are the metrics
//!   ([`LocalMetrics`]).
//!
//! [`platform`] puts them together.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod clock;
mod config;
mod error;
mod files;
mod image_builder;
mod metric_source;
mod provisioner;
mod secret_source;
mod stamp;
mod traffic_switch;

use std::sync::Arc;
use std::time::Duration;

use immutable_core::provider::{HealthProbe, Pace, Platform};

pub use clock::Clock;
pub use config::LocalConfig;
pub use error::{Drift, VerifyError};
pub use image_builder::LocalImageBuilder;
pub use metric_source::LocalMetrics;
pub use provisioner::LocalProvisioner;
pub use secret_source::{EnvironmentSecrets, MapSecrets, Secret, SecretSource};
pub use traffic_switch::{
    Exposure, FleetCounters, FleetDisclosure, LatencyHistogram, LocalSwitch, MemberLoad, Repeat, SwitchError,
    SwitchOptions,
};

/// One machine as a platform: processes, a proxy in front of them, its counters as metrics, and a probe of yours.
///
/// Looks every few milliseconds, which is cheap here: there is no network and no bill.
pub fn platform(config: LocalConfig, switch: &LocalSwitch, health: impl HealthProbe) -> Platform {
    Platform {
        images: Arc::new(LocalImageBuilder::new(config.root())),
        fleets: Arc::new(LocalProvisioner::new(config)),
        health: Arc::new(health),
        traffic: Arc::new(switch.clone()),
        metrics: Arc::new(LocalMetrics::new(switch.clone())),
        pace: Pace {
            observe: Duration::from_millis(5),
            probe_starting: Duration::from_millis(5),
            probe_running: Duration::from_millis(100),
            call_timeout: Duration::from_secs(10),
            // What a process that was killed had begun is over with it; a thread that outlives its call soon ends.
            ambiguity_horizon: Duration::from_millis(50),
            list_lag: Duration::ZERO,
        },
    }
}
