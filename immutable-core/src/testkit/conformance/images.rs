//! The clauses of [`ImageBuilder`](crate::provider::ImageBuilder).

use std::path::PathBuf;
use std::time::Duration;

use super::bench::{Bench, Check, Seen, hold};
use super::harness::{Ability, Version};
use crate::model::{Fingerprint, Image};
use crate::provider::{Effect, ErrorKind, FileCopy, ImageSpec, Layer, Progress};

impl Bench<'_> {
    pub(super) async fn build(&self, spec: &ImageSpec) -> Result<Image, Seen> {
        let cx = self.cx(&format!("build {spec:?}"));
        self.done("ensure of an image", || self.platform.images.ensure(&cx, spec)).await
    }

    pub(super) async fn find(&self, fingerprint: &Fingerprint) -> Result<Option<Image>, Seen> {
        let cx = self.cx("find");
        self.good("find", self.platform.images.find(&cx, fingerprint)).await
    }

    pub(super) async fn images(&self) -> Result<Vec<Image>, Seen> {
        let cx = self.cx("list");
        self.good("list", self.platform.images.list(&cx, &self.harness.service())).await
    }

    pub(super) fn image_spec(&self, version: Version) -> ImageSpec {
        ImageSpec { service: self.harness.service(), ..self.harness.image_spec(version) }
    }

    /// The same image on top of another one.
    async fn child(&self, base: &Image) -> Result<Image, Seen> {
        let mut spec = self.image_spec(Version::New);
        spec.recipe.base = Some(base.clone());
        self.build(&spec).await
    }

    /// Tries to remove an image that is needed.
    async fn stays(&self, image: &Image, needed_by: &str) -> Check {
        let cx = self.cx(&format!("remove {} while {needed_by}", image.id));
        match self.call("remove", self.platform.images.remove(&cx, image)).await? {
            Ok(answer) => return Err(Seen(format!("an image was removed ({answer:?}) while {needed_by}"))),
            Err(error) => {
                hold!(error.kind() == ErrorKind::Conflict, "remove while {needed_by} is no conflict: {error}");
            }
        }
        let found = self.find(&image.fingerprint).await?;
        hold!(found.as_ref() == Some(image), "after a refused remove, `find` answers with {found:?}");
        Ok(())
    }

    async fn goes(&self, image: &Image) -> Check {
        let cx = self.cx(&format!("remove {}", image.id));
        self.done("remove of an image", || self.platform.images.remove(&cx, image)).await?;
        let found = self.find(&image.fingerprint).await?;
        hold!(found.is_none(), "after a remove, `find` still answers with {found:?}");
        hold!(!self.images().await?.contains(image), "after a remove, `list` still has {}", image.id);
        Ok(())
    }
}

pub(super) async fn i1_once(bench: &Bench<'_>) -> Check {
    let spec = bench.image_spec(Version::Old);
    let first = bench.build(&spec).await?;
    let again = bench.build(&spec).await?;
    hold!(again == first, "the second `ensure` answered with another image: {again:?} after {first:?}");
    // Another key, as after a restart: what is asked for is still the same.
    let cx = bench.cx("build once more");
    let again = bench.done("ensure of an image", || bench.platform.images.ensure(&cx, &spec)).await?;
    hold!(again == first, "`ensure` under another key answered with another image: {again:?} after {first:?}");
    let listed = bench.images().await?;
    let same: Vec<_> = listed.iter().filter(|image| image.fingerprint == first.fingerprint).collect();
    hold!(same.len() == 1, "one specification has {} images in `list`: {same:?}", same.len());
    Ok(())
}

