//! Golden images: made on a machine which runs a recipe and ends.

mod artifact;
mod base;
mod builder;
mod command;
mod decision;
mod definition;
mod leftovers;
mod machine;
mod record;
mod removal;
mod resources;
mod settings;
mod site;
mod steps;
mod uses;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{Fingerprint, Image, ServiceName};
use immutable_core::provider::{ErrorKind, ImageBuilder, ImageSpec, OpContext, Progress, ProviderError};
use immutable_guest::{Build, Builds};
use jiff::Timestamp;

use self::artifact::{Artifact, State};
use self::decision::{Next, next};
use self::machine::Order;
pub use self::settings::ImageSettings;
use self::site::Site;
use crate::config::{Config, ConfigError};
use crate::startup::AZURE;

const ENSURE: &str = "build an image";
const FIND: &str = "find an image";
const LIST: &str = "list images";
const REMOVE: &str = "remove an image";

/// When to ask again about a build: a machine takes minutes, an image as well.
const FOR_A_BUILD: Duration = Duration::from_secs(5);

/// How images are built on machines of Azure.
pub(crate) const BUILDS: Builds = Builds {
    base: "name the image to start from, with GalleryImageBuilder::base or an image that was built before",
    // A tag has 256 characters, of which one that is seldom used counts for two.
    longest_label: 128,
    // The rest of the script has room beside it, when it is encoded.
    largest_file: 32 * 1024,
    too_large: "it does not fit into the custom data, of which Azure takes 65535 bytes: fetch it in a script from your artifact store, with the \
                builder's identity",
    // In memory only, until somebody listens.
    tell: |line| format!("    printf '%s\\n' {line} | tee -a {} >/dev/null || :\n", command::SAID),
    // What it has said can be heard only while it is on.
    stays_on: Duration::from_hours(1),
};

