//! The contract of metrics, by what a real server of Prometheus says of a simulated cloud.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "../support/mod.rs"]
mod support;

use harness::PrometheusHarness;

immutable_core::conformance_suite!(PrometheusHarness::new().await, traits(metrics));
