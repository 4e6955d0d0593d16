//! Providers that are asked again sooner than they say.

use std::sync::Arc;

use crate::decide::RetireProof;
use crate::model::{FleetId, FleetSpec, RouteId, RouteVersion, ServiceName};
use crate::provider::{
    Assignment, FleetsState, OpContext, Platform, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
    TrafficCapabilities, TrafficState, TrafficSwitch,
};
use async_trait::async_trait;

type Answer = Result<Progress<()>, ProviderError>;

/// A provider, and how much sooner it is asked again.
#[derive(Debug)]
struct Hasty<P: ?Sized>(Arc<P>, u32);

/// The platform with fleets and a switch that say to be asked again so many times sooner than they would: for the test of a provider on a fake
/// whose time goes faster than that of the API. All else is as it was, also what is `Pending`, and how long images are to be waited for.
///
/// ```
/// # use immutable_core::{model::FleetSpec, provider::{OpContext, Progress}, testkit::{Faults, SimCloud, SimOptions, hasty}};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
/// let faults = Faults { partial: 1000, ..Faults::default() };
/// let cloud = SimCloud::new(SimOptions { faults, ..SimOptions::default() });
/// let spec = FleetSpec {
///     id: "web-1".parse()?,
///     service: "web".parse()?,
///     release: cloud.release("1.0.0"),
///     size: 3,
///     rollout: "rollout-1".parse()?,
/// };
/// let platform = hasty(cloud.platform(), 20);
/// let progress = platform.fleets.ensure(&OpContext::standalone("test"), &spec).await?;
/// // The cloud says a second.
/// assert!(matches!(progress, Progress::Pending { retry_after, .. } if retry_after.as_millis() == 50));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
/// When `times` is zero.
pub fn hasty(platform: Platform, times: u32) -> Platform {
    assert!(times > 0, "no times sooner is never");
    let (fleets, traffic) = (Arc::new(Hasty(platform.fleets, times)), Arc::new(Hasty(platform.traffic, times)));
    Platform { fleets, traffic, ..platform }
}

impl<P: ?Sized> Hasty<P> {
    fn soon(&self, answer: Answer) -> Answer {
        answer.map(|progress| match progress {
            Progress::Pending { retry_after, note } => Progress::Pending { retry_after: retry_after / self.1, note },
            done @ Progress::Done(()) => done,
        })
    }
}

#[async_trait]
impl Provisioner for Hasty<dyn Provisioner> {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.0.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Answer {
        self.soon(self.0.ensure(cx, spec).await)
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.0.observe(cx, service).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Answer {
        self.soon(self.0.retire(cx, proof).await)
    }

    async fn remove(&self, cx: &OpContext, service: &ServiceName, fleet: &FleetId) -> Answer {
        self.soon(self.0.remove(cx, service, fleet).await)
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
        self.soon(self.0.apply(cx, route, wanted, expected).await)
    }
}
