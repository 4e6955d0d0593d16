//! Providers that do not keep their contract.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{
    FleetId, FleetSpec, InstanceId, Lifecycle, Look, MetricName, RouteId, RouteVersion, Sample, ServiceName, Split,
};
use immutable_core::provider::{
    Assignment, ErrorKind, FleetsState, HealthProbe, MemberHealth, MetricKind, MetricSample, MetricSource, MetricValue,
    OpContext, Platform, ProbeTarget, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
    TrafficCapabilities, TrafficState, TrafficSwitch, Window,
};
use immutable_core::testkit::SimCloud;

use super::Broken;

/// A whole platform with one thing broken.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) broken: Broken,
    pub(super) good: Platform,
    pub(super) cloud: SimCloud,
    /// Who was healthy once.
    pub(super) healthy: Mutex<BTreeSet<InstanceId>>,
}

#[async_trait]
impl Provisioner for Part {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.good.fleets.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let mut spec = spec.clone();
        match self.broken {
            Broken::StartsMore => spec.size += 1,
            Broken::ForgetsTags => spec.rollout = "somebody".parse().unwrap(),
            Broken::ChangesInPlace => {
                let instances = self.cloud.instances();
                let other = instances.iter().find(|instance| instance.fleet != spec.id && instance.is_good);
                other.map(|instance| self.cloud.drift(&instance.id));
            }
            _ => {}
        }
        self.good.fleets.ensure(cx, &spec).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        let mut state = self.good.fleets.observe(cx, service).await?;
        match self.broken {
            Broken::HidesFleets => state.fleets.truncate(1),
            Broken::HidesHalfMade => {
                for fleet in &mut state.fleets {
                    fleet.instances.retain(|instance| instance.lifecycle != Lifecycle::Starting);
                }
                state.fleets.retain(|fleet| !fleet.instances.is_empty());
            }
            _ => {}
        }
        Ok(state)
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        if self.broken == Broken::KeepsTheIll {
            let instances = self.cloud.instances();
            let mut named = instances.iter().filter(|instance| proof.instances().contains(&instance.id));
            if named.any(|instance| !instance.is_good) {
                let error = ProviderError::new(ErrorKind::Conflict, "retire instances", "must be healthy");
                return Err(error.without_effect());
            }
        }
        self.good.fleets.retire(cx, proof).await
    }

    async fn remove(&self, cx: &OpContext, of: &ServiceName, fleet: &FleetId) -> Result<Progress<()>, ProviderError> {
        self.good.fleets.remove(cx, of, fleet).await
    }
}

#[async_trait]
impl HealthProbe for Part {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let mut samples = self.good.health.sample(cx, targets).await?;
        let latches = matches!(self.broken, Broken::LatchesHealth | Broken::SeesNoIllness);
        let mut healthy = self.healthy.lock().unwrap();
        for sample in &mut samples {
            if sample.look == Look::Good {
                healthy.insert(sample.instance.clone());
            } else if self.broken == Broken::SeesOnlyGood || latches && healthy.contains(&sample.instance) {
                sample.look = Look::Good;
            }
        }
        Ok(samples)
    }
}

#[async_trait]
impl TrafficSwitch for Part {
    fn capabilities(&self) -> TrafficCapabilities {
        self.good.traffic.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let mut state = self.good.traffic.observe(cx, route).await?;
        match self.broken {
            Broken::HidesDraining => state.members.retain(|member| member.health != MemberHealth::Draining),
            Broken::TellsAllHealthy => {
                let registering = state.members.iter_mut().filter(|member| member.health == MemberHealth::Registering);
                registering.for_each(|member| member.health = MemberHealth::Healthy);
            }
            Broken::SeesNoIllness => {
                let ill = state.members.iter_mut().filter(|member| member.health == MemberHealth::Unhealthy);
                ill.for_each(|member| member.health = MemberHealth::Healthy);
            }
            Broken::TellsOneFleet => {
                let first = state.split.iter().next().map(|(fleet, _)| fleet.clone());
                state.split = first.map_or_else(Split::closed, Split::all_to);
            }
            _ => {}
        }
        Ok(state)
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        if self.broken == Broken::IgnoresVersion {
            let now = self.good.traffic.observe(cx, route).await?.version;
            return self.good.traffic.apply(cx, route, assignment, &now).await;
        }
        self.good.traffic.apply(cx, route, assignment, expected).await
    }
}

#[async_trait]
impl MetricSource for Part {
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        self.good.metrics.describe(cx, metric).await
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let samples = self.good.metrics.query(cx, metric, fleet, window).await?;
        if self.broken == Broken::CallsSilenceWell && samples.is_empty() {
            return Ok(vec![MetricSample { window, value: MetricValue::Ratio { part: 0, whole: 1_000 } }]);
        }
        Ok(samples)
    }
}
