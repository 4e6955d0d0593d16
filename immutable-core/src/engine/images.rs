//! Building images, and knowing that those are there which a rollout needs.

use super::{Engine, StartError};
use crate::model::{Image, Release};
use crate::plan::{Plan, PlanError};
use crate::provider::{ErrorKind, ImageSpec, Progress, ProviderError};

impl Engine {
    /// The image of a specification: built if it does not exist. Waits until it is done.
    ///
    /// # Errors
    /// What the builder says, once trying again does not help or has not helped ten times in a row.
    ///
    /// # Cancellation
    /// A dropped future may leave a build going on; the next call for the same specification adopts or replaces it.
    #[expect(clippy::disallowed_methods, reason = "the engine owns the time between two tries")]
    pub async fn image(&self, spec: &ImageSpec) -> Result<Image, StartError> {
        let calls = self.calls(None, 0);
        let context = calls.context(&["image", &serde_json::to_string(spec).unwrap_or_default()]);
        let mut failures = 0;
        loop {
            match calls.look("build image", self.platform.images.ensure(&context, spec)).await {
                Ok(Progress::Done(image)) => return Ok(image),
                Ok(Progress::Pending { retry_after, .. }) => {
                    failures = 0;
                    tokio::time::sleep(retry_after).await;
                }
                // Never a failure; the next try waits until the budget of calls is open again.
                Err(error) if error.kind() == ErrorKind::Throttled => {}
                Err(error) if !error.kind().is_transient() || failures >= 10 => return Err(error.into()),
                Err(error) => {
                    tokio::time::sleep(calls.backoff(failures, Some(&error))).await;
                    failures += 1;
                }
            }
        }
    }

    /// Refuses a plan whose instances could not be started, forward or back. `standing` instances of the new release are there.
    ///
    /// Images may come from elsewhere: a builder that knows neither of the two keeps others, and can tell nothing.
    pub(super) async fn check_images(&self, plan: &Plan, standing: u32) -> Result<(), StartError> {
        let Some(previous) = plan.previous.as_ref().filter(|release| release.id() != plan.release.id()) else {
            return Ok(());
        };
        let named = |release: &Release| (release.id(), release.image().id.clone());
        match (self.is_gone(&plan.release).await?, self.is_gone(previous).await?) {
            (true, false) if standing < plan.budget.desired => {
                let (release, image) = named(&plan.release);
                Err(PlanError::ImageGone { release, image }.into())
            }
            (false, true) if plan.way_back_needs().is_some() => {
                let (release, image) = named(previous);
                Err(PlanError::NoWayBack { release, image }.into())
            }
            _ => Ok(()),
        }
    }

    async fn is_gone(&self, release: &Release) -> Result<bool, ProviderError> {
        let (calls, fingerprint) = (self.calls(None, 0), &release.image().fingerprint);
        let context = calls.context(&["find image"]);
        is_gone(calls.look_patiently("find image", || self.platform.images.find(&context, fingerprint)).await)
    }
}

/// Whether an image that was looked for is gone. A builder that cannot look for images does not say so.
pub(super) fn is_gone(found: Result<Option<Image>, ProviderError>) -> Result<bool, ProviderError> {
    match found {
        Ok(image) => Ok(image.is_none()),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}
