//! Images and their builders: how they come, and what becomes of them when things do not go as usual.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod permissions;
#[path = "../support/mod.rs"]
mod support;
mod world;

use immutable_azure::GalleryImageBuilder;
use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder as _, ImageSpec, Progress};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use world::{BASE, GALLERY, Outcome, World, build, cut, cx, remove, spec};

/// The resource of an image, named from its type on.
fn place(image: &Image) -> &str {
    image.id.as_str().split_once("/providers/").unwrap().1
}

#[tokio::test]
async fn an_image_is_built_once_and_nothing_else_is_left() {
    let world = World::new();
    let mut spec = self::spec("true");
    let image = build(&world.images(), &spec).await.unwrap();
    assert_eq!(image.parents, [Fingerprint::of(BASE)]);
    assert_eq!((image.labels.version.as_str(), image.labels.commit.as_deref()), ("1.0.0", Some("abc")));
    assert_eq!(world.left().await, [image.id.as_str()]);
    let made = world.fake.get(place(&image)).unwrap();
    assert_eq!(made["tags"]["immutable-image-of"], "web");
    assert_eq!(made["tags"]["immutable-content"], Fingerprint::of("content").to_string());
    assert_eq!(made["tags"]["immutable-role"], "image");
    assert_eq!(made["properties"]["publishingProfile"]["excludeFromLatest"], true);

    let before = world.changes();
    let relabelled = ImageSpec { version: "2".to_owned(), commit: None, ..spec.clone() };
    assert_eq!(build(&world.images(), &relabelled).await.unwrap(), image);
    assert_eq!(world.changes(), before, "an unchanged recipe changes nothing");
    assert_eq!(world.images().find(&cx(), &image.fingerprint).await.unwrap(), Some(image.clone()));

    spec.recipe.base = Some(image.clone());
    let child = build(&world.images(), &spec).await.unwrap();
    assert_eq!(child.parents, [image.fingerprint, image.parents[0]]);
    let third = build(&world.images(), &self::spec("third")).await.unwrap();
    let listed = world.images().list(&cx(), &spec.service).await.unwrap();
    assert!(listed.len() == 3 && [&image, &child, &third].iter().all(|one| listed.contains(one)), "{listed:?}");
    assert_eq!(world.images().list(&cx(), &"other".parse().unwrap()).await.unwrap(), []);
    assert_eq!(world.images().find(&cx(), &Fingerprint::of("other")).await.unwrap(), None);
}

#[tokio::test]
async fn a_builder_has_no_way_in_and_is_what_the_settings_say() {
    let world = World::new();
    let identity = world.fake.id("Microsoft.ManagedIdentity/userAssignedIdentities/builder");
    let subnet = world.fake.id("Microsoft.Network/virtualNetworks/net/subnets/images");
    let settings = world.settings().vm_size("Standard_B4ms").identity(&identity).subnet(&subnet);
    let settings = settings.replicas(3).keep_for(std::time::Duration::from_hours(48));
    let images = world.images_with(settings);
    let spec = self::spec("true");
    let (image, builder) = tokio::join!(build(&images, &spec), world.builder());
    let image = image.unwrap();
    assert_eq!(builder["properties"]["hardwareProfile"]["vmSize"], "Standard_B4ms");
    assert_eq!(builder["identity"], json!({ "type": "UserAssigned", "userAssignedIdentities": { identity: {} } }));
    let login = &builder["properties"]["osProfile"]["linuxConfiguration"];
    assert_eq!(login["disablePasswordAuthentication"], true);
    assert_eq!(builder["properties"]["osProfile"].get("adminPassword"), None);
    let mut put = world.fake.exchanges().into_iter();
    let put = put.rfind(|one| one.operation == "PUT Microsoft.Compute/virtualMachines").unwrap().request;
    let interface = &put["properties"]["networkProfile"]["networkInterfaceConfigurations"][0]["properties"];
    let address = &interface["ipConfigurations"][0]["properties"];
    assert_eq!((&address["subnet"]["id"], address.get("publicIPAddressConfiguration")), (&json!(subnet), None));
    let publishing = world.fake.get(place(&image)).unwrap()["properties"]["publishingProfile"].clone();
    assert_eq!(publishing["replicaCount"], 3);
    let end: Timestamp = publishing["endOfLifeDate"].as_str().unwrap().parse().unwrap();
    let days = end.duration_since(image.labels.built_at).as_hours();
    assert!((47..=48).contains(&days), "{days}");
}

#[tokio::test]
async fn all_that_is_said_is_what_the_vendor_understands() {
    let world = World::new();
    let identity = world.fake.id("Microsoft.ManagedIdentity/userAssignedIdentities/builder");
    let settings = world.settings().identity(identity).keep_for(std::time::Duration::from_hours(48));
    let images = world.images_with(settings);
    let image = build(&images, &spec("true")).await.unwrap();
    remove(&images, &image).await.unwrap();
    assert_eq!(world.fake.unlike_models(), [""; 0]);
}

