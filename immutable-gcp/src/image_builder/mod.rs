//! Golden images: made on a machine which runs a recipe and ends.

mod artifact;
mod builder;
mod decision;
mod disks;
mod machine;
mod record;
mod removal;
mod settings;
mod uses;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{Fingerprint, Image, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder, ImageSpec, OpContext, Progress, ProviderError};
use immutable_guest::{Build, Builds, Signal};
use jiff::Timestamp;

pub use self::artifact::ImageUse;
use self::artifact::{Artifact, Named, State};
use self::builder::Builder;
use self::decision::{Next, next};
use self::machine::Order;
pub use self::settings::ImageSettings;
use crate::config::{Config, ConfigError};
use crate::startup::COMPUTE_ENGINE;

const ENSURE: &str = "build an image";
const FIND: &str = "find an image";
const LIST: &str = "list images";
const REMOVE: &str = "remove an image";
const DEPRECATE: &str = "deprecate an image";

/// When to ask again about a build: a machine takes minutes, an image as well.
const FOR_A_BUILD: Duration = Duration::from_secs(5);

/// The guest attribute in which a builder says how it went: a namespace and a key.
const GUEST_ATTRIBUTE: &str = "immutable/result";

/// How images are built on machines of Compute Engine.
pub(crate) const BUILDS: Builds = Builds {
    base: "name the image to start from, with ComputeImageBuilder::base or an image that was built before",
    // The description, which holds both, has to have room for the images below as well.
    longest_label: 128,
    // The rest of the script has room beside it, when it is encoded, in the 256 KiB of one value of the metadata.
    largest_file: 128 * 1024,
    too_large: "it does not fit into the metadata, of which Compute Engine takes 262144 bytes: fetch it in a script from your artifact store, with \
                the builder's service account",
    tell: |line| {
        let place = "http://metadata.google.internal/computeMetadata/v1/instance/guest-attributes";
        format!(
            "    curl -q -fsS -m 5 -X PUT -H 'Metadata-Flavor: Google' --data {line} {place}/{GUEST_ATTRIBUTE} </dev/null >/dev/null 2>&1 || :\n"
        )
    },
    // What it has said can be read only while it is on.
    stays_on: Duration::from_hours(1),
};

