//! What is known of fleets and instances, on disk.
//!
//! ```text
//! <root>/instances.lock                 held while fleets or instances are changed
//! <root>/fleets/<fleet>.json            the release that the fleet is bound to; written before its first instance
//! <root>/instances/<id>/record.json     written before the process is started, completed after it
//! <root>/instances/<id>/work            the working directory of the process
//! <root>/instances/<id>/stdout, stderr  what it prints
//! ```
//!
//! Names that start with a dot are instances that are gone; whoever has the lock next clears them away.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use immutable_core::model::{Fingerprint, FleetId, FleetSpec, InstanceId, Release, ReleaseId, RolloutId, ServiceName};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::process::ProcessIdentity;
use crate::error::AtPath;
use crate::files::{self, Lock};
use crate::stamp::Memo;

const VERSION: u32 = 1;

/// A fleet and the release it is bound to. Secrets are in it as references only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FleetRecord {
    record_version: u32,
    pub(crate) id: FleetId,
    pub(crate) service: ServiceName,
    pub(crate) release: Release,
    pub(crate) rollout: RolloutId,
}

impl FleetRecord {
    pub(crate) fn of(spec: &FleetSpec) -> Self {
        Self {
            record_version: VERSION,
            id: spec.id.clone(),
            service: spec.service.clone(),
            release: spec.release.clone(),
            rollout: spec.rollout.clone(),
        }
    }
}

/// An instance. Without a process it is half made: begun, and perhaps never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceRecord {
    record_version: u32,
    pub(crate) id: InstanceId,
    pub(crate) fleet: FleetId,
    pub(crate) service: ServiceName,
    pub(crate) release: ReleaseId,
    pub(crate) rollout: RolloutId,
    /// The content it was launched from.
    pub(crate) image: Fingerprint,
    pub(crate) port: u16,
    pub(crate) started_at: Timestamp,
    pub(crate) process: Option<ProcessIdentity>,
    /// When it is forced to end, once it was asked to.
    pub(crate) kill_at: Option<Timestamp>,
}

impl InstanceRecord {
    /// An instance that is about to be started.
    pub(crate) fn beginning(id: InstanceId, spec: &FleetSpec, port: u16, now: Timestamp) -> Self {
        Self {
            record_version: VERSION,
            id,
            fleet: spec.id.clone(),
            service: spec.service.clone(),
            release: spec.release.id(),
            rollout: spec.rollout.clone(),
            image: spec.release.image().fingerprint,
            port,
            started_at: now,
            process: None,
            kill_at: None,
        }
    }
}

/// The records under one root.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    root: PathBuf,
    /// The records of instances as they were read, by the names of their directories.
    known: Arc<Mutex<Memo<String, InstanceRecord>>>,
}

