//! Immutable rollouts on Google Cloud: golden images, fleets as managed instance groups, and traffic by weighted backend services of a load
//! balancer.

mod backends;
mod changes;
mod client;
mod config;
mod endpoint_groups;
mod error;
mod health_probe;
mod image_builder;
mod metric_source;
mod on_route;
mod operation;
mod ownership;
mod permissions;
mod provisioner;
mod startup;
mod task;
mod traffic_switch;

pub use client::Clients;
pub use config::{Config, ConfigBuilder, ConfigError, Location};
pub use health_probe::{BackendHealthProbe, GroupHealthProbe};
pub use image_builder::{ComputeImageBuilder, ImageSettings, ImageUse};
pub use metric_source::MonitoringMetrics;
pub use permissions::role_permissions;
pub use provisioner::GroupProvisioner;
pub use traffic_switch::{BackendServiceSwitch, UrlMapSwitch};
