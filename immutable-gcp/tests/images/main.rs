//! Images, their builders and their disks: how they come, and what becomes of them when things do not go as usual.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod permissions;
mod world;

use std::time::Duration;

use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder as _, ImageSpec, Progress};
use immutable_gcp::{ComputeImageBuilder, ImageSettings, ImageUse};
use immutable_gcp_fake::{Options, Outcome};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use world::{World, ZONE, build, cut, cx, remove};

#[tokio::test]
async fn an_image_is_built_once_and_nothing_else_is_left() {
    let world = World::new().await;
    let mut spec = world.spec("true");
    let image = build(&world.images(), &spec).await.unwrap();
    assert_eq!(image.parents, [Fingerprint::of(&world.base)]);
    assert_eq!((image.labels.version.as_str(), image.labels.commit.as_deref()), ("1.0.0", Some("abc")));
    assert_eq!(world.left().await, [image.id.as_str()]);
    let made = world.fake.get(image.id.as_str()).unwrap();
    assert_eq!(made["labels"]["immutable-service"], "web");
    assert_eq!(made["labels"]["immutable-content"].as_str().unwrap().len(), 32);
    assert_eq!(made["labels"].get("immutable-role"), None, "an image is no builder");

    let before = world.changes();
    let relabelled = ImageSpec { version: "2".to_owned(), commit: None, ..spec.clone() };
    assert_eq!(build(&world.images(), &relabelled).await.unwrap(), image);
    assert_eq!(world.changes(), before, "an unchanged recipe changes nothing");
    assert_eq!(world.images().find(&cx(), &image.fingerprint).await.unwrap(), Some(image.clone()));

    spec.recipe.base = Some(image.clone());
    let child = build(&world.images(), &spec).await.unwrap();
    assert_eq!(child.parents, [image.fingerprint, image.parents[0]]);
    let listed = world.images().list(&cx(), &spec.service).await.unwrap();
    assert!(listed.len() == 2 && listed.contains(&image) && listed.contains(&child), "{listed:?}");
    assert_eq!(world.images().list(&cx(), &"other".parse().unwrap()).await.unwrap(), []);
}

#[tokio::test]
async fn a_builder_has_no_way_in_and_ends_at_last_by_itself() {
    let world = World::new().await;
    world.fake.next_build(Outcome::Silent);
    let settings = ImageSettings::default().family("web").machine_type("e2-highcpu-4");
    let images = world.images_with(settings);
    assert_eq!(images.ensure(&cx(), &world.spec("true")).await.unwrap().done(), None);
    let builder = world.builder().await;
    let items = builder["metadata"]["items"].as_array().unwrap();
    for (key, value) in
        [("block-project-ssh-keys", "TRUE"), ("enable-oslogin", "FALSE"), ("serial-port-enable", "FALSE")]
    {
        assert!(items.contains(&json!({ "key": key, "value": value })), "{key}");
    }
    assert_eq!(builder["networkInterfaces"][0].get("accessConfigs"), None);
    assert_eq!(builder.get("serviceAccounts"), None);
    assert_eq!(builder["shieldedInstanceConfig"]["enableSecureBoot"], true);
    assert!(builder["machineType"].as_str().unwrap().ends_with("e2-highcpu-4"));
    // A second of the API lasts ten milliseconds here.
    let hours = |hours: u64| Duration::from_millis(hours * 3600 * 10);
    world.fake.skip(hours(2));
    assert_eq!(world.builders().len(), 1, "it has its time");
    world.fake.skip(hours(1));
    world.settle().await;
    assert_eq!(world.left().await, [""; 0], "nobody came back, and it is gone with its disk");
}

#[tokio::test]
async fn two_drivers_at_once_build_one_image_and_end_its_builder() {
    let world = World::new().await;
    let (one, two, spec) = (world.images(), world.images(), world.spec("true"));
    let other_labels = ImageSpec { version: "1.0.1".to_owned(), commit: None, ..spec.clone() };
    let (one, two) = tokio::join!(build(&one, &spec), build(&two, &other_labels));
    let image = one.unwrap();
    assert_eq!(two.unwrap(), image);
    assert_eq!(world.left().await, [image.id.as_str()]);
}

#[tokio::test]
async fn a_step_that_fails_ends_the_builder_and_is_named() {
    let world = World::new().await;
    world.fake.next_build(Outcome::Fails("layers[0]".to_owned()));
    let error = build(&world.images(), &world.spec("false")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("layers[0] with status 1"), "{error}");
    world.settle().await;
    assert_eq!(world.left().await, [""; 0]);
    // What was wrong lay outside of the recipe, and is mended.
    let image = build(&world.images(), &world.spec("false")).await.unwrap();
    assert_eq!(world.left().await, [image.id.as_str()]);
}

#[tokio::test]
async fn a_builder_is_heard_by_its_serial_port_where_guest_attributes_are_not_allowed() {
    let world = World::new().await;
    world.fake.next_build(Outcome::DoneOnSerialPort);
    let image = build(&world.images(), &world.spec("true")).await.unwrap();
    assert_eq!(world.left().await, [image.id.as_str()]);
}

