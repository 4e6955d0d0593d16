//! Machines that are made into images, galleries, disks.

use std::time::Duration;

use immutable_azure_fake::Fake;
use serde_json::{Value, json};

use crate::client::{all, ask, quick, read, send, slow, status};

const HOUR: Duration = Duration::from_hours(1);
/// The machine that becomes an image.
pub(crate) const BUILDER: &str = "Microsoft.Compute/virtualMachines/builder";
const GALLERY: &str = "Microsoft.Compute/galleries/golden";
const IMAGE: &str = "Microsoft.Compute/galleries/golden/images/web";
const VERSION: &str = "Microsoft.Compute/galleries/golden/images/web/versions/1.0.0";

/// A machine of somebody else's image. `option`: what happens to what it brings along when it is deleted.
pub(crate) fn builder(option: &str) -> Value {
    json!({
        "location": "westeurope",
        "tags": { "recipe": "r" },
        "properties": {
            "hardwareProfile": { "vmSize": "Standard_B2s" },
            "storageProfile": {
                "imageReference": { "publisher": "debian", "offer": "debian-12", "sku": "12", "version": "latest" },
                "osDisk": { "createOption": "FromImage", "deleteOption": option },
            },
            "osProfile": { "computerName": "builder", "customData": "c2VjcmV0" },
            "networkProfile": {
                "networkApiVersion": "2022-11-01",
                "networkInterfaceConfigurations": [{
                    "name": "main",
                    "properties": {
                        "deleteOption": option,
                        "ipConfigurations": [{ "name": "main", "properties": { "primary": true } }],
                    },
                }],
            },
        },
    })
}

fn image() -> Value {
    let identifier = json!({ "publisher": "immutable", "offer": "golden", "sku": "web" });
    json!({
        "location": "westeurope",
        "properties": { "osType": "Linux", "osState": "Generalized", "identifier": identifier },
    })
}

/// A version of what is at this id.
pub(crate) fn version(source: &str) -> Value {
    json!({
        "location": "westeurope",
        "tags": { "fingerprint": "f" },
        "properties": {
            "publishingProfile": { "targetRegions": [{ "name": "westeurope" }], "endOfLifeDate": "2031-01-01T00:00:00Z" },
            "storageProfile": { "source": { "virtualMachineId": source } },
        },
    })
}

/// A fake with a gallery, an image and a machine that runs.
async fn workshop(option: &str) -> Fake {
    let fake = Fake::start(quick());
    ask(&fake, "PUT", GALLERY, Some(json!({ "location": "westeurope" }))).await;
    ask(&fake, "PUT", IMAGE, Some(image())).await;
    let made = ask(&fake, "PUT", BUILDER, Some(builder(option))).await;
    assert_eq!((made.status, status(&fake, &made).await["status"].clone()), (201, json!("InProgress")));
    fake.skip(HOUR);
    assert_eq!(status(&fake, &made).await["status"], "Succeeded");
    fake
}

async fn act(fake: &Fake, action: &str) -> u16 {
    send(fake, "POST", &format!("{BUILDER}/{action}"), None).await.status
}

#[tokio::test]
async fn a_machine_becomes_a_version_when_it_is_off_and_generalized() {
    let fake = workshop("Delete").await;
    let source = fake.id(BUILDER);
    assert_eq!(act(&fake, "generalize").await, 409, "it runs");
    assert_eq!(act(&fake, "deallocate").await, 202);
    let early = send(&fake, "PUT", VERSION, Some(version(&source))).await;
    assert_eq!(early.code(), (409, "OperationNotAllowed"));
    assert_eq!(act(&fake, "generalize").await, 200);
    assert_eq!(act(&fake, "start").await, 409, "it is a pattern now");
    let view = read(&fake, &format!("{BUILDER}/instanceView")).await;
    assert_eq!(
        (&view["statuses"][1]["code"], &view["statuses"][2]["code"]),
        (&json!("PowerState/deallocated"), &json!("OSState/generalized"))
    );

    fake.set(|options| options.operation_time = HOUR);
    let made = ask(&fake, "PUT", VERSION, Some(version(&source))).await;
    assert_eq!((made.status, &made.body["properties"]["provisioningState"]), (201, &json!("Creating")));
    let expanded = format!("{VERSION}?$expand=ReplicationStatus");
    assert_eq!(read(&fake, &expanded).await["properties"]["replicationStatus"]["aggregatedState"], "InProgress");
    assert_eq!(send(&fake, "PUT", VERSION, Some(version(&source))).await.code(), (409, "Conflict"));
    fake.skip(HOUR);
    assert_eq!(status(&fake, &made).await["status"], "Succeeded");
    let there = read(&fake, &expanded).await;
    assert_eq!(there["properties"]["replicationStatus"]["summary"][0]["progress"], 100);
    assert_eq!(there["properties"]["publishingProfile"]["endOfLifeDate"], "2031-01-01T00:00:00Z");
    let tagged = ask(&fake, "PATCH", VERSION, Some(json!({ "tags": { "a": "b" } }))).await.body;
    assert_eq!(tagged["tags"], json!({ "fingerprint": "f", "a": "b" }));
    assert_eq!(all(&fake, &format!("{IMAGE}/versions")).await.len(), 1);
}

