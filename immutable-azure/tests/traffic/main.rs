//! Switches of traffic, on a fake of Azure Resource Manager.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod load_balancer;
mod stand;
#[path = "../support/mod.rs"]
mod support;
mod traffic_manager;
