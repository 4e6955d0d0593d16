//! What builders leave behind.

use immutable_azure::GalleryImageBuilder;
use immutable_core::provider::{ImageBuilder as _, Progress};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::world::{Outcome, World, build, cx, place, remove, spec};

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
