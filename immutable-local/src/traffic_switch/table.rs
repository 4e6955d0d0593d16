//! The route's one table: members, weights, the choice of a member for each request, and what is in flight.
//!
//! A choice and the count of what is in flight are made under the read lock, a change is made under the write lock.
//! So when a change has been made, no new request reaches a removed member and every earlier one is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hyper::header::HeaderValue;
use immutable_core::model::{Endpoint, FleetId, InstanceId, RouteVersion, Split, Weight};
use immutable_core::provider::{Assignment, Member, MemberHealth, MemberTarget};

use super::counters::{FleetMeter, Meters};
use super::pool::Pool;

/// How far the point on the wheel of 10 000 moves with each request.
///
/// It has no divisor in common with 10 000, so any 10 000 requests in a row meet each basis point exactly once; and it is
/// next to 10 000 divided by the golden ratio, so any few requests in a row are spread as evenly as a fixed step can
/// (the three-distance theorem). A plain cycle would meet clients that have a period of their own.
const GOLDEN_STEP: u64 = 6181;
/// How many members of a fleet are compared for each request.
const CANDIDATES: usize = 4;

/// Where one request can go, and what is in flight where.
#[derive(Debug)]
pub(super) struct Table {
    /// Random for each process, so that a version of an earlier one never matches.
    lineage: u64,
    turn: AtomicU64,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    split: Split,
    members: BTreeMap<InstanceId, Arc<TableMember>>,
    shares: Vec<FleetShare>,
    /// Fleets with members and without weight: asked only when no fleet with weight has a member.
    standby: Vec<FleetShare>,
    draining: Vec<Arc<TableMember>>,
}

/// A fleet with traffic.
#[derive(Debug)]
struct FleetShare {
    fleet: FleetId,
    /// The first point on the wheel that belongs to the next fleet.
    bound: u64,
    members: Vec<Arc<TableMember>>,
    turn: AtomicUsize,
}

/// A member, as long as it is in the table or has requests in flight.
#[derive(Debug)]
pub(super) struct TableMember {
    pub(super) instance: InstanceId,
    pub(super) fleet: FleetId,
    pub(super) fleet_header: Option<HeaderValue>,
    pub(super) pool: Pool,
    pub(super) meter: Arc<FleetMeter>,
    in_flight: AtomicU64,
    requests: AtomicU64,
}

/// Why a change was not made. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApplyError {
    Invalid(String),
    Conflict(RouteVersion),
}

/// What one member does now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberLoad {
    /// Who.
    pub instance: InstanceId,
    /// Of which fleet.
    pub fleet: FleetId,
    /// Requests whose answer is not finished.
    pub in_flight: u64,
    /// Requests that it was chosen for since it became a member, unfinished ones included.
    pub requests: u64,
}

/// A request that is counted as in flight at a member until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    member: Arc<TableMember>,
}

impl Table {
    pub(super) fn new() -> Self {
        let lineage = RandomState::new().build_hasher().finish();
        Self { lineage, turn: AtomicU64::new(0), state: RwLock::default() }
    }

    /// The member for a new request; `None` when the route is closed or has no members.
    pub(super) fn pick(&self) -> Option<InFlight> {
        let state = self.read();
        let point =
            self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN_STEP) % u64::from(Weight::FULL.points());
        let chosen = state.shares.iter().find(|share| point < share.bound)?;
        // A fleet may have weight and no members for a moment; its requests are served by whoever else has some.
        chosen.pick().or_else(|| state.shares.iter().chain(&state.standby).find_map(FleetShare::pick))
    }

    /// A member for a request that could not be sent: of the same fleet if one is left, else of another fleet with traffic.
    pub(super) fn pick_another(&self, fleet: &FleetId, tried: &[Arc<TableMember>]) -> Option<InFlight> {
        let state = self.read();
        let (same, others): (Vec<_>, Vec<_>) = state.shares.iter().partition(|share| share.fleet == *fleet);
        same.into_iter().chain(others).find_map(|share| share.pick_untried(tried))
    }

    /// The version, the weights, and every member, draining ones included.
    pub(super) fn observe(&self) -> (RouteVersion, Split, Vec<Member>) {
        let state = self.read();
        let current = state.members.values().map(|member| member.observed(MemberHealth::Untold));
        let mut members: Vec<_> = current.collect();
        let mut listed = BTreeSet::new();
        for member in &state.draining {
            let leaves = !state.members.contains_key(&member.instance);
            if leaves && member.in_flight() > 0 && listed.insert(&member.instance) {
                members.push(member.observed(MemberHealth::Draining));
            }
        }
        (self.version(&state), state.split.clone(), members)
    }

    /// What each member does now, draining ones included.
    pub(super) fn loads(&self) -> Vec<MemberLoad> {
        let state = self.read();
        let draining = state.draining.iter().filter(|member| member.in_flight() > 0);
        state.members.values().chain(draining).map(|member| member.load()).collect()
    }

    /// Swaps the table's content, if it still has the expected version.
    pub(super) fn apply(
        &self,
        assignment: &Assignment,
        expected: &RouteVersion,
        meters: &Meters,
    ) -> Result<(), ApplyError> {
        validate(assignment).map_err(ApplyError::Invalid)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let version = self.version(&state);
        if version != *expected {
            return Err(ApplyError::Conflict(version));
        }
        if state.is(assignment) {
            return Ok(());
        }
        state.swap(assignment, meters);
        Ok(())
    }

    fn version(&self, state: &State) -> RouteVersion {
        let text = format!("{:016x}-{}", self.lineage, state.generation);
        RouteVersion::new(text).expect("invariant: digits and a hyphen are a valid version")
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the table has this content already.
    fn is(&self, assignment: &Assignment) -> bool {
        self.split == assignment.split
            && self.members.len() == assignment.members.len()
            && assignment.members.iter().all(|t| self.members.get(&t.instance).is_some_and(|member| member.is(t)))
    }

    fn swap(&mut self, assignment: &Assignment, meters: &Meters) {
        let mut before = std::mem::take(&mut self.members);
        self.draining.retain(|member| member.in_flight() > 0);
        for target in &assignment.members {
            let member = match before.remove(&target.instance) {
                Some(member) if member.is(target) => member,
                other => {
                    before.extend(other.map(|member| (member.instance.clone(), member)));
                    self.recall(target).unwrap_or_else(|| Arc::new(TableMember::new(target, meters)))
                }
            };
            self.members.insert(target.instance.clone(), member);
        }
        for member in before.into_values() {
            member.pool.close();
            self.draining.push(member);
        }
        self.split = assignment.split.clone();
        self.shares = shares(&self.split, &self.members);
        self.standby = standby(&self.split, &self.members);
        self.generation += 1;
    }

    /// Takes back a member that was on its way out and still has requests in flight.
    fn recall(&mut self, target: &MemberTarget) -> Option<Arc<TableMember>> {
        let index = self.draining.iter().position(|member| member.instance == target.instance && member.is(target))?;
        let member = self.draining.swap_remove(index);
        member.pool.open();
        Some(member)
    }
}

