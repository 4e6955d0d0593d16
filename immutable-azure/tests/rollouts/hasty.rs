//! Providers that are asked again sooner than they say: a second of the API lasts ten milliseconds on the fake.

use std::sync::Arc;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, RouteId, RouteVersion, ServiceName};
use immutable_core::provider::{
    Assignment, FleetsState, OpContext, Platform, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
    TrafficCapabilities, TrafficState, TrafficSwitch,
};

/// How much sooner.
const HASTE: u32 = 20;

type Answer = Result<Progress<()>, ProviderError>;

#[derive(Debug)]
struct Hasty<P: ?Sized>(Arc<P>);

/// The platform with fleets and a switch that say to be asked again soon.
pub(crate) fn hasty(platform: Platform) -> Platform {
    let (fleets, traffic) = (Arc::new(Hasty(platform.fleets)), Arc::new(Hasty(platform.traffic)));
    Platform { fleets, traffic, ..platform }
}

fn soon(answer: Answer) -> Answer {
    answer.map(|progress| match progress {
        Progress::Pending { retry_after, note } => Progress::Pending { retry_after: retry_after / HASTE, note },
        done @ Progress::Done(()) => done,
    })
}

#[async_trait]
impl Provisioner for Hasty<dyn Provisioner> {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.0.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Answer {
        soon(self.0.ensure(cx, spec).await)
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.0.observe(cx, service).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Answer {
        soon(self.0.retire(cx, proof).await)
    }

    async fn remove(&self, cx: &OpContext, service: &ServiceName, fleet: &FleetId) -> Answer {
        soon(self.0.remove(cx, service, fleet).await)
    }
}

#[async_trait]
impl TrafficSwitch for Hasty<dyn TrafficSwitch> {
    fn capabilities(&self) -> TrafficCapabilities {
        self.0.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        self.0.observe(cx, route).await
    }

    async fn apply(&self, cx: &OpContext, route: &RouteId, wanted: &Assignment, expected: &RouteVersion) -> Answer {
        soon(self.0.apply(cx, route, wanted, expected).await)
    }
}
