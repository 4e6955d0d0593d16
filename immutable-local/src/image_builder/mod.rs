//! Builds images: content-addressed, read-only directory trees.

mod recipe;
mod store;
mod tree;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use immutable_core::model::{Fingerprint, Image, ImageId, ImageLabels, ServiceName};
use immutable_core::provider::{ErrorKind, ImageBuilder, ImageSpec, OpContext, Progress, ProviderError};
use jiff::Timestamp;

use self::recipe::BuildPlan;
pub(crate) use self::store::{ImageStore, Manifest};
pub(crate) use self::tree::Known;
use crate::clock::Clock;
use crate::config::absolute;
use crate::error::{VerifyError, blocking, busy, io_error};
use crate::provisioner::Registry;

/// Builds images on this machine: content-addressed, read-only directory trees.
///
/// The fingerprint of an image is the SHA-256 over the paths, executable bits and contents of all its files, and its command.
/// Base and layers are how an image is made, not what it is: the same content made another way is the same image.
///
/// **Labels belong to the first build.** A specification whose content is here already, even under another version or
/// commit, is answered with the existing image and the labels of its first build. Versions that must be told apart need
/// different content, such as a file with the version in it. An image that several services ask for is listed for each.
///
/// **Nothing is run.** A recipe with a script ([`Layer::Script`](immutable_core::provider::Layer::Script)) is `InvalidRequest`: run
/// the script before the build, and add the files that it makes.
///
/// An unchanged layer is not copied again: layers are kept by the fingerprint of their content, and images are made of hard
/// links to them. A build happens beside its place and is renamed there when it is complete; what an interrupted build
/// left behind is cleared away by the next one.
///
/// ```no_run
/// # use immutable_core::provider::*;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let images = immutable_local::LocalImageBuilder::new("/var/lib/fleet");
/// let app = FileCopy { source: "target/release/app".into(), target: "bin/app".into(), executable: true };
/// let recipe = Recipe { base: None, layers: vec![Layer::Files(vec![app])], command: vec!["bin/app".into()] };
/// let spec = ImageSpec { service: "web".parse()?, recipe, version: "1.0.0".into(), commit: None };
/// let image = images.ensure(&OpContext::standalone("build"), &spec).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct LocalImageBuilder {
    store: ImageStore,
    clock: Clock,
    /// One build at a time in this process; the lock file is for other processes.
    one_at_a_time: Arc<Mutex<()>>,
}

impl LocalImageBuilder {
    /// A builder over a root directory, which may be shared with a provisioner. A relative root is taken from the current
    /// directory at this moment. Nothing is made before the first build.
    pub fn new(root: impl AsRef<Path>) -> Self {
        let store = ImageStore::new(absolute(root.as_ref()));
        Self { store, clock: Clock::default(), one_at_a_time: Arc::default() }
    }

