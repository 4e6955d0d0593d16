//! The contract of every provider trait on this machine: real images, processes, requests and time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod instance;
#[path = "../support/mod.rs"]
mod support;

immutable_core::conformance_suite!(harness::LocalHarness::new());
