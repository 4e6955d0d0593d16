//! Crashes, lost answers, and an Azure that has no room.

use immutable_core::provider::{Effect, ErrorKind, ImageBuilder as _, Progress};

use crate::world::{GALLERY, World, build, cut, cx, remove, spec};

#[tokio::test]
async fn whoever_crashes_at_any_step_is_followed_by_somebody_who_goes_on() {
    let world = World::new();
    let spec = self::spec("true");
    let mut image = None;
    // Each call gets a little further than the one before, and is made by another driver.
    for polls in 1..400 {
        match cut(world.images().ensure(&cx(), &spec), polls).await {
            Some(Ok(Progress::Done(done))) => {
                image = Some(done);
                break;
            }
            Some(Ok(_) | Err(_)) | None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
    let image = image.expect("the calls become long enough");
    world.settle().await;
    assert_eq!(build(&world.images(), &spec).await.unwrap(), image);
    assert_eq!(world.left().await, [image.id.as_str()]);
    for polls in 1..100 {
        if let Some(Ok(Progress::Done(()))) = cut(world.images().remove(&cx(), &image), polls).await {
            break;
        }
    }
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn answers_that_are_lost_and_requests_that_are_throttled_make_no_second_image() {
    let world = World::new();
    let spec = self::spec("true");
    for change in [
        "PUT Microsoft.Compute/galleries/images",
        "PUT Microsoft.Compute/virtualMachines",
        "PUT Microsoft.Compute/virtualMachines/runCommands",
        "PATCH Microsoft.Compute/virtualMachines",
        "POST Microsoft.Compute/virtualMachines/deallocate",
        "POST Microsoft.Compute/virtualMachines/generalize",
        "PUT Microsoft.Compute/galleries/images/versions",
        "DELETE Microsoft.Compute/virtualMachines",
    ] {
        world.fake.lose_next(change);
        world.fake.throttle_next(change, 1);
    }
    let image = build(&world.images(), &spec).await.unwrap();
    world.settle().await;
    assert_eq!(build(&world.images(), &spec).await.unwrap(), image);
    assert_eq!(world.left().await, [image.id.as_str()]);
    world.fake.lose_next("DELETE Microsoft.Compute/galleries/images/versions");
    let error = remove(&world.images(), &image).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    remove(&world.images(), &image).await.unwrap();
    remove(&world.images(), &image).await.unwrap();
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn a_conflict_at_the_start_of_a_builder_is_told_where_there_is_none() {
    let world = World::new();
    let spec = self::spec("true");
    while !matches!(world.fake.get(&format!("{GALLERY}/images/im-web")), Some(one) if one["properties"]["provisioningState"] == "Succeeded")
    {
        world.images().ensure(&cx(), &spec).await.unwrap();
        world.settle().await;
        for builder in world.builders() {
            world.fake.remove(builder["id"].as_str().unwrap());
        }
    }
    world.fake.refuse_next("PUT Microsoft.Compute/virtualMachines", 409, "ResourceGroupBeingDeleted", "wait for it");
    let error = world.images().ensure(&cx(), &spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
    assert!(error.to_string().contains("wait for it"), "{error}");
}

#[tokio::test]
async fn a_shortage_is_told_as_one_and_leaves_nothing() {
    let world = World::new();
    world.fake.set_out_of_stock("", true);
    let error = build(&world.images(), &spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert!(error.to_string().contains("AllocationFailed"), "{error}");
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn an_image_that_could_not_be_copied_is_told_and_taken_away_and_made_again() {
    let world = World::new();
    let versions = "PUT Microsoft.Compute/galleries/images/versions";
    world.fake.fail_next_operation(versions, "ReplicationFailed", "no room in westeurope");
    let spec = self::spec("true");
    let (mut told, mut image, mut failed) = (None, None, 0);
    while image.is_none() {
        let state = world.fake.list(&format!("{GALLERY}/images/im-web/versions/")).into_values().next();
        if state.is_some_and(|version| version["properties"]["provisioningState"] == "Failed") {
            assert_eq!(world.images().list(&cx(), &spec.service).await.unwrap(), []);
            failed += 1;
        }
        match world.images().ensure(&cx(), &spec).await {
            Ok(Progress::Done(done)) => image = Some(done),
            Ok(Progress::Pending { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            Err(error) => told = Some(error),
        }
    }
    assert_ne!(failed, 0);
    let told = told.unwrap();
    assert_eq!(told.kind(), ErrorKind::Unavailable);
    assert!(told.to_string().contains("westeurope is Failed"), "{told}");
    assert_eq!(world.fake.calls()["PUT Microsoft.Compute/virtualMachines"], 1, "the builder was there still");
    assert_eq!(world.left().await, [image.unwrap().id.as_str()]);
}
