//! Moving simulated traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use super::machine::Machine;
use super::metric_source::Flow;
use super::operation::Operation;
use super::provisioner::names;
use super::state::State;
use super::{SimCloud, SimOptions};
use crate::model::{FleetId, InstanceId, RouteId, RouteVersion, Split, Weight};
use crate::provider::{
    Assignment, ErrorKind, Member, MemberHealth, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities,
    TrafficState, TrafficSwitch, VersionCheck,
};

/// A route, as it was written.
#[derive(Debug, Default)]
pub(super) struct Route {
    version: u64,
    split: Split,
    members: BTreeMap<InstanceId, Membership>,
    /// How it shared requests from when on.
    pub(super) flows: Vec<Flow>,
}

#[derive(Debug)]
struct Membership {
    fleet: FleetId,
    registered: Duration,
    /// Since when it is out.
    out: Option<Duration>,
}

impl Route {
    /// When something about its members changes by itself.
    pub(super) fn moments<'a>(&'a self, options: &'a SimOptions) -> impl Iterator<Item = Duration> + 'a {
        self.members.values().map(|member| match member.out {
            None => member.registered.saturating_add(options.register_after),
            Some(out) => out.saturating_add(options.drain_for),
        })
    }

    /// Drops members that are drained, and those whose instance is gone. The latter is a change of the route.
    pub(super) fn forget(&mut self, there: &BTreeMap<InstanceId, Machine>, now: Duration, options: &SimOptions) {
        let before = self.members.len();
        self.members.retain(|id, member| member.out.is_some() || there.contains_key(id));
        if self.members.len() < before {
            self.version += 1;
        }
        let drained = |out: Duration| out.saturating_add(options.drain_for) <= now;
        self.members.retain(|id, member| !member.out.is_some_and(drained) && there.contains_key(id));
    }

    /// Takes a member out. Whether there was such a member in use.
    pub(super) fn take_out(&mut self, instance: &InstanceId, now: Duration) -> bool {
        let Some(member) = self.members.get_mut(instance).filter(|member| member.out.is_none()) else { return false };
        member.out = Some(now);
        self.version += 1;
        true
    }

    pub(super) fn move_weights(&mut self, split: &Split) {
        self.split = split.clone();
        self.version += 1;
    }

    fn version(&self) -> RouteVersion {
        RouteVersion::new(self.version.to_string()).expect("invariant: digits are a route version")
    }
}

#[async_trait]
impl TrafficSwitch for SimCloud {
    fn capabilities(&self) -> TrafficCapabilities {
        let (kind, max_fleets) = self.with(|state| (state.options.switch, state.options.max_fleets));
        TrafficCapabilities { kind, max_fleets, version_check: VersionCheck::WithTheChange }
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        self.enter(cx, Operation::ObserveRoute, |state| Ok(state.observe_route(route))).await
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let (route, assignment, expected) = (route.clone(), assignment.clone(), expected.clone());
        self.change(cx, Operation::ApplyRoute, move |state| state.apply_route(&route, &assignment, &expected)).await
    }
}

impl State {
    fn observe_route(&self, route: &RouteId) -> TrafficState {
        let unused = Route::default();
        let route = self.routes.get(route).unwrap_or(&unused);
        TrafficState {
            as_of: self.told(self.now),
            version: route.version(),
            split: self.effective_split(route),
            members: self.members(route),
        }
    }

    fn apply_route(
        &mut self,
        id: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let found = self.routes.get(id).map_or_else(|| Route::default().version(), Route::version);
        if found != *expected {
            let message = format!("route {id} has version {found}, not {expected}: observe it again");
            return Err(Operation::ApplyRoute.refuse(ErrorKind::Conflict, message));
        }
        self.check(assignment)?;
        let now = self.now;
        let route = self.routes.entry(id.clone()).or_default();
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for target in &assignment.members {
            if route.members.get(&target.instance).is_none_or(|member| member.out.is_some()) {
                let member = Membership { fleet: target.fleet.clone(), registered: now, out: None };
                route.members.insert(target.instance.clone(), member);
                joined.push(target.instance.clone());
            }
        }
        for (instance, member) in &mut route.members {
            if member.out.is_none() && !assignment.members.iter().any(|target| target.instance == *instance) {
                member.out = Some(now);
                left.push(instance.clone());
            }
        }
        let split = match self.options.switch {
            SwitchKind::Weighted { .. } => assignment.split.clone(),
            SwitchKind::Membership => Split::closed(),
        };
        if split != route.split || !joined.is_empty() || !left.is_empty() {
            route.version += 1;
            route.split = split;
        }
        let effect = format!("{}, in {}, out {}", assignment.split, names(&joined), names(&left));
        self.record(&format!("apply route {id}: {effect}"));
        Ok(Progress::Done(()))
    }