#[tokio::test]
async fn what_is_not_to_go_with_its_machine_is_left() {
    for (option, left) in [("Delete", 0), ("Detach", 1)] {
        let fake = workshop(option).await;
        let disk = all(&fake, "Microsoft.Compute/disks").await.remove(0);
        assert_eq!(disk["managedBy"], fake.id(BUILDER));
        let disk = format!("Microsoft.Compute/disks/{}", disk["name"].as_str().unwrap());
        assert_eq!(send(&fake, "DELETE", &disk, None).await.code(), (409, "OperationNotAllowed"));
        let interface = all(&fake, "Microsoft.Network/networkInterfaces").await.remove(0);
        let interface = interface["id"].as_str().unwrap().split_once("/providers/").unwrap().1;
        assert_eq!(send(&fake, "DELETE", interface, None).await.code(), (400, "NicInUse"));
        ask(&fake, "DELETE", BUILDER, None).await;
        fake.skip(HOUR);
        let disks = all(&fake, "Microsoft.Compute/disks").await;
        let interfaces = all(&fake, "Microsoft.Network/networkInterfaces").await;
        assert_eq!((disks.len(), interfaces.len()), (left, left), "{option}");
        assert!(disks.iter().all(|disk| disk["properties"]["diskState"] == "Unattached"));
        for interface in interfaces {
            ask(&fake, "DELETE", interface["id"].as_str().unwrap().split_once("/providers/").unwrap().1, None).await;
        }
        assert!(all(&fake, "Microsoft.Network/networkInterfaces").await.is_empty());
        ask(&fake, "DELETE", &disk, None).await;
        assert!(all(&fake, "Microsoft.Compute/disks").await.is_empty());
    }
}

#[tokio::test]
async fn a_machine_that_is_there_is_not_made_again_or_changed() {
    let fake = workshop("Delete").await;
    let before = read(&fake, BUILDER).await;
    assert_eq!(before["properties"]["osProfile"], json!({ "computerName": "builder" }));
    assert_eq!(
        ask(&fake, "PUT", BUILDER, Some(builder("Delete"))).await.body["properties"]["vmId"],
        before["properties"]["vmId"]
    );
    let mut other = builder("Delete");
    other["properties"]["hardwareProfile"]["vmSize"] = "Standard_B4ms".into();
    assert_eq!(send(&fake, "PUT", BUILDER, Some(other)).await.code(), (409, "PropertyChangeNotAllowed"));
    let tagged = ask(&fake, "PATCH", BUILDER, Some(json!({ "tags": { "result": "good" } }))).await.body;
    assert_eq!(tagged["tags"], json!({ "recipe": "r", "result": "good" }));
}

#[tokio::test]
async fn a_machine_that_boots_can_be_asked_for_again_and_boots_once() {
    let fake = Fake::start(quick());
    ask(&fake, "PUT", BUILDER, Some(builder("Delete"))).await;
    fake.skip(HOUR / 2);
    let again = ask(&fake, "PUT", BUILDER, Some(builder("Delete"))).await;
    assert_eq!((again.status, status(&fake, &again).await["status"].clone()), (200, json!("InProgress")));
    fake.skip(HOUR / 2);
    assert_eq!(status(&fake, &again).await["status"], "Succeeded");
    assert_eq!(read(&fake, BUILDER).await["properties"]["provisioningState"], "Succeeded");

    fake.set(|options| options.stop_time = Duration::ZERO);
    let gone = ask(&fake, "DELETE", BUILDER, None).await;
    assert_eq!(status(&fake, &gone).await["status"], "Succeeded");
}

