//! Starts and ends instances: processes of this machine.

mod core;
mod launch;
mod process;
mod registry;
mod survey;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, InstanceId, ServiceName};
use immutable_core::provider::{
    ErrorKind, FleetsState, OpContext, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};

use self::core::Core;
use self::launch::Secrets;
pub(crate) use self::registry::Registry;
use crate::config::LocalConfig;
use crate::error::blocking;

/// Starts and ends instances as processes of this machine, on Linux and macOS, without root and without a server.
///
/// # What an instance is
/// A process in a group of its own, with the command of its image, started only after every file of the image was compared
/// with what was built; a file that this provisioner has compared before is read again unless its inode, size and times of
/// change are the same, which every write changes. Its working directory is its own; standard input is empty; what it prints goes to the files `stdout`
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
/// * An instance runs what is in the place of its image *now*: each `observe` asks for the time of the last change of every file
///   there, and tells the fingerprint of what it finds. Where the image is gone or cannot be read, it tells none.
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
        Self { core: Arc::new(Core::new(config)) }
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

    /// The process of each instance of a service that has one; its process group has the same number. For tests and demos.
    ///
    /// # Errors
    /// Only when the registry cannot be read.
    ///
    /// # Cancellation
    /// Dropping the future leaves nothing behind.
    pub async fn process_ids(&self, service: &ServiceName) -> Result<Vec<(InstanceId, u32)>, ProviderError> {
        let service = service.clone();
        self.blocking(format!("list processes of {service}"), move |core, operation| {
            core.process_ids(operation, &service)
        })
        .await
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
    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let (proof, until) = (proof.clone(), Instant::now() + cx.timeout);
        let operation = format!("retire instances of fleet {}", proof.fleet());
        self.blocking(operation, move |core, operation| core.retire(operation, &proof, until)).await
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
