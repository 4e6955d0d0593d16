//! Immutable rollouts on Azure: the connection to Azure Resource Manager and the settings, on which fleets, images and traffic are to stand.
//!
//! ```no_run
//! use immutable_azure::{Clients, Config};
//!
//! let network = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/network/providers/Microsoft.Network";
//! let config = Config::builder(Clients::from_env()?, "01234567-89ab-cdef-0123-456789abcdef", "web-production", "westeurope")
//!     .zones(["1", "2", "3"])
//!     .vm_size("Standard_D2s_v5")
//!     .subnet(format!("{network}/virtualNetworks/web/subnets/default"))
//!     .port(8080)
//!     .health_path("/health")
//!     .build()?;
//! # Ok::<(), immutable_azure::ConfigError>(())
//! ```

#![cfg_attr(not(test), expect(dead_code, reason = "a foundation: fleets, images and traffic are to stand on it"))]

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
pub use provisioner::ScaleSetProvisioner;
pub use traffic_switch::{GatewayPoolSwitch, LoadBalancerSwitch, RoutingRuleSwitch, Slot, TrafficManagerSwitch};
