//! Health: ready-made probes, and what several looks mean.
//!
//! * [`HttpProbe`] and [`TcpProbe`] look at instances over the network.
//! * [`AllOf`], [`AnyOf`] and [`QuorumOf`] make one probe of several.
//! * [`HealthPolicy`] and [`Track`] turn looks into a [`Verdict`](crate::model::Verdict), without I/O and without a clock.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod compose;
mod error;
mod http;
mod hysteresis;
mod look;
mod tcp;

pub use compose::{AllOf, AnyOf, QuorumOf};
pub use error::HealthConfigError;
pub use http::{HttpProbe, HttpProbeBuilder};
pub use hysteresis::{HealthPolicy, HealthPolicyBuilder, Track};
pub use tcp::{TcpProbe, TcpProbeBuilder};
