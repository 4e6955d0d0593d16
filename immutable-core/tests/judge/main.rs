//! What the judge promises, measured on traffic that is made from seeds: how often it is wrong, and how soon it is right.
//!
//! `cargo test -p immutable-core --test judge -- --nocapture` prints the tables.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at the first surprise, and tells figures")]
#![allow(clippy::cast_precision_loss, reason = "counts of a simulation are small")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a simulation are small and from 0 up"
)]

mod alarms;
mod battery;
mod bound;
mod broken;
mod data;
mod detection;
mod limits;
mod passes;
mod rules;
mod runs;
mod traffic;
