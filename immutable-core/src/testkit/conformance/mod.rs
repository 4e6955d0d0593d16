//! The contract of every provider trait as a suite of tests: one for each clause, open to every provider.
//!
//! The guide `docs/writing-a-provider.md` of the repository leads there step by step; this is what it comes to.
//!
//! Write a [`Harness`], which hands out your platform and does to it what a test needs done, and one line in a test file of
//! your crate, which needs `tokio` with its macros: `immutable_core::conformance_suite!(Mine::new());`. It
//! expands to one `#[tokio::test]` for each clause, named by the clause's id and title: `p5_named_victims`. So `cargo test p5`
//! runs that one. Two options may follow, in this order:
//!
//! * `tokio(start_paused = true)`: arguments for `#[tokio::test]`, here virtual time.
//! * `traits(fleets, health)`: the traits that are under test; the other parts of the platform are aids.
//!
//! What a harness cannot do stands in [`Harness::lacks`], with the reason. A clause that needs it says in its output what was
//! not exercised (`cargo test -- --nocapture`); a harness that says neither fails. What a provider says of itself
//! (`capabilities`, an instance without a known image) is held against it: what it does not declare, it has to do, and what
//! it declares that it cannot do, it has to refuse.

mod bench;
mod fleets;
mod general;
mod harness;
mod health;
mod images;
mod metrics;
mod report;
mod suite;
mod traffic;
mod world;

pub use harness::{Ability, Fault, Harness, Ownership, Version};
pub use report::{Clause, Gap, Outcome, Part, Violation};
pub use suite::{clause, clauses};

use bench::Seen;
