//! Defects that only a harness with requests and secrets can show, and the clauses that catch them.

use std::sync::Arc;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, RouteId, RouteVersion, ServiceName, Split};
use immutable_core::provider::{
    Assignment, ErrorKind, FleetsState, MemberHealth, OpContext, Platform, Progress, ProviderError, Provisioner,
    ProvisionerCapabilities, TrafficCapabilities, TrafficState, TrafficSwitch,
};
use immutable_core::testkit::conformance::{Part, clauses};

use crate::harness::{API_KEY, AcmeHarness};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Says that a member is used because it was written.
    Remembers,
    /// Takes the old members out before the new ones are in.
    BreaksFirst,
    /// Says that a member is out because it was taken out.
    ForgetsWhoDrains,
    /// Tells its key when it is refused something.
    TellsItsKey,
}

#[derive(Debug)]
struct Switch(Arc<dyn TrafficSwitch>, Defect);

#[async_trait]
impl TrafficSwitch for Switch {
    fn capabilities(&self) -> TrafficCapabilities {
        self.0.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let mut state = self.0.observe(cx, route).await?;
        if self.1 == Defect::ForgetsWhoDrains {
            state.members.retain(|member| member.health != MemberHealth::Draining);
        }
        for member in state.members.iter_mut().filter(|member| member.health == MemberHealth::Registering) {
            if self.1 == Defect::Remembers {
                member.health = MemberHealth::Healthy;
            }
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
        let mut expected = expected.clone();
        if self.1 == Defect::BreaksFirst {
            let nothing = Assignment { split: Split::closed(), members: Vec::new() };
            self.0.apply(cx, route, &nothing, &expected).await?;
            expected = self.0.observe(cx, route).await?.version;
        }
        self.0.apply(cx, route, assignment, &expected).await
    }
}

#[derive(Debug)]
struct Fleets(Arc<dyn Provisioner>);

#[async_trait]
impl Provisioner for Fleets {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.0.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.0.ensure(cx, spec).await.map_err(|error| match error.kind() {
            ErrorKind::Immutable => {
                let message = format!("refused to the key {API_KEY}");
                ProviderError::new(ErrorKind::Immutable, "ensure fleet", message).without_effect()
            }
            _ => error,
        })
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.0.observe(cx, service).await
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

fn broken(platform: Platform, defect: Defect) -> Platform {
    if defect == Defect::TellsItsKey {
        return Platform { fleets: Arc::new(Fleets(platform.fleets.clone())), ..platform };
    }
    Platform { traffic: Arc::new(Switch(platform.traffic.clone(), defect)), ..platform }
}

/// The ids of the clauses that are broken.
async fn caught(change: fn(Platform) -> Platform) -> Vec<String> {
    let parts = [Part::Images, Part::Fleets, Part::Health, Part::Traffic, Part::Metrics];
    let mut broken = Vec::new();
    for clause in clauses() {
        if clause.run(&AcmeHarness::with(change), &parts).await.is_err() {
            broken.push(clause.id());
        }
    }
    broken
}

#[tokio::test(start_paused = true)]
async fn each_defect_is_caught_by_its_clauses_and_no_other() {
    let mut found = Vec::new();
    found.push(caught(|platform| broken(platform, Defect::Remembers)).await);
    found.push(caught(|platform| broken(platform, Defect::BreaksFirst)).await);
    found.push(caught(|platform| broken(platform, Defect::ForgetsWhoDrains)).await);
    found.push(caught(|platform| broken(platform, Defect::TellsItsKey)).await);
    assert_eq!(found, [&["T1", "T3", "T4"][..], &["T3", "T4"], &["T4"], &["G7"]]);
}
