//! Parts that are broken on purpose: the simulation must find each of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::journal::{Entry, Journal, JournalError, Lease, MemoryJournal};
use immutable_core::model::{FleetId, FleetSpec, Look, OwnerId, RouteId, RouteVersion, Sample, ServiceName};
use immutable_core::provider::{
    Assignment, FleetsState, HealthProbe, MemberHealth, OpContext, Platform, ProbeTarget, Progress, ProviderError,
    Provisioner, ProvisionerCapabilities, TrafficCapabilities, TrafficState, TrafficSwitch,
};
use immutable_core::testkit::SimCloud;
use jiff::Timestamp;
use serde_json::Value;

use crate::world::run;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// `ensure` starts one more than asked.
    StartsMore,
    /// `observe` leaves out all fleets but the first.
    HidesFleets,
    /// Every look is good.
    SeesOnlyGood,
    /// Members are told to be in use as soon as they are registered.
    TellsAllHealthy,
    /// Members are told to be out as soon as they are taken out.
    HidesDraining,
    /// Nobody waits for what may still land.
    NoHorizon,
    /// Nothing is, and the requests land as late.
    Nothing,
    /// A stale lease can write, and the route ignores its version: each of the two alone is covered by the other.
    StaleDrivers,
}

impl Broken {
    pub(crate) fn platform(self, cloud: &SimCloud) -> Platform {
        let part = Part { broken: self, good: cloud.platform() };
        let (fleets, health, traffic) = (Arc::new(part.clone()), Arc::new(part.clone()), Arc::new(part));
        let mut pace = cloud.platform().pace;
        if self == Self::NoHorizon {
            pace.ambiguity_horizon = Duration::ZERO;
        }
        Platform { fleets, health, traffic, pace, ..cloud.platform() }
    }
}

#[derive(Debug, Clone)]
struct Part {
    broken: Broken,
    good: Platform,
}

#[async_trait]
impl Provisioner for Part {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.good.fleets.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let more = u32::from(self.broken == Broken::StartsMore);
        self.good.fleets.ensure(cx, &FleetSpec { size: spec.size + more, ..spec.clone() }).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        let mut state = self.good.fleets.observe(cx, service).await?;
        if self.broken == Broken::HidesFleets {
            state.fleets.truncate(1);
        }
        Ok(state)
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
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
        if self.broken == Broken::SeesOnlyGood {
            for sample in &mut samples {
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
        if self.broken == Broken::HidesDraining {
            state.members.retain(|member| member.health != MemberHealth::Draining);
        }
        if self.broken == Broken::TellsAllHealthy {
            let registering = state.members.iter_mut().filter(|member| member.health == MemberHealth::Registering);
            registering.for_each(|member| member.health = MemberHealth::Healthy);
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
        if self.broken == Broken::StaleDrivers {
            let now = self.good.traffic.observe(cx, route).await?.version;
            return self.good.traffic.apply(cx, route, assignment, &now).await;
        }
        self.good.traffic.apply(cx, route, assignment, expected).await
    }
}

/// A journal in which the lease means nothing.
#[derive(Debug)]
pub(crate) struct LetsStaleDriversWrite(pub(crate) MemoryJournal);

#[async_trait]
impl Journal for LetsStaleDriversWrite {
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError> {
        self.0.take_over(service, owner).await
    }

    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError> {
        match self.0.append(lease, seq, at, body).await {
            Err(JournalError::Fenced { .. } | JournalError::SequenceTaken { .. }) => {
                // As if it were written: the stale driver goes on with what it believes.
                let entries = self.0.list(lease.service()).await?;
                Ok(entries.last().expect("invariant: whoever is fenced has written").clone())
            }
            answer => answer,
        }
    }

    async fn check(&self, _lease: &Lease) -> Result<(), JournalError> {
        Ok(())
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        self.0.list(service).await
    }

    async fn release(&self, lease: Lease) -> Result<(), JournalError> {
        self.0.release(lease).await
    }
}

#[test]
fn whatever_is_broken_is_found() {
    let cases = [
        (Broken::StartsMore, "rule 5"),
        (Broken::HidesFleets, "rule "),
        (Broken::SeesOnlyGood, "rule 3"),
        (Broken::TellsAllHealthy, "rule "),
        (Broken::HidesDraining, "rule 4"),
        (Broken::NoHorizon, "rule "),
        (Broken::StaleDrivers, "rule 6"),
    ];
    for (broken, rule) in cases {
        let found = |seed: &u64| run(*seed, BTreeSet::new(), Some(broken)).violations.iter().any(|v| v.contains(rule));
        let seed = (0..400).find(found);
        assert!(seed.is_some(), "{broken:?} breaks {rule}, and nobody sees it");
        println!("{broken:?} found by seed {}", seed.unwrap());
    }
    for seed in 0..40 {
        let violations = run(seed, BTreeSet::new(), Some(Broken::Nothing)).violations;
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
    }
}
