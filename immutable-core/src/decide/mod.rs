//! Deciding what to do next: pure, without I/O, clock or randomness.

mod proof;
mod world;

pub use proof::{ProofError, RetireProof};
pub use world::{FleetView, InstanceView, Phase, World};
