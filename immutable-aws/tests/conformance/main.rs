//! The contract of every provider trait on AWS, as moto and the proxy in front of it emulate it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "../support/mod.rs"]
mod support;

mod auto_scaling {
    use crate::harness::{AwsHarness, Kind};

    immutable_core::conformance_suite!(AwsHarness::new(Kind::Groups).await, traits(fleets));
}

/// One type in one zone.
mod instances {
    use crate::harness::{AwsHarness, Kind};

    immutable_core::conformance_suite!(AwsHarness::new(Kind::Instances).await, traits(fleets));
}

/// Several types in several zones.
mod instances_of_several_types {
    use crate::harness::{AwsHarness, Kind};

    immutable_core::conformance_suite!(AwsHarness::new(Kind::InstancesOfSeveralTypes).await, traits(fleets));
}

mod images {
    use crate::harness::{AwsHarness, Kind};

    immutable_core::conformance_suite!(AwsHarness::new(Kind::Images).await, traits(images));
}
