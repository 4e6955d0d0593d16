//! What a route does now, read from the gateway and from the names of machines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use immutable_core::model::{FleetId, InstanceId, RouteId, RouteVersion};
use immutable_core::provider::{ErrorKind, Member, MemberHealth, ProviderError};
use jiff::Timestamp;

use super::claim::Claim;
use super::document::Document;
use super::health::Opinion;
use super::memory::{self, Memory, Seen, Since};
use super::names;
use super::route::{Part, Route};
use crate::operation::Standing;
use crate::{Config, addresses, instance};

const CLAIM: &str = "immutable-route-";
const BEFORE: &str = "immutable-before-";
const ORIGINAL: &str = "immutable-original-";

/// A route as it was read.
#[derive(Debug)]
pub(super) struct State {
    pub(super) route: Route,
    pub(super) document: Document,
    pub(super) claim: Claim,
    /// The pool that requests go to: that of the route, or the one that its rule leads to.
    pub(super) pool: String,
    /// Who is recorded, by fleet.
    pub(super) fleets: BTreeMap<FleetId, BTreeSet<IpAddr>>,
    /// Who leaves, the drained included.
    pub(super) out: Vec<Out>,
    /// Since when changes are known to be in effect.
    in_effect: BTreeMap<String, Timestamp>,
    /// Since when those who are in are known.
    pub(super) since: Since,
    /// Since when requests are known to go to the pool.
    pub(super) led_to: Seen,
}

