//! Real processes on one machine.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod secret_source;

pub use secret_source::{EnvironmentSecrets, MapSecrets, Secret, SecretSource};
