//! What a process has seen of changes on the way: a gateway says that it changes, and not which change of it has ended.
//!
//! Nothing depends on it but how long is waited: who has not seen a change end, because the process is a new one, counts from its own first look. So it is with
//! members: what a gateway was asked before they were seen may be about somebody else who had the address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use immutable_core::model::FleetId;
use immutable_core::provider::{Effect, ErrorKind, ProviderError};
use jiff::Timestamp;

use super::document::Document;
use crate::Config;
use crate::operation::{Handle, Standing};

/// After this time a change is believed to be in effect, whatever was seen: ten times what changes of gateways take. The vendor gives no figure.
pub(super) const LONGEST: Duration = Duration::from_hours(1);

/// Since when members are known.
pub(super) type Since = BTreeMap<(FleetId, IpAddr), Seen>;

/// Since when something is known to be there, and since when to be in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) since: Timestamp,
    pub(super) in_effect: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Since when a change is known to be in effect. A change is named by the route and by what it has left there.
    in_effect: BTreeMap<(String, String), Timestamp>,
    /// The last change that was begun here, by the gateway: who knows it can be told why it failed.
    begun: BTreeMap<String, Handle>,
    /// Who is on a route.
    members: BTreeMap<String, Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// The last change of the route that was seen, and those that were sent from here since.
    changes: BTreeSet<String>,
    since: Since,
    /// The pool that requests go to.
    pool: Option<(String, Seen)>,
}

impl Memory {
    /// Since when each of these changes of a route is known to be in effect, by this look or by an earlier one. All others of the route are
    /// forgotten.
    pub(super) fn look(
        &self,
        route: &str,
        changes: &[String],
        document: &Document,
        now: Timestamp,
    ) -> BTreeMap<String, Timestamp> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.in_effect.retain(|(of, change), _| of != route || changes.contains(change));
        if document.standing == Standing::Settled {
            for change in changes {
                known.in_effect.entry((route.to_owned(), change.clone())).or_insert(now);
            }
        }
        let of_route = known.in_effect.iter().filter(|((of, _), _)| of == route);
        of_route.map(|((_, change), since)| (change.clone(), *since)).collect()
    }

    /// Since when the members of a route are known, by this look or by an earlier one. When somebody else has changed the route, all are new: who
    /// has an address may have left and another one have come. And since when the pool is known that requests go to.
    pub(super) fn meet(
        &self,
        route: &str,
        (change, pool): (&str, &str),
        members: impl Iterator<Item = (FleetId, IpAddr)>,
        (now, is_settled): (Timestamp, bool),
    ) -> (Since, Seen) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = known.members.entry(route.to_owned()).or_default();
        if !there.changes.contains(change) {
            there.since.clear();
        }
        there.changes = BTreeSet::from([change.to_owned()]);
        let before = std::mem::take(&mut there.since);
        let meet = |seen: Option<Seen>| {
            let mut seen = seen.unwrap_or(Seen { since: now, in_effect: None });
            seen.in_effect = seen.in_effect.or(is_settled.then_some(now));
            seen
        };
        there.since = members
            .map(|member| (before.get(&member).copied(), member))
            .map(|(seen, member)| (member, meet(seen)))
            .collect();
        let led_to = there.pool.take().filter(|(known, _)| known.eq_ignore_ascii_case(pool));
        let led_to = meet(led_to.map(|(_, seen)| seen));
        there.pool = Some((pool.to_owned(), led_to));
        (there.since.clone(), led_to)
    }

    /// That this change of a route is sent from here.
    pub(super) fn send(&self, route: &str, change: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.members.entry(route.to_owned()).or_default().changes.insert(change.to_owned());
    }

    pub(super) fn begin(&self, gateway: &str, handle: Option<Handle>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match handle {
            Some(handle) => known.begun.insert(gateway.to_owned(), handle),
            None => known.begun.remove(gateway),
        };
    }

    /// The last change that was begun here, once.
    pub(super) fn take_begun(&self, gateway: &str) -> Option<Handle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).begun.remove(gateway)
    }
}

/// Why the last change of a gateway failed, if it was begun here and was not told yet.
pub(super) async fn failure(
    memory: &Memory,
    config: &Config,
    operation: &'static str,
    document: &Document,
) -> Result<(), ProviderError> {
    let Some(handle) = memory.take_begun(document.id()) else { return Ok(()) };
    match handle.look(&config.clients, operation, Effect::None, document.id()).await {
        Ok(_) => Ok(()),
        // It was somebody else's that failed, or Azure has forgotten it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_from_the_first_look_on_unless_somebody_else_has_changed_the_route() {
        let memory = Memory::default();
        let member = |fleet: &str, address: &str| (fleet.parse::<FleetId>().unwrap(), address.parse().unwrap());
        let (a, b) = (member("web-1", "10.0.0.1"), member("web-1", "10.0.0.2"));
        let heir = member("web-2", "10.0.0.1");
        let check = |change: &str, at: i64, expected: &[(&(FleetId, IpAddr), i64)]| {
            let second = |second| Timestamp::from_second(second).unwrap();
            let members = expected.iter().map(|(member, _)| (*member).clone());
            let expected: BTreeMap<_, _> =
                expected.iter().map(|(member, at)| ((*member).clone(), second(*at))).collect();
            let (found, _) = memory.meet("route", (change, "pool"), members, (second(at), true));
            assert!(found.values().all(|seen| seen.in_effect == Some(seen.since)));
            let found: BTreeMap<_, _> = found.into_iter().map(|(member, seen)| (member, seen.since)).collect();
            assert_eq!(found, expected, "{change} {at}");
        };
        check("1", 1, &[(&a, 1)]);
        check("1", 2, &[(&a, 1), (&b, 2)]);
        check("1", 3, &[(&b, 2)]);
        check("1", 4, &[(&a, 4), (&b, 2)]);
        // A change from here, which has not arrived, and then has.
        memory.send("route", "2");
        memory.send("other", "3");
        check("1", 5, &[(&a, 4), (&b, 2)]);
        memory.send("route", "2");
        check("2", 6, &[(&heir, 6), (&b, 2)]);
        // One of somebody else's.
        check("3", 7, &[(&heir, 7), (&b, 7)]);
        check("2", 8, &[(&heir, 8), (&b, 8)]);
    }

    #[test]
    fn what_was_seen_while_the_gateway_changes_is_in_effect_when_it_has_changed() {
        let memory = Memory::default();
        let member: (FleetId, IpAddr) = ("web-1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let second = |second| Timestamp::from_second(second).unwrap();
        for (at, pool, is_settled, of_member, of_pool) in [
            (1, "old", false, (1, None), (1, None)),
            (2, "old", true, (1, Some(2)), (1, Some(2))),
            (3, "new", false, (1, Some(2)), (3, None)),
            (4, "NEW", true, (1, Some(2)), (3, Some(4))),
            (5, "new", false, (1, Some(2)), (3, Some(4))),
        ] {
            let seen = |(since, in_effect): (i64, Option<i64>)| Seen {
                since: second(since),
                in_effect: in_effect.map(second),
            };
            let found = memory.meet("route", ("1", pool), [member.clone()].into_iter(), (second(at), is_settled));
            assert_eq!(found, (Since::from([(member.clone(), seen(of_member))]), seen(of_pool)), "{at}");
        }
    }
}
