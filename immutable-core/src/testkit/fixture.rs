//! What the tests of the simulated cloud have in common.

#![expect(clippy::disallowed_methods, reason = "tests wait in virtual time")]

use std::time::Duration;

use super::{SimCloud, SimOptions};
use crate::model::{FleetId, FleetSpec, InstanceId, RouteId, Split, Weight};
use crate::provider::{Assignment, ErrorKind, MemberTarget, OpContext, ProviderError, SwitchKind, TrafficState};

pub(super) fn cx() -> OpContext {
    OpContext::standalone("test")
}

pub(super) async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Fleet `web-{version}` of a version's release.
pub(super) fn fleet(cloud: &SimCloud, version: &str, size: u32) -> FleetSpec {
    let (service, rollout) = ("web".parse().unwrap(), "rollout-1".parse().unwrap());
    FleetSpec { id: fleet_id(version), service, release: cloud.release(version), size, rollout }
}

pub(super) fn fleet_id(version: &str) -> FleetId {
    format!("web-{version}").parse().unwrap()
}

pub(super) fn id(name: &str) -> InstanceId {
    name.parse().unwrap()
}

/// A fleet whose instances are ready.
pub(super) async fn ready(cloud: &SimCloud, version: &str, size: u32) {
    cloud.platform().fleets.ensure(&cx(), &fleet(cloud, version, size)).await.unwrap();
    after(60).await;
}

pub(super) fn route() -> RouteId {
    "route".parse().unwrap()
}

pub(super) async fn observe(cloud: &SimCloud) -> TrafficState {
    cloud.platform().traffic.observe(&cx(), &route()).await.unwrap()
}

/// Members, and weights of fleets in percent.
pub(super) fn assignment(cloud: &SimCloud, members: &[&str], weights: &[(&str, u16)]) -> Assignment {
    let instances = cloud.instances();
    let member = |name: &&str| {
        let instance = instances.iter().find(|instance| instance.id.as_str() == *name).unwrap();
        let endpoint = format!("{name}:80").parse().unwrap();
        MemberTarget { instance: instance.id.clone(), fleet: instance.fleet.clone(), endpoint }
    };
    let weights = weights.iter().map(|(version, percent)| (fleet_id(version), Weight::percent(*percent).unwrap()));
    Assignment { split: Split::new(weights).unwrap(), members: members.iter().map(member).collect() }
}

/// Gives the route a new state, whatever its version.
pub(super) async fn apply(
    cloud: &SimCloud,
    members: &[&str],
    weights: &[(&str, u16)],
) -> Result<(), (ErrorKind, String)> {
    let (assignment, version) = (assignment(cloud, members, weights), observe(cloud).await.version);
    let applied = cloud.platform().traffic.apply(&cx(), &route(), &assignment, &version).await;
    applied.map(drop).map_err(|error| told(&error))
}

pub(super) fn told(error: &ProviderError) -> (ErrorKind, String) {
    (error.kind(), error.to_string())
}

/// A cloud whose calls take no time and whose balancer uses members at once.
pub(super) fn quick(switch: SwitchKind) -> SimCloud {
    let (call_latency, register_after) = (Duration::ZERO, Duration::ZERO);
    SimCloud::new(SimOptions { register_after, call_latency, switch, ..SimOptions::default() })
}

/// Weights of whole percent.
pub(super) fn weighted() -> SwitchKind {
    SwitchKind::Weighted { step: Weight::percent(1).unwrap() }
}
