//! Providers that are broken on purpose, each in one way, around the simulated cloud.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{
    Fingerprint, FleetId, FleetSpec, Lifecycle, Look, MetricName, RouteId, RouteVersion, Sample, ServiceName,
};
use immutable_core::provider::{
    Assignment, ErrorKind, FleetsState, HealthProbe, IdempotencyKey, MemberHealth, MetricKind, MetricSample,
    MetricSource, OpContext, Platform, ProbeTarget, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
    TrafficCapabilities, TrafficState, TrafficSwitch,
};
use immutable_core::testkit::{SimCloud, SimOptions};

use crate::broken_images::BrokenImages;

/// What is wrong with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    BuildsTwice,
    FindsNothing,
    Relabels,
    BlamesItself,
    RemovesWhatIsUsed,
    TriesAgain,
    ForgetsTheKey,
    DeniesEffects,
    ForgetsTheRollout,
    ListsOnePage,
    EndsSurplus,
    AcceptsAnotherRelease,
    HidesTheDead,
    EndsABystander,
    SaysRemoved,
    SamplesTwice,
    BlindMeansIll,
    StaysGood,
    TakesItsTime,
    IgnoresTheVersion,
    VersionOfContent,
    KeepsMembers,
    TouchesAnotherRoute,
    SilenceIsAllWell,
    DescribesAnything,
    LooksBeyondTheWindow,
    /// Not broken, if it refuses more.
    DeclaresOneFleet,
    DeclaresOneFleetAndTakesTwo,
    DeclaresWeights,
    /// Not broken.
    TellsWhenItAsked,
}

#[derive(Debug, Clone)]
struct Broken {
    cloud: SimCloud,
    defect: Defect,
    keys: Arc<Mutex<Vec<IdempotencyKey>>>,
}

/// The simulated cloud with a defect.
pub(crate) fn platform(cloud: &SimCloud, defect: Defect) -> Platform {
    let broken = Arc::new(Broken { cloud: cloud.clone(), defect, keys: Arc::default() });
    let (fleets, health, traffic, metrics) = (broken.clone(), broken.clone(), broken.clone(), broken);
    let images = Arc::new(BrokenImages { cloud: cloud.clone(), defect });
    Platform { images, fleets, health, traffic, metrics, ..cloud.platform() }
}

impl Broken {
    fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    /// Ends an instance of a fleet by hand that is not among these.
    fn kill_one(&self, fleet: &FleetId, spared: &[immutable_core::model::InstanceId]) {
        let others = self.cloud.instances().into_iter().filter(|one| one.fleet == *fleet && !spared.contains(&one.id));
        if let Some(one) = others.filter(|one| one.lifecycle == Lifecycle::Running).last() {
            self.cloud.kill(&one.id);
        }
    }
}

#[async_trait]
impl Provisioner for Broken {
    fn capabilities(&self) -> ProvisionerCapabilities {
        Provisioner::capabilities(&self.cloud)
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let mut spec = spec.clone();
        let there = self.cloud.instances().iter().filter(|one| one.fleet == spec.id).count();
        let there = u32::try_from(there).unwrap();
        if self.has(Defect::ForgetsTheKey) {
            let mut keys = self.keys.lock().unwrap();
            if keys.contains(&cx.key) {
                spec.size += there;
            }
            keys.push(cx.key.clone());
        }
        if self.has(Defect::ForgetsTheRollout) {
            spec.rollout = "nobody-1".parse().unwrap();
        }
        if self.has(Defect::EndsSurplus) && spec.size < there {
            for one in self.cloud.instances().iter().skip(spec.size as usize) {
                self.cloud.kill(&one.id);
            }
        }
        match Provisioner::ensure(&self.cloud, cx, &spec).await {
            Err(error) if self.has(Defect::DeniesEffects) => Err(error.without_effect()),
            Err(error) if self.has(Defect::AcceptsAnotherRelease) && error.kind() == ErrorKind::Immutable => {
                Ok(Progress::Done(()))
            }
            answer => answer,
        }
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        let mut answer = Provisioner::observe(&self.cloud, cx, service).await;
        if self.has(Defect::TriesAgain) && answer.is_err() {
            answer = Provisioner::observe(&self.cloud, cx, service).await;
        }
        let mut state = answer?;
        for fleet in &mut state.fleets {
            if self.has(Defect::ListsOnePage) {
                fleet.instances.truncate(100);
            }
            if self.has(Defect::HidesTheDead) {
                fleet.instances.retain(|one| one.lifecycle != Lifecycle::Dead);
            }
        }
        Ok(state)
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        if self.has(Defect::EndsABystander) {
            self.kill_one(proof.fleet(), proof.instances());
        }
        self.cloud.retire(cx, proof).await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        match Provisioner::remove(&self.cloud, cx, service, fleet).await {
            Err(_) if self.has(Defect::SaysRemoved) => Ok(Progress::Done(())),
            answer => answer,
        }
    }
}