    fn check(&self, assignment: &Assignment) -> Result<(), ProviderError> {
        let refuse = |kind, message: String| Err(Operation::ApplyRoute.refuse(kind, message));
        if let SwitchKind::Weighted { step } = self.options.switch {
            let off = |(_, weight): &(&FleetId, Weight)| weight.points() % step.points().max(1) != 0;
            if let Some((fleet, weight)) = assignment.split.iter().find(off) {
                let message = format!("weight {weight} of fleet {fleet}: must be a multiple of {step}");
                return refuse(ErrorKind::InvalidRequest, message);
            }
        }
        let with_traffic: BTreeSet<&FleetId> = match self.options.switch {
            SwitchKind::Weighted { .. } => assignment.split.iter().map(|(fleet, _)| fleet).collect(),
            SwitchKind::Membership => assignment.members.iter().map(|member| &member.fleet).collect(),
        };
        if let Some(limit) = self.options.max_fleets.filter(|limit| with_traffic.len() > *limit as usize) {
            let message = format!("{} fleets with traffic: at most {limit} at once", with_traffic.len());
            return refuse(ErrorKind::InvalidRequest, message);
        }
        for target in &assignment.members {
            let Some(machine) = self.machines.get(&target.instance) else {
                return refuse(ErrorKind::Conflict, format!("instance {} is gone: observe again", target.instance));
            };
            if machine.fleet != target.fleet {
                let message =
                    format!("instance {} is of fleet {}, not {}", target.instance, machine.fleet, target.fleet);
                return refuse(ErrorKind::InvalidRequest, message);
            }
        }
        Ok(())
    }

    pub(super) fn members(&self, route: &Route) -> Vec<Member> {
        let member = |(instance, member): (&InstanceId, &Membership)| Member {
            instance: instance.clone(),
            fleet: member.fleet.clone(),
            health: self.health(instance, member),
            health_as_of: None,
        };
        route.members.iter().map(member).collect()
    }

    fn health(&self, instance: &InstanceId, member: &Membership) -> MemberHealth {
        match member.out {
            Some(_) => MemberHealth::Draining,
            None if self.now < member.registered.saturating_add(self.options.register_after) => {
                MemberHealth::Registering
            }
            None if self.is_good(instance) => MemberHealth::Healthy,
            None => MemberHealth::Unhealthy,
        }
    }

    /// The weights in effect. By membership: the shares of the healthy members, or of the unhealthy ones when there are only those.
    pub(super) fn effective_split(&self, route: &Route) -> Split {
        if let SwitchKind::Weighted { .. } = self.options.switch {
            return route.split.clone();
        }
        let count = |health: MemberHealth| {
            let mut counts = BTreeMap::new();
            for (_, member) in route.members.iter().filter(|(id, member)| self.health(id, member) == health) {
                *counts.entry(member.fleet.clone()).or_insert(0) += 1;
            }
            counts
        };
        let healthy = count(MemberHealth::Healthy);
        shares(if healthy.is_empty() { count(MemberHealth::Unhealthy) } else { healthy })
    }

    pub(super) fn healthy_members(&self, route: &Route, fleet: &FleetId) -> usize {
        let healthy = |(id, member): &(&InstanceId, &Membership)| {
            member.fleet == *fleet && self.health(id, member) == MemberHealth::Healthy
        };
        route.members.iter().filter(healthy).count()
    }

    /// How many members are healthy and get requests.
    pub(super) fn serving(&self) -> usize {
        let serving = |route: &Route| -> usize {
            self.effective_split(route).iter().map(|(fleet, _)| self.healthy_members(route, fleet)).sum()
        };
        self.routes.values().map(serving).sum()
    }
}

/// Shares of the whole in proportion to counts, rounded by the largest remainder; the first by name among equals.
fn shares(counts: BTreeMap<FleetId, u32>) -> Split {
    let total: u32 = counts.values().sum();
    let whole = u32::from(Weight::FULL.points());
    let mut order: Vec<_> = counts.iter().map(|(fleet, count)| (whole * count % total, fleet.clone())).collect();
    order.sort_by(|(left, _), (right, _)| right.cmp(left));
    let floor: u32 = counts.values().map(|count| whole * count / total).sum();
    let favoured: Vec<_> =
        order.into_iter().map(|(_, fleet)| fleet).take((whole - floor.min(whole)) as usize).collect();
    let weight = |(fleet, count): (FleetId, u32)| {
        let points = whole * count / total + u32::from(favoured.contains(&fleet));
        (fleet, u16::try_from(points).unwrap_or(u16::MAX))
    };
    let weights = counts.into_iter().map(weight);
    let weights = weights.map(|(fleet, points)| (fleet, Weight::basis_points(points).unwrap_or(Weight::FULL)));
    Split::new(weights).expect("invariant: the largest remainder makes the floors a whole")
}

#[cfg(test)]
mod tests;