/// Builds images of Compute Engine, finds them and removes them.
///
/// # How an image is made
/// A builder is started from the base image, without keys, without an external address. Its startup script puts the recipe's files into
/// `/opt/immutable` and runs its scripts there as root, in the order of the layers; installs a service that runs the recipe's command there as the
/// user `immutable` with what the release gives it; and says that it is done, or which step has failed, as a guest attribute (`immutable/result`) and on
/// the serial port. Then the builder is stopped, the image is made of its disk, and it is deleted with its disk. It is deleted as well when a step
/// has failed (`InvalidRequest` with the step), when its time is over (`Timeout`), and by any later call for the service when whoever started it has
/// crashed. When nobody comes back at all, Compute Engine deletes it some hours after its start
/// ([`maxRunDuration`](https://docs.cloud.google.com/compute/docs/instances/limit-vm-runtime)), as long as it has not been stopped.
///
/// A recipe must not restart the machine: its script would begin again.
///
/// The base image needs systemd, Google's guest environment, and curl; with curl a service reads its secrets at each start as well. What a
/// build says is lost where an organisation forbids both guest attributes and the serial port's output.
///
/// # What an image is
/// Its fingerprint is that of its recipe: of what it starts from, the contents of the files, the scripts, the command, and of the script that this library
/// makes of them. **A script that fetches something has to pin it**: what is fetched is not part of the fingerprint, although the first half of the
/// SHA-256 of what lies in `/opt/immutable` afterwards stands in the label `immutable-content`. An image belongs to one service; labels belong to its
/// first build.
///
/// Files travel in the metadata, which takes 256 KiB. A program is fetched by a script, with the builder's service account:
///
/// ```no_run
/// # use immutable_core::provider::*;
/// # async fn example(config: immutable_gcp::Config) -> Result<(), Box<dyn std::error::Error>> {
/// let images = immutable_gcp::ComputeImageBuilder::new(config);
/// let fetch = "gcloud storage cp gs://artifacts/app-1.0.0 bin/app\n\
///              echo '0123abcd...  bin/app' | sha256sum -c\n\
///              chmod 0755 bin/app\n";
/// let base = "projects/debian-cloud/global/images/debian-12-bookworm-v20260114";
/// let recipe = Recipe {
///     base: Some(immutable_gcp::ComputeImageBuilder::base(base)?),
///     layers: vec![Layer::Script(format!("mkdir -p bin\n{fetch}"))],
///     command: vec!["bin/app".into()],
/// };
/// let spec = ImageSpec { service: "web".parse()?, recipe, version: "1.0.0".into(), commit: None };
/// let image = images.ensure(&OpContext::standalone("build"), &spec).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ComputeImageBuilder {
    config: Config,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl ComputeImageBuilder {
    /// A builder with these settings.
    pub fn new(config: Config) -> Self {
        Self { config, clock: Arc::new(Timestamp::now) }
    }

    /// The clock that builds are timed by, instead of this machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// An image that was made elsewhere, as the base of a recipe: its URL, or the end of it from `projects/` on. Nobody knows more about it than
    /// that, whose fingerprint is its own here.
    ///
    /// # Errors
    /// [`ConfigError`] when this is not one image. A family is none: it is another image tomorrow.
    pub fn base(url: &str) -> Result<Image, ConfigError> {
        artifact::foreign(url)
    }

    /// Says how far an image of ours can be used from now on. What runs goes on; [`Obsolete`](ImageUse::Obsolete) is as if it were not there for
    /// [`find`](ImageBuilder::find) and [`list`](ImageBuilder::list), and nothing can be started from it, until it is made active again.
    ///
    /// # Errors
    /// `NotFound` when it is not there. Otherwise what Compute Engine says.
    ///
    /// # Cancellation
    /// The change goes on; the next call sees what has come of it.
    pub async fn deprecate(&self, cx: &OpContext, image: &Image, to: ImageUse) -> Result<Progress<()>, ProviderError> {
        removal::deprecate(&self.config, cx, image, to).await
    }

    /// Does the next step towards the image of a recipe.
    async fn step(&self, cx: &OpContext, spec: &ImageSpec, build: &Build) -> Result<Progress<Image>, ProviderError> {
        let (config, key, now) = (&self.config, &cx.key, (self.clock)());
        let (deadline, recipe) = (config.images.deadline, build.fingerprint());
        let images = artifact::of_recipe(config, ENSURE, &recipe).await?;
        let all = builder::of_service(config, &spec.service).await?;
        let (expired, kept): (Vec<&Builder>, Vec<&Builder>) = all.iter().partition(|builder| builder.is_expired(now));
        if !expired.is_empty() {
            return self.end_all(cx, &expired).await;
        }
        let builders: Vec<&Builder> = kept.into_iter().filter(|builder| builder.is_for(&recipe)).collect();

        match next(&images, &builders, deadline, now) {
            Next::Done(found, builders) => self.finish(cx, spec, found, &builders).await,
            Next::EndSurplus(builders) => self.end_all(cx, &builders).await,
            Next::Wait(what) => Ok(pending(what)),
            Next::OutOfUse(found) => {
                let problem = format!("image {} is obsolete: make it active again, or remove it", found.name);
                Err(ProviderError::new(ErrorKind::Conflict, ENSURE, problem).without_effect())
            }
            Next::Discard(found) => {
                removal::delete(config, cx, ENSURE, &found.name).await?;
                Ok(pending(format!("image {}, which has failed, to be gone", found.name)))
            }
            Next::Listen(builder) => match builder::listen(config, builder).await? {
                Some(Signal::Done(content)) => {
                    builder::note(config, key, builder, &content).await?;
                    Ok(pending(format!("builder {}, which is done, to be stopped", builder.name)))
                }
                Some(Signal::Failed(step)) => {
                    let problem = format!("{step}: the build has failed there, and builder {} was ended", builder.name);
                    self.end_with(cx, builder, ErrorKind::InvalidRequest, problem).await
                }
                Some(Signal::OutOfTime) => self.give_up(cx, builder).await,
                Some(Signal::Stopped) => self.stopped(cx, builder).await,
                None if builder.is_late(deadline, now) => self.give_up(cx, builder).await,
                None => Ok(pending(format!("builder {} to say how it went", builder.name))),
            },
            Next::Stop(builder) => {
                builder::stop(config, key, builder).await?;
                Ok(pending(format!("builder {} to stop", builder.name)))
            }
            Next::Make(builder) => artifact::make(config, key, builder).await,
            Next::GiveUp(builder) => self.give_up(cx, builder).await,
            Next::Stopped(builder) => self.stopped(cx, builder).await,
            Next::Start => match disks::sweep(config, key, &spec.service, &recipe, now).await? {
                0 => machine::start(config, &Order { cx, spec, build, now }).await,
                left => Ok(pending(format!("{left} disks of builders to be gone"))),
            },
        }
    }

    /// Answers with an image that is there, when what it was made on is ending.
    async fn finish(
        &self,
        cx: &OpContext,
        spec: &ImageSpec,
        found: &Artifact,
        builders: &[&Builder],
    ) -> Result<Progress<Image>, ProviderError> {
        let mut before = Effect::None;
        for builder in builders {
            if builder::end(&self.config, &cx.key, builder, before).await? {
                before = Effect::Unknown;
            } else if !builder.is_stopping() {
                return Ok(pending(format!("builder {} to be let go", builder.name)));
            }
        }
        let image = found.image.clone().ok_or_else(|| unreadable(found))?;
        if builders.is_empty() {
            disks::sweep(&self.config, &cx.key, &spec.service, &image.fingerprint, (self.clock)()).await?;
        }
        Ok(Progress::Done(image))
    }

    /// Ends builders that nobody needs, and waits for them to be gone.
    async fn end_all(&self, cx: &OpContext, builders: &[&Builder]) -> Result<Progress<Image>, ProviderError> {
        let mut before = Effect::None;
        for builder in builders {
            if builder::end(&self.config, &cx.key, builder, before).await? {
                before = Effect::Unknown;
            }
        }
        let names: Vec<&str> = builders.iter().map(|builder| builder.name.as_str()).collect();
        Ok(pending(format!("builder {} to be gone", names.join(", "))))
    }

    /// Ends a builder that has had its time.
    async fn give_up(&self, cx: &OpContext, builder: &Builder) -> Result<Progress<Image>, ProviderError> {
        let minutes = self.config.images.deadline.as_secs() / 60;
        let problem = format!(
            "builder {} was not done after {minutes} minutes and was ended: give images a later deadline, or look for what hangs",
            builder.name
        );
        self.end_with(cx, builder, ErrorKind::Timeout, problem).await
    }

    /// Ends a builder that somebody has stopped.
    async fn stopped(&self, cx: &OpContext, builder: &Builder) -> Result<Progress<Image>, ProviderError> {
        let problem = format!("builder {} was stopped before it was done, and was ended", builder.name);
        self.end_with(cx, builder, ErrorKind::Unavailable, problem).await
    }

    /// Ends a builder and says why. While it is ending already, this was said.
    async fn end_with(
        &self,
        cx: &OpContext,
        builder: &Builder,
        kind: ErrorKind,
        problem: String,
    ) -> Result<Progress<Image>, ProviderError> {
        if builder::end(&self.config, &cx.key, builder, Effect::None).await? {
            return Err(ProviderError::new(kind, ENSURE, problem));
        }
        Ok(pending(format!("builder {} to be gone", builder.name)))
    }
}

