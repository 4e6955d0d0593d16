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
mod rules;
mod stand;
#[path = "../support/mod.rs"]
mod support;
