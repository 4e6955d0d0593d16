//! What a backend pool does now, as its balancer tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use immutable_core::model::{FleetId, InstanceId, RouteVersion, Split, Weight};
use immutable_core::provider::{Member, MemberHealth, MemberTarget, ProviderError};
use jiff::Timestamp;

use super::health::Opinions;
use super::members::{Entry, Ours, leaves};
use super::pool::{Place, Pool};
use crate::Config;
use crate::operation::Standing;

/// A backend pool, with what its balancer thinks of the members.
#[derive(Debug)]
pub(in crate::traffic_switch) struct State {
    pub(in crate::traffic_switch) pool: Pool,
    opinions: Opinions,
    drain_time: Duration,
}

impl State {
    pub(in crate::traffic_switch) async fn read(
        config: &Config,
        operation: &'static str,
        place: &Place,
    ) -> Result<Self, ProviderError> {
        let pool = Pool::read(&config.clients, operation, place).await?;
        let opinions = Opinions::ask(config, operation, &pool).await?;
        Ok(Self::of(config, pool, opinions))
    }

    pub(in crate::traffic_switch) fn of(config: &Config, pool: Pool, opinions: Opinions) -> Self {
        let drain_time = pool.drain_time().unwrap_or(config.drain_time);
        Self { pool, opinions, drain_time }
    }

    pub(in crate::traffic_switch) fn version(&self) -> RouteVersion {
        self.pool.version()
    }

    /// Whether the pool is as a call with this intent has left it.
    pub(in crate::traffic_switch) fn is_left_by(&self, intent: (&str, &str)) -> bool {
        self.pool.is_left_by(intent)
    }

    /// Every member, draining ones included.
    pub(in crate::traffic_switch) fn members(&self, now: Timestamp) -> Vec<Member> {
        let mut members: BTreeMap<InstanceId, Member> = BTreeMap::new();
        for (ours, (health, health_as_of)) in self.pool.entries.iter().filter_map(|entry| self.health(entry, now)) {
            let (instance, fleet) = (ours.instance.clone(), ours.fleet.clone());
            let member = members.entry(instance.clone()).or_insert(Member { instance, fleet, health, health_as_of });
            // Who is in twice is out only when both are.
            if member.health == MemberHealth::Draining {
                (member.health, member.health_as_of) = (health, health_as_of);
            }
        }
        members.into_values().collect()
    }

    fn health<'a>(&self, entry: &'a Entry, now: Timestamp) -> Option<(&'a Ours, (MemberHealth, Option<Timestamp>))> {
        if let Some(ours) = entry.registered() {
            return Some((ours, self.opinions.said_of(entry, ours)));
        }
        // As long as the balancer is being changed it may not have heard of it.
        let drains = |ours: &&Ours| self.pool.standing == Standing::Busy || ours.drains(self.drain_time, now);
        entry.left().filter(drains).map(|ours| (ours, (MemberHealth::Draining, None)))
    }

    /// The fleets' shares of the members. While the balancer is being changed, those count of whom it has said something.
    pub(in crate::traffic_switch) fn split(&self) -> Split {
        let registered = || self.pool.entries.iter().filter_map(|entry| Some((entry, entry.registered()?)));
        let known: Vec<&Ours> =
            registered().filter(|(entry, ours)| self.opinions.knows(entry, ours)).map(|(_, ours)| ours).collect();
        let counts = if self.pool.standing == Standing::Busy && !known.is_empty() {
            count(known)
        } else {
            count(registered().map(|(_, ours)| ours))
        };
        let parts: Vec<u32> = counts.values().copied().collect();
        Split::new(counts.into_keys().cloned().zip(Weight::from_parts(&parts))).unwrap_or_default()
    }

    /// Whether members are to be taken out later: not before those who stay are good.
    ///
    /// A fleet none of whose members is good yet is waited for as long as one of them is still looked at. And nobody who is good goes as long as nobody of
    /// those who stay is: the balancer sends nothing to members that are down, not even when all are.
    pub(in crate::traffic_switch) fn unready(&self, targets: &[MemberTarget]) -> Option<FleetId> {
        let look = |target: &MemberTarget| {
            let entry = self.pool.entries.iter().find(|entry| entry.is(target));
            entry.and_then(|entry| Some(self.opinions.of(entry, entry.registered()?)))
        };
        let is_good = |health: MemberHealth| matches!(health, MemberHealth::Healthy | MemberHealth::Untold);
        let fleets: BTreeSet<&FleetId> = targets.iter().map(|target| &target.fleet).collect();
        let is_open = |fleet: &FleetId| {
            let looks: Vec<_> = targets.iter().filter(|target| target.fleet == *fleet).map(look).collect();
            let good = looks.iter().flatten().any(|health| is_good(*health));
            !good && looks.iter().any(|health| matches!(health, None | Some(MemberHealth::Registering)))
        };
        if let Some(fleet) = fleets.iter().find(|fleet| is_open(fleet)) {
            return Some((*fleet).clone());
        }
        let goes_though_good = self
            .pool
            .entries
            .iter()
            .filter(|entry| leaves(entry, targets))
            .any(|entry| entry.registered().is_some_and(|ours| is_good(self.opinions.of(entry, ours))));
        let nobody_is_good = !targets.iter().filter_map(look).any(is_good);
        fleets.first().filter(|_| goes_though_good && nobody_is_good).map(|fleet| (*fleet).clone())
    }
}

fn count<'a>(members: impl IntoIterator<Item = &'a Ours>) -> BTreeMap<&'a FleetId, u32> {
    let mut counts = BTreeMap::new();
    for ours in members {
        *counts.entry(&ours.fleet).or_default() += 1;
    }
    counts
}
