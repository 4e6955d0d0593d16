//! Building simulated images.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use super::SimCloud;
use super::operation::Operation;
use super::state::State;
use crate::model::{Fingerprint, Image, ImageId, ImageLabels, ServiceName};
use crate::provider::{ErrorKind, ImageBuilder, ImageSpec, Layer, OpContext, Progress, ProviderError, Recipe};

/// Every image, by the fingerprint of its recipe.
#[derive(Debug, Default)]
pub(super) struct Images {
    built: BTreeMap<Fingerprint, Built>,
}

#[derive(Debug)]
struct Built {
    image: Image,
    services: BTreeSet<ServiceName>,
    complete_at: Duration,
    removed: bool,
}

impl Images {
    pub(super) fn was_removed(&self, fingerprint: &Fingerprint) -> bool {
        self.built.get(fingerprint).is_some_and(|built| built.removed)
    }

    fn complete(&self, now: Duration) -> impl Iterator<Item = &Built> {
        self.built.values().filter(move |built| !built.removed && built.complete_at <= now)
    }
}

#[async_trait]
impl ImageBuilder for SimCloud {
    async fn ensure(&self, cx: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let spec = spec.clone();
        self.change(cx, Operation::EnsureImage, move |state| state.ensure_image(&spec)).await
    }

