//! A platform in bad weather: a simulated cloud whose calls fail for as long as is wanted, whose balancer says what is wanted
//! and whose metrics are as wanted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::engine::Engine;
use immutable_core::model::{
    FleetId, FleetSpec, InstanceId, MetricName, RouteId, RouteVersion, Sample, ServiceName, Weight,
};
use immutable_core::plan::Strategy;
use immutable_core::provider::{
    Assignment, ErrorKind, FleetsState, HealthProbe, MemberHealth, MetricKind, MetricSample, MetricSource, MetricValue,
    OpContext, Platform, ProbeTarget, Progress, ProviderError, Provisioner, ProvisionerCapabilities, SwitchKind,
    TrafficCapabilities, TrafficState, TrafficSwitch, Window,
};
use immutable_core::testkit::{Operation, SimCloud};
use jiff::Timestamp;

use super::harness::Stand;

pub(crate) const CALLS: [Operation; 8] = [
    Operation::EnsureFleet,
    Operation::ObserveFleets,
    Operation::Retire,
    Operation::RemoveFleet,
    Operation::SampleHealth,
    Operation::ObserveRoute,
    Operation::ApplyRoute,
    Operation::QueryMetric,
];

/// A stand whose engine looks through the weather.
pub(crate) struct Outside {
    pub(crate) stand: Stand,
    pub(crate) weather: Arc<Weather>,
    pub(crate) engine: Engine,
}

#[derive(Debug)]
pub(crate) struct Weather {
    cloud: SimCloud,
    sky: Mutex<Sky>,
}

#[derive(Debug, Default)]
struct Sky {
    failing: HashMap<Operation, (ErrorKind, Option<Duration>)>,
    calls: BTreeMap<Operation, u64>,
    words: HashMap<InstanceId, MemberHealth>,
    /// For each fleet, from when on how many of a thousand requests are answered with an error.
    errors: HashMap<FleetId, Vec<(Timestamp, u64)>>,
    /// Whose metrics cannot be read.
    unread: HashMap<FleetId, ErrorKind>,
}

impl Outside {
    /// Release 1 serves, proven.
    pub(crate) async fn serving(switch: SwitchKind, desired: u32) -> Self {
        Self::of(Stand::serving(switch, desired).await)
    }

    pub(crate) fn of(stand: Stand) -> Self {
        let weather = Arc::new(Weather { cloud: stand.cloud.clone(), sky: Mutex::default() });
        let engine = engine(&stand, &weather);
        Self { stand, weather, engine }
    }

    pub(crate) fn restart(&mut self) {
        self.engine = engine(&self.stand, &self.weather);
    }

    pub(crate) async fn start(&self, version: &str, strategy: Strategy) -> immutable_core::engine::Rollout {
        self.engine.start(self.stand.spec(version, strategy)).await.unwrap()
    }

    pub(crate) fn weight(&self, version: &str) -> Weight {
        self.stand.cloud.split().weight(&self.stand.fleet(version))
    }
}

fn engine(stand: &Stand, weather: &Arc<Weather>) -> Engine {
    let platform = Platform {
        fleets: Arc::clone(weather) as Arc<dyn Provisioner>,
        health: Arc::clone(weather) as Arc<dyn HealthProbe>,
        traffic: Arc::clone(weather) as Arc<dyn TrafficSwitch>,
        metrics: Arc::clone(weather) as Arc<dyn MetricSource>,
        ..stand.cloud.platform()
    };
    Engine::builder(platform).journal(stand.journal.clone()).clock(stand.cloud.clock()).build()
}

impl Weather {
    fn sky(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap()
    }

    /// From now on, every call of these fails without effect.
    pub(crate) fn fail(&self, operations: &[Operation], kind: ErrorKind, retry_after: Option<Duration>) {
        let mut sky = self.sky();
        sky.failing.extend(operations.iter().map(|operation| (*operation, (kind, retry_after))));
    }

    /// No call fails any more.
    pub(crate) fn clear(&self) {
        self.sky().failing.clear();
    }

    pub(crate) fn calls(&self) -> u64 {
        self.sky().calls.values().sum()
    }

    pub(crate) fn calls_of(&self, operation: Operation) -> u64 {
        self.sky().calls.get(&operation).copied().unwrap_or(0)
    }

