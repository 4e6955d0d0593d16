//! Fleets as managed instance groups, on the fake: what the conformance suite does not ask for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod growth;
mod removal;
mod stand;
#[path = "../support/mod.rs"]
mod support;
mod template;
