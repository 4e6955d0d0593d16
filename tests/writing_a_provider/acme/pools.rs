//! Pools of a balancer: machines, and percents for their groups.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Acme, Answer, State, is_over, refused};

const REGISTER: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetState {
    Registering,
    InUse,
    Draining,
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) machine: String,
    pub(crate) group: String,
    pub(crate) state: TargetState,
    since: Timestamp,
    in_flight: u32,
}

impl Target {
    pub(crate) fn new(machine: &str, group: &str) -> Self {
        let (machine, group) = (machine.to_owned(), group.to_owned());
        let (state, since) = (TargetState::Registering, Timestamp::UNIX_EPOCH);
        Self { machine, group, state, since, in_flight: 0 }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    /// Counts the changes.
    pub(crate) version: u64,
    /// For each group, in sum 100 or nothing at all.
    pub(crate) percents: BTreeMap<String, u16>,
    pub(crate) targets: Vec<Target>,
    sent: u16,
}

/// A request of a client that was answered.
#[derive(Debug)]
pub(super) struct Request {
    group: String,
    at: Timestamp,
}

impl Acme {
    /// A pool; one that nobody has made yet is empty.
    pub(crate) async fn pool(&self, name: &str) -> Answer<Pool> {
        self.request("GetPool", |state, _| Ok(state.pools.get(name).cloned().unwrap_or_default())).await
    }

    /// Gives a pool other targets and percents, if it still has this version.
    pub(crate) async fn put_pool(
        &self,
        name: &str,
        version: u64,
        percents: BTreeMap<String, u16>,
        targets: Vec<Target>,
    ) -> Answer<()> {
        self.request("PutPool", |state, now| {
            let pool = state.pools.entry(name.to_owned()).or_default();
            if pool.version != version {
                return refused("VersionMismatch", format!("pool {name} has version {}", pool.version));
            }
            pool.version += 1;
            pool.percents = percents;
            let mut before = std::mem::take(&mut pool.targets);
            for target in targets {
                let there = before.iter().position(|old| old.machine == target.machine);
                let mut target = there.map_or(Target { since: now, ..target }, |index| before.swap_remove(index));
                if target.state == TargetState::Draining {
                    target = Target { state: TargetState::Registering, since: now, ..target };
                }
                pool.targets.push(target);
            }
            for target in before {
                let is_new = target.state != TargetState::Draining;
                let since = if is_new { now } else { target.since };
                pool.targets.push(Target { state: TargetState::Draining, since, ..target });
            }
            Ok(())
        })
        .await
    }

    /// How many requests a group has answered in each second from a moment up to another.
    pub(crate) async fn answered(&self, group: &str, from: Timestamp, to: Timestamp) -> Answer<Vec<(i64, u64)>> {
        self.request("GetCounts", |state, _| {
            let mut seconds = BTreeMap::new();
            for request in state.requests.iter().filter(|request| request.group == group) {
                *seconds.entry(request.at.as_second()).or_insert(0) += 1;
            }
            let is_inside = |second: i64| from.as_second() < second && second < to.as_second();
            Ok(seconds.into_iter().filter(|(second, _)| is_inside(*second)).collect())
        })
        .await
    }

    /// A client's request to a pool: the machine that gets it, which is not done with it, and its group.
    pub(crate) fn begin(&self, pool: &str) -> Option<(String, String)> {
        let now = self.now();
        self.with(|state| {
            let pool = state.pools.get_mut(pool)?;
            // Each percent of the wheel in turn, far apart.
            pool.sent = (pool.sent + 37) % 100;
            let mut point = pool.sent;
            let (group, _) = pool.percents.iter().find(|(_, percent)| {
                let is_it = point < **percent;
                point = point.saturating_sub(**percent);
                is_it
            })?;
            let able = |target: &&mut Target| target.group == *group && target.state == TargetState::InUse;
            let target = pool.targets.iter_mut().filter(able).min_by_key(|target| target.in_flight)?;
            target.in_flight += 1;
            state.requests.push(Request { group: target.group.clone(), at: now });
            Some((target.machine.clone(), target.group.clone()))
        })
    }

    /// The machine answers a request that was begun. Whether it still could.
    pub(crate) fn finish(&self, pool: &str, machine: &str) -> bool {
        self.with(|state| {
            let targets = state.pools.get_mut(pool).map(|pool| &mut pool.targets);
            let target = targets.and_then(|targets| targets.iter_mut().find(|target| target.machine == machine));
            target.map(|target| target.in_flight -= 1).is_some()
        })
    }
}

impl State {
    pub(super) fn settle_pools(&mut self, now: Timestamp) {
        for pool in self.pools.values_mut() {
            pool.targets.retain(|target| {
                let is_gone = target.state == TargetState::Draining && is_over(target.since, DRAIN, now);
                !is_gone || target.in_flight > 0
            });
            for target in &mut pool.targets {
                if target.state == TargetState::Registering && is_over(target.since, REGISTER, now) {
                    target.state = TargetState::InUse;
                }
            }
        }
    }
}
