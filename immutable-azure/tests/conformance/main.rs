//! The contract of the provider traits on Azure, as the fake has it, which is held to the models of Azure's own clients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
#[path = "../support/mod.rs"]
mod support;

mod load_balancer {
    use crate::harness::AzureHarness;
    use crate::support::Traffic;

    immutable_core::conformance_suite!(
        AzureHarness::new(Traffic::LoadBalancer),
        traits(fleets, images, health, traffic)
    );
}

mod gateway_pool {
    use crate::harness::AzureHarness;
    use crate::support::Traffic;

    immutable_core::conformance_suite!(AzureHarness::new(Traffic::GatewayPool), traits(fleets, health, traffic));
}

mod routing_rule {
    use crate::harness::AzureHarness;
    use crate::support::Traffic;

    immutable_core::conformance_suite!(AzureHarness::new(Traffic::RoutingRule), traits(traffic));
}

mod traffic_manager {
    use crate::harness::AzureHarness;
    use crate::support::Traffic;

    immutable_core::conformance_suite!(AzureHarness::new(Traffic::Profile), traits(traffic));
}