    /// The clock for the time of a build.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(clock);
        self
    }

    /// Compares every file of an image with what was built.
    ///
    /// # Errors
    /// [`VerifyError`] names the first file that was changed, added or is missing.
    ///
    /// # Cancellation
    /// Dropping the future changes nothing; the reading goes on to its end.
    pub async fn verify(&self, image: &Image) -> Result<(), VerifyError> {
        let (store, fingerprint) = (self.store.clone(), image.fingerprint);
        // Hashing a large image takes long enough to hold up other futures.
        tokio::task::spawn_blocking(move || store.verify(&fingerprint).map(drop)).await.unwrap_or_else(|error| {
            Err(VerifyError::Unreadable { fingerprint, path: String::new(), source: error.into() })
        })
    }

    /// Runs blocking work on the store.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: String,
        work: impl FnOnce(&Self, &str) -> Result<T, ProviderError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (this, name) = (self.clone(), operation.clone());
        // Hashing and copying files takes long enough to hold up other futures.
        blocking(&operation, move || work(&this, &name)).await
    }

    fn ensure_now(&self, operation: &str, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let failed = |error| io_error(operation, error);
        let plan = recipe::plan(operation, spec, &self.store)?;
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(_lock) = self.store.lock().map_err(failed)? else {
            return Ok(busy("another process builds or removes images under the same root"));
        };
        self.store.clean_up().map_err(failed)?;
        if self.store.load(&plan.fingerprint).map_err(failed)?.is_some() {
            let manifest = self.store.verify(&plan.fingerprint).map_err(|error| error.into_provider(operation))?;
            self.store.add_service(&plan.fingerprint, &spec.service).map_err(failed)?;
            return Ok(Progress::Done(manifest.image));
        }
        let manifest = self.manifest(operation, spec, &plan)?;
        self.store.build(&plan, &manifest).map_err(failed)?;
        tracing::info!(service = %spec.service, image = %manifest.image.id, version = %spec.version, "image built");
        Ok(Progress::Done(manifest.image))
    }

    fn manifest(&self, operation: &str, spec: &ImageSpec, plan: &BuildPlan) -> Result<Manifest, ProviderError> {
        let fingerprint = plan.fingerprint;
        let id = ImageId::new(format!("local:{fingerprint}"))
            .map_err(|error| ProviderError::new(ErrorKind::Internal, operation.to_owned(), error.to_string()))?;
        let nearest_first = |base: &Manifest| {
            let further = base.image.parents.iter().copied();
            std::iter::once(base.image.fingerprint).chain(further).collect()
        };
        let parents = plan.base.as_ref().map(nearest_first).unwrap_or_default();
        let labels =
            ImageLabels { version: spec.version.clone(), commit: spec.commit.clone(), built_at: self.clock.now() };
        Ok(Manifest {
            version: Manifest::VERSION,
            service: spec.service.clone(),
            image: Image { id, fingerprint, parents, labels },
            command: plan.command.clone(),
            layers: plan.layers.iter().map(|layer| layer.fingerprint).collect(),
            files: plan.files.clone(),
        })
    }

    fn remove_now(&self, operation: &str, fingerprint: &Fingerprint) -> Result<Progress<()>, ProviderError> {
        let failed = |error| io_error(operation, error);
        let in_use = |message: String| {
            Err(ProviderError::new(ErrorKind::Conflict, operation.to_owned(), message).without_effect())
        };
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(_lock) = self.store.lock().map_err(failed)? else {
            return Ok(busy("another process builds or removes images under the same root"));
        };
        // With this lock too, no instance can be born from the image while it goes.
        let registry = Registry::new(self.store.root().to_path_buf());
        let Some(_no_births) = registry.lock().map_err(failed)? else {
            return Ok(busy("instances are being started or ended under the same root"));
        };
        self.store.clean_up().map_err(failed)?;
        let images = self.store.all().map_err(failed)?;
        if !images.iter().any(|other| other.image.fingerprint == *fingerprint) {
            return Ok(Progress::Done(()));
        }
        if let Some(user) = registry.instances(None).map_err(failed)?.iter().find(|one| one.image == *fingerprint) {
            return in_use(format!("instance {} runs the image: retire it first", user.id));
        }
        if let Some(child) = images.iter().find(|other| other.image.parents.contains(fingerprint)) {
            return in_use(format!("image {} is built on it: remove that one first", child.image.id));
        }
        self.store.remove(fingerprint).map_err(failed)?;
        Ok(Progress::Done(()))
    }
}

#[async_trait]
impl ImageBuilder for LocalImageBuilder {
    /// Builds the image unless it exists. The files are read to take their fingerprint, in every case.
    ///
    /// # Errors
    /// `InvalidRequest` names the field of a recipe that cannot work. `Conflict` when the image exists but has drifted.
    /// Otherwise what the file system says.
    ///
    /// # Cancellation
    /// A build that was begun goes on; the next `ensure` finds its image.
    async fn ensure(&self, _: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let spec = spec.clone();
        let operation = format!("build image of {}", spec.service);
        self.blocking(operation, move |this, operation| this.ensure_now(operation, &spec)).await
    }

    async fn find(&self, _: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError> {
        let fingerprint = *fingerprint;
        let operation = format!("find image {}", fingerprint.short());
        self.blocking(operation, move |this, operation| {
            let manifest =
                this.store.load(&fingerprint).map_err(|error| io_error(operation, error).without_effect())?;
            Ok(manifest.map(|manifest| manifest.image))
        })
        .await
    }

    async fn list(&self, _: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError> {
        let service = service.clone();
        self.blocking(format!("list images of {service}"), move |this, operation| {
            let all = this.store.all().map_err(|error| io_error(operation, error).without_effect())?;
            let for_service = all.into_iter().filter(|manifest| this.store.is_for(manifest, &service));
            Ok(for_service.map(|manifest| manifest.image).collect())
        })
        .await
    }

    /// Removes an image, and the layers that no image uses any more.
    ///
    /// # Errors
    /// `Conflict` while an instance runs it or another image is built on it.
    ///
    /// # Cancellation
    /// A removal that was begun goes on; the image is gone from `find` and `list` at once or not at all.
    async fn remove(&self, _: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
        let fingerprint = image.fingerprint;
        let operation = format!("remove image {}", fingerprint.short());
        self.blocking(operation, move |this, operation| this.remove_now(operation, &fingerprint)).await
    }
}