#[tokio::test]
async fn two_drivers_at_once_build_one_image_and_end_its_builder() {
    let world = World::new();
    let (one, two, spec) = (world.images(), world.images(), spec("true"));
    let other_labels = ImageSpec { version: "1.0.1".to_owned(), commit: None, ..spec.clone() };
    let (one, two) = tokio::join!(build(&one, &spec), build(&two, &other_labels));
    let image = one.unwrap();
    assert_eq!(two.unwrap(), image);
    assert_eq!(world.left().await, [image.id.as_str()]);
}

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
async fn an_interface_that_is_still_kept_for_a_builder_that_failed_is_waited_for() {
    let world = World::new();
    let image = build(&world.images(), &spec("true")).await.unwrap();
    world.settle().await;
    world.fake.remove(place(&image));
    let left = format!("Microsoft.Network/networkInterfaces/im-web-{}-b-01", image.fingerprint.short());
    world.fake.put(&left, json!({}));
    let words = "Nic(s) in request is reserved for another Virtual Machine for 180 seconds.";
    world.fake.refuse_next("DELETE Microsoft.Network/networkInterfaces", 400, "NicReservedForAnotherVm", words);
    assert_eq!(world.images().ensure(&cx(), &spec("true")).await.unwrap().done(), None);
    assert!(world.fake.get(&left).is_some());
    assert_eq!(build(&world.images(), &spec("true")).await.unwrap().id, image.id);
    assert_eq!(world.left().await, [image.id.as_str()]);
}

#[tokio::test]
async fn what_other_builders_have_left_is_taken_away_and_what_is_theirs_is_not() {
    let world = World::new();
    let old = json!({ "properties": { "timeCreated": "2026-01-02T03:04:05Z" } });
    let (gone, there) = ("im-web-0123456789ab-b", "im-web-0123456789ac-b");
    world.fake.put(&format!("Microsoft.Compute/virtualMachines/{there}"), json!({}));
    for name in [gone, there, "im-web-api-0123456789ab-b"] {
        world.fake.put(&format!("Microsoft.Compute/disks/{name}"), old.clone());
        world.fake.put(&format!("Microsoft.Network/networkInterfaces/{name}-01"), json!({}));
    }
    let image = build(&world.images(), &spec("true")).await.unwrap();
    let mut kept: Vec<String> = [there, "im-web-api-0123456789ab-b"]
        .iter()
        .flat_map(|name| {
            [format!("Microsoft.Compute/disks/{name}"), format!("Microsoft.Network/networkInterfaces/{name}-01")]
        })
        .chain([format!("Microsoft.Compute/virtualMachines/{there}")])
        .map(|id| world.fake.id(&id))
        .chain([image.id.to_string()])
        .collect();
    kept.sort();
    let mut left = world.left().await;
    left.sort();
    assert_eq!(left, kept);
}

#[tokio::test]
async fn a_builder_that_was_left_behind_is_ended_by_whoever_comes_later() {
    let world = World::new();
    for _ in 0..3 {
        world.next_build(Outcome::Silent);
    }
    let begin = async |images: GalleryImageBuilder, script: &str, count: usize| {
        for _ in 0..100 {
            images.ensure(&cx(), &spec(script)).await.unwrap();
            if world.builders().len() == count {
                return;
            }
        }
        panic!("no builder");
    };
    begin(world.images(), "first", 1).await;
    begin(world.images(), "second", 2).await;
    world.settle().await;
    let tomorrow = || world.images().with_clock(|| Timestamp::now() + SignedDuration::from_hours(24));
    tomorrow().ensure(&cx(), &spec("third")).await.unwrap();
    assert_eq!(world.left().await, [""; 0]);
    begin(tomorrow(), "third", 1).await;

    // Whoever has nothing to build does it as well.
    let world = World::new();
    let image = build(&world.images(), &spec("true")).await.unwrap();
    world.settle().await;
    world.next_build(Outcome::Silent);
    while world.builders().is_empty() {
        world.images().ensure(&cx(), &spec("other")).await.unwrap();
    }
    world.settle().await;
    let tomorrow = world.images().with_clock(|| Timestamp::now() + SignedDuration::from_hours(24));
    assert_eq!(tomorrow.ensure(&cx(), &spec("true")).await.unwrap(), Progress::Done(image.clone()));
    assert_eq!(world.left().await, [image.id.as_str()]);
}

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

#[tokio::test]
async fn what_a_failed_start_has_left_is_taken_away_before_the_next() {
    let world = World::new();
    let spec = self::spec("true");
    let first = build(&world.images(), &spec).await.unwrap();
    world.settle().await;
    let name = format!("im-web-{}-b", first.fingerprint.short());
    world.fake.remove(place(&first));
    world.fake.put(&format!("Microsoft.Compute/disks/{name}"), json!({}));
    world.fake.put("Microsoft.Compute/disks/theirs", json!({}));
    let old = "2026-01-02T03:04:05Z";
    world.fake.put("Microsoft.Compute/disks/im-web-0123456789ab-b", json!({ "properties": { "timeCreated": old } }));
    world.fake.put("Microsoft.Compute/disks/im-web-0123456789ac-b", json!({}));
    world.fake.put(&format!("Microsoft.Network/networkInterfaces/{name}-01"), json!({}));
    let again = build(&world.images(), &spec).await.unwrap();
    assert_eq!((&again.id, again.fingerprint), (&first.id, first.fingerprint));
    let left = world.left().await;
    let theirs =
        ["im-web-0123456789ac-b", "theirs"].map(|name| world.fake.id(&format!("Microsoft.Compute/disks/{name}")));
    assert!(left.len() == 3 && theirs.iter().all(|id| left.contains(id)), "{left:?}");
    // The same content, built again meanwhile, is not what was to be removed.
    remove(&world.images(), &first).await.unwrap();
    assert_eq!(world.images().find(&cx(), &again.fingerprint).await.unwrap(), Some(again));
}

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