    async fn find(&self, cx: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError> {
        self.enter(cx, Operation::FindImage, |state| {
            let mut complete = state.images.complete(state.now);
            Ok(complete.find(|built| built.image.fingerprint == *fingerprint).map(|built| built.image.clone()))
        })
        .await
    }

    async fn list(&self, cx: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError> {
        self.enter(cx, Operation::ListImages, |state| {
            let complete = state.images.complete(state.now).filter(|built| built.services.contains(service));
            Ok(complete.map(|built| built.image.clone()).collect())
        })
        .await
    }

    async fn remove(&self, cx: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
        let image = image.clone();
        self.change(cx, Operation::RemoveImage, move |state| state.remove_image(&image)).await
    }
}

impl State {
    fn ensure_image(&mut self, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let invalid = |message: String| Operation::EnsureImage.refuse(ErrorKind::InvalidRequest, message);
        check(&spec.recipe).map_err(invalid)?;
        let mut parents = Vec::new();
        if let Some(base) = &spec.recipe.base {
            let found = self.images.complete(self.now).find(|built| built.image.fingerprint == base.fingerprint);
            let found = found.ok_or_else(|| invalid(format!("base {} is not there: build it first", base.id)))?;
            parents.push(base.fingerprint);
            parents.extend(&found.image.parents);
        }
        let (now, time) = (self.now, self.options.build_for);
        let image = self.build(&spec.recipe, parents, &spec.version, spec.commit.clone(), time);
        self.record(&format!("ensure image {}: {}", spec.version, image.id));
        let left = self.images.built.get_mut(&image.fingerprint).map_or(Duration::ZERO, |built| {
            if std::mem::take(&mut built.removed) {
                built.complete_at = now.saturating_add(time);
            }
            built.services.insert(spec.service.clone());
            built.complete_at.saturating_sub(now)
        });
        if left.is_zero() {
            return Ok(Progress::Done(image));
        }
        Ok(Progress::Pending { retry_after: left, note: format!("image {} is being built", image.id) })
    }

    /// The image of a recipe, which is made unless it exists or was removed.
    fn build(
        &mut self,
        recipe: &Recipe,
        parents: Vec<Fingerprint>,
        version: &str,
        commit: Option<String>,
        time: Duration,
    ) -> Image {
        let base = recipe.base.as_ref().map(|base| base.fingerprint);
        let fingerprint = Fingerprint::of_json(&(base, &recipe.layers, &recipe.command));
        if let Some(built) = self.images.built.get(&fingerprint) {
            return built.image.clone();
        }
        let complete_at = self.now.saturating_add(time);
        let id = ImageId::new(format!("sim:{}", fingerprint.short()));
        let labels = ImageLabels { version: version.to_owned(), commit, built_at: self.clock.at(complete_at) };
        let image = Image {
            id: id.expect("invariant: letters, digits and a colon are an image id"),
            fingerprint,
            parents,
            labels,
        };
        let built = Built { image: image.clone(), services: BTreeSet::new(), complete_at, removed: false };
        self.images.built.insert(fingerprint, built);
        image
    }

    /// An image of a version, complete at once, and of no service. One that was removed is not made again.
    pub(super) fn image(&mut self, version: &str) -> Image {
        let recipe = Recipe { base: None, layers: Vec::new(), command: vec!["app".to_owned(), version.to_owned()] };
        self.build(&recipe, Vec::new(), version, None, Duration::ZERO)
    }

    /// Removes the image of a version, whatever uses it, or puts it back. Whether that changed anything.
    pub(super) fn set_removed(&mut self, version: &str, removed: bool) -> bool {
        let fingerprint = self.image(version).fingerprint;
        self.images
            .built
            .get_mut(&fingerprint)
            .is_some_and(|built| std::mem::replace(&mut built.removed, removed) != removed)
    }

    fn remove_image(&mut self, image: &Image) -> Result<Progress<()>, ProviderError> {
        let fingerprint = image.fingerprint;
        let in_use = |by: String| {
            let message = format!("image {} is in use by {by}: remove that first", image.id);
            Err(Operation::RemoveImage.refuse(ErrorKind::Conflict, message))
        };
        if let Some((id, _)) = self.machines.iter().find(|(_, machine)| machine.image == fingerprint) {
            return in_use(format!("instance {id}"));
        }
        if let Some(child) =
            self.images.built.values().find(|built| !built.removed && built.image.parents.contains(&fingerprint))
        {
            return in_use(format!("image {}", child.image.id));
        }
        let built = self.images.built.get_mut(&fingerprint);
        let there = built.is_some_and(|built| !std::mem::replace(&mut built.removed, true));
        self.record(&format!("remove image {}: {}", image.id, if there { "removed" } else { "not there" }));
        Ok(Progress::Done(()))
    }
}

/// Whether a recipe can work, as far as that can be told without reading its files.
fn check(recipe: &Recipe) -> Result<(), String> {
    if recipe.command.first().is_none_or(String::is_empty) {
        return Err("command: must name a program".to_owned());
    }
    for (index, layer) in recipe.layers.iter().enumerate() {
        let files = match layer {
            Layer::Files(files) => files,
            // Nothing is run in a simulated image: its text is content like any other.
            Layer::Script(script) if script.trim().is_empty() => {
                return Err(format!("layers[{index}]: the script is empty: write what it does, or leave it out"));
            }
            Layer::Script(_) => continue,
        };
        let outside = |target: &str| target.split('/').any(|part| matches!(part, "" | "." | ".."));
        if let Some(file) = files.iter().find(|file| outside(&file.target)) {
            return Err(format!("target {:?}: must be a relative path inside the image", file.target));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::SimOptions;
    use super::super::fixture::{after, cx, ready};
    use super::*;
    use crate::provider::FileCopy;

    fn spec(command: &[&str], base: Option<Image>) -> ImageSpec {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let recipe = Recipe { base, layers: Vec::new(), command };
        ImageSpec { service: "web".parse().unwrap(), recipe, version: "1".into(), commit: None }
    }

    #[tokio::test(start_paused = true)]
    async fn i1_i3_an_image_is_built_once_and_stays_as_it_was() {
        let cloud = SimCloud::default();
        let images = cloud.platform().images;
        let first = images.ensure(&cx(), &spec(&["app"], None)).await.unwrap();
        after(5).await;
        let again = ImageSpec { version: "2".into(), ..spec(&["app"], None) };
        assert_eq!(images.ensure(&cx(), &again).await.unwrap(), first);
        let other = images.ensure(&cx(), &spec(&["app", "-v"], None)).await.unwrap();
        assert_ne!(other, first);
        let mut built = Vec::new();
        for script in ["true", "true", "false"] {
            let mut spec = spec(&["app"], None);
            spec.recipe.layers.push(Layer::Script(script.to_owned()));
            built.push(images.ensure(&cx(), &spec).await.unwrap());
        }
        assert_eq!(built[0], built[1]);
        assert_ne!(built[1], built[2], "another script makes another image");
        assert_eq!(images.list(&cx(), &"web".parse().unwrap()).await.unwrap().len(), 4);
        assert!(images.list(&cx(), &"other".parse().unwrap()).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn i2_an_image_is_not_seen_before_it_is_complete() {
        let cloud = SimCloud::new(SimOptions { build_for: Duration::from_mins(1), ..SimOptions::default() });
        let images = cloud.platform().images;
        let Progress::Pending { retry_after, note } = images.ensure(&cx(), &spec(&["app"], None)).await.unwrap() else {
            panic!("complete at once");
        };
        assert_eq!(retry_after, Duration::from_mins(1));
        assert!(note.ends_with("is being built"));
        assert!(images.list(&cx(), &"web".parse().unwrap()).await.unwrap().is_empty());
        after(60).await;
        let image = images.ensure(&cx(), &spec(&["app"], None)).await.unwrap().done().unwrap();
        assert_eq!(images.find(&cx(), &image.fingerprint).await.unwrap(), Some(image));
    }

    #[tokio::test(start_paused = true)]
    async fn i4_a_recipe_that_cannot_work_is_refused() {
        let cloud = SimCloud::default();
        let lost = Image { fingerprint: Fingerprint::of("lost"), ..cloud.image("1") };
        let file = |target: &str| FileCopy { source: "app".into(), target: target.into(), executable: true };
        let mut specs = vec![spec(&[], None), spec(&[""], None), spec(&["app"], Some(lost))];
        for target in ["", "/app", "../app", "bin/../../app", "bin/"] {
            let mut spec = spec(&["app"], None);
            spec.recipe.layers.push(Layer::Files(vec![file("ok/app"), file(target)]));
            specs.push(spec);
        }
        let mut empty = spec(&["app"], None);
        empty.recipe.layers.push(Layer::Script(" \n".into()));
        specs.push(empty);
        for spec in specs {
            let error = cloud.platform().images.ensure(&cx(), &spec).await.expect_err("cannot work");
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{spec:?}");
        }
        assert!(cloud.platform().images.list(&cx(), &"web".parse().unwrap()).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn i5_an_image_in_use_is_not_removed() {
        let cloud = SimCloud::default();
        let images = cloud.platform().images;
        ready(&cloud, "1", 1).await;
        let base = images.ensure(&cx(), &spec(&["base"], None)).await.unwrap().done().unwrap();
        let child = images.ensure(&cx(), &spec(&["app"], Some(base.clone()))).await.unwrap().done().unwrap();
        assert_eq!(child.parents, [base.fingerprint]);
        for used in [&cloud.image("1"), &base] {
            assert_eq!(images.remove(&cx(), used).await.expect_err("in use").kind(), ErrorKind::Conflict);
            assert!(images.find(&cx(), &used.fingerprint).await.unwrap().is_some());
        }
        for image in [&child, &base, &base] {
            assert_eq!(images.remove(&cx(), image).await.unwrap(), Progress::Done(()));
            assert_eq!(images.find(&cx(), &image.fingerprint).await.unwrap(), None);
        }
    }
}