#[tokio::test]
async fn a_builder_that_never_says_anything_of_its_own_is_ended_at_its_deadline() {
    for outcome in [Outcome::Silent, Outcome::WrongNonce] {
        let world = World::new().await;
        world.fake.next_build(outcome);
        let spec = world.spec("sleep infinity");
        let at = |minutes: i64| {
            let images = world.images();
            images.with_clock(move || Timestamp::now() + SignedDuration::from_mins(minutes))
        };
        assert_eq!(at(0).ensure(&cx(), &spec).await.unwrap().done(), None);
        world.builder().await;
        world.settle().await;
        assert_eq!(at(39).ensure(&cx(), &spec).await.unwrap().done(), None);
        assert_eq!(world.builders().len(), 1);
        let error = at(41).ensure(&cx(), &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("30 minutes"), "{error}");
        world.settle().await;
        assert_eq!(world.left().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_builder_that_somebody_stops_is_ended_and_told() {
    let world = World::new().await;
    world.fake.next_build(Outcome::Silent);
    world.images().ensure(&cx(), &world.spec("true")).await.unwrap();
    let name = world.builder().await["name"].as_str().unwrap().to_owned();
    let stop = world.clients.instances.stop().set_project(world.fake.project()).set_zone(ZONE).set_instance(name);
    stop.send().await.unwrap();
    world.settle().await;
    let error = world.images().ensure(&cx(), &world.spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("was stopped before it was done"), "{error}");
    world.settle().await;
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn a_builder_that_was_left_behind_is_ended_by_whoever_comes_later() {
    let world = World::new().await;
    for outcome in [Outcome::Silent, Outcome::Silent] {
        world.fake.next_build(outcome);
    }
    world.images().ensure(&cx(), &world.spec("first")).await.unwrap();
    let left = world.builder().await["id"].clone();
    world.images().ensure(&cx(), &world.spec("second")).await.unwrap();
    world.settle().await;
    assert_eq!(world.builders().len(), 2, "another build does not disturb it");
    let tomorrow = world.images().with_clock(|| Timestamp::now() + SignedDuration::from_hours(24));
    let spec = world.spec("third");
    tomorrow.ensure(&cx(), &spec).await.unwrap();
    world.settle().await;
    assert_eq!(world.left().await, [""; 0], "{left} and the other one");
    assert_eq!(tomorrow.ensure(&cx(), &spec).await.unwrap().done(), None);
    assert_ne!(world.builder().await["id"], left);
}

#[tokio::test]
async fn whoever_crashes_at_any_step_is_followed_by_somebody_who_goes_on() {
    let world = World::new().await;
    let spec = world.spec("true");
    let mut image = None;
    // Each call gets a little further than the one before, and is made by another driver.
    for polls in 1..400 {
        match cut(world.images().ensure(&cx(), &spec), polls).await {
            Some(Ok(Progress::Done(done))) => {
                image = Some(done);
                break;
            }
            Some(Ok(_) | Err(_)) | None => tokio::time::sleep(Duration::from_millis(5)).await,
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
    world.settle().await;
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn answers_that_are_lost_and_requests_that_are_throttled_make_no_second_image() {
    let world = World::new().await;
    let spec = world.spec("true");
    let changes = ["instances.insert", "instances.setLabels", "instances.stop", "images.insert", "instances.delete"];
    for change in changes {
        world.fake.lose_next(&format!("compute.{change}"));
        world.fake.throttle_next(&format!("compute.{change}"), 403);
    }
    let image = build(&world.images(), &spec).await.unwrap();
    assert_eq!(world.left().await, [image.id.as_str()]);
    world.fake.lose_next("compute.images.delete");
    let error = remove(&world.images(), &image).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    remove(&world.images(), &image).await.unwrap();
    remove(&world.images(), &image).await.unwrap();
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn a_shortage_is_told_as_one_and_leaves_nothing() {
    let world = World::new().await;
    let full = "The zone does not have enough resources available to fulfill the request.";
    world.fake.fail_next_operation("compute.instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED", full);
    let error = build(&world.images(), &world.spec("true")).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None));
    assert!(error.to_string().contains("ZONE_RESOURCE_POOL_EXHAUSTED"), "{error}");
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn what_a_failed_build_has_left_is_taken_away_before_the_next() {
    let world = World::new().await;
    let spec = world.spec("true");
    let first = build(&world.images(), &spec).await.unwrap();
    let made = world.fake.remove(first.id.as_str()).unwrap();
    let name = made["name"].as_str().unwrap();
    // An image that could not be made, and a disk of a machine that could not be started.
    let (labels, description) = (made["labels"].clone(), made["description"].clone());
    world.fake.put(first.id.as_str(), json!({ "status": "FAILED", "labels": labels, "description": description }));
    let labels = json!({ "immutable-service": "web", "immutable-role": "builder", "immutable-recipe": first.fingerprint.short() });
    world.fake.put(&format!("zones/{ZONE}/disks/{name}-b"), json!({ "labels": labels, "sizeGb": "10" }));
    let again = build(&world.images(), &spec).await.unwrap();
    assert_eq!((&again.id, again.fingerprint), (&first.id, first.fingerprint));
    assert!(again.labels.built_at > first.labels.built_at);
    assert_eq!(world.left().await, [again.id.as_str()]);
    // The same content, built again meanwhile, is not what was to be removed.
    remove(&world.images(), &first).await.unwrap();
    assert_eq!(world.left().await, [again.id.as_str()]);
}

#[tokio::test]
async fn an_image_that_is_needed_stays_until_it_is_not() {
    let world = World::new().await;
    let mut spec = world.spec("true");
    let image = build(&world.images(), &spec).await.unwrap();
    spec.recipe.base = Some(image.clone());
    let child = build(&world.images(), &spec).await.unwrap();
    assert_eq!(world.left().await.len(), 2, "the builder of the child is gone, which was started from it");
    let stays = async |words: &str| {
        let error = remove(&world.images(), &image).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
        assert!(error.to_string().contains(words), "{error}");
    };
    let link = format!("https://www.googleapis.com/compute/v1/{}", image.id);
    stays(&format!("image {} is built on it", child.id)).await;
    let disk = json!({ "boot": true, "initializeParams": { "sourceImage": image.id.as_str() } });
    world.fake.put("global/instanceTemplates/theirs", json!({ "properties": { "disks": [disk] } }));
    stays("instance template theirs names it").await;
    let user = format!("projects/{}/zones/{ZONE}/instances/theirs", world.fake.project());
    let disk = json!({ "sourceImage": link, "users": [user], "sizeGb": "10" });
    world.fake.put(&format!("zones/{ZONE}/disks/theirs"), disk);
    stays("instance theirs was started from it").await;

    world.fake.remove(&format!("zones/{ZONE}/disks/theirs"));
    world.fake.remove("global/instanceTemplates/theirs");
    remove(&world.images(), &child).await.unwrap();
    remove(&world.images(), &image).await.unwrap();
    assert_eq!(world.left().await, [""; 0]);
}

#[tokio::test]
async fn an_image_of_somebody_else_is_not_removed_nor_taken_for_ours() {
    let world = World::new().await;
    let theirs = ComputeImageBuilder::base(&world.base).unwrap();
    let elsewhere = ComputeImageBuilder::base("projects/debian-cloud/global/images/debian-12").unwrap();
    let image = build(&world.images(), &world.spec("true")).await.unwrap();
    let mistaken = Image { fingerprint: Fingerprint::of("another"), ..image.clone() };
    for wrong in [theirs, elsewhere, mistaken] {
        let error = remove(&world.images(), &wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    }
    assert_eq!(world.left().await, [image.id.as_str()]);

    world.fake.remove(image.id.as_str());
    world.fake.put(image.id.as_str(), json!({ "status": "READY", "description": "somebody's" }));
    let error = build(&world.images(), &world.spec("true")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("is another one"), "{error}");
}

#[tokio::test]
async fn a_base_that_cannot_be_used_is_refused_before_anything_is_made() {
    let world = World::new().await;
    let mut spec = world.spec("true");
    let refused = async |spec: &ImageSpec, words: &str| {
        let error = build(&world.images(), spec).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(world.changes(), 0);
    };
    let named = |name: &str| {
        let url = format!("projects/{}/global/images/{name}", world.fake.project());
        Some(ComputeImageBuilder::base(&url).unwrap())
    };
    spec.recipe.base = named("nothing");
    refused(&spec, "is not there").await;
    world.fake.put("global/images/old", json!({ "status": "READY", "deprecated": { "state": "OBSOLETE" } }));
    spec.recipe.base = named("old");
    refused(&spec, "is obsolete").await;
    spec.recipe.base =
        Some(Image { fingerprint: Fingerprint::of("never built"), ..world.spec("true").recipe.base.unwrap() });
    refused(&spec, "is another image than the one that is asked for").await;
}

#[tokio::test]
async fn an_image_goes_out_of_use_and_comes_back_as_it_is_told() {
    let world = World::with(Options { image_time: Duration::ZERO, ..Options::default() }).await;
    let images = world.images_with(ImageSettings::default().family("web"));
    let spec = world.spec("true");
    let image = build(&images, &spec).await.unwrap();
    assert_eq!(world.fake.get(image.id.as_str()).unwrap()["family"], "web");
    let set = async |to: ImageUse| {
        for _ in 0..100 {
            if images.deprecate(&cx(), &image, to).await.unwrap() == Progress::Done(()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {to:?}");
    };
    let found = async || images.find(&cx(), &image.fingerprint).await.unwrap();
    set(ImageUse::Deprecated).await;
    assert_eq!(found().await.as_ref(), Some(&image), "it can be used still");
    set(ImageUse::Obsolete).await;
    assert_eq!((found().await, images.list(&cx(), &spec.service).await.unwrap()), (None, vec![]));
    let error = images.ensure(&cx(), &spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
    set(ImageUse::Active).await;
    assert_eq!(found().await.as_ref(), Some(&image));
    let calls = world.changes();
    set(ImageUse::Active).await;
    assert_eq!(world.changes(), calls, "it is what it should be");
}
