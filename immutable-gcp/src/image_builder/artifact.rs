//! Images of Compute Engine: finding them, and what the record of one of ours says.

use google_cloud_compute_v1::model;
use google_cloud_compute_v1::model::deprecation_status::State as Deprecation;
use google_cloud_compute_v1::model::image::Status;
use google_cloud_gax::paginator::ItemPaginator as _;
use immutable_core::model::{Fingerprint, Image, ImageId, ImageLabels, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, Progress, ProviderError};

use super::builder::Builder;
use super::record::{EXPIRES_AT, IMAGE, MOST_PARENTS, RECIPE, ROLE, Record};
use super::{ENSURE, pending, waiting};
use crate::config::{Config, ConfigError};
use crate::error::{failed, unseen};
use crate::operation::{Change, Scope, Turn};
use crate::ownership::{SERVICE, label};

/// The most entries of a page: <https://docs.cloud.google.com/compute/docs/reference/rest/v1/images/list>.
pub(super) const PAGE: u32 = 500;

/// What can be done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Pending,
    Failed,
    Deleting,
    /// Somebody has made it obsolete: nothing can be started from it.
    OutOfUse,
}

/// How far an image can be used: <https://docs.cloud.google.com/compute/docs/images/image-management-best-practices>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageUse {
    /// It can be used, and is the newest of its family if none is newer.
    Active,
    /// It can be used, with a warning, and is no more the newest of its family.
    Deprecated,
    /// Nothing can be started from it.
    Obsolete,
}

/// An image of ours as Compute Engine tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Artifact {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) usable: ImageUse,
    /// What it is; nothing where that cannot be read.
    pub(super) image: Option<Image>,
}

impl Artifact {
    fn read(config: &Config, found: &model::Image) -> Option<Self> {
        let name = found.name.clone()?;
        let image = image(&config.project, found);
        Some(Self { name, state: state(found), usable: usable(found), image })
    }
}

fn usable(found: &model::Image) -> ImageUse {
    match found.deprecated.as_ref().and_then(|status| status.state.as_ref()) {
        Some(Deprecation::Obsolete | Deprecation::Deleted) => ImageUse::Obsolete,
        Some(Deprecation::Deprecated) => ImageUse::Deprecated,
        _ => ImageUse::Active,
    }
}

fn state(found: &model::Image) -> State {
    match found.status {
        Some(Status::Ready) if usable(found) == ImageUse::Obsolete => State::OutOfUse,
        Some(Status::Ready) => State::Ready,
        Some(Status::Failed) => State::Failed,
        Some(Status::Deleting) => State::Deleting,
        _ => State::Pending,
    }
}

/// An image of Compute Engine as one of ours; nothing where it is somebody else's.
fn image(project: &str, found: &model::Image) -> Option<Image> {
    let record = Record::read(found.description.as_deref())?;
    let built_at = found.creation_timestamp.as_deref()?.parse().ok()?;
    let labels = ImageLabels { version: record.version, commit: record.commit, built_at };
    let id = ImageId::new(path(project, found.name.as_deref()?)).ok()?;
    Some(Image { id, fingerprint: record.recipe, parents: record.parents, labels })
}

/// The name of the image of a recipe. A name is there once in a project, so two who build at once make one image.
pub(super) fn name(service: &ServiceName, fingerprint: &Fingerprint) -> String {
    format!("im-{service}-{}", fingerprint.short())
}

fn path(project: &str, name: &str) -> String {
    format!("projects/{project}/global/images/{name}")
}

/// The project and the name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) project: &'a str,
    pub(super) name: &'a str,
}

impl Named<'_> {
    /// Whether a URL, or the end of one, names this image. `project`: that of whoever has the URL.
    pub(super) fn is(&self, project: &str, url: &str) -> bool {
        let path = path(self.project, self.name);
        url == path
            || url.ends_with(&format!("/{path}"))
            || (project == self.project && format!("projects/{project}/{url}") == path)
    }
}

/// The project and the name in the id of an image.
pub(super) fn parts(id: &ImageId) -> Option<Named<'_>> {
    let parts: Vec<&str> = id.as_str().split('/').collect();
    match parts[..] {
        ["projects", project, "global", "images", name] if !project.is_empty() && !name.is_empty() => {
            Some(Named { project, name })
        }
        _ => None,
    }
}

/// An image that was made elsewhere, by its URL or the end of it from `projects/` on.
pub(super) fn foreign(url: &str) -> Result<Image, ConfigError> {
    let path = url.split_once("/compute/v1/").map_or(url, |(_, path)| path);
    let wrong = || {
        let problem = format!("{url:?} must be one image, \"projects/.../global/images/...\", and no family");
        ConfigError::new("base", problem)
    };
    let id = ImageId::new(path).map_err(|_| wrong())?;
    parts(&id).ok_or_else(wrong)?;
    let labels = ImageLabels { version: path.to_owned(), commit: None, built_at: jiff::Timestamp::UNIX_EPOCH };
    Ok(Image { fingerprint: Fingerprint::of(path), id, parents: Vec::new(), labels })
}

