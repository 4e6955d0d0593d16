//! Immutable rollouts on AWS: golden AMIs, fleets as Auto Scaling groups or plain instances, and traffic by weighted target groups of
//! an application or network load balancer.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use immutable_aws::{Clients, Config};
//!
//! let clients = Clients::from_env().await;
//! let config = Config::builder(clients)
//!     .subnets(["subnet-0a1b2c3d", "subnet-4e5f6a7b"])
//!     .security_groups(["sg-0a1b2c3d"])
//!     .instance_types(["m7i.large"])
//!     .port(8080)
//!     .build()?;
//! let platform = immutable_aws::platform(&config);
//! # Ok(())
//! # }
//! ```

mod client;
mod config;
mod error;
mod guest;
mod health_probe;
mod image_builder;
mod metric_source;
mod platform;
mod policy;
mod provisioner;
mod tags;
mod target_groups;
#[cfg(test)]
mod testing;
mod traffic_switch;

pub use client::Clients;
pub use config::{Config, ConfigBuilder, ConfigError, Fleets, LifecycleHook};
pub use health_probe::{GroupHealthProbe, StatusCheckProbe, TargetHealthProbe};
pub use image_builder::{AmiBuilder, ImageCopy, ImageSettings};
pub use metric_source::CloudWatchMetrics;
pub use platform::platform;
pub use policy::iam_policy;
pub use provisioner::{AutoScalingProvisioner, Ec2Provisioner};
pub use traffic_switch::ElbSwitch;
