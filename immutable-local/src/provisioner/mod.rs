//! Starts and ends instances: processes of this machine.

mod launch;
mod process;
mod registry;
mod survey;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, InstanceId, Lifecycle, ServiceName};
use immutable_core::provider::{
    ErrorKind, FleetsState, OpContext, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};
use jiff::{SignedDuration, Timestamp};

use self::launch::{Launch, Secrets};
use self::process::Signal;
use self::registry::FleetRecord;
pub(crate) use self::registry::Registry;
use crate::config::LocalConfig;
use crate::error::{blocking, busy, io_error};
use crate::files::Lock;
use crate::image_builder::ImageStore;

/// Starts and ends instances as processes of this machine, on Linux and macOS, without root and without a server.
///
/// # What an instance is
/// A process in a group of its own, with the command of its image, started only after every file of the image was compared
/// with what was built. Its working directory is its own; standard input is empty; what it prints goes to the files `stdout`
/// and `stderr` in its directory. It listens on `127.0.0.1` at the port in `PORT`.
///
/// Its environment is `PATH`, `HOME`, `LANG` and `TZ` of this process, then the configuration values and secrets of the
/// release, then `PORT`, `IMMUTABLE_INSTANCE`, `IMMUTABLE_FLEET`, `IMMUTABLE_RELEASE` (the whole fingerprint) and `IMAGE_DIR`
/// (the root of the image's files); a release cannot set the last five. Secrets are never written to disk or to a log.
///
/// # Guarantees
/// * Instances outlive this value and this process; a provisioner over the same root finds them again, by process number
///   *and* start time, so that a number that is given to another process is never taken for an instance.
/// * An instance is recorded before its process is started. When the record could not be completed, the next call finds the
///   process by its environment (`IMMUTABLE_INSTANCE`) or its working directory and adopts it; without one it is dead.
/// * `retire` sends SIGTERM to the whole group and records when the stop grace is over. **Nothing here waits:** the SIGKILL that
///   is due then is sent by the next call of any kind, and the group's last members are killed when the instance itself is gone.
///   A process that leaves the group (`setsid`) is not followed.
/// * No wanted size is kept, so nothing replaces a retired instance until `ensure` asks for more.
///
/// One process at a time changes what is under a root; others are answered with `Pending`.
#[derive(Debug, Clone)]
pub struct LocalProvisioner {
    core: Arc<Core>,
}

impl LocalProvisioner {
    /// A provisioner over the root directory of its set-up. Nothing is made before the first call.
    pub fn new(config: LocalConfig) -> Self {
        let registry = Registry::new(config.root.clone());
        let images = ImageStore::new(config.root.clone());
        Self { core: Arc::new(Core { config, registry, images, children: Mutex::default() }) }
    }

    /// Kills every instance of a service at once, without drain or stop grace, and removes its fleets. For tests and demos.
    ///
    /// # Errors
    /// `Conflict` while another process starts or ends instances under the same root.
    ///
    /// # Cancellation
    /// Dropping the future does not stop it.
    pub async fn shut_down(&self, service: &ServiceName) -> Result<(), ProviderError> {
        let service = service.clone();
        self.blocking(format!("shut down {service}"), move |core, operation| core.shut_down(operation, &service)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        operation: String,
        work: impl FnOnce(&Core, &str) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (core, name) = (Arc::clone(&self.core), operation.clone());
        // Verifying an image takes long enough to hold up other futures, and every call waits for its turn after it.
        blocking(&operation, move || work(&core, &name)).await
    }

    async fn resolve_secrets(&self, spec: &FleetSpec) -> Result<Secrets, ProviderError> {
        let mut secrets = BTreeMap::new();
        for (key, reference) in &spec.release.launch().secrets {
            let secret = self.core.config.secrets.resolve(reference).await?;
            if secret.expose().contains('\0') {
                let message = format!("the secret {reference} has a NUL character: remove it");
                return Err(ProviderError::new(ErrorKind::InvalidRequest, "resolve secret", message).without_effect());
            }
            secrets.insert(key.clone(), secret);
        }
        Ok(secrets)
    }
}

#[async_trait]
impl Provisioner for LocalProvisioner {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities { max_fleet_size: Some(self.core.config.max_fleet_size) }
    }

