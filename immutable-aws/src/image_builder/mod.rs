//! Golden images: AMIs that are made on an instance which runs a recipe and ends.

mod ami;
mod builder;
mod decision;
mod removal;
mod settings;
mod spread;
#[cfg(test)]
mod tests;
mod user_data;
mod uses;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{Fingerprint, Image, ImageId, ImageLabels, NameError, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder, ImageSpec, OpContext, Progress, ProviderError};
use immutable_guest::{Build, Signal};
use jiff::Timestamp;

use self::builder::{Builder, Order};
use self::decision::{Next, next};
pub use self::settings::{ImageCopy, ImageSettings};
use crate::config::Config;
use crate::guest::EC2;
use crate::tags;

const ENSURE: &str = "build an image";
const FIND: &str = "find an image";
const LIST: &str = "list images";
const REMOVE: &str = "remove an image";

/// When to ask again.
mod wait {
    use std::time::Duration;

    /// A builder takes minutes, an AMI as well.
    pub(super) const FOR_A_BUILD: Duration = Duration::from_secs(5);
    /// The lists of EC2 lag behind for seconds.
    pub(super) const FOR_THE_LIST: Duration = Duration::from_secs(2);
}

/// Builds AMIs, finds them and removes them with their snapshots.
///
/// # How an image is made
/// A builder instance is started from the base AMI, without a key, without a public address, with an encrypted root volume. Its user data puts
/// the recipe's files into `/opt/immutable` and runs its scripts there as root, in the order of the layers; installs a service that runs the recipe's
/// command there as the user `immutable` with what the release gives it; writes to the console that it is done, or which step has failed; and switches
/// the machine off. Then the AMI is made of it, and it is ended. It is ended as well when a step has failed
/// (`InvalidRequest` with the step, and with the id of the builder, whose console output can still be read for about an hour), when its time is over
/// (`Timeout`), and by any later call for the service when whoever started it has crashed.
///
/// A recipe must not restart the machine: nothing goes on after that, so the builder stays on, without a limit of its own, until a later call for the
/// service finds that its time is over.
///
/// The base AMI needs cloud-init and systemd, and for releases with secrets the AWS CLI, with which the service reads them at each start.
///
/// # What an image is
/// Its fingerprint is that of its recipe: of what it starts from, the contents of the files, the scripts, the command, and of the script that this library
/// makes of them. **A script that fetches something has to pin it**: what is fetched is not part of the fingerprint, although the SHA-256 of what
/// lies in `/opt/immutable` afterwards stands in the tag `immutable:content`. An image belongs to one service; labels belong to its first build.
///
/// Files travel in the user data, which takes 16 KiB after compression. A program is fetched by a script, with the builder's role:
///
/// ```no_run
/// # use immutable_core::provider::*;
/// # async fn example(config: immutable_aws::Config) -> Result<(), Box<dyn std::error::Error>> {
/// let images = immutable_aws::AmiBuilder::new(config);
/// let fetch = "aws s3 cp s3://artifacts/app-1.0.0 bin/app\n\
///              echo '0123abcd...  bin/app' | sha256sum -c\n\
///              chmod 0755 bin/app\n";
/// let recipe = Recipe {
///     base: Some(immutable_aws::AmiBuilder::base("ami-0a1b2c3d4e5f60718")?),
///     layers: vec![Layer::Script(format!("mkdir -p bin\n{fetch}"))],
///     command: vec!["bin/app".into()],
/// };
/// let spec = ImageSpec { service: "web".parse()?, recipe, version: "1.0.0".into(), commit: None };
/// let image = images.ensure(&OpContext::standalone("build"), &spec).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AmiBuilder {
    config: Config,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl AmiBuilder {
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

    /// An AMI that was made elsewhere, as the base of a recipe. Nobody knows more about it than its id, which is its fingerprint here.
    ///
    /// # Errors
    /// [`NameError`] when this is no id.
    pub fn base(ami: &str) -> Result<Image, NameError> {
        let labels = ImageLabels { version: ami.to_owned(), commit: None, built_at: Timestamp::UNIX_EPOCH };
        Ok(Image { id: ImageId::new(ami)?, fingerprint: Fingerprint::of(ami), parents: Vec::new(), labels })
    }

    /// Does the next step towards the image of a plan.
    async fn step(&self, cx: &OpContext, spec: &ImageSpec, plan: &Build) -> Result<Progress<Image>, ProviderError> {
        let (config, now) = (&self.config, (self.clock)());
        let deadline = config.images.deadline;
        let amis = ami::own(&config.clients.ec2, ENSURE, ami::of_fingerprint(&plan.fingerprint())).await?;
        let all = builder::of_service(config, &spec.service).await?;
        let (expired, kept): (Vec<&Builder>, Vec<&Builder>) = all.iter().partition(|builder| builder.is_expired(now));
        let before =
            builder::end(config, expired.into_iter().filter(|builder| builder.is_alive()), Effect::None).await?;
        let (alive, gone): (Vec<&Builder>, Vec<&Builder>) = kept
            .into_iter()
            .filter(|builder| builder.is_for(&plan.fingerprint()))
            .partition(|builder| builder.is_alive());

        match next(&amis, &alive, deadline, now) {
            Next::Done(ami, image) => {
                let before = builder::end(config, alive, before).await?;
                let waits = spread::ensure(config, ami, now, before).await?;
                Ok(waits.map_or(Progress::Done(image), pending))
            }
            Next::Wait(what) => Ok(pending(what)),
            Next::Disabled(ami) => {
                let problem =
                    format!("image {} is disabled: enable it, or remove it", ami.image_id().unwrap_or_default());
                Err(told(ErrorKind::Conflict, problem, before))
            }
            Next::Discard(ami) => {
                let (id, reason) =
                    (ami.image_id().unwrap_or_default(), ami.state_reason().and_then(|why| why.message()));
                removal::discard(&config.clients.ec2, ENSURE, ami, before).await?;
                let problem =
                    format!("image {id} has failed and was removed: {}", reason.unwrap_or("without a reason"));
                Err(ProviderError::new(ErrorKind::Unavailable, ENSURE, problem))
            }
            Next::EndSurplus(surplus) => {
                builder::end(config, surplus, before).await?;
                Ok(pending("one builder to be left of several".to_owned()))
            }
            Next::GiveUp(builder) => self.give_up(builder, before).await,
            Next::Listen(builder) => match builder::listen(config, builder, before).await? {
                Some(Signal::Done(content)) => ami::create(config, builder, &content, now, before).await,
                Some(Signal::Failed(step)) => self.refuse(builder, &step, before).await,
                Some(Signal::OutOfTime) => self.give_up(builder, before).await,
                Some(Signal::Stopped) => {
                    builder::end(config, [builder], before).await?;
                    let problem = format!("builder {} was stopped before it was done, and was ended", builder.id);
                    Err(ProviderError::new(ErrorKind::Unavailable, ENSURE, problem))
                }
                None if builder.is_late(deadline, now) => self.give_up(builder, before).await,
                None => Ok(pending(format!("the console output of builder {}", builder.id))),
            },
            Next::Start => {
                if let Some(error) = builder::failed_launch(&gone, now, before) {
                    return Err(error);
                }
                // Of builds that have failed; what is held still goes another time.
                let swept = removal::sweep(&config.clients.ec2, ENSURE, &plan.fingerprint(), &amis, before).await?;
                let before = swept.unwrap_or(Effect::Unknown);
                let gone: BTreeSet<&str> = gone.iter().map(|builder| builder.id.as_str()).collect();
                let base = ami::base(config, plan.base(), before).await?;
                let is_ours = builder::start(config, &Order { cx, spec, plan, base, gone, now }, before).await?;
                let by = if is_ours { "a builder" } else { "the builder that somebody else started" };
                Ok(pending(format!("{by} to make {}", ami::name(&spec.service, &plan.fingerprint()))))
            }
        }
    }

    /// Ends a builder that has had its time.
    async fn give_up(&self, builder: &Builder, before: Effect) -> Result<Progress<Image>, ProviderError> {
        builder::end(&self.config, [builder], before).await?;
        let minutes = self.config.images.deadline.as_secs() / 60;
        let problem = format!(
            "builder {} was not done after {minutes} minutes and was ended: look at its console output, or give images a later deadline",
            builder.id
        );
        Err(ProviderError::new(ErrorKind::Timeout, ENSURE, problem))
    }

    /// Ends a builder on which a step has failed.
    async fn refuse(&self, builder: &Builder, step: &str, before: Effect) -> Result<Progress<Image>, ProviderError> {
        builder::end(&self.config, [builder], before).await?;
        let problem = format!(
            "{step}: the build has failed there, and builder {} was ended: look at its console output",
            builder.id
        );
        Err(ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem))
    }
}

