//! How an image comes when all goes well.

use immutable_core::model::Fingerprint;
use immutable_core::provider::{ImageBuilder as _, ImageSpec};
use jiff::Timestamp;
use serde_json::json;

use crate::world::{BASE, World, build, cx, place, remove, spec};

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