#[async_trait]
impl HealthProbe for Broken {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        if self.has(Defect::TakesItsTime) && targets.len() > 10 {
            std::future::pending::<()>().await;
        }
        let answer = self.cloud.sample(cx, targets).await;
        let bad = |target: &ProbeTarget| Sample {
            instance: target.instance.clone(),
            at: self.cloud.now(),
            look: Look::Bad,
            evidence: "no answer".to_owned(),
        };
        let mut samples = match answer {
            Err(_) if self.has(Defect::BlindMeansIll) => targets.iter().map(bad).collect(),
            answer => answer?,
        };
        let asked: BTreeSet<_> = targets.iter().map(|target| &target.instance).collect();
        if self.has(Defect::SamplesTwice) && asked.len() < targets.len() {
            samples.extend(samples.clone());
        }
        for sample in samples.iter_mut().filter(|_| self.has(Defect::StaysGood)) {
            sample.look = Look::Good;
        }
        Ok(samples)
    }
}

#[async_trait]
impl TrafficSwitch for Broken {
    fn capabilities(&self) -> TrafficCapabilities {
        let mut capabilities = TrafficSwitch::capabilities(&self.cloud);
        if self.has(Defect::DeclaresOneFleet) || self.has(Defect::DeclaresOneFleetAndTakesTwo) {
            capabilities.max_fleets = Some(1);
        }
        if self.has(Defect::DeclaresWeights) {
            capabilities.kind = SimOptions::default().switch;
        }
        capabilities
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let mut state = TrafficSwitch::observe(&self.cloud, cx, route).await?;
        if self.has(Defect::VersionOfContent) {
            state.version = version_of_content(&state);
        }
        if self.has(Defect::TellsWhenItAsked) {
            let asked = Some(state.as_of);
            state.members.iter_mut().for_each(|member| member.health_as_of = asked);
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
        if self.has(Defect::DeclaresOneFleet) && assignment.split.iter().count() > 1 {
            let message = "one fleet at a time";
            return Err(ProviderError::new(ErrorKind::Unsupported, "apply to route", message).without_effect());
        }
        let mut expected = expected.clone();
        let mut assignment = assignment.clone();
        let before = TrafficSwitch::observe(&self.cloud, cx, route).await?;
        if self.has(Defect::IgnoresTheVersion) {
            expected = before.version.clone();
        }
        if self.has(Defect::VersionOfContent) && expected == version_of_content(&before) {
            expected = before.version.clone();
        }
        if self.has(Defect::KeepsMembers) {
            let named: BTreeSet<_> = assignment.members.iter().map(|one| one.instance.clone()).collect();
            let kept = before.members.into_iter().filter(|one| !named.contains(&one.instance));
            let kept = kept.map(|one| immutable_core::provider::MemberTarget {
                endpoint: format!("{}:80", one.instance).parse().unwrap(),
                instance: one.instance,
                fleet: one.fleet,
            });
            assignment.members.extend(kept);
        }
        let other = "conformance-other".parse().unwrap();
        if self.has(Defect::TouchesAnotherRoute) && *route != other {
            let version = TrafficSwitch::observe(&self.cloud, cx, &other).await?.version;
            self.cloud.apply(cx, &other, &assignment, &version).await?;
        }
        self.cloud.apply(cx, route, &assignment, &expected).await
    }
}

/// A version that is the same again when the route is.
fn version_of_content(state: &TrafficState) -> RouteVersion {
    let there = state.members.iter().filter(|member| member.health != MemberHealth::Draining);
    let members: BTreeSet<_> = there.map(|member| &member.instance).collect();
    Fingerprint::of(format!("{} {members:?}", state.split)).to_string().parse().unwrap()
}

#[async_trait]
impl MetricSource for Broken {
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        match self.cloud.describe(cx, metric).await {
            Err(_) if self.has(Defect::DescribesAnything) => Ok(MetricKind::Ratio),
            answer => answer,
        }
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: immutable_core::provider::Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let mut samples = self.cloud.query(cx, metric, fleet, window).await?;
        if self.has(Defect::SilenceIsAllWell) && samples.is_empty() {
            let value = immutable_core::provider::MetricValue::Ratio { part: 0, whole: 1 };
            samples.push(MetricSample { window, value });
        }
        for sample in samples.iter_mut().filter(|_| self.has(Defect::LooksBeyondTheWindow)) {
            sample.window.to = window.to + std::time::Duration::from_mins(1);
        }
        Ok(samples)
    }
}
