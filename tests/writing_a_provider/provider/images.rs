//! Images are templates.

use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{Fingerprint, Image, ImageLabels, ServiceName};
use immutable_core::provider::{
    Effect, ErrorKind, ImageBuilder, ImageSpec, Layer, OpContext, Progress, ProviderError, Recipe,
};

use super::error::{failed, refuse, unseen};
use super::{SERVICE, all, of, tag};
use crate::acme::{Acme, Tags, Template, Trouble};

const VERSION: &str = "version";
const COMMIT: &str = "commit";
const PARENTS: &str = "parents";

#[derive(Debug)]
pub(super) struct AcmeImages {
    acme: Acme,
}

impl AcmeImages {
    pub(super) fn new(acme: Acme) -> Self {
        Self { acme }
    }

    async fn template(&self, operation: &'static str, name: &str) -> Result<Option<Template>, ProviderError> {
        match self.acme.template(name).await {
            Ok(template) => Ok(Some(template)),
            Err(Trouble::Refused { code: "NotThere", .. }) => Ok(None),
            Err(trouble) => Err(unseen(operation, trouble)),
        }
    }
}

#[async_trait]
impl ImageBuilder for AcmeImages {
    async fn ensure(&self, cx: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        const OPERATION: &str = "ensure image";
        let wrong = |message: String| refuse(ErrorKind::InvalidRequest, OPERATION, message);
        let fingerprint = fingerprint(&spec.recipe).map_err(wrong)?;
        let mut parents = Vec::new();
        if let Some(base) = &spec.recipe.base {
            let template = self.template(OPERATION, &base.fingerprint.to_string()).await?;
            let found = template.as_ref().filter(|template| template.is_ready).and_then(image);
            let found = found.ok_or_else(|| wrong(format!("base {} is not there: build it first", base.id)))?;
            parents.push(base.fingerprint);
            parents.extend(found.parents);
        }
        // I1: the content is the name, so whoever wants the same finds it.
        let name = fingerprint.to_string();
        if let Some(template) = self.template(OPERATION, &name).await? {
            return Ok(match image(&template).filter(|_| template.is_ready) {
                Some(image) => Progress::Done(image),
                None => pending(&name),
            });
        }
        let parents: Vec<String> = parents.iter().map(ToString::to_string).collect();
        let tags = Tags::from([
            (SERVICE.to_owned(), spec.service.to_string()),
            (VERSION.to_owned(), spec.version.clone()),
            (COMMIT.to_owned(), spec.commit.clone().unwrap_or_default()),
            (PARENTS.to_owned(), parents.join(" ")),
        ]);
        // G2: the cloud remembers the request by our key, and does it once.
        let baked = self.acme.bake(cx.key.as_str(), &name, parents.first().map(String::as_str), tags).await;
        baked.map_err(|trouble| failed(OPERATION, Effect::None, trouble))?;
        Ok(pending(&name))
    }

    async fn find(&self, _: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError> {
        let template = self.template("find image", &fingerprint.to_string()).await?;
        // I2: what is still being baked is no image yet.
        Ok(template.filter(|template| template.is_ready).and_then(|template| image(&template)))
    }

    async fn list(&self, _: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError> {
        let templates = all(|page| self.acme.templates(of(service), page)).await;
        let templates = templates.map_err(|trouble| unseen("list images", trouble))?;
        Ok(templates.iter().filter(|template| template.is_ready).filter_map(image).collect())
    }

    async fn remove(&self, _: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
        // I5: the cloud itself refuses to delete what is in use.
        match self.acme.delete_template(&image.fingerprint.to_string()).await {
            Ok(()) | Err(Trouble::Refused { code: "NotThere", .. }) => Ok(Progress::Done(())),
            Err(trouble) => Err(failed("remove image", Effect::None, trouble)),
        }
    }
}

fn pending(name: &str) -> Progress<Image> {
    Progress::Pending { retry_after: Duration::from_secs(10), note: format!("template {name} is being baked") }
}

/// The content of an image, checked before anything is made (I4). What is wrong with it otherwise.
fn fingerprint(recipe: &Recipe) -> Result<Fingerprint, String> {
    if recipe.command.is_empty() {
        return Err("command: name the program".to_owned());
    }
    let base = recipe.base.as_ref().map(|base| base.fingerprint.to_string()).unwrap_or_default();
    let mut parts = vec![base, recipe.command.join("\u{1f}")];
    for layer in &recipe.layers {
        let Layer::Files(files) = layer else {
            return Err("layers: nothing is run in a template: use files".to_owned());
        };
        for file in files {
            let is_plain = |part: &str| !matches!(part, "" | "." | "..");
            if !file.target.split('/').all(is_plain) {
                return Err(format!("{:?} is no place in an image: name one", file.target));
            }
            // Small files; whoever has large ones reads them on a thread that may block.
            let content = std::fs::read(&file.source).map_err(|error| format!("{}: {error}", file.source.display()))?;
            parts.push(format!("{} {} {}", file.target, file.executable, Fingerprint::of(content)));
        }
    }
    Ok(Fingerprint::of(parts.join("\u{1e}")))
}

/// A template of ours as an image; nothing where it is somebody else's.
fn image(template: &Template) -> Option<Image> {
    let parents: Result<_, _> = tag(&template.tags, PARENTS).split_whitespace().map(str::parse).collect();
    let commit = Some(tag(&template.tags, COMMIT)).filter(|commit| !commit.is_empty()).map(str::to_owned);
    let version = tag(&template.tags, VERSION).to_owned();
    Some(Image {
        id: format!("acme:{}", template.name).parse().ok()?,
        fingerprint: template.name.parse().ok()?,
        parents: parents.ok()?,
        labels: ImageLabels { version, commit, built_at: template.begun },
    })
}