/// Builds images in a gallery, finds them and removes them.
///
/// # How an image is made
/// A builder is started from the base image, in the resource group of the configuration, without a public address and without a way to log in. Its
/// custom data, which cloud-init runs, puts the recipe's files into `/opt/immutable` and runs its scripts there as root, in the order of the layers;
/// installs a service that runs the recipe's command there as the user `immutable` with what the release gives it; and says that it is done, or which
/// step has failed. A [managed run command](https://learn.microsoft.com/azure/virtual-machines/linux/run-command-managed) hears that. Then another one
/// has Azure's agent take away all that is the machine's own (`waagent -deprovision+user`) and switches the machine off; it is deallocated and
/// generalised, a version is made of it, and it is deleted with its disk and its network interface. It is deleted as well when a step has failed
/// (`InvalidRequest` with the step), when Azure takes no image of it (`InvalidRequest`), and when its time is over (`Timeout`): its deadline, or some
/// eight hours after its start where only the image is missing. When whoever started it has crashed, the next call for the same recipe goes on with it;
/// any call for the service that builds ends it once nobody can need it any more, eight hours and the deadline after its start at the latest. When nobody
/// comes back at all it switches itself off some hours after its start, and stays; a machine that is off in this way is still paid for.
///
/// A recipe must not restart the machine, and must leave cloud-init and Azure's agent in place. The [subnet](crate::ImageSettings::subnet) of builders
/// needs a way out to Azure, port 443 of the service tag `AzureCloud`: without one, nothing of what they say is heard.
///
/// The base image needs systemd, cloud-init, Azure's agent, and curl and awk, with which a service reads its secrets at each start. It must need no
/// [plan](https://learn.microsoft.com/azure/virtual-machines/marketplace-images). No extension of a policy may be in the way of making a pattern of it.
///
/// # What an image is
/// A version in the configured gallery, which has to be there, of the definition `im-<service>`, which is made with the first image and stays. Its
/// number is told by its recipe, so that two who build at once make one image; numbers have no order, and no version is ever the latest. The version
/// in words, the commit and the images below are its tags.
///
/// Its fingerprint is that of its recipe: of what it starts from, the contents of the files, the scripts, the command, and of the script that this library
/// makes of them. **A script that fetches something has to pin it**: what is fetched is not part of the fingerprint, although the SHA-256 of what lies in
/// `/opt/immutable` afterwards stands in the tag `immutable-content`. An image belongs to one service; labels belong to its first build.
///
/// Files travel in the custom data, which takes 64 KiB. A program is fetched by a script, with the builder's identity:
///
/// ```no_run
/// # use immutable_core::provider::*;
/// # async fn example(config: immutable_azure::Config) -> Result<(), Box<dyn std::error::Error>> {
/// let images = immutable_azure::GalleryImageBuilder::new(config);
/// let fetch = "curl -fsS -o bin/app https://artifacts.example.com/app-1.0.0\n\
///              echo '0123abcd...  bin/app' | sha256sum -c\n\
///              chmod 0755 bin/app\n";
/// let recipe = Recipe {
///     base: Some(immutable_azure::GalleryImageBuilder::base("debian:debian-12:12-gen2:0.20260112.1993")?),
///     layers: vec![Layer::Script(format!("mkdir -p bin\n{fetch}"))],
///     command: vec!["bin/app".into()],
/// };
/// let spec = ImageSpec { service: "web".parse()?, recipe, version: "1.0.0".into(), commit: None };
/// let image = images.ensure(&OpContext::standalone("build"), &spec).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GalleryImageBuilder {
    config: Config,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl GalleryImageBuilder {
    /// A builder with these settings, which need [a gallery](crate::ConfigBuilder::images): without one, every call is `InvalidRequest`.
    pub fn new(config: Config) -> Self {
        Self { config, clock: Arc::new(Timestamp::now) }
    }

    /// The clock that builds are timed by, instead of this machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// An image that was made elsewhere, as the base of a recipe: a version in the marketplace, `publisher:offer:sku:1.2.3`, or one in any gallery, by
    /// its id from `/subscriptions/` on. Nobody knows more about it than that, whose fingerprint is its own here.
    ///
    /// # Errors
    /// [`ConfigError`] when this is not one image. The latest is none: it is another image tomorrow.
    pub fn base(id: &str) -> Result<Image, ConfigError> {
        base::foreign(id)
    }

    fn site(&self, operation: &'static str) -> Result<Site<'_>, ProviderError> {
        Site::of(&self.config, operation, (self.clock)())
    }

    /// Does the next step towards the image of a recipe.
    async fn step(&self, cx: &OpContext, spec: &ImageSpec, build: &Build) -> Result<Progress<Image>, ProviderError> {
        let site = self.site(ENSURE)?;
        let (service, recipe) = (&spec.service, build.fingerprint());
        let image = artifact::of_recipe(&site, service, &recipe).await?;
        let builder = builder::of_recipe(&site, service, &recipe).await?;
        match (next(image.as_ref(), builder.as_ref(), site.images.deadline, site.now), image, builder) {
            (Next::Done, Some(image), builder) => steps::finish(&site, image, service, builder.as_ref()).await,
            (Next::WaitForImage, Some(image), _) if image.state == State::Deleting => {
                Ok(pending(format!("image {} to be gone", image.id)))
            }
            (Next::WaitForImage, Some(image), _) => Ok(pending(format!("image {} to be ready", image.id))),
            (Next::Discard, Some(image), _) => Err(removal::discard(&site, &image).await?),
            (next, _, Some(builder)) => steps::build_on(&site, next, &builder).await,
            _ => steps::start(&site, &Order { cx, spec, build }).await,
        }
    }
}

#[async_trait]
impl ImageBuilder for GalleryImageBuilder {
    /// Does the next step towards the image. The files of the recipe are read each time, which are small.
    ///
    /// # Errors
    /// `InvalidRequest` names the field of a recipe that cannot work, or the step that has failed on the builder. `Timeout` when the builder had its
    /// time. `Conflict` when the image was made for other regions than those of the settings: no call adds one. Otherwise what Azure says.
    ///
    /// # Cancellation
    /// The builder goes on, and the next call for the same recipe goes on with it, whoever makes it. Without another call for the service it switches
    /// itself off some hours after its start, and stays.
    async fn ensure(&self, cx: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let refused = |problem: String| ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem).without_effect();
        let build = Build::new(&AZURE, spec).map_err(|problem| refused(problem.to_string()))?;
        self.step(cx, spec, &build).await
    }

    async fn find(&self, _: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError> {
        let site = self.site(FIND)?;
        let mut ready = ready(artifact::own(&site, None).await?);
        Ok(ready.find(|image| image.fingerprint == *fingerprint))
    }

    async fn list(&self, _: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError> {
        let site = self.site(LIST)?;
        Ok(ready(artifact::own(&site, Some(service)).await?).collect())
    }

    /// Deletes an image from the gallery, in all regions. Its definition stays.
    ///
    /// Not seen, and so not waited for, is what other resource groups and subscriptions start from it. What they have started goes on; they can start
    /// nothing more.
    ///
    /// # Errors
    /// `Conflict` while a scale set, a machine or another image needs it.
    ///
    /// # Cancellation
    /// The deletion goes on; the next call sees what has come of it.
    async fn remove(&self, _: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
        removal::remove(&self.site(REMOVE)?, image).await
    }
}

impl fmt::Debug for GalleryImageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GalleryImageBuilder").finish_non_exhaustive()
    }
}

fn ready(found: Vec<Artifact>) -> impl Iterator<Item = Image> {
    found.into_iter().filter(|artifact| artifact.state == State::Ready).map(|artifact| artifact.image)
}

fn pending<T>(note: String) -> Progress<T> {
    Progress::Pending { retry_after: FOR_A_BUILD, note }
}
