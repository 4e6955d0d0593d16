//! The contract of every provider trait on AWS, as moto and the proxy in front of it emulate it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod load;
#[path = "../support/mod.rs"]
mod support;

mod auto_scaling {
    use crate::harness::{AwsHarness, Kind};

    immutable_core::conformance_suite!(AwsHarness::new(Kind::Groups).await, traits(images, fleets, health, traffic));
}

/// One type in one zone.
mod instances {
    use crate::harness::{AwsHarness, Kind};

    immutable_core::conformance_suite!(AwsHarness::new(Kind::Instances).await, traits(images, fleets, health, traffic));
}

/// Several types in several zones.
mod instances_of_several_types {
    use crate::harness::{AwsHarness, Kind};

    immutable_core::conformance_suite!(AwsHarness::new(Kind::InstancesOfSeveralTypes).await, traits(fleets));
}

mod metrics {
    use crate::harness::AwsHarness;

    immutable_core::conformance_suite!(AwsHarness::under_load().await, traits(metrics));
}
