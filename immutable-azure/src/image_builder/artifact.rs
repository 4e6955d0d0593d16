//! Images in the gallery: finding them, and what the tags of one of ours say.

use immutable_core::model::{Fingerprint, Image, ImageId, ImageLabels, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::builder::Builder;
use super::record::{CONTENT, IMAGE, Record};
use super::resources::GALLERIES;
use super::site::Site;
use super::{base, definition, pending};
use crate::client::Request;

/// What can be done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Pending,
    Failed,
    Deleting,
}

/// An image of ours as Azure tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Artifact {
    pub(super) id: String,
    pub(super) state: State,
    pub(super) image: Image,
    /// The regions that it is for, as they are told: with capitals and spaces.
    pub(super) regions: Vec<String>,
}

impl Artifact {
    /// The regions that it is to be in and is not made for.
    pub(super) fn missing<'a>(&'a self, site: &Site<'a>) -> impl Iterator<Item = &'a str> {
        let plain = |region: &str| region.replace(' ', "").to_ascii_lowercase();
        let there: Vec<String> = self.regions.iter().map(|region| plain(region)).collect();
        regions(site).filter(move |region| !there.contains(&plain(region)))
    }
}

/// The regions that images are to be in.
fn regions<'a>(site: &Site<'a>) -> impl Iterator<Item = &'a str> {
    std::iter::once(&site.config.launch.location).chain(&site.images.regions).map(String::as_str)
}

/// A version of a gallery as one of ours; nothing where it is somebody else's. `id`: by which it was found.
pub(super) fn read(site: &Site<'_>, id: &str, found: &Value) -> Result<Option<Artifact>, ProviderError> {
    let Some(record) = Record::read(site.operation, id, &found["tags"], IMAGE)? else { return Ok(None) };
    let state = match found["properties"]["provisioningState"].as_str() {
        // What a version is made of does not change any more.
        Some("Succeeded" | "Updating") => State::Ready,
        Some("Failed" | "Canceled") => State::Failed,
        Some("Deleting") => State::Deleting,
        _ => State::Pending,
    };
    let published = found["properties"]["publishingProfile"]["publishedDate"].as_str();
    let built_at = match published.map(str::parse) {
        Some(Ok(built_at)) => built_at,
        None if state != State::Ready => Timestamp::UNIX_EPOCH,
        _ => return Err(site.refused(ErrorKind::Internal, format!("image {id} has no date that can be read"))),
    };
    let labels = ImageLabels { version: record.version, commit: record.commit, built_at };
    let unreadable = |_| site.refused(ErrorKind::Internal, format!("image {id} has a name that is no id"));
    let image_id = ImageId::new(id).map_err(unreadable)?;
    let image = Image { id: image_id, fingerprint: record.recipe, parents: record.parents, labels };
    let regions = found["properties"]["publishingProfile"]["targetRegions"].as_array().into_iter().flatten();
    let regions = regions.filter_map(|region| region["name"].as_str()).map(str::to_owned).collect();
    Ok(Some(Artifact { id: id.to_owned(), state, image, regions }))
}

/// What is under the id of the image of a recipe, if there is something.
///
/// # Errors
/// `Conflict` for another image, or somebody's.
pub(super) async fn of_recipe(
    site: &Site<'_>,
    service: &ServiceName,
    recipe: &Fingerprint,
) -> Result<Option<Artifact>, ProviderError> {
    let id = site.version(service, recipe);
    let Some(found) = site.galleries().get(&id, None).await? else { return Ok(None) };
    match read(site, &id, &found)? {
        Some(artifact) if artifact.image.fingerprint == *recipe => Ok(Some(artifact)),
        _ => Err(site.refused(ErrorKind::Conflict, format!("image {id} is there and is another one: remove it"))),
    }
}

/// All images of ours in the gallery, of a service if one is given, of all pages and in every state.
pub(super) async fn own(site: &Site<'_>, service: Option<&ServiceName>) -> Result<Vec<Artifact>, ProviderError> {
    let mut own = Vec::new();
    for definition in definition::own(site, service).await? {
        for found in site.galleries().list(&format!("{definition}/versions")).await? {
            let Some(name) = found["name"].as_str() else { continue };
            // The id as we write it: Azure may answer with other capitals.
            own.extend(read(site, &format!("{definition}/versions/{name}"), &found)?);
        }
    }
    Ok(own)
}

