//! Looking at every instance at once, and doing what is due.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use immutable_core::model::{
    Endpoint, Fingerprint, FleetId, InstanceId, Lifecycle, ObservedFleet, ObservedInstance, ServiceName,
};
use jiff::Timestamp;

use super::core::{Children, Core};
use super::process::{self, Fate, ProcessIdentity, Signal};
use super::registry::{FleetRecord, InstanceRecord};
use crate::files::Lock;

/// An instance and what became of it.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub(super) record: InstanceRecord,
    pub(super) lifecycle: Lifecycle,
    /// What became of its process, where it had one.
    fate: Option<Fate>,
}

/// What is in the place of each image now.
pub(super) type Contents = BTreeMap<Fingerprint, Fingerprint>;

impl Core {
    /// Looks at every instance. With the lock it also adopts the processes of half-made instances, sends the kills
    /// that are due, and clears away what is gone; without it, it changes nothing.
    pub(super) fn survey(
        &self,
        children: &mut Children,
        lock: Option<&Lock>,
        now: Timestamp,
    ) -> io::Result<Vec<Surveyed>> {
        let mut records = self.registry.instances(lock)?;
        if lock.is_some() {
            for record in records.iter_mut().filter(|record| record.process.is_none()) {
                self.adopt(children, record)?;
            }
        }
        let fates = fates(children, &records)?;
        let mut seen = Vec::with_capacity(records.len());
        for record in records {
            let fate = fates.get(&record.id).copied();
            let lifecycle = match (fate, record.kill_at) {
                (None, _) if lock.is_none() => Lifecycle::Starting,
                (Some(Fate::Alive), None) => Lifecycle::Running,
                (None, _) | (_, None) => Lifecycle::Dead,
                (Some(_), Some(_)) => Lifecycle::Ending,
            };
            let one = Surveyed { record, lifecycle, fate };
            if lock.is_none() || !self.settle(children, &one, now)? {
                seen.push(one);
            }
        }
        Ok(seen)
    }

    /// Ends what is left of an instance and forgets it.
    pub(super) fn bury(&self, children: &mut Children, one: &Surveyed) -> io::Result<()> {
        if let (Some(process), Some(Fate::Alive | Fate::Gone)) = (one.record.process, one.fate) {
            // Where only ended members are left, some systems refuse the signal: nothing is lost then.
            let result = process::signal_group(process, Signal::KILL);
            if one.fate == Some(Fate::Alive) {
                result?;
            }
        }
        if let Some(mut child) = children.remove(&one.record.id) {
            // Killed, so that the wait takes no longer than the kernel needs to end it.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.registry.discard(&one.record.id)
    }

    /// Does what is due for an ending instance; whether it is gone for good.
    fn settle(&self, children: &mut Children, one: &Surveyed, now: Timestamp) -> io::Result<bool> {
        let Some(kill_at) = one.record.kill_at else { return Ok(false) };
        if one.fate != Some(Fate::Alive) {
            self.bury(children, one)?;
            return Ok(true);
        }
        if let Some(process) = one.record.process.filter(|_| kill_at <= now) {
            tracing::warn!(instance = %one.record.id, fleet = %one.record.fleet, "instance killed after its stop grace");
            process::signal_group(process, Signal::KILL)?;
        }
        Ok(false)
    }

    /// Completes a half-made record when its process runs.
    fn adopt(&self, children: &Children, record: &mut InstanceRecord) -> io::Result<()> {
        record.process = match children.get(&record.id) {
            Some(child) => process::identities(&[child.id()])?.pop(),
            None => process::find(&record.id, &self.registry.directory(&record.id))?,
        };
        if record.process.is_some() {
            tracing::info!(instance = %record.id, fleet = %record.fleet, "instance adopted");
            self.registry.save(record)?;
        }
        Ok(())
    }
}

/// What became of every instance that has a process.
fn fates(children: &mut Children, records: &[InstanceRecord]) -> io::Result<HashMap<InstanceId, Fate>> {
    // One that another process has ended and forgotten still has to be waited for.
    let known: HashSet<_> = records.iter().map(|record| &record.id).collect();
    children.retain(|id, child| known.contains(id) || matches!(child.try_wait(), Ok(None)));
    let mut fates = HashMap::new();
    let mut others: Vec<(&InstanceId, ProcessIdentity)> = Vec::new();
    for record in records {
        match children.get_mut(&record.id).map(std::process::Child::try_wait) {
            Some(Ok(None)) => {
                fates.insert(record.id.clone(), Fate::Alive);
                continue;
            }
            // Its number is free from now on, so it is looked at like any other.
            Some(Ok(Some(_))) => drop(children.remove(&record.id)),
            Some(Err(_)) | None => {}
        }
        others.extend(record.process.map(|process| (&record.id, process)));
    }
    if !others.is_empty() {
        fates.extend(process::look(&others)?);
    }
    Ok(fates)
}

/// The fleets of a service with their instances.
pub(super) fn fleets_of(
    service: &ServiceName,
    fleets: &[FleetRecord],
    seen: &[Surveyed],
    contents: &Contents,
) -> Vec<ObservedFleet> {
    let mut found: BTreeMap<FleetId, ObservedFleet> = BTreeMap::new();
    let empty = |id: &FleetId, release| ObservedFleet { id: id.clone(), release, instances: Vec::new(), wanted: None };
    for fleet in fleets.iter().filter(|fleet| fleet.service == *service) {
        found.insert(fleet.id.clone(), empty(&fleet.id, fleet.release.id()));
    }
    for one in seen.iter().filter(|one| one.record.service == *service) {
        let fleet = one.record.fleet.clone();
        let fleet = found.entry(fleet).or_insert_with_key(|id| empty(id, one.record.release));
        fleet.instances.push(observed(one, contents));
    }
    found.into_values().collect()
}

fn observed(one: &Surveyed, contents: &Contents) -> ObservedInstance {
    ObservedInstance {
        id: one.record.id.clone(),
        lifecycle: one.lifecycle,
        image: contents.get(&one.record.image).copied(),
        endpoint: Some(Endpoint::from(SocketAddr::from((Ipv4Addr::LOCALHOST, one.record.port)))),
        started_at: one.record.started_at,
    }
}
