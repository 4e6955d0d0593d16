//! What a provisioner does on disk and with processes. All of it blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use immutable_core::decide::RetireProof;
use immutable_core::model::{Fingerprint, FleetId, FleetSpec, InstanceId, Lifecycle, ServiceName};
use immutable_core::provider::{ErrorKind, FleetsState, Progress, ProviderError};
use jiff::{SignedDuration, Timestamp};

use super::launch::{Launch, Secrets};
use super::process::{self, Signal};
use super::registry::{FleetRecord, Registry};
use super::survey::{Contents, Surveyed, fleets_of};
use crate::config::LocalConfig;
use crate::error::{busy, io_error};
use crate::files::Lock;
use crate::image_builder::{ImageStore, Known, Manifest};

/// The processes that this provisioner started itself; those must be waited for to be gone.
pub(super) type Children = HashMap<InstanceId, Child>;

/// The state of a provisioner.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: LocalConfig,
    pub(super) registry: Registry,
    images: ImageStore,
    /// What the files of the images that instances were started from had in them.
    known: Mutex<BTreeMap<Fingerprint, Known>>,
    /// Also the turn of a call: one at a time in this process. The lock file is for other processes.
    children: Mutex<Children>,
}

impl Core {
    pub(super) fn new(config: LocalConfig) -> Self {
        let registry = Registry::new(config.root.clone());
        let images = ImageStore::new(config.root.clone());
        Self { config, registry, images, known: Mutex::default(), children: Mutex::default() }
    }

    fn turn(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, operation: &str) -> Result<Option<Lock>, ProviderError> {
        self.registry.lock().map_err(|error| io_error(operation, error).without_effect())
    }

    pub(super) fn missing(&self, operation: &str, spec: &FleetSpec) -> Result<Progress<u32>, ProviderError> {
        let mut children = self.turn();
        let Some(lock) = self.lock(operation)? else { return Ok(others_turn()) };
        self.growth(operation, spec, &mut children, &lock).map(|(missing, _)| Progress::Done(missing))
    }

    /// How many instances a fleet lacks, and the ports that are taken. Refuses what the fleet cannot become.
    fn growth(
        &self,
        operation: &str,
        spec: &FleetSpec,
        children: &mut Children,
        lock: &Lock,
    ) -> Result<(u32, BTreeSet<u16>), ProviderError> {
        let refuse = |kind, message| Err(ProviderError::new(kind, operation.to_owned(), message).without_effect());
        let failed = |error| io_error(operation, error);
        if let Some(bound) = self.registry.fleet(&spec.id).map_err(failed)? {
            if bound.service != spec.service {
                let message = format!("it is a fleet of service {}: give the new one another id", bound.service);
                return refuse(ErrorKind::Immutable, message);
            }
            let (old, new) = (bound.release.id(), spec.release.id());
            if old != new {
                let message = format!("it is bound to release {old}, not {new}: make another fleet");
                return refuse(ErrorKind::Immutable, message);
            }
        }
        let max = self.config.max_fleet_size;
        if spec.size > max {
            let message = format!("{} instances are asked for, at most {max} are allowed: raise the limit", spec.size);
            return refuse(ErrorKind::Quota, message);
        }
        let now = self.config.clock.now();
        let seen = self.survey(children, Some(lock), now).map_err(failed)?;
        let living = |one: &&Surveyed| matches!(one.lifecycle, Lifecycle::Starting | Lifecycle::Running);
        let living = seen.iter().filter(|one| one.record.fleet == spec.id).filter(living).count();
        let missing = spec.size.saturating_sub(u32::try_from(living).unwrap_or(u32::MAX));
        Ok((missing, seen.iter().map(|one| one.record.port).collect()))
    }

