//! Builders that do not do what they are to do.

use immutable_azure::GalleryImageBuilder;
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder as _, ImageSpec};
use jiff::{SignedDuration, Timestamp};

use crate::world::{Outcome, World, build, cx, spec};

#[tokio::test]
async fn a_step_that_fails_ends_the_builder_and_is_named() {
    let world = World::new();
    world.next_build(Outcome::Fails("layers[0]".to_owned()));
    let error = build(&world.images(), &spec("false")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("layers[0] with status 1"), "{error}");
    assert_eq!(world.left().await, [""; 0]);
    // What was wrong lay outside of the recipe, and is mended.
    let image = build(&world.images(), &spec("false")).await.unwrap();
    assert_eq!(world.left().await, [image.id.as_str()]);
}

#[tokio::test]
async fn a_builder_whose_agent_is_not_well_is_asked_again() {
    let world = World::new();
    world.next_build(Outcome::Deaf);
    let image = build(&world.images(), &spec("true")).await.unwrap();
    assert_eq!(world.left().await, [image.id.as_str()]);
}

#[tokio::test]
async fn a_builder_that_cannot_be_made_into_a_pattern_makes_no_image() {
    let world = World::new();
    world.next_build(Outcome::Unsealed);
    let error = build(&world.images(), &spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("could not be made into a pattern: systemd-run: no"), "{error}");
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn a_builder_that_never_says_anything_of_its_own_is_ended_at_its_deadline() {
    for outcome in [Outcome::Silent, Outcome::WrongNonce] {
        let world = World::new();
        // It is asked more than once.
        for _ in 0..9 {
            world.next_build(outcome.clone());
        }
        let spec = self::spec("sleep infinity");
        let at = |minutes: i64| {
            let images = world.images();
            images.with_clock(move || Timestamp::now() + SignedDuration::from_mins(minutes))
        };
        while world.builders().is_empty() {
            assert_eq!(at(0).ensure(&cx(), &spec).await.unwrap().done(), None);
        }
        world.builder().await;
        assert_eq!(at(39).ensure(&cx(), &spec).await.unwrap().done(), None);
        assert_eq!(world.builders().len(), 1);
        let error = at(41).ensure(&cx(), &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("30 minutes"), "{error}");
        assert_eq!(world.left().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_builder_that_somebody_stops_is_ended_and_told() {
    let world = World::new();
    world.next_build(Outcome::Silent);
    while world.builders().is_empty() {
        world.images().ensure(&cx(), &spec("true")).await.unwrap();
    }
    let builder = world.builder().await;
    assert!(world.fake.kill(builder["id"].as_str().unwrap()));
    let error = world.images().ensure(&cx(), &spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("was stopped before it was done"), "{error}");
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn a_builder_that_is_off_without_being_sealed_makes_no_image() {
    let world = World::new();
    while world.builders().first().is_none_or(|one| one["tags"].get("immutable-content").is_none()) {
        world.images().ensure(&cx(), &spec("true")).await.unwrap();
    }
    let builder = world.builder().await;
    assert!(world.fake.kill(builder["id"].as_str().unwrap()));
    let error = world.images().ensure(&cx(), &spec("true")).await.unwrap_err();
    assert!(error.to_string().contains("was stopped before it was done"), "{error}");
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn a_builder_that_is_off_before_its_sealing_has_ended_well_makes_no_image() {
    for outcome in [Outcome::SealedInSilence, Outcome::Unsealed] {
        let world = World::new();
        world.next_build(outcome.clone());
        let put = "PUT Microsoft.Compute/virtualMachines/runCommands";
        while world.fake.calls().get(put).is_none_or(|count| *count < 2) {
            world.images().ensure(&cx(), &spec("true")).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        world.settle().await;
        let builder = world.builder().await;
        assert!(world.fake.kill(builder["id"].as_str().unwrap()));
        let error = world.images().ensure(&cx(), &spec("true")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{outcome:?}");
        assert!(error.to_string().contains("was stopped before it was done"), "{error}");
        assert_eq!(world.left().await, [""; 0]);
    }
}

/// Asks until a version is to be made, of which something is then told.
async fn until_made(world: &World, images: &GalleryImageBuilder, spec: &ImageSpec) {
    let put = "PUT Microsoft.Compute/galleries/images/versions";
    let before = world.fake.calls().get(put).copied();
    for _ in 0..500 {
        if let Err(error) = images.ensure(&cx(), spec).await {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
        if world.fake.calls().get(put).copied() != before {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never to be made");
}

#[tokio::test]
async fn a_builder_of_which_no_image_can_be_made_is_ended() {
    let put = "PUT Microsoft.Compute/galleries/images/versions";
    let world = World::new();
    world.fake.refuse_next(put, 400, "InvalidParameter", "the definition does not take it");
    let error = build(&world.images(), &spec("true")).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::Unknown));
    assert!(error.to_string().contains("the definition does not take it"), "{error}");
    assert_eq!(world.left().await, [""; 0]);

    // What may pass is tried again, but not for ever.
    world.fake.refuse_next(put, 409, "OperationNotAllowed", "not now");
    until_made(&world, &world.images(), &spec("true")).await;
    world.fake.refuse_next(put, 409, "OperationNotAllowed", "never");
    let hours = |hours| world.images().with_clock(move || Timestamp::now() + SignedDuration::from_hours(hours));
    let error = hours(7).ensure(&cx(), &spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let error = hours(8).ensure(&cx(), &spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("no image could be made of it"), "{error}");
    assert_eq!(world.left().await, [""; 0]);
}
