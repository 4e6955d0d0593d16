//! All that exists of a service or of one fleet, read from Azure and from nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use immutable_core::model::{Endpoint, FleetId, InstanceId, Lifecycle, ObservedFleet, ObservedInstance, ServiceName};
use immutable_core::provider::{FleetsState, ProviderError};
use jiff::Timestamp;

use super::member::{self, Member};
use super::scale_set::{self, Found, Set};
use super::tags;
use crate::addresses;
use crate::config::Config;
use crate::members::Numbers;

/// What there is of a fleet that has a scale set.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) set: Set,
    pub(super) members: Vec<Member>,
}

/// What there is under the name of a fleet.
#[derive(Debug)]
pub(super) enum Fleet {
    Nothing,
    Ours(Box<Parts>),
    Strange,
}

/// Looks at one fleet. Its set is as it is now, the list of its members may lag.
pub(super) async fn of_fleet(
    config: &Config,
    operation: &'static str,
    fleet: &FleetId,
) -> Result<Fleet, ProviderError> {
    let set = match scale_set::of_fleet(config, operation, fleet).await? {
        Found::Ours(set) => *set,
        Found::Strange => return Ok(Fleet::Strange),
        Found::Nothing => return Ok(Fleet::Nothing),
    };
    Ok(match member::all(config, operation, &set).await? {
        Some(members) => Fleet::Ours(Box::new(Parts { set, members })),
        None => Fleet::Nothing,
    })
}

/// Looks at everything of a service, all pages of it.
pub(super) async fn of_service(
    config: &Config,
    operation: &'static str,
    service: &ServiceName,
) -> Result<FleetsState, ProviderError> {
    let as_of = Timestamp::now().checked_sub(config.list_lag).unwrap_or(Timestamp::MIN);
    let mut fleets = Vec::new();
    for set in scale_set::of_service(config, operation, service).await? {
        // One that has gone since is gone.
        if let Some(members) = member::all(config, operation, &set).await? {
            fleets.push(Parts { set, members });
        }
    }
    // After the machines: who has an address by now answers there.
    let mut found = Vec::new();
    if fleets.iter().any(|fleet| fleet.set.is_flexible()) {
        found = addresses::of_flexible(config, operation).await?;
    }
    for fleet in fleets.iter().filter(|fleet| !fleet.set.is_flexible()) {
        found.extend(addresses::of_set(config, operation, &fleet.set.name, &fleet.numbers()).await?);
    }
    let mut first: BTreeMap<InstanceId, IpAddr> = BTreeMap::new();
    for (address, instance) in found {
        first.entry(instance).or_insert(address);
    }
    let fleets = fleets.iter().map(|fleet| fleet.observed(config.port, &first, as_of)).collect();
    Ok(FleetsState { as_of, fleets })
}

impl Parts {
    /// How many instances are starting or running.
    pub(super) fn live(&self) -> u32 {
        count(self.members.iter().filter(|member| member.is_live()))
    }

    /// Those of these members that are dead and have been replaced, though they are still there.
    fn replaced(&self) -> impl Iterator<Item = &Member> {
        let named: BTreeSet<&str> = self.set.tag(tags::REPLACED).unwrap_or_default().split(',').collect();
        let is_dead = |member: &&Member| member.lifecycle == Lifecycle::Dead;
        self.members.iter().filter(is_dead).filter(move |member| named.contains(member.mark()))
    }

    fn numbers(&self) -> Numbers {
        self.members.iter().filter_map(|member| Some((member.key.clone(), member.id.clone()?))).collect()
    }

    fn observed(&self, port: u16, addresses: &BTreeMap<InstanceId, IpAddr>, as_of: Timestamp) -> ObservedFleet {
        let observed = |member: &Member| {
            let id = member.id.clone()?;
            let endpoint = addresses.get(&id).and_then(|address| Endpoint::new(&address.to_string(), port).ok());
            let (lifecycle, image) = (member.lifecycle, member.image);
            Some(ObservedInstance { id, lifecycle, image, endpoint, started_at: member.created.unwrap_or(as_of) })
        };
        let record = &self.set.record;
        ObservedFleet {
            id: record.fleet.clone(),
            release: record.release,
            instances: self.members.iter().filter_map(observed).collect(),
            wanted: Some(self.wanted()),
        }
    }

    /// How many instances there are to be, those included that have no name yet. Azure counts the dead as well, and was given room for others in their
    /// place. It may count those who are being ended until they are gone, which is nobody's wish for more.
    fn wanted(&self) -> u32 {
        let replaced = count(self.replaced());
        let ending = count(self.members.iter().filter(|member| member.lifecycle == Lifecycle::Ending));
        let staying = count(self.members.iter()).saturating_sub(ending).saturating_sub(replaced);
        let counted = self.set.capacity().saturating_sub(replaced);
        counted.min(staying.max(counted.saturating_sub(ending)))
    }
}

pub(super) fn count<'a>(members: impl Iterator<Item = &'a Member>) -> u32 {
    u32::try_from(members.count()).unwrap_or(u32::MAX)
}