#[tokio::test]
async fn a_machine_without_room_is_there_and_failed() {
    let fake = Fake::start(quick());
    fake.set_out_of_stock("", true);
    let made = ask(&fake, "PUT", BUILDER, Some(builder("Delete"))).await;
    assert_eq!(status(&fake, &made).await["error"]["code"], "AllocationFailed");
    assert_eq!(read(&fake, BUILDER).await["properties"]["provisioningState"], "Failed");
    let view = read(&fake, &format!("{BUILDER}/instanceView")).await;
    assert_eq!(view["statuses"][0]["code"], "ProvisioningState/failed/AllocationFailed");
    fake.set_out_of_stock("", false);
    fake.set_quota(Some(1));
    let other = send(&fake, "PUT", "Microsoft.Compute/virtualMachines/other", Some(builder("Delete"))).await;
    assert_eq!(other.code(), (409, "OperationNotAllowed"));
}

#[tokio::test]
async fn machines_are_made_of_versions_that_are_there() {
    let fake = workshop("Delete").await;
    act(&fake, "deallocate").await;
    act(&fake, "generalize").await;
    let attempt = async || {
        let mut machine = builder("Delete");
        machine["properties"]["storageProfile"]["imageReference"] = json!({ "id": fake.id(VERSION) });
        send(&fake, "PUT", "Microsoft.Compute/virtualMachines/web", Some(machine)).await
    };
    assert_eq!(attempt().await.code(), (404, "GalleryImageNotFound"));
    fake.set(|options| options.operation_time = HOUR);
    ask(&fake, "PUT", VERSION, Some(version(&fake.id(BUILDER)))).await;
    assert_eq!(attempt().await.code(), (404, "GalleryImageNotFound"), "it is being made");
    fake.skip(HOUR);
    assert_eq!(attempt().await.status, 201);
}

#[tokio::test]
async fn galleries_are_emptied_before_they_go() {
    let fake = workshop("Delete").await;
    fake.put(VERSION, version(&fake.id(BUILDER)));
    for path in [GALLERY, IMAGE] {
        assert_eq!(send(&fake, "DELETE", path, None).await.code(), (409, "CannotDeleteResource"));
    }
    for path in [VERSION, IMAGE, GALLERY] {
        let gone = ask(&fake, "DELETE", path, None).await;
        assert_eq!((gone.status, send(&fake, "GET", path, None).await.status), (202, 404));
        assert_eq!(ask(&fake, "DELETE", path, None).await.status, 204);
    }
    assert_eq!(send(&fake, "PUT", IMAGE, Some(image())).await.code(), (404, "ParentResourceNotFound"));
}

#[tokio::test]
async fn versions_and_images_that_cannot_be_are_refused() {
    let fake = Fake::start(slow());
    fake.put(GALLERY, json!({}));
    fake.put(IMAGE, image());
    let source = fake.id(BUILDER);
    let without_source = json!({ "location": "westeurope", "properties": {} });
    let mut elsewhere = version(&fake.id(IMAGE));
    elsewhere["properties"]["publishingProfile"]["targetRegions"][0]["name"] = "northeurope".into();
    let odd = VERSION.replace("1.0.0", "latest");
    for (path, body, expected) in [
        (VERSION, version(&source), (404, "ResourceNotFound")),
        (VERSION, without_source, (400, "InvalidParameter")),
        (VERSION, elsewhere, (400, "InvalidParameter")),
        (odd.as_str(), version(&source), (400, "InvalidParameter")),
        (IMAGE, json!({ "location": "westeurope" }), (400, "InvalidParameter")),
    ] {
        assert_eq!(send(&fake, "PUT", path, Some(body)).await.code(), expected, "{path}");
    }
    fake.put(VERSION, version(&source));
    let changed = send(&fake, "PUT", VERSION, Some(version(&fake.id(IMAGE)))).await;
    assert_eq!(changed.code(), (409, "PropertyChangeNotAllowed"));
}