#[async_trait]
impl ImageBuilder for AmiBuilder {
    /// Does the next step towards the image. The files of the recipe are read each time, which are small.
    ///
    /// # Errors
    /// `InvalidRequest` names the field of a recipe that cannot work, or the step that has failed on the builder. `Timeout` when the builder had its
    /// time. Otherwise what EC2 says.
    ///
    /// # Cancellation
    /// The builder goes on, and the next call for the same recipe goes on with it, whoever makes it. Without another call for the service it stays,
    /// switched off, and is paid for by its volume.
    async fn ensure(&self, cx: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let plan = Build::new(&EC2, spec);
        let plan = plan.map_err(|refused| told(ErrorKind::InvalidRequest, refused.to_string(), Effect::None))?;
        self.step(cx, spec, &plan).await
    }

    async fn find(&self, _: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError> {
        let found = ami::own(&self.config.clients.ec2, FIND, ami::of_fingerprint(fingerprint)).await?;
        match next(&found, &[], Duration::MAX, Timestamp::MIN) {
            Next::Done(_, image) => Ok(Some(image)),
            _ => Ok(None),
        }
    }

    /// All images of a service that can be used in the region that they are built in, whether their copies are there yet or not.
    async fn list(&self, _: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError> {
        let found = ami::own(&self.config.clients.ec2, LIST, tags::of_service(service)).await?;
        let is_whole =
            |ami: &&aws_sdk_ec2::types::Image| ami.state() == Some(&aws_sdk_ec2::types::ImageState::Available);
        Ok(found.iter().filter(is_whole).filter_map(ami::image).collect())
    }

    /// Deregisters an image and its copies, and deletes their snapshots.
    ///
    /// Not seen, and so not waited for, are launch configurations, groups in the regions of copies that start from an older version of a template,
    /// templates that name a parameter to be looked up (`resolve:ssm:`), and whatever other accounts start from it. What they have started goes
    /// on; they can start nothing more.
    ///
    /// # Errors
    /// `Conflict` while an instance, a launch template or another image needs it.
    ///
    /// # Cancellation
    /// What is left is found by its tags and removed by the next call.
    async fn remove(&self, _: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
        removal::remove(&self.config, image).await
    }
}

impl fmt::Debug for AmiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmiBuilder").finish_non_exhaustive()
    }
}

fn pending<T>(note: String) -> Progress<T> {
    Progress::Pending { retry_after: wait::FOR_A_BUILD, note }
}

fn told(kind: ErrorKind, problem: String, before: Effect) -> ProviderError {
    let error = ProviderError::new(kind, ENSURE, problem);
    if before == Effect::None { error.without_effect() } else { error }
}