    /// Starts what is missing. `secrets` are `None` when nothing was missing a moment ago.
    pub(super) fn ensure(
        &self,
        operation: &str,
        spec: &FleetSpec,
        secrets: Option<&Secrets>,
    ) -> Result<Progress<()>, ProviderError> {
        let mut children = self.turn();
        let Some(lock) = self.lock(operation)? else { return Ok(others_turn()) };
        let (missing, ports) = self.growth(operation, spec, &mut children, &lock)?;
        let manifest = if missing == 0 {
            None
        } else {
            let fingerprint = &spec.release.image().fingerprint;
            Some(self.verify(operation, fingerprint, &lock)?)
        };
        if missing > 0 && secrets.is_none() {
            return Ok(busy("an instance ended while the fleet was being looked at"));
        }
        if self.registry.fleet(&spec.id).map_err(|error| io_error(operation, error))?.is_none() {
            self.registry.add_fleet(&FleetRecord::of(spec)).map_err(|error| io_error(operation, error))?;
        }
        let (Some(manifest), Some(secrets)) = (manifest, secrets) else { return Ok(Progress::Done(())) };
        let tree = self.images.tree(&manifest.image.fingerprint);
        let now = self.config.clock.now();
        let launch = Launch { operation, spec, tree: &tree, command: &manifest.command, secrets, now };
        launch.run(&self.registry, &mut children, missing, ports)?;
        Ok(Progress::Done(()))
    }

