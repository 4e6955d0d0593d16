//! The fake's own tests, by a client that knows nothing but HTTP.

mod client;
mod core;
mod documents;
mod fleets;
