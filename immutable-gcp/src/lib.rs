//! Immutable rollouts on Google Cloud: golden images, fleets as managed instance groups, and traffic by weighted backend services of a load
//! balancer.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use immutable_gcp::{Clients, Config, Location};
//!
//! let location = Location::region("europe-west3", ["europe-west3-a", "europe-west3-b"]);
//! let config = Config::builder(Clients::from_env().await?, "web-production", location, "e2-standard-2")
//!     .network("web")
//!     .subnetwork("regions/europe-west3/subnetworks/web")
//!     .service_account("web@web-production.iam.gserviceaccount.com")
//!     .routes(["global/urlMaps/web".parse()?])
//!     .port(8080)
//!     .build()?;
//! let platform = immutable_gcp::platform(&config);
//! # Ok(())
//! # }
//! ```

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
mod platform;
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
pub use platform::platform;
pub use provisioner::GroupProvisioner;
pub use traffic_switch::{BackendServiceSwitch, UrlMapSwitch};
