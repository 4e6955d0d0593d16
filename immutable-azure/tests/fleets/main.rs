//! Fleets as scale sets of either kind, on the fake: what the conformance suite does not ask for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod growth;
mod lists;
mod model;
mod numbers;
mod permissions;
mod removal;
mod routes;
mod stand;
#[path = "../support/mod.rs"]
mod support;
