//! The fake's own tests, by a client that knows nothing but HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod core;
mod images;
mod members;
mod models;
mod monitor;
mod network;
mod requests;
mod run_commands;
mod scale_sets;
