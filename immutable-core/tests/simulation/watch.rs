//! What each driver was told, and so what it could know when it sent a request.
//!
//! The rules are about what really is, but nobody is to blame for what happened after the last look. How long ago that look
//! was is no fixed time: it is written down here, for every driver and every request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::health::{HealthPolicy, Track};
use immutable_core::model::{
    FleetId, FleetSpec, InstanceId, Lifecycle, MetricName, RouteId, RouteVersion, Sample, ServiceName, Verdict,
};
use immutable_core::provider::{
    Assignment, FleetsState, HealthProbe, MemberHealth, MetricKind, MetricSample, MetricSource, MetricValue, OpContext,
    Platform, ProbeTarget, Progress, ProviderError, Provisioner, ProvisionerCapabilities, TrafficCapabilities,
    TrafficState, TrafficSwitch, Window,
};
use immutable_core::testkit::{Change, Operation, SimCloud};
use jiff::{SignedDuration, Timestamp};

/// What a driver knew at one time, from everything that it had been told and had taken in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Whose looks made a verdict, and which.
    pub(crate) verdicts: BTreeMap<InstanceId, Verdict>,
    /// The members of the route at its last look, and what the balancer said of each.
    pub(crate) members: BTreeMap<InstanceId, MemberHealth>,
    /// Of whom the balancer said bad things, and not good ones often enough since.
    doubted: BTreeSet<InstanceId>,
    /// Who was starting or running in the last list, and who was dead or ending.
    alive: BTreeSet<InstanceId>,
    pub(crate) gone: BTreeSet<InstanceId>,
}

impl Known {
    /// Whether it knew that an instance serves.
    pub(crate) fn serves(&self, id: &InstanceId) -> bool {
        let used = self.members.get(id) == Some(&MemberHealth::Healthy) && !self.doubted.contains(id);
        used && self.alive.contains(id) && self.is_healthy(id)
    }

    pub(crate) fn is_healthy(&self, id: &InstanceId) -> bool {
        self.verdicts.get(id) == Some(&Verdict::Healthy)
    }

    pub(crate) fn is_ill(&self, id: &InstanceId) -> bool {
        self.verdicts.get(id) == Some(&Verdict::Unhealthy)
    }
}

/// One answer about a metric.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) at: Timestamp,
    pub(crate) fleet: FleetId,
    pub(crate) window: Window,
    pub(crate) part: u64,
    pub(crate) whole: u64,
}

/// The whole platform, and somebody who writes down what it answers.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    cloud: SimCloud,
    good: Platform,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Debug, Default)]
struct Notes {
    callers: BTreeMap<u64, Caller>,
    sent: BTreeMap<(u64, Timestamp, Operation), Arc<Known>>,
    measured: Vec<Measured>,
    /// When the last look at the world began that was answered.
    looked: Option<Timestamp>,
}

/// One driver, by its epoch.
#[derive(Debug, Default)]
struct Caller {
    tracks: BTreeMap<InstanceId, Track>,
    words: BTreeMap<InstanceId, Word>,
    /// Looks that were answered in this turn of the driver, which it takes in after it.
    pending: Vec<Sample>,
    in_turn: bool,
    begun: Option<Timestamp>,
    fleets: Option<FleetsState>,
    traffic: Option<TrafficState>,
    known: Arc<Known>,
}

impl Watch {
    pub(crate) fn new(cloud: &SimCloud) -> Self {
        Self { cloud: cloud.clone(), good: cloud.platform(), notes: Arc::default() }
    }

    pub(crate) fn platform(&self) -> Platform {
        let part = Arc::new(self.clone());
        Platform {
            fleets: part.clone(),
            health: part.clone(),
            traffic: part.clone(),
            metrics: part,
            ..self.good.clone()
        }
    }

    /// What the caller of a change knew when it sent it.
    pub(crate) fn known(&self, change: &Change) -> Arc<Known> {
        self.notes().sent.get(&(change.epoch, change.sent, change.operation)).cloned().unwrap_or_default()
    }

    pub(crate) fn measured(&self) -> Vec<Measured> {
        self.notes().measured.clone()
    }

