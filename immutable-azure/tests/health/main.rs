//! What Azure itself knows of instances and of requests, asked for as a rollout does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod metrics;
mod permissions;
mod probes;
mod stand;
#[path = "../support/mod.rs"]
mod support;
