//! Images that are needed, that are removed, and that are none of ours.

use immutable_azure::GalleryImageBuilder;
use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder as _};
use serde_json::json;

use crate::world::{BASE, World, build, cx, place, remove, spec};

#[tokio::test]
async fn an_image_that_is_needed_stays_until_it_is_not() {
    let world = World::new();
    let mut spec = self::spec("true");
    let image = build(&world.images(), &spec).await.unwrap();
    spec.recipe.base = Some(image.clone());
    let child = build(&world.images(), &spec).await.unwrap();
    world.settle().await;
    let stays = async |words: &str| {
        let error = remove(&world.images(), &image).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
        assert!(error.to_string().contains(words), "{error}");
    };
    stays(&format!("image {} is built on it", child.id)).await;
    let storage = json!({ "imageReference": { "id": image.id.as_str().to_uppercase() } });
    world.fake.put("Microsoft.Compute/virtualMachines/theirs", json!({ "properties": { "storageProfile": storage } }));
    stays("machine theirs was started from it").await;
    let profile = json!({ "virtualMachineProfile": { "storageProfile": storage } });
    world.fake.put("Microsoft.Compute/virtualMachineScaleSets/theirs", json!({ "properties": profile }));
    stays("scale set theirs starts machines from it").await;

    world.fake.remove("Microsoft.Compute/virtualMachines/theirs");
    world.fake.remove("Microsoft.Compute/virtualMachineScaleSets/theirs");
    remove(&world.images(), &child).await.unwrap();
    remove(&world.images(), &image).await.unwrap();
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn an_image_of_somebody_else_is_not_removed_nor_taken_for_ours() {
    let world = World::new();
    let image = build(&world.images(), &spec("true")).await.unwrap();
    let theirs = GalleryImageBuilder::base(BASE).unwrap();
    let elsewhere = GalleryImageBuilder::base(&image.id.as_str().replace("/golden/", "/silver/")).unwrap();
    let mistaken = Image { fingerprint: Fingerprint::of("another"), ..image.clone() };
    for wrong in [theirs, elsewhere, mistaken] {
        let error = remove(&world.images(), &wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    }
    assert_eq!(world.left().await, [image.id.as_str()]);

    world.fake.change(place(&image), |version| version["tags"] = json!({}));
    let error = build(&world.images(), &spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("is another one"), "{error}");
}

#[tokio::test]
async fn a_record_that_was_changed_is_an_error_and_not_an_absence() {
    let world = World::new();
    let image = build(&world.images(), &spec("true")).await.unwrap();
    world.fake.change(place(&image), |version| version["tags"]["immutable-recipe"] = "0".into());
    for error in [
        world.images().find(&cx(), &image.fingerprint).await.unwrap_err(),
        world.images().list(&cx(), &"web".parse().unwrap()).await.unwrap_err(),
        world.images().ensure(&cx(), &spec("true")).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("immutable-recipe"), "{error}");
    }
}