/// Begins to make the image of a builder that is done, off and generalised.
pub(super) async fn make(site: &Site<'_>, builder: &Builder) -> Result<Progress<Image>, ProviderError> {
    let record = &builder.record;
    let id = site.version(&record.service, &record.recipe);
    let request = Request::new(Method::PUT, &id, GALLERIES).json(&version(site, builder));
    match site.galleries().change(Effect::None, &format!("image {id}"), request).await {
        Ok(_) => Ok(pending(format!("image {id} to be ready"))),
        // Somebody else has begun to make it, or it cannot be made.
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InvalidRequest) => {
            of_recipe(site, &record.service, &record.recipe).await?.ok_or(error)?;
            Ok(pending(format!("image {id}, which is there, to be ready")))
        }
        Err(error) => Err(error),
    }
}

/// The whole of a version. Nothing in it tells one who makes it from another.
fn version(site: &Site<'_>, builder: &Builder) -> Value {
    let (images, home) = (site.images, &site.config.launch.location);
    let mut tags = builder.record.tags(IMAGE);
    if let Some(content) = builder.content() {
        tags.insert(CONTENT.to_owned(), content.into());
    }
    let mut publishing = json!({
        "targetRegions": regions(site).map(|region| json!({ "name": region })).collect::<Vec<_>>(),
        // The numbers of versions have no order.
        "excludeFromLatest": true,
        "replicaCount": images.replicas.unwrap_or(1),
    });
    let end = images.keep_for.and_then(|time| builder.created.checked_add(time).ok());
    if let Some(end) = end {
        publishing["endOfLifeDate"] = end.to_string().into();
    }
    json!({
        "location": home,
        "tags": tags,
        "properties": {
            "publishingProfile": publishing,
            "storageProfile": { "source": { "virtualMachineId": site.machine(&builder.name) } },
        },
    })
}

/// Why a version failed, in the words of the regions that it is not in.
pub(super) async fn why(site: &Site<'_>, id: &str) -> Result<String, ProviderError> {
    let Some(found) = site.galleries().get(id, Some("ReplicationStatus")).await? else {
        return Ok("it is gone".to_owned());
    };
    let regions = found["properties"]["replicationStatus"]["summary"].as_array();
    let told = regions.into_iter().flatten().filter(|region| region["state"] != "Completed").map(|region| {
        let text = |key: &str| region[key].as_str().unwrap_or_default();
        format!("{} is {} {}", text("region"), text("state"), text("details")).trim_end().to_owned()
    });
    let told: Vec<String> = told.collect();
    Ok(if told.is_empty() { "no region says why".to_owned() } else { told.join(", ") })
}

/// What an image on this base has as its parents, if the base is there and is the one that is meant. A base of the marketplace is looked for by
/// Azure when the builder starts.
pub(super) async fn parents(site: &Site<'_>, base: &Image) -> Result<Vec<Fingerprint>, ProviderError> {
    let refused = |problem: &str| site.refused(ErrorKind::InvalidRequest, format!("base: {} {problem}", base.id));
    let is_foreign = base.fingerprint == Fingerprint::of(base.id.as_str());
    let another = || refused("is another image than the one that is asked for: build that first");
    let parents = match base::Base::read(base.id.as_str()) {
        None => return Err(refused("is no image of Azure: name one with GalleryImageBuilder::base")),
        Some(base::Base::Marketplace { .. }) if is_foreign => vec![base.fingerprint],
        Some(base::Base::Marketplace { .. }) => return Err(another()),
        Some(base::Base::Gallery(id)) => {
            let found = site.galleries().get(id, None).await?;
            let found =
                found.ok_or_else(|| refused("is not there, or not for this subscription: build or share it first"))?;
            if !matches!(found["properties"]["provisioningState"].as_str(), Some("Succeeded" | "Updating")) {
                return Err(refused("is not ready: wait for it, or name another one"));
            }
            let known = read(site, id, &found)?.map(|artifact| artifact.image);
            let mut parents = match &known {
                Some(known) if known.fingerprint == base.fingerprint => vec![known.fingerprint],
                _ if is_foreign => vec![base.fingerprint],
                _ => return Err(another()),
            };
            parents.extend(known.map(|known| known.parents).unwrap_or_default());
            parents
        }
    };
    if parents.len() > super::record::MOST_PARENTS {
        return Err(refused("has too many images below it to keep track of: start from one that has fewer"));
    }
    Ok(parents)
}