pub(super) async fn i2_whole_or_not_at_all(bench: &Bench<'_>) -> Check {
    let spec = bench.image_spec(Version::Old);
    let cx = bench.cx("build");
    let (mut halfway, mut waited) = (false, Duration::ZERO);
    let image = loop {
        match bench.good("ensure of an image", bench.platform.images.ensure(&cx, &spec)).await? {
            Progress::Done(image) => break image,
            Progress::Pending { retry_after, .. } => {
                halfway = true;
                let listed = bench.images().await?;
                hold!(listed.is_empty(), "while the build is pending, `list` shows {listed:?}");
                hold!(waited <= bench.harness.patience(), "the build is still pending after {waited:?}");
                bench.harness.wait(retry_after).await;
                waited += retry_after;
            }
        }
    };
    bench.able(Ability::SlowBuild, halfway)?;
    let found = bench.find(&image.fingerprint).await?;
    hold!(found.as_ref() == Some(&image), "`ensure` is done with {image:?}, and `find` answers with {found:?}");
    let listed = bench.images().await?;
    hold!(listed.contains(&image), "`ensure` is done with {image:?}, and `list` shows only {listed:?}");
    Ok(())
}

pub(super) async fn i3_pinned(bench: &Bench<'_>) -> Check {
    let old = bench.build(&bench.image_spec(Version::Old)).await?;
    let new = bench.build(&bench.image_spec(Version::New)).await?;
    hold!(old.fingerprint != new.fingerprint, "two contents have one fingerprint, {}", old.fingerprint);
    hold!(old.id != new.id, "two contents have one id, {}", old.id);
    // The labels belong to the first build of a content.
    let relabelled = ImageSpec { version: "relabelled".to_owned(), ..bench.image_spec(Version::Old) };
    let again = bench.build(&relabelled).await?;
    hold!(again == old, "the same content under another version gave {again:?} instead of {old:?}");
    for image in [&old, &new] {
        let found = bench.find(&image.fingerprint).await?;
        hold!(found.as_ref() == Some(image), "{image:?} has become {found:?}");
    }
    Ok(())
}

pub(super) async fn i4_refused_early(bench: &Bench<'_>) -> Check {
    let good = || bench.image_spec(Version::Old);
    let mut wrong = Vec::new();
    let mut no_command = good();
    no_command.recipe.command = Vec::new();
    wrong.push(("no command", no_command));
    for target in ["", "/absolute", "../outside", "in/../../out"] {
        let mut spec = good();
        let copy = FileCopy { source: PathBuf::from("/dev/null"), target: target.to_owned(), executable: false };
        spec.recipe.layers.push(Layer::Files(vec![copy]));
        wrong.push(("a target that is no place in the image", spec));
    }
    let mut lost_base = good();
    let release = bench.harness.release(Version::Old).await;
    lost_base.recipe.base = Some(Image { fingerprint: Fingerprint::of("never built"), ..release.image().clone() });
    wrong.push(("a base that does not exist", lost_base));

    let before = bench.images().await?;
    for (what, spec) in wrong {
        let cx = bench.cx(&format!("build {spec:?}"));
        match bench.call("ensure of an image", bench.platform.images.ensure(&cx, &spec)).await? {
            Ok(answer) => return Err(Seen(format!("{what} was accepted: {answer:?}"))),
            Err(error) => {
                hold!(error.kind() == ErrorKind::InvalidRequest, "{what} is refused as something else: {error}");
                hold!(error.effect() == Effect::None, "{what} may have had an effect: {error:?}");
            }
        }
    }
    let after = bench.images().await?;
    hold!(after == before, "refused recipes left something: {after:?} instead of {before:?}");
    Ok(())
}

pub(super) async fn i5_not_in_use(bench: &Bench<'_>) -> Check {
    let base = bench.build(&bench.image_spec(Version::Old)).await?;
    let child = bench.child(&base).await?;
    hold!(
        child.parents.first() == Some(&base.fingerprint),
        "a child of {} has the parents {:?}",
        base.id,
        child.parents
    );
    bench.stays(&base, "another image is built on it").await?;

    let release = bench.harness.release(Version::Old).await;
    bench.running(Version::Old, 1).await?;
    bench.stays(release.image(), "an instance runs it").await?;
    // The child first; then nothing needs the base, and the second removal has nothing left to do.
    for image in [&child, &base, &base] {
        bench.goes(image).await?;
    }
    Ok(())
}
