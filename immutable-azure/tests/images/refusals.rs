//! What cannot work, and is told before anything is made.

use immutable_azure::GalleryImageBuilder;
use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder as _, ImageSpec, Progress};
use serde_json::json;

use crate::world::{GALLERY, World, build, cx, place, spec};

#[tokio::test]
async fn an_image_that_is_not_in_all_regions_is_not_done() {
    let world = World::new();
    let image = build(&world.images(), &spec("true")).await.unwrap();
    world.settle().await;
    let before = world.changes();
    let images = || world.images_with(world.settings().regions(["northeurope"]));
    let error = images().ensure(&cx(), &spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("is not in northeurope"), "{error}");
    assert_eq!(world.changes(), before);
    world.fake.change(place(&image), |version| {
        let regions = json!([{ "name": "West Europe" }, { "name": "North Europe" }]);
        version["properties"]["publishingProfile"]["targetRegions"] = regions;
    });
    assert_eq!(images().ensure(&cx(), &spec("true")).await.unwrap(), Progress::Done(image));
}

#[tokio::test]
async fn what_can_be_refused_at_once_is_refused_before_anything_is_made() {
    let world = World::new();
    let mut without_base = self::spec("true");
    let elsewhere = world.fake.id(&format!("{GALLERY}/images/other/versions/1.0.0"));
    without_base.recipe.base = Some(GalleryImageBuilder::base(&elsewhere).unwrap());
    for (spec, words) in [(self::spec(&"true\n".repeat(15_000)), "custom data"), (without_base, "is not there")] {
        let error = world.images().ensure(&cx(), &spec).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(world.changes(), 0);
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_before_a_machine_is_made() {
    let world = World::new();
    let image = build(&world.images(), &spec("true")).await.unwrap();
    world.settle().await;
    let machines = || world.fake.calls()["PUT Microsoft.Compute/virtualMachines"];
    let before = machines();
    let mut spec = self::spec("true");
    let refused = async |images: GalleryImageBuilder, spec: &ImageSpec, words: &str| {
        let error = build(&images, spec).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(machines(), before);
    };
    let elsewhere = image.id.as_str().replace("/golden/", "/silver/");
    spec.recipe.base = Some(GalleryImageBuilder::base(&elsewhere).unwrap());
    refused(world.images(), &spec, "is not there").await;
    spec.recipe.base = Some(Image { fingerprint: Fingerprint::of("never built"), ..image.clone() });
    refused(world.images(), &spec, "is another image than the one that is asked for").await;
    spec.recipe.base = Some(image.clone());
    world.fake.change(place(&image), |version| version["properties"]["provisioningState"] = "Creating".into());
    refused(world.images(), &spec, "is not ready").await;
    spec.recipe.base = Some(Image { id: "ami-1".parse().unwrap(), ..image.clone() });
    refused(world.images(), &spec, "is no image of Azure").await;

    world.fake.remove(place(&image));
    world.fake.remove(&format!("{GALLERY}/images/im-web"));
    world.fake.remove(GALLERY);
    refused(world.images(), &self::spec("true"), "is not there: make it first").await;
    let error = world.images().list(&cx(), &spec.service).await.unwrap_err();
    assert!(error.to_string().contains("is not there: make it first"), "{error}");
}

#[tokio::test]
async fn a_definition_for_other_machines_is_not_used() {
    let world = World::new();
    let image = build(&world.images(), &spec("true")).await.unwrap();
    let arm = build(&world.images_with(world.settings().arm64()), &spec("true")).await.unwrap();
    assert_ne!(image.id, arm.id, "a definition is for one architecture");
    world.settle().await;
    world.fake.remove(place(&image));
    world.fake.change(&format!("{GALLERY}/images/im-web"), |one| one["properties"]["hyperVGeneration"] = "V1".into());
    let error = build(&world.images(), &spec("true")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("is another one"), "{error}");
}