    /// Grows a fleet to a size. The image is verified once, before the first missing instance is started.
    ///
    /// # Errors
    /// `Immutable` for another release or another service, `Quota` above the greatest fleet size, `NotFound` for an image that is not
    /// here, `Conflict` for one that has drifted, `InvalidRequest` for a variable that a release may not set or a
    /// program that this machine cannot run, `Capacity` when there is no room for another process.
    ///
    /// # Cancellation
    /// Starting that was begun goes on; the next `observe` tells.
    async fn ensure(&self, _: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let operation = format!("ensure fleet {}", spec.id);
        launch::check_environment(&operation, spec)?;
        let secrets = if spec.release.launch().secrets.is_empty() {
            Some(Secrets::new())
        } else {
            // Secrets are asked for only when an instance will have them.
            let wanted = spec.clone();
            let missing =
                self.blocking(operation.clone(), move |core, operation| core.missing(operation, &wanted)).await?;
            match missing {
                Progress::Done(0) => None,
                Progress::Done(_) => Some(self.resolve_secrets(spec).await?),
                Progress::Pending { retry_after, note } => return Ok(Progress::Pending { retry_after, note }),
            }
        };
        let spec = spec.clone();
        self.blocking(operation, move |core, operation| core.ensure(operation, &spec, secrets.as_ref())).await
    }

    async fn observe(&self, _: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        let (as_of, service) = (self.core.config.clock.now(), service.clone());
        let operation = format!("observe {service}");
        self.blocking(operation, move |core, operation| core.observe(operation, &service, as_of)).await
    }

    /// Asks the named instances to stop, and removes those that are dead.
    ///
    /// # Errors
    /// `InvalidRequest` when an instance is of another fleet than the proof's. Otherwise what the machine says.
    ///
    /// # Cancellation
    /// It goes on; the next `observe` tells.
    async fn retire(&self, _: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let proof = proof.clone();
        let operation = format!("retire instances of fleet {}", proof.fleet());
        self.blocking(operation, move |core, operation| core.retire(operation, &proof)).await
    }

    async fn remove(
        &self,
        _: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let (service, fleet) = (service.clone(), fleet.clone());
        let operation = format!("remove fleet {fleet}");
        self.blocking(operation, move |core, operation| core.remove(operation, &service, &fleet)).await
    }
}

/// The processes that this provisioner started itself; those must be waited for to be gone.
type Children = HashMap<InstanceId, Child>;

/// All that blocks.
#[derive(Debug)]
struct Core {
    config: LocalConfig,
    registry: Registry,
    images: ImageStore,
    /// Also the turn of a call: one at a time in this process. The lock file is for other processes.
    children: Mutex<Children>,
}

impl Core {
    fn turn(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, operation: &str) -> Result<Option<Lock>, ProviderError> {
        self.registry.lock().map_err(|error| io_error(operation, error).without_effect())
    }

    fn missing(&self, operation: &str, spec: &FleetSpec) -> Result<Progress<u32>, ProviderError> {
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
        let living = |one: &&survey::Surveyed| matches!(one.lifecycle, Lifecycle::Starting | Lifecycle::Running);
        let living = seen.iter().filter(|one| one.record.fleet == spec.id).filter(living).count();
        let missing = spec.size.saturating_sub(u32::try_from(living).unwrap_or(u32::MAX));
        Ok((missing, seen.iter().map(|one| one.record.port).collect()))
    }

    /// Starts what is missing. `secrets` are `None` when nothing was missing a moment ago.
    fn ensure(
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
            Some(self.images.verify(fingerprint).map_err(|error| error.into_provider(operation))?)
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

    fn observe(&self, operation: &str, service: &ServiceName, as_of: Timestamp) -> Result<FleetsState, ProviderError> {
        let failed = |error| io_error(operation, error).without_effect();
        let mut children = self.turn();
        // Without the lock it only looks: what another process is just starting is not half made.
        let lock = self.lock(operation)?;
        let seen = self.survey(&mut children, lock.as_ref(), as_of).map_err(failed)?;
        let fleets = self.registry.fleets().map_err(failed)?;
        Ok(FleetsState { as_of, fleets: survey::fleets_of(service, &fleets, &seen) })
    }

    fn retire(&self, operation: &str, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let failed = |error| io_error(operation, error);
        let mut children = self.turn();
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

    fn remove(&self, operation: &str, service: &ServiceName, fleet: &FleetId) -> Result<Progress<()>, ProviderError> {
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

    fn shut_down(&self, operation: &str, service: &ServiceName) -> Result<(), ProviderError> {
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
fn after(now: Timestamp, delay: std::time::Duration) -> Timestamp {
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}
