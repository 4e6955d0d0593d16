//! Decide and drive safe rollouts of immutable infrastructure.
//!
//! Servers are replaced, never changed: a new fleet is started from an image, proven healthy, given traffic, watched; then the
//! old one is drained and ended. This crate has the model, the provider traits, the planner and the engine; crates such as
//! `immutable-local` implement the traits.
//!
//! | start here | for |
//! |---|---|
//! | [`engine::Engine`] | starting and steering rollouts |
//! | [`plan::Strategy`] | blue-green, rolling, canary, your own stages |
//! | [`provider`] | writing a provider: the traits and their contract |
//! | [`decide::decide`] | the pure function behind it all |
//!
//! # Features
//!
//! * `mocks`: a `mockall` mock of every provider trait, for your own tests.
//! * `testkit`: a simulated cloud under virtual time, for your own tests.

pub mod analysis;
pub mod decide;
pub mod engine;
pub mod health;
pub mod journal;
pub mod model;
pub mod plan;
pub mod provider;
#[cfg(feature = "testkit")]
pub mod testkit;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
