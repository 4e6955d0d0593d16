//! Decide and drive safe rollouts of immutable infrastructure.

pub mod decide;
pub mod health;
pub mod journal;
pub mod model;
pub mod provider;
