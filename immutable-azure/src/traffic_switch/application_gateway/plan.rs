//! What one call has to do so that a route becomes what it is to be, and the gateway with that done. Nothing is asked or sent in here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use immutable_core::model::{FleetId, RouteVersion};
use immutable_core::provider::{Assignment, ErrorKind, IdempotencyKey, MemberHealth, ProviderError};
use jiff::Timestamp;

use super::document::{Document, same};
use super::health::Opinion;
use super::names;
use super::route::Part;
use super::state::{Out, State, content};
use crate::Config;

/// Limits of a gateway:
/// <https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#azure-application-gateway-limits>.
const MOST_POOLS: usize = 100;
const MOST_TARGETS: usize = 1200;

/// Addresses by fleet.
pub(super) type Addresses = BTreeMap<FleetId, BTreeSet<IpAddr>>;

/// Who is to come and who is to go.
#[derive(Debug)]
pub(super) struct Plan {
    /// Everybody who is to be a member.
    pub(super) named: Addresses,
    pub(super) joining: Addresses,
    pub(super) leaving: Addresses,
}

impl Plan {
    /// # Errors
    /// `InvalidRequest` for members without an address, and for two fleets at the same one.
    pub(super) fn new(operation: &'static str, state: &State, assignment: &Assignment) -> Result<Self, ProviderError> {
        let refuse =
            |problem: String| Err(ProviderError::new(ErrorKind::InvalidRequest, operation, problem).without_effect());
        let (mut named, mut whose) = (Addresses::new(), BTreeMap::new());
        for target in &assignment.members {
            let Ok(address) = target.endpoint.host().parse::<IpAddr>() else {
                return refuse(format!("{} has no IP address, by which gateways know their members", target.instance));
            };
            let other = whose.insert(address, &target.fleet).filter(|other| **other != target.fleet);
            if let Some(other) = other {
                return refuse(format!("{address} is to be a member of fleet {other} and of fleet {}", target.fleet));
            }
            named.entry(target.fleet.clone()).or_default().insert(address);
        }
        let registered = state.registered();
        let joining = named.iter().map(|(fleet, addresses)| {
            let new =
                addresses.iter().filter(|address| !registered.get(fleet).is_some_and(|there| there.contains(address)));
            (fleet.clone(), new.copied().collect::<BTreeSet<_>>())
        });
        let joining: Addresses = joining.filter(|(_, new)| !new.is_empty()).collect();
        let leaving = state.fleets.iter().map(|(fleet, addresses)| {
            let gone =
                addresses.iter().filter(|address| !named.get(fleet).is_some_and(|named| named.contains(address)));
            (fleet.clone(), gone.copied().collect::<BTreeSet<_>>())
        });
        let leaving = leaving.filter(|(_, gone)| !gone.is_empty()).collect();
        Ok(Self { named, joining, leaving })
    }

    /// Whether others are to go later: not before those of these fleets who stay are good.
    ///
    /// A fleet none of whose members is good is waited for as long as one of them is still looked at. And nobody who is good goes as long as nobody of
    /// those who stay is.
    pub(super) fn unready<'b>(
        &self,
        staying: &[&'b FleetId],
        going: &BTreeMap<&FleetId, &BTreeSet<IpAddr>>,
        opinion: &Opinion,
    ) -> Option<&'b FleetId> {
        let is_good = |health: MemberHealth| matches!(health, MemberHealth::Healthy | MemberHealth::Untold);
        let looks = |fleet: &FleetId| -> Vec<MemberHealth> {
            self.named.get(fleet).into_iter().flatten().map(|address| opinion.of(fleet, *address)).collect()
        };
        let is_open = |fleet: &&&FleetId| {
            let looks = looks(fleet);
            !looks.iter().any(|health| is_good(*health)) && looks.contains(&MemberHealth::Registering)
        };
        if let Some(fleet) = staying.iter().find(is_open) {
            return Some(fleet);
        }
        let nobody_is_good = !staying.iter().flat_map(|fleet| looks(fleet)).any(is_good);
        let goes_though_good = || {
            let mut going = going.iter().flat_map(|(fleet, all)| all.iter().map(move |address| (*fleet, *address)));
            going.any(|(fleet, address)| is_good(opinion.of(fleet, address)))
        };
        staying.first().copied().filter(|_| nobody_is_good && goes_though_good())
    }
}

/// A gateway that is to be written.
#[derive(Debug)]
pub(super) struct Change<'a> {
    state: &'a State,
    operation: &'static str,
    fleets: Addresses,
    out: Vec<Out>,
    document: Document,
}

impl<'a> Change<'a> {
    /// One that changes nothing but that those who are drained are forgotten.
    pub(super) fn new(config: &Config, operation: &'static str, state: &'a State, now: Timestamp) -> Self {
        let out = state.out.iter().filter(|out| !state.is_drained(out, config, now)).cloned().collect();
        Self { state, operation, fleets: state.fleets.clone(), out, document: state.document.clone() }
    }

    /// Puts members in. Who was recorded at the same address for another fleet is no more.
    pub(super) fn join(&mut self, joining: &Addresses) {
        let all: BTreeSet<IpAddr> = joining.values().flatten().copied().collect();
        self.fleets.values_mut().for_each(|there| there.retain(|address| !all.contains(address)));
        self.out.iter_mut().for_each(|out| out.addresses.retain(|address| !all.contains(address)));
        for (fleet, addresses) in joining {
            self.fleets.entry(fleet.clone()).or_default().extend(addresses);
        }
        if let Part::Pool(pool) = &self.state.route.part {
            self.document.change_pool(pool, &BTreeSet::new(), &all);
        }
    }