    /// When the last look of all at the world began.
    pub(crate) fn last_look(&self) -> Option<Timestamp> {
        self.notes().looked
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    /// A driver asks something that only a new turn of its loop asks: what it was told before is taken in.
    fn turn(&self, cx: &OpContext) {
        let now = self.cloud.now();
        let mut notes = self.notes();
        let caller = notes.callers.entry(cx.epoch).or_default();
        if !std::mem::replace(&mut caller.in_turn, true) {
            caller.begun = Some(now);
            let policy = HealthPolicy::default();
            for sample in std::mem::take(&mut caller.pending) {
                caller.tracks.entry(sample.instance).or_default().look(&policy, sample.at, sample.look);
            }
        }
    }

    /// A driver is told something of the world. It knows more once it was told both parts; a failure ends its turn.
    fn told(&self, cx: &OpContext, tell: impl FnOnce(&mut Caller) -> bool) {
        let now = self.cloud.now();
        let mut notes = self.notes();
        let caller = notes.callers.entry(cx.epoch).or_default();
        if !tell(caller) {
            (caller.in_turn, caller.fleets, caller.traffic) = (false, None, None);
        } else if let (Some(fleets), Some(traffic)) = (&caller.fleets, &caller.traffic) {
            caller.known = Arc::new(know(now, fleets, traffic, &mut caller.tracks, &mut caller.words));
            (caller.in_turn, caller.fleets, caller.traffic) = (false, None, None);
            notes.looked = caller.begun;
        }
    }

    fn sends(&self, cx: &OpContext, operation: Operation) {
        let now = self.cloud.now();
        let mut notes = self.notes();
        let known = notes.callers.entry(cx.epoch).or_default().known.clone();
        notes.sent.insert((cx.epoch, now, operation), known);
    }
}

fn know(
    now: Timestamp,
    fleets: &FleetsState,
    traffic: &TrafficState,
    tracks: &mut BTreeMap<InstanceId, Track>,
    words: &mut BTreeMap<InstanceId, Word>,
) -> Known {
    let policy = HealthPolicy::default();
    let listed = || fleets.fleets.iter().flat_map(|fleet| &fleet.instances);
    let is_alive = |state: Lifecycle| matches!(state, Lifecycle::Starting | Lifecycle::Running);
    for member in &traffic.members {
        words.entry(member.instance.clone()).or_default().hear(&policy, now, member.health);
    }
    Known {
        verdicts: tracks.iter().map(|(id, track)| (id.clone(), track.verdict(&policy, now))).collect(),
        members: traffic.members.iter().map(|member| (member.instance.clone(), member.health)).collect(),
        doubted: words.iter().filter(|(_, word)| word.doubted).map(|(id, _)| id.clone()).collect(),
        alive: listed().filter(|instance| is_alive(instance.lifecycle)).map(|instance| instance.id.clone()).collect(),
        gone: listed().filter(|instance| !is_alive(instance.lifecycle)).map(|instance| instance.id.clone()).collect(),
    }
}

/// What the balancer said of a member. After a bad word it takes as many good ones as good looks, a second apart, to be trusted.
#[derive(Debug, Default)]
struct Word {
    good: u32,
    doubted: bool,
    heard: Option<Timestamp>,
}

impl Word {
    fn hear(&mut self, policy: &HealthPolicy, at: Timestamp, word: MemberHealth) {
        let again = self.heard.is_some_and(|heard| at.duration_since(heard) < SignedDuration::from_secs(1));
        match word {
            MemberHealth::Unhealthy => {
                (self.good, self.doubted) = (0, true);
                self.heard = Some(at);
            }
            MemberHealth::Healthy if !(again && self.good > 0) => {
                self.good += 1;
                self.doubted &= self.good < policy.good_looks();
                self.heard = Some(at);
            }
            MemberHealth::Registering | MemberHealth::Draining => *self = Self::default(),
            _ => {}
        }
    }
}

#[async_trait]
impl Provisioner for Watch {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.good.fleets.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.sends(cx, Operation::EnsureFleet);
        self.good.fleets.ensure(cx, spec).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        self.turn(cx);
        let answer = self.good.fleets.observe(cx, service).await;
        self.told(cx, |caller| {
            caller.fleets = answer.as_ref().ok().cloned();
            answer.is_ok()
        });
        answer
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        self.sends(cx, Operation::Retire);
        self.good.fleets.retire(cx, proof).await
    }

    async fn remove(&self, cx: &OpContext, of: &ServiceName, fleet: &FleetId) -> Result<Progress<()>, ProviderError> {
        self.sends(cx, Operation::RemoveFleet);
        self.good.fleets.remove(cx, of, fleet).await
    }
}

#[async_trait]
impl HealthProbe for Watch {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let samples = self.good.health.sample(cx, targets).await?;
        self.notes().callers.entry(cx.epoch).or_default().pending.extend(samples.iter().cloned());
        Ok(samples)
    }
}

#[async_trait]
impl TrafficSwitch for Watch {
    fn capabilities(&self) -> TrafficCapabilities {
        self.good.traffic.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        self.turn(cx);
        let answer = self.good.traffic.observe(cx, route).await;
        self.told(cx, |caller| {
            caller.traffic = answer.as_ref().ok().cloned();
            answer.is_ok()
        });
        answer
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        self.sends(cx, Operation::ApplyRoute);
        self.good.traffic.apply(cx, route, assignment, expected).await
    }
}

#[async_trait]
impl MetricSource for Watch {
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
        self.turn(cx);
        let samples = self.good.metrics.query(cx, metric, fleet, window).await?;
        let counts = samples.iter().map(|sample| match sample.value {
            MetricValue::Ratio { part, whole } => (part, whole),
            _ => (0, 0),
        });
        let (part, whole) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let (at, fleet) = (self.cloud.now(), fleet.clone());
        self.notes().measured.push(Measured { at, fleet, window, part, whole });
        Ok(samples)
    }
}
