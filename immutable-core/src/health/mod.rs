//! Health: what several looks at an instance mean.
//!
//! [`HealthPolicy`] and [`Track`] turn looks into a [`Verdict`](crate::model::Verdict), without I/O and without a clock.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod error;
mod hysteresis;

pub use error::HealthConfigError;
pub use hysteresis::{HealthPolicy, HealthPolicyBuilder, Track};
