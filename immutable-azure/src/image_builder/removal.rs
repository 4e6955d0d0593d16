//! Removing an image.

use immutable_core::model::Image;
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};

use super::artifact::{self, Artifact, State};
use super::resources::last;
use super::site::Site;
use super::{base, pending, uses};

/// Removes an image. Done when it is gone.
pub(super) async fn remove(site: &Site<'_>, image: &Image) -> Result<Progress<()>, ProviderError> {
    let Some(found) = found(site, image).await? else { return Ok(Progress::Done(())) };
    if found.state == State::Deleting {
        return Ok(pending(format!("image {} to be gone", image.id)));
    }
    if let Some(user) = uses::find(site, image).await? {
        return Err(site.refused(ErrorKind::Conflict, format!("image {} is in use: {user}", image.id)));
    }
    delete(site, &found).await?;
    // Gone is what is not there any more, at the next look.
    Ok(pending(format!("image {} to be gone", image.id)))
}

/// Takes away a version that could not be made, and tells why it could not. One that was there before and could not be changed
/// afterwards may be in use: it stays.
pub(super) async fn discard(site: &Site<'_>, found: &Artifact) -> Result<ProviderError, ProviderError> {
    let why = artifact::why(site, &found.id).await?;
    if let Some(user) = uses::find(site, &found.image).await? {
        let problem = format!("image {} has failed ({why}) and is in use: {user}", found.id);
        return Err(site.refused(ErrorKind::Conflict, problem));
    }
    delete(site, found).await?;
    let problem = format!("image {} could not be made and was taken away: {why}", found.id);
    Ok(ProviderError::new(ErrorKind::Unavailable, site.operation, problem))
}

async fn delete(site: &Site<'_>, found: &Artifact) -> Result<Progress<()>, ProviderError> {
    site.galleries().delete(Effect::None, &found.id).await
}

/// The very image that is meant; nothing when it is gone.
async fn found(site: &Site<'_>, image: &Image) -> Result<Option<Artifact>, ProviderError> {
    let id = image.id.as_str();
    let is_version = matches!(base::Base::read(id), Some(base::Base::Gallery(_)));
    let gallery = format!("{}/images/", site.images.gallery);
    let is_here = id.get(..gallery.len()).is_some_and(|start| start.eq_ignore_ascii_case(&gallery));
    if !is_version || !is_here {
        return Err(site.refused(ErrorKind::InvalidRequest, format!("{id} is no image of this gallery")));
    }
    let Some(found) = site.galleries().get(id, None).await? else { return Ok(None) };
    match artifact::read(site, id, &found)? {
        // The same content may have been built again meanwhile, under the same name.
        Some(found) if found.image.fingerprint == image.fingerprint => {
            let is_same = found.image.labels.built_at == image.labels.built_at;
            Ok(is_same.then_some(found))
        }
        _ => {
            let problem = format!("version {} is another image, or none of ours: look again", last(id));
            Err(site.refused(ErrorKind::InvalidRequest, problem))
        }
    }
}
