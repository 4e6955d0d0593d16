//! A stateful fake of the part of Compute Engine and Cloud Monitoring that `immutable-gcp` uses.
//!
//! There is no emulator of Compute Engine. This one is kept honest by Google's Discovery documents: they say which method
//! a request is, and every request and every answer is held to their types. What is not as they say is a *violation*,
//! and a [`Fake`] with violations panics when it is dropped.
//!
//! Changes are operations that take their time, run into each other, fail or get lost ([`Fake::lose_next`] and its
//! like); machines boot, run out of stock, fall ill; lists come in small pages and lag. Time is real, a thousand times
//! faster ([`Options`]), and can be skipped: [`Fake::skip`].

mod call;
mod discovery;
mod dispatch;
mod failure;
mod fake;
mod faults;
mod filter;
mod options;
mod permissions;
mod resources;
mod server;
mod world;

pub use fake::Fake;
pub use options::Options;
pub use resources::builders::Outcome;
