//! Traffic on an application gateway, against the fake of Azure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conflicts;
mod heirs;
mod kept;
mod members;
mod metrics;
mod permissions;
mod probe;
mod requests;
#[path = "../support/role.rs"]
mod role;
mod rules;
mod stand;
