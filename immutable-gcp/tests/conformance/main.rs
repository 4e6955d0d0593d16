//! The contract of the provider traits on Google Cloud, as the fake has it, which is held to Google's Discovery documents.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "../support/mod.rs"]
mod support;

mod regional {
    use crate::harness::{GcpHarness, Kind};

    immutable_core::conformance_suite!(GcpHarness::new(Kind::Regional).await, traits(fleets, images, health, traffic));
}

mod zonal {
    use crate::harness::{GcpHarness, Kind};

    immutable_core::conformance_suite!(GcpHarness::new(Kind::Zonal).await, traits(fleets, images, health, traffic));
}