impl Registry {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, known: Arc::default() }
    }

    /// The right to change fleets and instances.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        Lock::try_take(&self.root.join("instances.lock"))
    }

    pub(crate) fn fleet(&self, id: &FleetId) -> io::Result<Option<FleetRecord>> {
        read(&self.fleet_path(id))
    }

    pub(crate) fn fleets(&self) -> io::Result<Vec<FleetRecord>> {
        let directory = self.root.join("fleets");
        let names = files::names(&directory)?;
        let records = names.iter().filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "json"));
        records.filter_map(|name| read(&directory.join(name)).transpose()).collect()
    }

    pub(crate) fn add_fleet(&self, record: &FleetRecord) -> io::Result<()> {
        let path = self.fleet_path(&record.id);
        let directory = self.root.join("fleets");
        fs::create_dir_all(&directory).at(&directory)?;
        files::write_durable(&path, &serde_json::to_vec_pretty(record)?)
    }

    pub(crate) fn remove_fleet(&self, id: &FleetId) -> io::Result<()> {
        let path = self.fleet_path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(&path),
            _ => Ok(()),
        }
    }

    /// All instances that have a record. With the lock it also clears away what is left of those that are gone or were
    /// never begun.
    pub(crate) fn instances(&self, lock: Option<&Lock>) -> io::Result<Vec<InstanceRecord>> {
        let directory = self.root.join("instances");
        let names = files::names(&directory)?;
        let moment = lock.map(Lock::moment).transpose()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::with_capacity(names.len());
        for name in &names {
            let place = directory.join(name);
            if name.starts_with('.') {
                if lock.is_some() {
                    let _ = files::remove_tree(&place);
                }
                continue;
            }
            let path = place.join("record.json");
            // Most records are as they were at the last look, and looks are frequent.
            let stamp = files::stamp_if_there(&path)?;
            if let Some(record) = stamp.and_then(|stamp| known.recall(name, &stamp)) {
                records.push(record);
            } else if let Some(record) = read(&path)? {
                if let (Some(stamp), Some(moment)) = (stamp, moment) {
                    known.keep(name.clone(), stamp, moment, &record);
                }
                records.push(record);
            } else if lock.is_some() {
                // The record comes before the process. An empty one is what a crash of the machine can leave.
                files::remove_tree(&place)?;
            }
        }
        let names: HashSet<&String> = names.iter().collect();
        known.retain(|name| names.contains(name));
        Ok(records)
    }

    /// Makes the directory of a new instance, with its record in it. The id must be new.
    pub(crate) fn begin(&self, record: &InstanceRecord) -> io::Result<()> {
        let directory = self.directory(&record.id);
        let parent = self.root.join("instances");
        fs::create_dir_all(&parent).at(&parent)?;
        fs::create_dir(&directory).at(&directory)?;
        fs::create_dir(directory.join("work")).at(&directory)?;
        files::write_new(&directory.join("record.json"), &serde_json::to_vec(record)?)
    }

    /// Replaces the record of an instance. Not made to survive a crash of the machine: no process does either.
    pub(crate) fn save(&self, record: &InstanceRecord) -> io::Result<()> {
        files::write_whole(&self.directory(&record.id).join("record.json"), &serde_json::to_vec(record)?)
    }

    /// Removes an instance: its record at once, the rest as far as nobody is still writing there.
    pub(crate) fn discard(&self, id: &InstanceId) -> io::Result<()> {
        let gone = self.root.join("instances").join(format!(".gone-{}", files::file_name(id.as_str())));
        fs::rename(self.directory(id), &gone).at(&gone)?;
        // A process that was killed just now may hold this up for a moment; the next look comes back to it.
        let _ = files::remove_tree(&gone);
        Ok(())
    }

    /// The directory of an instance.
    pub(crate) fn directory(&self, id: &InstanceId) -> PathBuf {
        self.root.join("instances").join(files::file_name(id.as_str()))
    }

    fn fleet_path(&self, id: &FleetId) -> PathBuf {
        self.root.join("fleets").join(files::file_name(id.as_str()) + ".json")
    }
}

/// Reads a record of a version that is known; nothing where there is none, or an empty one.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    #[derive(Deserialize)]
    struct Versioned {
        record_version: u32,
    }
    let Some(bytes) = files::read_if_there(path)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let Versioned { record_version } = serde_json::from_slice(&bytes).map_err(io::Error::from).at(path)?;
    if record_version != VERSION {
        let message = format!("record version {record_version} is not known: use a newer program");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message)).at(path);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_newer_program_is_not_guessed_at() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("record.json");
        fs::write(&path, r#"{"record_version":2}"#).unwrap();
        let error = read::<InstanceRecord>(&path).unwrap_err().to_string();
        assert!(error.ends_with("record version 2 is not known: use a newer program"), "{error}");
    }

    #[test]
    fn what_was_never_begun_is_cleared_away() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::new(root.path().to_path_buf());
        let instances = root.path().join("instances");
        fs::create_dir_all(instances.join("i-without-record/work")).unwrap();
        fs::create_dir_all(instances.join(".gone-i-1/work")).unwrap();
        fs::create_dir_all(instances.join("i-empty")).unwrap();
        fs::write(instances.join("i-empty/record.json"), "").unwrap();
        assert_eq!(registry.instances(None).unwrap(), []);
        assert_eq!(files::names(&instances).unwrap().len(), 3);
        let lock = registry.lock().unwrap();
        assert_eq!(registry.instances(lock.as_ref()).unwrap(), []);
        assert_eq!(files::names(&instances).unwrap(), [""; 0]);
    }
}
