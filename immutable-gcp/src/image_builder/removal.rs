//! Removing an image, and taking one out of use before that.

use google_cloud_compute_v1::model::{DeprecationStatus, deprecation_status};
use immutable_core::model::Image;
use immutable_core::provider::{ErrorKind, OpContext, Progress, ProviderError};

use super::artifact::{self, Artifact, State};
use super::{DEPRECATE, ImageUse, Named, REMOVE, uses};
use crate::changes;
use crate::config::Config;
use crate::operation::{Change, Scope};

/// Removes an image.
pub(super) async fn remove(config: &Config, cx: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
    let named = named(config, REMOVE, image)?;
    let Some(found) = found(config, REMOVE, image, &named).await? else { return Ok(Progress::Done(())) };
    if found.state != State::Deleting
        && let Some(user) = uses::find(config, image, &named).await?
    {
        return Err(refused(REMOVE, ErrorKind::Conflict, format!("image {} is in use: {user}", image.id)));
    }
    delete(config, cx, REMOVE, named.name).await
}

/// Deletes an image, whoever uses it: of one that has failed, too.
pub(super) async fn delete(
    config: &Config,
    cx: &OpContext,
    operation: &'static str,
    name: &str,
) -> Result<Progress<()>, ProviderError> {
    let change = change(config, cx, operation, name, "delete an image");
    let request = config.clients.images.delete().set_project(&config.project).set_image(name);
    changes::send(&change, |id| request.set_request_id(id).send()).await.or_else(changes::gone)
}

/// Says how far an image can still be used. Done when it says so.
pub(super) async fn deprecate(
    config: &Config,
    cx: &OpContext,
    image: &Image,
    to: ImageUse,
) -> Result<Progress<()>, ProviderError> {
    let named = named(config, DEPRECATE, image)?;
    let Some(found) = found(config, DEPRECATE, image, &named).await? else {
        return Err(refused(DEPRECATE, ErrorKind::NotFound, format!("image {} is not there: build it", image.id)));
    };
    if found.usable == to {
        return Ok(Progress::Done(()));
    }
    let (wanted, step) = match to {
        ImageUse::Active => (deprecation_status::State::Active, "make active"),
        ImageUse::Deprecated => (deprecation_status::State::Deprecated, "deprecate"),
        ImageUse::Obsolete => (deprecation_status::State::Obsolete, "make obsolete"),
    };
    let change = change(config, cx, DEPRECATE, named.name, step);
    let request = config.clients.images.deprecate().set_project(&config.project).set_image(named.name);
    let request = request.set_body(DeprecationStatus::new().set_state(wanted));
    changes::send(&change, |id| request.set_request_id(id).send()).await
}

fn change<'a>(config: &'a Config, cx: &'a OpContext, operation: &'static str, name: &str, step: &'a str) -> Change<'a> {
    Change { config, operation, scope: &Scope::Global, target: format!("images/{name}"), key: &cx.key, step }
}

/// Where an image is, which has to be in this project.
fn named<'a>(config: &Config, operation: &'static str, image: &'a Image) -> Result<Named<'a>, ProviderError> {
    let here = artifact::parts(&image.id).filter(|named| named.project == config.project);
    here.ok_or_else(|| {
        refused(operation, ErrorKind::InvalidRequest, format!("{} is no image of this project", image.id))
    })
}

/// The very image that is meant; nothing when it is gone.
async fn found(
    config: &Config,
    operation: &'static str,
    image: &Image,
    named: &Named<'_>,
) -> Result<Option<Artifact>, ProviderError> {
    let Some(found) = artifact::get(config, operation, named.name).await? else { return Ok(None) };
    match &found.image {
        Some(other) if other.fingerprint == image.fingerprint => {
            // The same content may have been built again meanwhile, under the same name.
            Ok((other.labels.built_at == image.labels.built_at).then_some(found))
        }
        _ => {
            let problem = format!("{} is another image, or none of ours: look again", image.id);
            Err(refused(operation, ErrorKind::InvalidRequest, problem))
        }
    }
}

fn refused(operation: &'static str, kind: ErrorKind, problem: String) -> ProviderError {
    ProviderError::new(kind, operation, problem).without_effect()
}
