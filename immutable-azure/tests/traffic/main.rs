//! Switches of traffic, on a fake of Azure Resource Manager.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod load_balancer;
#[path = "../support/role.rs"]
mod role;
mod stand;
mod traffic_manager;