#[async_trait]
impl ImageBuilder for ComputeImageBuilder {
    /// Does the next step towards the image. The files of the recipe are read each time, which are small.
    ///
    /// # Errors
    /// `InvalidRequest` names the field of a recipe that cannot work, or the step that has failed on the builder. `Timeout` when the builder had its
    /// time. Otherwise what Compute Engine says.
    ///
    /// # Cancellation
    /// The builder goes on, and the next call for the same recipe goes on with it, whoever makes it. Without another call for the service it is
    /// deleted some hours after its start, or stays, switched off, and is paid for by its disk.
    async fn ensure(&self, cx: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let refused = |problem: String| ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem).without_effect();
        let build = Build::new(&COMPUTE_ENGINE, spec).map_err(|problem| refused(problem.to_string()))?;
        self.step(cx, spec, &build).await
    }

    async fn find(&self, _: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError> {
        let found = artifact::of_recipe(&self.config, FIND, fingerprint).await?;
        Ok(found.into_iter().find(|artifact| artifact.state == State::Ready).and_then(|artifact| artifact.image))
    }

    /// All images of a service that can be used, those that are deprecated included.
    async fn list(&self, _: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError> {
        let found = artifact::own(&self.config, LIST, artifact::of_service(service)).await?;
        let ready = found.into_iter().filter(|artifact| artifact.state == State::Ready);
        Ok(ready.filter_map(|artifact| artifact.image).collect())
    }

    /// Deletes an image.
    ///
    /// Not seen, and so not waited for, are templates that name a family, and whatever other projects start from it. What they have started goes
    /// on; they can start nothing more.
    ///
    /// # Errors
    /// `Conflict` while an instance, an instance template or another image needs it.
    ///
    /// # Cancellation
    /// The deletion goes on; the next call sees what has come of it.
    async fn remove(&self, cx: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
        removal::remove(&self.config, cx, image).await
    }
}

impl fmt::Debug for ComputeImageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComputeImageBuilder").finish_non_exhaustive()
    }
}

fn pending<T>(note: String) -> Progress<T> {
    Progress::Pending { retry_after: FOR_A_BUILD, note }
}

/// A wait for an operation as a wait for an image.
fn waiting(progress: Progress<()>) -> Progress<Image> {
    match progress {
        Progress::Pending { retry_after, note } => Progress::Pending { retry_after, note },
        Progress::Done(()) => pending("the image to be listed".to_owned()),
    }
}

fn unreadable(found: &Artifact) -> ProviderError {
    let problem = format!("image {} has a name that is no id", found.name);
    ProviderError::new(ErrorKind::Internal, ENSURE, problem).without_effect()
}
