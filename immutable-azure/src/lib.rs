//! Immutable rollouts on Azure: golden images in a gallery, fleets as virtual machine scale sets, and traffic by load balancers, application gateways
//! or Traffic Manager.
//!
//! ```no_run
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use immutable_azure::{Clients, Config, ImageSettings};
//!
//! let subscription = "01234567-89ab-cdef-0123-456789abcdef";
//! let providers = format!("/subscriptions/{subscription}/resourceGroups/shared/providers");
//! let pool = format!("{providers}/Microsoft.Network/loadBalancers/web/backendAddressPools/web");
//! let config = Config::builder(Clients::from_env()?, subscription, "web-production", "westeurope")
//!     .zones(["1", "2", "3"])
//!     .vm_size("Standard_D2s_v5")
//!     .subnet(format!("{providers}/Microsoft.Network/virtualNetworks/web/subnets/default"))
//!     .identity(format!("{providers}/Microsoft.ManagedIdentity/userAssignedIdentities/web"))
//!     .images(ImageSettings::new(format!("{providers}/Microsoft.Compute/galleries/golden")))
//!     .routes([pool.parse()?])
//!     .port(8080)
//!     .health_path("/health")
//!     .build()?;
//! let platform = immutable_azure::platform(&config);
//! # Ok(())
//! # }
//! ```

mod addresses;
mod asked;
mod client;
mod config;
mod error;
mod health_probe;
mod image_builder;
mod instance;
mod looks;
mod members;
mod metric_source;
mod operation;
mod ownership;
mod permissions;
mod platform;
mod provisioner;
mod startup;
#[cfg(test)]
mod testing;
mod traffic_switch;

pub use client::Clients;
pub use config::{Config, ConfigBuilder, ConfigError, Orchestration};
pub use health_probe::{GatewayHealthProbe, ScaleSetHealthProbe};
pub use image_builder::{GalleryImageBuilder, ImageSettings};
pub use metric_source::{Aggregation, FleetMetric, FleetSeries, MonitorMetrics};
pub use permissions::{RoleUse, custom_role};
pub use platform::platform;
pub use provisioner::ScaleSetProvisioner;
pub use traffic_switch::{GatewayPoolSwitch, LoadBalancerSwitch, RoutingRuleSwitch, Slot, TrafficManagerSwitch};