impl FleetShare {
    /// The member with the fewest requests in flight among a few, in turn among equals.
    fn pick(&self) -> Option<InFlight> {
        let count = self.members.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let stride = (count / CANDIDATES).max(1);
        let candidates =
            (0..count.min(CANDIDATES)).map(|step| &self.members[first.wrapping_add(step * stride) % count]);
        candidates.min_by_key(|member| member.in_flight()).map(InFlight::at)
    }

    fn pick_untried(&self, tried: &[Arc<TableMember>]) -> Option<InFlight> {
        let untried = self.members.iter().filter(|member| !tried.iter().any(|t| Arc::ptr_eq(t, member)));
        untried.min_by_key(|member| member.in_flight()).map(InFlight::at)
    }
}

impl TableMember {
    fn new(target: &MemberTarget, meters: &Meters) -> Self {
        Self {
            instance: target.instance.clone(),
            fleet: target.fleet.clone(),
            fleet_header: HeaderValue::from_bytes(target.fleet.as_str().as_bytes()).ok(),
            pool: Pool::new(target.endpoint.clone()),
            meter: meters.meter(&target.fleet),
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.pool.endpoint()
    }

    fn is(&self, target: &MemberTarget) -> bool {
        self.fleet == target.fleet && *self.endpoint() == target.endpoint
    }

    fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    fn observed(&self, health: MemberHealth) -> Member {
        Member { instance: self.instance.clone(), fleet: self.fleet.clone(), health, health_as_of: None }
    }

    fn load(&self) -> MemberLoad {
        MemberLoad {
            instance: self.instance.clone(),
            fleet: self.fleet.clone(),
            in_flight: self.in_flight(),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

impl InFlight {
    fn at(member: &Arc<TableMember>) -> Self {
        member.in_flight.fetch_add(1, Ordering::AcqRel);
        member.requests.fetch_add(1, Ordering::Relaxed);
        Self { member: Arc::clone(member) }
    }

    pub(super) fn member(&self) -> &Arc<TableMember> {
        &self.member
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.member.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn shares(split: &Split, members: &BTreeMap<InstanceId, Arc<TableMember>>) -> Vec<FleetShare> {
    let mut bound = 0;
    let share = |(fleet, weight): (&FleetId, Weight)| {
        bound += u64::from(weight.points());
        share_of(fleet, bound, members)
    };
    split.iter().map(share).collect()
}

fn standby(split: &Split, members: &BTreeMap<InstanceId, Arc<TableMember>>) -> Vec<FleetShare> {
    let fleets: BTreeSet<&FleetId> = members.values().map(|member| &member.fleet).collect();
    let weightless = fleets.into_iter().filter(|fleet| split.weight(fleet).is_none());
    weightless.map(|fleet| share_of(fleet, 0, members)).collect()
}

fn share_of(fleet: &FleetId, bound: u64, members: &BTreeMap<InstanceId, Arc<TableMember>>) -> FleetShare {
    let members = members.values().filter(|member| member.fleet == *fleet).cloned().collect();
    FleetShare { fleet: fleet.clone(), bound, members, turn: AtomicUsize::new(0) }
}

fn validate(assignment: &Assignment) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = assignment.members.iter().find(|target| !seen.insert(&target.instance)) {
        return Err(format!("instance {} is named twice; name each member once", twice.instance));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