/// The filter for the images of one content.
pub(super) fn of_fingerprint(fingerprint: &Fingerprint) -> String {
    format!("labels.{IMAGE} = {}", fingerprint.short())
}

/// The filter for the images of one service.
pub(super) fn of_service(service: &ServiceName) -> String {
    format!("(labels.{SERVICE} = {}) (labels.{IMAGE}:*)", label(service.as_str()))
}

/// Images of this project, of all pages and in every state.
pub(super) async fn own(
    config: &Config,
    operation: &'static str,
    filter: String,
) -> Result<Vec<Artifact>, ProviderError> {
    let request = config.clients.images.list().set_project(&config.project).set_filter(filter).set_max_results(PAGE);
    let (mut items, mut found) = (request.by_item(), Vec::new());
    while let Some(item) = items.next().await {
        found.extend(Artifact::read(config, &item.map_err(|error| unseen(operation, error))?));
    }
    Ok(found)
}

/// The images of one recipe, of all pages and in every state.
pub(super) async fn of_recipe(
    config: &Config,
    operation: &'static str,
    recipe: &Fingerprint,
) -> Result<Vec<Artifact>, ProviderError> {
    let mut found = own(config, operation, of_fingerprint(recipe)).await?;
    found.retain(|artifact| artifact.image.as_ref().is_some_and(|image| image.fingerprint == *recipe));
    Ok(found)
}

/// One image of this project by its name, if there is one.
pub(super) async fn get(
    config: &Config,
    operation: &'static str,
    name: &str,
) -> Result<Option<Artifact>, ProviderError> {
    match config.clients.images.get().set_project(&config.project).set_image(name).send().await {
        Ok(found) => Ok(Artifact::read(config, &found)),
        Err(error) => {
            let error = unseen(operation, error);
            if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) }
        }
    }
}

/// What an image on this base has as its parents, if the base is there and is the one that is meant.
pub(super) async fn parents(config: &Config, base: &Image) -> Result<Vec<Fingerprint>, ProviderError> {
    let refused = |problem: &str| {
        ProviderError::new(ErrorKind::InvalidRequest, ENSURE, format!("base: {} {problem}", base.id)).without_effect()
    };
    let Some(Named { project, name }) = parts(&base.id) else {
        return Err(refused("is no image of Compute Engine: name one with ComputeImageBuilder::base"));
    };
    let request = config.clients.images.get().set_project(project).set_image(name);
    let found = request.send().await.map_err(|error| match unseen(ENSURE, error) {
        error if matches!(error.kind(), ErrorKind::NotFound) => {
            refused("is not there, or not for this project: build or share it first")
        }
        error => error,
    })?;
    if state(&found) != State::Ready {
        return Err(refused("is not ready, or is obsolete: name another one"));
    }
    let known = image(project, &found);
    let mut parents = match &known {
        Some(known) if known.fingerprint == base.fingerprint => vec![known.fingerprint],
        _ if base.fingerprint == Fingerprint::of(base.id.as_str()) => vec![base.fingerprint],
        _ => return Err(refused("is another image than the one that is asked for: build that first")),
    };
    parents.extend(known.map(|known| known.parents).unwrap_or_default());
    if parents.len() > MOST_PARENTS {
        return Err(refused("has too many images below it to keep track of: start from one that has fewer"));
    }
    Ok(parents)
}

/// Begins to make the image of the disk of a builder that is done and off.
pub(super) async fn make(
    config: &Config,
    key: &IdempotencyKey,
    builder: &Builder,
) -> Result<Progress<Image>, ProviderError> {
    let Some(record) = builder.record() else {
        let problem = format!("builder {} has lost its record: end it", builder.name);
        return Err(ProviderError::new(ErrorKind::Internal, ENSURE, problem).without_effect());
    };
    let (project, name) = (&config.project, name(&record.service, &record.recipe));
    let target = format!("images/{name}");
    let change = Change { config, operation: ENSURE, scope: &Scope::Global, target, key, step: "make an image" };
    let id = match change.turn().await? {
        Turn::Wait(progress) => return Ok(waiting(progress)),
        Turn::Send(id) => id,
    };
    let mut labels = builder.labels.clone();
    for of_the_builder in [ROLE, EXPIRES_AT, RECIPE] {
        labels.remove(of_the_builder);
    }
    labels.insert(IMAGE.to_owned(), record.recipe.short());
    let key = config.launch.disk_key.as_ref().map(|key| model::CustomerEncryptionKey::new().set_kms_key_name(key));
    let body = model::Image::new()
        .set_name(&name)
        .set_description(&builder.description)
        .set_labels(labels)
        .set_or_clear_family(config.images.family.clone())
        .set_or_clear_image_encryption_key(key)
        .set_source_disk(format!("projects/{project}/zones/{}/disks/{}", builder.zone, builder.name));
    let request = config.clients.images.insert().set_project(project).set_request_id(id).set_body(body);
    match request.send().await {
        Ok(operation) => {
            change.answered(Effect::None, &operation).map(|_| pending(format!("image {name} to be ready")))
        }
        Err(error) => match failed(ENSURE, Effect::None, error) {
            error if error.kind() == ErrorKind::Conflict => taken(config, &record, &name, error).await,
            error => Err(error),
        },
    }
}