    /// Compares every file of an image with what was built, before instances are started from it.
    fn verify(&self, operation: &str, image: &Fingerprint, lock: &Lock) -> Result<Manifest, ProviderError> {
        let moment = lock.moment().map_err(|error| io_error(operation, error).without_effect())?;
        self.with_known(image, |known| self.images.verify_again(image, &mut known.hashes, moment))
            .map_err(|error| error.into_provider(operation))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Fingerprint, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_known<T>(&self, image: &Fingerprint, work: impl FnOnce(&mut Known) -> T) -> T {
        work(self.known().entry(*image).or_default())
    }

    /// What is in the place of each image that an instance of a service was started from. An image that cannot be read is
    /// left out: nobody can tell what those instances run.
    fn contents(&self, service: &ServiceName, seen: &[Surveyed], lock: Option<&Lock>) -> io::Result<Contents> {
        let moment = lock.map(Lock::moment).transpose()?;
        let used: BTreeSet<_> = seen.iter().map(|one| one.record.image).collect();
        self.known().retain(|image, _| used.contains(image));
        let ours = seen.iter().filter(|one| one.record.service == *service);
        let images: BTreeSet<_> = ours.map(|one| one.record.image).collect();
        let content = |image| {
            let found = self.with_known(&image, |known| self.images.content(&image, known, moment));
            Some((image, found.ok()??))
        };
        Ok(images.into_iter().filter_map(content).collect())
    }

    pub(super) fn observe(
        &self,
        operation: &str,
        service: &ServiceName,
        as_of: Timestamp,
    ) -> Result<FleetsState, ProviderError> {
        let failed = |error| io_error(operation, error).without_effect();
        let mut children = self.turn();
        // Without the lock it only looks: what another process is just starting is not half made.
        let lock = self.lock(operation)?;
        let seen = self.survey(&mut children, lock.as_ref(), as_of).map_err(failed)?;
        let fleets = self.registry.fleets().map_err(failed)?;
        let contents = self.contents(service, &seen, lock.as_ref()).map_err(failed)?;
        Ok(FleetsState { as_of, fleets: fleets_of(service, &fleets, &seen, &contents) })
    }

    pub(super) fn process_ids(
        &self,
        operation: &str,
        service: &ServiceName,
    ) -> Result<Vec<(InstanceId, u32)>, ProviderError> {
        let records = self.registry.instances(None).map_err(|error| io_error(operation, error).without_effect())?;
        let ours = records.into_iter().filter(|record| record.service == *service);
        Ok(ours.filter_map(|record| record.process.map(|process| (record.id, process.pid))).collect())
    }

    /// Ends what the proof names, if its turn comes before `until`: later its caller has given up, and may have put these
    /// very instances into traffic again.
    pub(super) fn retire(
        &self,
        operation: &str,
        proof: &RetireProof,
        until: Instant,
    ) -> Result<Progress<()>, ProviderError> {
        let failed = |error| io_error(operation, error);
        let mut children = self.turn();
        if Instant::now() > until {
            let message = "the proof waited too long for its turn: observe again";
            return Err(ProviderError::new(ErrorKind::Conflict, operation.to_owned(), message).without_effect());
        }
        let Some(lock) = self.lock(operation)? else { return Ok(others_turn()) };
        let now = self.config.clock.now();
        let seen = self.survey(&mut children, Some(&lock), now).map_err(failed)?;
        let named: Vec<_> = seen.into_iter().filter(|one| proof.instances().contains(&one.record.id)).collect();
        if let Some(stranger) = named.iter().find(|one| one.record.fleet != *proof.fleet()) {
            let message =
                format!("instance {} is of fleet {}: observe again", stranger.record.id, stranger.record.fleet);
            return Err(ProviderError::new(ErrorKind::InvalidRequest, operation.to_owned(), message).without_effect());
        }
        for one in named {
            let (id, fleet) = (one.record.id.clone(), &one.record.fleet);
            match (one.lifecycle, one.record.process) {
                (Lifecycle::Ending, _) => {}
                (Lifecycle::Running, Some(process)) => {
                    tracing::info!(instance = %id, %fleet, "instance asked to stop");
                    // The signal first: a record that says "asked" without it would force what was never asked.
                    process::signal_group(process, Signal::TERM).map_err(failed)?;
                    let mut record = one.record;
                    record.kill_at = Some(after(now, self.config.stop_grace));
                    self.registry.save(&record).map_err(failed)?;
                }
                _ => self.bury(&mut children, &one).map_err(failed)?,
            }
        }
        Ok(Progress::Done(()))
    }

    pub(super) fn remove(
        &self,
        operation: &str,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let failed = |error| io_error(operation, error);
        let mut children = self.turn();
        let Some(lock) = self.lock(operation)? else { return Ok(others_turn()) };
        let seen = self.survey(&mut children, Some(&lock), self.config.clock.now()).map_err(failed)?;
        let left = seen.iter().filter(|one| one.record.fleet == *fleet && one.record.service == *service).count();
        if left > 0 {
            let message = format!("it has instances ({left}): retire them first, and wait until they are gone");
            return Err(ProviderError::new(ErrorKind::Conflict, operation.to_owned(), message).without_effect());
        }
        if self.registry.fleet(fleet).map_err(failed)?.is_some_and(|record| record.service == *service) {
            self.registry.remove_fleet(fleet).map_err(failed)?;
        }
        Ok(Progress::Done(()))
    }

    pub(super) fn shut_down(&self, operation: &str, service: &ServiceName) -> Result<(), ProviderError> {
        let failed = |error| io_error(operation, error);
        let mut children = self.turn();
        let Some(lock) = self.lock(operation)? else {
            let message = "another process starts or ends instances under the same root: try again";
            return Err(ProviderError::new(ErrorKind::Conflict, operation.to_owned(), message).without_effect());
        };
        let seen = self.survey(&mut children, Some(&lock), self.config.clock.now()).map_err(failed)?;
        for one in seen.iter().filter(|one| one.record.service == *service) {
            self.bury(&mut children, one).map_err(failed)?;
        }
        for fleet in self.registry.fleets().map_err(failed)?.iter().filter(|fleet| fleet.service == *service) {
            self.registry.remove_fleet(&fleet.id).map_err(failed)?;
        }
        Ok(())
    }
}

fn others_turn<T>() -> Progress<T> {
    busy("another process starts or ends instances under the same root")
}

/// A moment after another; the end of time where there is no such moment.
fn after(now: Timestamp, delay: Duration) -> Timestamp {
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}
