//! The steps towards an image: one of them in a call.

use immutable_core::model::{Image, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use immutable_guest::Signal;

use super::artifact::{self, Artifact};
use super::builder::{self, Builder};
use super::decision::Next;
use super::machine::{self, Order};
use super::site::Site;
use super::{ENSURE, command, definition, leftovers, pending};

/// Answers with an image that is there, when what it was made on is ending.
pub(super) async fn finish(
    site: &Site<'_>,
    found: Artifact,
    service: &ServiceName,
    builder: Option<&Builder>,
) -> Result<Progress<Image>, ProviderError> {
    let mut before = Effect::None;
    if let Some(builder) = builder.filter(|builder| !builder.is_deleting) {
        builder::end(site, &builder.name, before).await?;
        before = Effect::Unknown;
    }
    end_expired(site, service, before).await?;
    if builder.is_none() {
        leftovers::sweep(site, service, &found.image.fingerprint).await?;
    }
    let missing: Vec<&str> = found.missing(site).collect();
    if !missing.is_empty() {
        let problem = format!(
            "image {} is not in {}: add that to the target regions of this version, or leave it out of the settings",
            found.id,
            missing.join(", ")
        );
        return Err(ProviderError::new(ErrorKind::Conflict, ENSURE, problem));
    }
    Ok(Progress::Done(found.image))
}

/// Ends the builders of a service that nobody needs any more. How many there were.
async fn end_expired(site: &Site<'_>, service: &ServiceName, mut before: Effect) -> Result<usize, ProviderError> {
    let expired = builder::expired(site, service).await?;
    for name in &expired {
        builder::end(site, name, before).await?;
        before = Effect::Unknown;
    }
    Ok(expired.len())
}

/// Starts a builder, when nothing is left that would be in its way.
pub(super) async fn start(site: &Site<'_>, order: &Order<'_>) -> Result<Progress<Image>, ProviderError> {
    let service = &order.spec.service;
    // What cannot work is refused before anything is changed.
    let body = machine::plan(site, order).await?;
    match end_expired(site, service, Effect::None).await? {
        0 => {}
        expired => return Ok(pending(format!("{expired} builders that nobody needs to be gone"))),
    }
    match leftovers::sweep(site, service, &order.build.fingerprint()).await? {
        0 => {}
        left => return Ok(pending(format!("{left} disks and interfaces of builders to be gone"))),
    }
    match definition::ensure(site, service).await? {
        Progress::Done(()) => machine::start(site, order, &body).await,
        Progress::Pending { retry_after, note } => Ok(Progress::Pending { retry_after, note }),
    }
}

/// Does the next step with a builder that is there.
pub(super) async fn build_on(site: &Site<'_>, next: Next, builder: &Builder) -> Result<Progress<Image>, ProviderError> {
    let name = &builder.name;
    let minutes = site.images.deadline.as_secs() / 60;
    let too_late = || {
        let problem = format!(
            "builder {name} was not done after {minutes} minutes and was ended: give images a later deadline, or look for what hangs"
        );
        ProviderError::new(ErrorKind::Timeout, ENSURE, problem)
    };
    let stopped = || {
        let problem = format!("builder {name} was stopped before it was done, and was ended");
        ProviderError::new(ErrorKind::Unavailable, ENSURE, problem)
    };
    match next {
        Next::Listen => match command::listen(site, builder).await? {
            Some(Signal::Done(content)) => {
                builder::note(site, builder, &content).await?;
                Ok(pending(format!("builder {name}, which is done, to be sealed")))
            }
            Some(Signal::Failed(step)) => {
                let problem = format!("{step}: the build has failed there, and builder {name} was ended");
                end_with(site, builder, ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem)).await
            }
            Some(Signal::OutOfTime) => end_with(site, builder, too_late()).await,
            Some(Signal::Stopped) => end_with(site, builder, stopped()).await,
            None if builder.is_late(site.images.deadline, site.now) => end_with(site, builder, too_late()).await,
            None => Ok(pending(format!("builder {name} to say how it went"))),
        },
        Next::Seal => match command::ask_to_seal(site, builder).await {
            Ok(()) => Ok(pending(format!("builder {name} to seal itself and to switch itself off"))),
            Err(error) if error.kind() == ErrorKind::Internal => end_with(site, builder, error).await,
            Err(error) => Err(error),
        },
        Next::Deallocate | Next::Generalize => {
            if !command::has_sealed(site, builder).await? {
                return end_with(site, builder, stopped()).await;
            }
            let what = if next == Next::Deallocate {
                builder::deallocate(site, builder).await?;
                "off"
            } else {
                builder::generalize(site, builder).await?;
                "a pattern"
            };
            Ok(pending(format!("builder {name} to be {what}")))
        }
        Next::Make => match artifact::make(site, builder).await {
            Err(error) if error.kind() == ErrorKind::InvalidRequest => {
                let problem = format!("no image can be made of builder {name}, which was ended: {error}");
                let error = ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem).with_source(error);
                end_with(site, builder, error).await
            }
            other => other,
        },
        Next::NeverMade => {
            let problem =
                format!("builder {name} was ended, as no image could be made of it for hours: look at the gallery");
            end_with(site, builder, ProviderError::new(ErrorKind::Timeout, ENSURE, problem)).await
        }
        Next::Failed => end_with(site, builder, builder.failure(ENSURE)).await,
        Next::GiveUp => end_with(site, builder, too_late()).await,
        Next::Stopped => end_with(site, builder, stopped()).await,
        _ => Ok(pending(format!("builder {name}, with which something is going on"))),
    }
}

/// Ends a builder and says why.
async fn end_with(site: &Site<'_>, builder: &Builder, why: ProviderError) -> Result<Progress<Image>, ProviderError> {
    builder::end(site, &builder.name, Effect::None).await?;
    Err(why)
}
