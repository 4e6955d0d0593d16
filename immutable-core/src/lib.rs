//! Decide and drive safe rollouts of immutable infrastructure.

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