/// Those who left a fleet at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) pool: String,
    pub(super) fleet: FleetId,
    pub(super) since: Timestamp,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl State {
    pub(super) async fn read(
        config: &Config,
        operation: &'static str,
        route: Route,
        memory: &Memory,
    ) -> Result<Self, ProviderError> {
        let document = Document::read(config, operation, &route.gateway).await?;
        Self::of(operation, route, document, memory)
    }

    pub(super) fn of(
        operation: &'static str,
        route: Route,
        document: Document,
        memory: &Memory,
    ) -> Result<Self, ProviderError> {
        let pool = route.pool(operation, &document)?;
        let (short, tag) = (route.short(), tag(CLAIM, &route));
        let claim = Claim::read(operation, &tag, document.tag(&tag))?;
        let (mut fleets, mut out) = (BTreeMap::new(), Vec::new());
        for (name, found) in document.pools().filter_map(|name| Some((name, names::read(name, &short)?))) {
            let addresses = document.addresses(name);
            if addresses.len() != document.size(name) {
                let problem =
                    format!("the backend pool {name} has targets that are not ours: remove what was added by hand");
                return Err(ProviderError::new(ErrorKind::Internal, operation, problem).without_effect());
            }
            match found.out {
                Some(since) => out.push(Out { pool: name.to_owned(), fleet: found.fleet, since, addresses }),
                None => drop(fleets.insert(found.fleet, addresses)),
            }
        }
        let changes: Vec<String> = out.iter().map(|out| out.pool.clone()).chain([claim.to_string()]).collect();
        let now = Timestamp::now();
        let in_effect = memory.look(route.id.as_str(), &changes, &document, now);
        let led_to = Seen { since: now, in_effect: None };
        let mut state = Self { route, document, claim, pool, fleets, out, in_effect, since: Since::new(), led_to };
        let registered = state.registered().into_iter();
        let members = registered.flat_map(|(fleet, all)| all.into_iter().map(|address| (fleet.clone(), address)));
        let (change, is_settled) = (state.claim.to_string(), state.is_settled());
        (state.since, state.led_to) =
            memory.meet(state.route.id.as_str(), (&change, &state.pool), members, (now, is_settled));
        Ok(state)
    }

    /// All that is a change of the route when it changes. Who is on the way out is not: it ends by itself.
    pub(super) fn content(&self) -> String {
        content(&self.route, &self.document, &self.fleets)
    }

    pub(super) fn version(&self) -> RouteVersion {
        self.claim.version(&self.content())
    }

    pub(super) fn id(&self) -> &RouteId {
        &self.route.id
    }

    pub(super) fn is_settled(&self) -> bool {
        self.document.standing == Standing::Settled
    }

    /// The fleet whose own pool this is.
    pub(super) fn fleet_of(&self, pool: &str) -> Option<FleetId> {
        names::read(pool, &self.route.short()).filter(|named| named.out.is_none()).map(|named| named.fleet)
    }

    /// Whether the last change of the route is known to be in effect.
    pub(super) fn is_in_effect(&self) -> bool {
        self.is_settled() || self.in_effect.contains_key(&self.claim.to_string())
    }

    /// The pool that requests go to, while that is still another one than was written.
    pub(super) fn pool_in_effect(&self) -> &str {
        let before = self.document.tag(&tag(BEFORE, &self.route)).filter(|_| !self.is_in_effect());
        before.unwrap_or(&self.pool)
    }

    /// Where the route led before it led to anything of ours.
    pub(super) fn original(&self) -> Option<&str> {
        self.document.tag(&tag(ORIGINAL, &self.route))
    }

    /// Whether requests go to an address: it is recorded, and not by hand taken out of the pool of the route.
    fn is_in(&self, address: IpAddr, in_pool: &BTreeSet<IpAddr>) -> bool {
        !matches!(self.route.part, Part::Pool(_)) || in_pool.contains(&address)
    }

    /// Those of each fleet who are in.
    pub(super) fn registered(&self) -> BTreeMap<&FleetId, BTreeSet<IpAddr>> {
        let in_pool = self.document.addresses(&self.pool);
        let of = |addresses: &BTreeSet<IpAddr>| {
            addresses.iter().copied().filter(|address| self.is_in(*address, &in_pool)).collect()
        };
        self.fleets.iter().map(|(fleet, addresses)| (fleet, of(addresses))).collect()
    }

    /// How long who leaves has to finish: as the settings say that requests were sent by.
    fn drain_time(&self, config: &Config) -> Duration {
        let seconds = self.route.settings(&self.document).into_iter().filter_map(|settings| {
            let draining = &settings["properties"]["connectionDraining"];
            draining["drainTimeoutInSec"].as_u64().filter(|_| draining["enabled"] == true)
        });
        seconds.max().map_or(config.drain_time, Duration::from_secs)
    }

    /// Whether what these had in flight is done. Their time begins when the change that took them out is in effect.
    pub(super) fn is_drained(&self, out: &Out, config: &Config, now: Timestamp) -> bool {
        let drain = self.drain_time(config);
        let passed = |since: Timestamp, time: Duration| {
            Duration::try_from(now.duration_since(since)).is_ok_and(|passed| passed >= time)
        };
        let known = self.in_effect.get(&out.pool).map(|since| (*since).max(out.since));
        known.is_some_and(|since| passed(since, drain)) || passed(out.since, drain + memory::LONGEST)
    }

    /// Who leaves and has something in flight, and whether they may get new requests still.
    pub(super) fn draining<'a>(
        &'a self,
        config: &'a Config,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a FleetId, IpAddr, bool)> {
        let left = self.out.iter().filter(move |out| !self.is_drained(out, config, now));
        left.flat_map(|out| {
            let is_on = !self.in_effect.contains_key(&out.pool);
            out.addresses.iter().map(move |address| (&out.fleet, *address, is_on))
        })
    }

    /// Every member, with what the gateway thinks of it.
    ///
    /// # Errors
    /// Why the machines cannot be seen.
    pub(super) async fn members(
        &self,
        config: &Config,
        operation: &'static str,
        opinion: &Opinion,
    ) -> Result<Vec<Member>, ProviderError> {
        let registered = self.registered();
        let draining: Vec<_> = self.draining(config, Timestamp::now()).collect();
        if registered.values().all(BTreeSet::is_empty) && draining.is_empty() {
            return Ok(Vec::new());
        }
        let machines = addresses::all(config, operation).await?;
        let mut members = BTreeMap::new();
        for (fleet, address, _) in draining {
            let (instance, _) = who(fleet, address, &machines);
            let (fleet, health) = (fleet.clone(), MemberHealth::Draining);
            members.insert(instance.clone(), Member { instance, fleet, health, health_as_of: None });
        }
        for (fleet, addresses) in registered {
            for address in addresses {
                let (instance, is_there) = who(fleet, address, &machines);
                let (health, health_as_of) =
                    if is_there { opinion.said_of(fleet, address) } else { (MemberHealth::Unhealthy, None) };
                members.insert(instance.clone(), Member { instance, fleet: fleet.clone(), health, health_as_of });
            }
        }
        Ok(members.into_values().collect())
    }

    pub(super) fn tag_claim(&self) -> String {
        tag(CLAIM, &self.route)
    }

    pub(super) fn tag_original(&self) -> String {
        tag(ORIGINAL, &self.route)
    }

    pub(super) fn tag_before(&self) -> String {
        tag_before(&self.route)
    }

    /// The tags of all routes that say what was before.
    pub(super) fn tags_before(&self) -> Vec<String> {
        self.document.tags(BEFORE)
    }
}

/// The tag of a route that says what was before.
pub(super) fn tag_before(route: &Route) -> String {
    tag(BEFORE, route)
}

fn tag(what: &str, route: &Route) -> String {
    format!("{what}{}", route.short())
}

pub(super) fn content(route: &Route, document: &Document, fleets: &BTreeMap<FleetId, BTreeSet<IpAddr>>) -> String {
    let some = fleets.iter().filter(|(_, addresses)| !addresses.is_empty());
    let fleets: Vec<String> = some.map(|(fleet, addresses)| format!("{fleet} {addresses:?}")).collect();
    format!("{}\n{}", route.text(document), fleets.join("\n"))
}

/// Who has an address, and whether that is a machine of the fleet: an address may have become somebody else's.
fn who(fleet: &FleetId, address: IpAddr, machines: &BTreeMap<IpAddr, InstanceId>) -> (InstanceId, bool) {
    let found = machines.get(&address).filter(|machine| instance::fleet(machine).as_ref() == Some(fleet));
    let nobody = || InstanceId::new(format!("address:{address}")).expect("invariant: an address has no white space");
    (found.cloned().unwrap_or_else(nobody), found.is_some())
}
