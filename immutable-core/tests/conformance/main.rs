//! The simulated cloud keeps every clause of the contract.

mod sim;

use std::time::Duration;

use immutable_core::testkit::SimOptions;
use sim::SimHarness;

/// A switch by weights.
mod weighted {
    use super::*;

    immutable_core::conformance_suite!(SimHarness::new(options()), tokio(start_paused = true));
}

/// A switch by membership.
mod membership {
    use super::*;
    use immutable_core::provider::SwitchKind;

    immutable_core::conformance_suite!(
        SimHarness::new(SimOptions { switch: SwitchKind::Membership, ..options() }),
        tokio(start_paused = true)
    );
}

fn options() -> SimOptions {
    SimOptions { build_for: Duration::from_mins(1), ..SimOptions::default() }
}
