//! A provider that is broken on purpose shows that the suite can fail.

use std::sync::Arc;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, ServiceName};
use immutable_core::provider::{
    FleetsState, OpContext, Platform, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};
use immutable_core::testkit::conformance::{Part, clause};

use crate::harness::AcmeHarness;

/// Forgets to ask for the second page.
#[derive(Debug)]
struct FirstPageOnly(Arc<dyn Provisioner>);

#[async_trait]
impl Provisioner for FirstPageOnly {
    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        let mut state = self.0.observe(cx, service).await?;
        for fleet in &mut state.fleets {
            fleet.instances.truncate(10);
        }
        Ok(state)
    }

    fn capabilities(&self) -> ProvisionerCapabilities {
        self.0.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.0.ensure(cx, spec).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        self.0.retire(cx, proof).await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        self.0.remove(cx, service, fleet).await
    }
}

#[tokio::test(start_paused = true)]
async fn who_forgets_a_page_is_caught() {
    let harness = AcmeHarness::with(|platform| {
        let fleets = Arc::new(FirstPageOnly(platform.fleets.clone()));
        Platform { fleets, ..platform }
    });
    let violation = clause("g5_complete").run(&harness, &[Part::Fleets]).await.unwrap_err();
    assert!(violation.seen().contains("10 instances exist instead of 25"), "{violation}");
}