    /// Takes members out: they drain from now on.
    ///
    /// # Errors
    /// `InvalidRequest` for a fleet that cannot have a pool, which then has none that could leave it.
    pub(super) fn leave(&mut self, leaving: &Addresses, now: Timestamp) -> Result<(), ProviderError> {
        let in_pool = self.document.addresses(&self.state.pool);
        for (fleet, addresses) in leaving {
            if let Some(there) = self.fleets.get_mut(fleet) {
                there.retain(|address| !addresses.contains(address));
            }
            let is_by_member = matches!(self.state.route.part, Part::Pool(_));
            let was_in = addresses.iter().filter(|address| !is_by_member || in_pool.contains(address));
            let addresses: BTreeSet<_> = was_in.copied().collect();
            let pool = names::out(self.operation, fleet, &self.state.route.short(), now)?;
            match self.out.iter_mut().find(|out| out.pool == pool) {
                Some(out) => out.addresses.extend(addresses),
                None => self.out.push(Out { pool, fleet: fleet.clone(), since: now, addresses }),
            }
        }
        if let Part::Pool(pool) = &self.state.route.part {
            let all = leaving.values().flatten().copied().collect();
            self.document.change_pool(pool, &all, &BTreeSet::new());
        }
        Ok(())
    }

    /// Lets the rule lead to another pool, and remembers where it led.
    pub(super) fn lead_to(&mut self, pool: &str) {
        let state = self.state;
        let in_effect = state.pool_in_effect().to_owned();
        state.route.lead_to(&mut self.document, pool);
        let is_ours = |pool: &str| state.fleet_of(pool).is_some();
        if !is_ours(pool) {
            self.document.set_tag(&state.tag_original(), None);
        } else if !is_ours(&state.pool) {
            self.document.set_tag(&state.tag_original(), Some(&state.pool));
        }
        self.forget_before();
        self.document.set_tag(&state.tag_before(), Some(&in_effect));
    }

    /// What was written before is in effect, on all routes, if the gateway is settled.
    fn forget_before(&mut self) {
        if self.state.is_settled() {
            for tag in self.state.tags_before() {
                self.document.set_tag(&tag, None);
            }
        }
    }

    /// The gateway as it is to be written, in the name of a call.
    ///
    /// # Errors
    /// `Quota` when it would have more than a gateway can have.
    pub(super) fn finish(
        mut self,
        key: &IdempotencyKey,
        expected: &RouteVersion,
        leads: Option<&str>,
    ) -> Result<Document, ProviderError> {
        match leads {
            Some(pool) => self.lead_to(pool),
            None => self.forget_before(),
        }
        let mut wanted: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for (fleet, addresses) in &self.fleets {
            wanted.insert(names::pool(self.operation, fleet, &self.state.route.short())?, addresses.clone());
        }
        let led_to = self.state.route.pool(self.operation, &self.document).unwrap_or_default();
        wanted.retain(|pool, addresses| !addresses.is_empty() || same(pool, &led_to));
        self.out.retain(|out| !out.addresses.is_empty());
        self.merge_out(wanted.len());
        wanted.extend(self.out.drain(..).map(|out| (out.pool, out.addresses)));
        let short = self.state.route.short();
        let there: Vec<String> = self.document.pools().map(str::to_owned).collect();
        for pool in there.iter().filter(|pool| names::read(pool, &short).is_some()) {
            if !wanted.keys().any(|name| same(name, pool)) {
                self.document.remove_pool(pool);
            }
        }
        for (pool, addresses) in &wanted {
            let gone = self.document.addresses(pool).difference(addresses).copied().collect();
            self.document.change_pool(pool, &gone, addresses);
        }
        self.check_limits(wanted.keys().chain([&self.state.pool]))?;
        let content = content(&self.state.route, &self.document, &self.fleets);
        let claim = self.state.claim.next(key, expected, &content);
        self.document.set_tag(&self.state.tag_claim(), Some(&claim.to_string()));
        Ok(self.document)
    }

    /// Has fewer pools of those who leave, if there would be too many: who left a fleet earlier then has as much time as who left it last.
    fn merge_out(&mut self, of_fleets: usize) {
        let short = self.state.route.short();
        let others = self.document.pools().filter(|pool| names::read(pool, &short).is_none()).count();
        while others + of_fleets + self.out.len() > MOST_POOLS {
            self.out.sort_by_key(|out| out.since);
            let later = |index: usize| self.out[index + 1..].iter().position(|out| out.fleet == self.out[index].fleet);
            let pair = (0..self.out.len()).find_map(|index| Some((index, index + 1 + later(index)?)));
            let Some((early, late)) = pair else { return };
            let addresses = std::mem::take(&mut self.out[early].addresses);
            self.out[late].addresses.extend(addresses);
            self.out.remove(early);
        }
    }

    fn check_limits<'b>(&self, mut pools: impl Iterator<Item = &'b String>) -> Result<(), ProviderError> {
        let refuse = |problem| Err(ProviderError::new(ErrorKind::Quota, self.operation, problem).without_effect());
        let count = self.document.pools().count();
        if count > MOST_POOLS {
            return refuse(format!(
                "a gateway has at most {MOST_POOLS} backend pools, and this needs {count}: remove some"
            ));
        }
        match pools.find(|pool| self.document.size(pool) > MOST_TARGETS) {
            None => Ok(()),
            Some(pool) => {
                let size = self.document.size(pool);
                refuse(format!("a backend pool has at most {MOST_TARGETS} targets, and {pool} needs {size}: use fewer"))
            }
        }
    }
}