    /// What the balancer says about a member from now on; `None`: what it thinks.
    pub(crate) fn say(&self, instance: &InstanceId, word: Option<MemberHealth>) {
        let mut sky = self.sky();
        match word {
            Some(word) => sky.words.insert(instance.clone(), word),
            None => sky.words.remove(instance),
        };
    }

    /// How many of a thousand requests to a fleet are answered with an error from a moment on.
    pub(crate) fn errors_from(&self, fleet: FleetId, from: Timestamp, per_mille: u64) {
        self.sky().errors.entry(fleet).or_default().push((from, per_mille));
    }

    pub(crate) fn errors(&self, fleet: FleetId, per_mille: u64) {
        self.errors_from(fleet, self.cloud.now(), per_mille);
    }

    /// The metrics of one fleet cannot be read from now on; `None`: they can.
    pub(crate) fn unread(&self, fleet: FleetId, kind: Option<ErrorKind>) {
        let mut sky = self.sky();
        match kind {
            Some(kind) => sky.unread.insert(fleet, kind),
            None => sky.unread.remove(&fleet),
        };
    }

    fn enter(&self, operation: Operation) -> Result<(), ProviderError> {
        let mut sky = self.sky();
        *sky.calls.entry(operation).or_default() += 1;
        let Some((kind, retry_after)) = sky.failing.get(&operation).copied() else { return Ok(()) };
        let error = ProviderError::new(kind, operation.as_str(), "bad weather").without_effect();
        Err(retry_after.into_iter().fold(error, ProviderError::with_retry_after))
    }
}

#[async_trait]
impl Provisioner for Weather {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.cloud.platform().fleets.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.enter(Operation::EnsureFleet)?;
        self.cloud.platform().fleets.ensure(cx, spec).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.enter(Operation::ObserveFleets)?;
        self.cloud.platform().fleets.observe(cx, service).await
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        self.enter(Operation::Retire)?;
        self.cloud.platform().fleets.retire(cx, proof).await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        self.enter(Operation::RemoveFleet)?;
        self.cloud.platform().fleets.remove(cx, service, fleet).await
    }
}

#[async_trait]
impl HealthProbe for Weather {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        self.enter(Operation::SampleHealth)?;
        self.cloud.platform().health.sample(cx, targets).await
    }
}

#[async_trait]
impl TrafficSwitch for Weather {
    fn capabilities(&self) -> TrafficCapabilities {
        self.cloud.platform().traffic.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        self.enter(Operation::ObserveRoute)?;
        let mut state = self.cloud.platform().traffic.observe(cx, route).await?;
        let sky = self.sky();
        for member in &mut state.members {
            if let Some(word) = sky.words.get(&member.instance)
                && member.health == MemberHealth::Healthy
            {
                member.health = *word;
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
        self.enter(Operation::ApplyRoute)?;
        self.cloud.platform().traffic.apply(cx, route, assignment, expected).await
    }
}

#[async_trait]
impl MetricSource for Weather {
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        self.cloud.platform().metrics.describe(cx, metric).await
    }

    /// As many requests as the fleet really got, with the errors that are wanted.
    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        self.enter(Operation::QueryMetric)?;
        let samples = self.cloud.platform().metrics.query(cx, metric, fleet, window).await?;
        let sky = self.sky();
        if let Some(kind) = sky.unread.get(fleet) {
            return Err(ProviderError::new(*kind, Operation::QueryMetric.as_str(), "bad weather").without_effect());
        }
        let Some(errors) = sky.errors.get(fleet) else { return Ok(samples) };
        let with_errors = |sample: MetricSample| {
            let MetricValue::Ratio { whole, .. } = sample.value else { return sample };
            let Window { from, to } = sample.window;
            let length =
                |from: Timestamp, to: Timestamp| u64::try_from(to.duration_since(from).as_millis().max(0)).unwrap();
            let ends = errors.iter().skip(1).map(|(at, _)| *at).chain([to]);
            let weighed: u64 = errors
                .iter()
                .zip(ends)
                .map(|((at, per_mille), end)| per_mille * length((*at).max(from), end.min(to)))
                .sum();
            let part = whole * weighed / (1_000 * length(from, to).max(1));
            MetricSample { value: MetricValue::Ratio { part, whole }, ..sample }
        };
        Ok(samples.into_iter().map(with_errors).collect())
    }
}
