//! Real processes on one machine.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod config;
mod error;
mod files;
mod image_builder;
mod provisioner;
mod secret_source;

pub use config::LocalConfig;
pub use error::{Drift, VerifyError};
pub use image_builder::LocalImageBuilder;
pub use provisioner::LocalProvisioner;
pub use secret_source::{EnvironmentSecrets, MapSecrets, Secret, SecretSource};
