//! A stateful fake of the part of Azure Resource Manager that `immutable-azure` uses.
//!
//! There is no emulator of it. This one is kept honest by the vendor's own clients: they work with it, and what is said
//! between it and any client is held to their models ([`Fake::unlike_models`]).
//!
//! Changes are asynchronous operations that are followed by header, take their time, run into each other, fail or get lost
//! ([`Fake::lose_next`] and its like); machines boot, run out of stock, fall ill; lists come in small pages and lag. Time is
//! real, many times faster ([`Options`]), and can be skipped: [`Fake::skip`].

mod answer;
mod call;
mod dispatch;
mod exchange;
mod failure;
mod fake;
mod faults;
mod models;
mod options;
mod permissions;
mod resources;
mod route;
mod server;
mod world;

pub use exchange::Exchange;
pub use fake::Fake;
pub use options::Options;
pub use resources::run_commands::Ran;
