//! Images and their builders: how they come, and what becomes of them when things do not go as usual.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod builders;
mod building;
mod faults;
mod leftovers;
mod permissions;
mod refusals;
mod removal;
#[path = "../support/mod.rs"]
mod support;
mod world;