/// There is something with the name: the same image, begun by somebody else and not listed yet, or another one.
async fn taken(
    config: &Config,
    record: &Record,
    name: &str,
    refused: ProviderError,
) -> Result<Progress<Image>, ProviderError> {
    match get(config, ENSURE, name).await? {
        Some(other) if other.image.as_ref().is_none_or(|image| image.fingerprint != record.recipe) => {
            let problem = format!("image {name} is there and is another one: remove it");
            Err(ProviderError::new(ErrorKind::Conflict, ENSURE, problem).without_effect())
        }
        Some(_) => Ok(pending(format!("image {name} to be listed"))),
        None => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(record: &Record) -> model::Image {
        model::Image::new()
            .set_name("im-web-1")
            .set_description(record.description().unwrap())
            .set_creation_timestamp("2026-01-01T19:04:05.123-08:00")
            .set_status(Status::Ready)
    }

    fn record() -> Record {
        Record {
            service: "web".parse().unwrap(),
            recipe: Fingerprint::of("it"),
            nonce: "n".into(),
            version: "1.0.0 \"beta\"".into(),
            commit: None,
            parents: vec![Fingerprint::of("base")],
        }
    }

    #[test]
    fn an_image_survives_its_record() {
        let image = image("p", &found(&record())).unwrap();
        assert_eq!(image.id.as_str(), "projects/p/global/images/im-web-1");
        assert_eq!((image.fingerprint, image.parents), (Fingerprint::of("it"), vec![Fingerprint::of("base")]));
        let built_at = "2026-01-02T03:04:05.123Z".parse().unwrap();
        assert_eq!(image.labels, ImageLabels { version: "1.0.0 \"beta\"".into(), commit: None, built_at });
    }

    #[test]
    fn an_image_without_a_record_is_none_of_ours() {
        assert_eq!(super::image("p", &found(&record()).set_description("somebody's")), None);
        assert_eq!(super::image("p", &model::Image::new().set_name("i")), None);
    }

    #[test]
    fn a_state_is_what_can_be_done_with_an_image() {
        let with = |status: Status, deprecation: Option<Deprecation>| {
            let deprecated = deprecation.map(|state| model::DeprecationStatus::new().set_state(state));
            state(&model::Image::new().set_status(status).set_or_clear_deprecated(deprecated))
        };
        assert_eq!(with(Status::Ready, None), State::Ready);
        assert_eq!(with(Status::Ready, Some(Deprecation::Deprecated)), State::Ready, "it can be used still");
        assert_eq!(with(Status::Ready, Some(Deprecation::Obsolete)), State::OutOfUse);
        assert_eq!(with(Status::Pending, None), State::Pending);
        assert_eq!(with(Status::Failed, Some(Deprecation::Obsolete)), State::Failed);
        assert_eq!(with(Status::Deleting, None), State::Deleting);
    }

    #[test]
    fn an_image_is_known_by_each_of_its_urls() {
        let named = Named { project: "p", name: "i" };
        let whole = "https://www.googleapis.com/compute/v1/projects/p/global/images/i";
        for url in [whole, "projects/p/global/images/i", "global/images/i"] {
            assert!(named.is("p", url), "{url}");
        }
        for url in
            ["projects/other/global/images/i", "projects/p/global/images/family/i", "projects/p/global/images/ii", "i"]
        {
            assert!(!named.is("p", url), "{url}");
        }
        assert!(!named.is("other", "global/images/i"));
    }

    #[test]
    fn a_base_is_one_image_and_no_family() {
        let debian = "projects/debian-cloud/global/images/debian-12-bookworm-v20260101";
        for url in [debian.to_owned(), format!("https://www.googleapis.com/compute/v1/{debian}")] {
            let base = foreign(&url).unwrap();
            assert_eq!((base.id.as_str(), base.fingerprint), (debian, Fingerprint::of(debian)));
        }
        for wrong in
            ["", "debian-12", "projects/debian-cloud/global/images/family/debian-12", "projects/p/global/images/"]
        {
            assert!(foreign(wrong).unwrap_err().to_string().starts_with("base: "), "{wrong}");
        }
    }

    #[test]
    fn the_longest_names_are_names() {
        let service = "a".repeat(40).parse().unwrap();
        assert!(name(&service, &Fingerprint::of("x")).len() <= 61, "a builder's name is two longer");
    }
}
