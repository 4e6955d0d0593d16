//! Scale sets: made, grown, changed, out of room.

use std::time::Duration;

use immutable_azure_fake::{Fake, Options};
use serde_json::{Value, json};

use crate::client::{Heard, SETS, all, ask, quick, read, send, set, slow, status, with_image};

const HOUR: Duration = Duration::from_hours(1);
const WEB: &str = "Microsoft.Compute/virtualMachineScaleSets/web";
const MACHINES: &str = "Microsoft.Compute/virtualMachines";

/// A fake with a set `web` of so many machines, which boot.
async fn fleet(mode: &str, capacity: u32) -> Fake {
    let fake = with_image(quick());
    ask(&fake, "PUT", WEB, Some(set(&fake, mode, capacity))).await;
    fake
}

async fn resize(fake: &Fake, capacity: u32) -> Heard {
    send(fake, "PATCH", WEB, Some(json!({ "sku": { "capacity": capacity } }))).await
}

fn count(machines: &[Value], zone: &str) -> usize {
    machines.iter().filter(|machine| machine["zones"] == json!([zone])).count()
}

#[tokio::test]
async fn a_set_makes_its_machines_in_all_zones_and_waits_for_them() {
    for mode in ["Flexible", "Uniform"] {
        let fake = with_image(quick());
        let made = ask(&fake, "PUT", WEB, Some(set(&fake, mode, 4))).await;
        let members = if mode == "Flexible" { MACHINES.to_owned() } else { format!("{WEB}/virtualMachines") };
        let machines = all(&fake, &members).await;
        assert_eq!(machines.len(), 4);
        assert!(machines.iter().all(|machine| machine["properties"]["provisioningState"] == "Creating"));
        assert_eq!((count(&machines, "1"), count(&machines, "2"), count(&machines, "3")), (2, 1, 1));
        assert_eq!(status(&fake, &made).await["status"], "InProgress");
        fake.skip(HOUR);
        assert_eq!(status(&fake, &made).await["status"], "Succeeded");
        let machines = all(&fake, &members).await;
        assert!(machines.iter().all(|machine| machine["properties"]["provisioningState"] == "Succeeded"));
        let profile = &machines[0]["properties"]["storageProfile"]["imageReference"];
        assert_eq!(profile["id"], fake.id(crate::client::IMAGE));
        assert_eq!(machines[0]["tags"], json!({ "service": "web" }));
    }
}

#[tokio::test]
async fn secrets_are_written_and_not_read() {
    let fake = fleet("Flexible", 1).await;
    let machine = &all(&fake, MACHINES).await[0];
    for shown in [&read(&fake, WEB).await["properties"]["virtualMachineProfile"], &machine["properties"]] {
        assert_eq!(shown["osProfile"].get("customData"), None, "{shown}");
    }
    let there = fake.get(WEB).unwrap();
    assert_eq!(there["properties"]["virtualMachineProfile"]["osProfile"]["customData"], "c2VjcmV0");
}

#[tokio::test]
async fn a_set_grows_and_shrinks_to_its_capacity() {
    let fake = fleet("Flexible", 2).await;
    fake.skip(HOUR);
    let before = all(&fake, MACHINES).await;
    let grown = resize(&fake, 4).await;
    assert_eq!((grown.status, &grown.body["sku"]["capacity"]), (200, &json!(4)));
    fake.skip(HOUR);
    let after = all(&fake, MACHINES).await;
    assert_eq!(after.len(), 4);
    assert!(before.iter().all(|old| after.iter().any(|new| new["id"] == old["id"])), "none is replaced");
    let shrunk = resize(&fake, 1).await;
    assert_eq!(status(&fake, &shrunk).await["status"], "InProgress");
    fake.skip(HOUR);
    assert_eq!(status(&fake, &shrunk).await["status"], "Succeeded");
    assert_eq!(all(&fake, MACHINES).await.len(), 1);
}

#[tokio::test]
async fn a_uniform_set_uses_the_numbers_of_members_that_are_gone_again() {
    let fake = fleet("Uniform", 3).await;
    fake.skip(HOUR);
    let members = format!("{WEB}/virtualMachines");
    let numbers = async || -> Vec<(String, Value)> {
        let told = |one: &Value| (one["instanceId"].as_str().unwrap().to_owned(), one["properties"]["vmId"].clone());
        all(&fake, &members).await.iter().map(told).collect()
    };
    let before = numbers().await;
    assert_eq!(before.iter().map(|(number, _)| number.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
    ask(&fake, "POST", &format!("{WEB}/delete"), Some(json!({ "instanceIds": ["1"] }))).await;
    resize(&fake, 3).await;
    assert_eq!(numbers().await.last().unwrap().0, "3", "as long as it goes it has its number");
    fake.skip(HOUR);
    resize(&fake, 4).await;
    let after = numbers().await;
    assert_eq!(after.iter().map(|(number, _)| number.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    assert!(after[0] == before[0] && after[1].1 != before[1].1, "{before:?} {after:?}");
}

#[tokio::test]
async fn a_set_keeps_what_a_write_does_not_name() {
    let fake = fleet("Uniform", 1).await;
    let mut body = set(&fake, "Uniform", 1);
    body["sku"].as_object_mut().unwrap().remove("capacity");
    body["properties"].as_object_mut().unwrap().remove("orchestrationMode");
    let put = ask(&fake, "PUT", WEB, Some(body)).await.body;
    assert_eq!((&put["sku"]["capacity"], &put["properties"]["orchestrationMode"]), (&json!(1), &json!("Uniform")));
    let patched = ask(&fake, "PATCH", WEB, Some(json!({ "tags": { "a": "b" } }))).await.body;
    assert_eq!((&patched["tags"]["service"], &patched["tags"]["a"]), (&json!("web"), &json!("b")));
}

#[tokio::test]
async fn a_new_model_changes_no_member() {
    let fake = fleet("Uniform", 1).await;
    fake.skip(HOUR);
    let profile =
        json!({ "properties": { "virtualMachineProfile": { "osProfile": { "computerNamePrefix": "new" } } } });
    ask(&fake, "PATCH", WEB, Some(profile)).await;
    let member = &all(&fake, &format!("{WEB}/virtualMachines")).await[0];
    assert_eq!(member["properties"]["latestModelApplied"], false);
    assert!(member["properties"]["osProfile"]["computerName"].as_str().unwrap().starts_with("web"));
}

#[tokio::test]
async fn zones_without_room_are_avoided_unless_the_set_is_to_be_balanced() {
    let fake = with_image(quick());
    fake.set_out_of_stock("1", true);
    ask(&fake, "PUT", WEB, Some(set(&fake, "Flexible", 2))).await;
    let machines = all(&fake, MACHINES).await;
    assert_eq!((count(&machines, "2"), count(&machines, "3")), (1, 1));

    let mut strict = set(&fake, "Flexible", 3);
    strict["properties"]["zoneBalance"] = true.into();
    let made = ask(&fake, "PUT", &format!("{SETS}/strict"), Some(strict)).await;
    assert_eq!(status(&fake, &made).await["error"]["code"], "ZonalAllocationFailed");
    assert_eq!(all(&fake, MACHINES).await.len(), 2, "none was made elsewhere");
}

#[tokio::test]
async fn a_set_without_room_fails_and_grows_later() {
    let fake = with_image(quick());
    for zone in ["1", "2", "3"] {
        fake.set_out_of_stock(zone, true);
    }
    let made = ask(&fake, "PUT", WEB, Some(set(&fake, "Flexible", 2))).await;
    let over = status(&fake, &made).await;
    assert_eq!((&over["status"], &over["error"]["code"]), (&json!("Failed"), &json!("ZonalAllocationFailed")));
    let there = read(&fake, WEB).await;
    assert_eq!((&there["properties"]["provisioningState"], &there["sku"]["capacity"]), (&json!("Failed"), &json!(2)));
    assert!(all(&fake, MACHINES).await.is_empty());
    fake.set_out_of_stock("2", false);
    assert_eq!(resize(&fake, 2).await.status, 200);
    assert_eq!(all(&fake, MACHINES).await.len(), 2);

    let mut regional = set(&fake, "Flexible", 1);
    regional.as_object_mut().unwrap().remove("zones");
    fake.set_out_of_stock("", true);
    let made = ask(&fake, "PUT", &format!("{SETS}/regional"), Some(regional)).await;
    assert_eq!(status(&fake, &made).await["error"]["code"], "AllocationFailed");
}

#[tokio::test]
async fn machines_that_could_not_be_made_may_stay_as_failed_ones() {
    for (mode, members) in [("Flexible", MACHINES.to_owned()), ("Uniform", format!("{WEB}/virtualMachines"))] {
        let fake = with_image(Options { keeps_failed: true, ..quick() });
        for zone in ["1", "2", "3"] {
            fake.set_out_of_stock(zone, true);
        }
        let made = ask(&fake, "PUT", WEB, Some(set(&fake, mode, 1))).await;
        assert_eq!(status(&fake, &made).await["error"]["code"], "ZonalAllocationFailed");
        let machine = all(&fake, &members).await.remove(0);
        assert_eq!(machine["properties"]["provisioningState"], "Failed");
        let name = machine["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let view = read(&fake, &format!("{members}/{name}/instanceView")).await;
        let state = &view["statuses"][0];
        assert_eq!((view["statuses"].as_array().unwrap().len(), &state["level"]), (1, &json!("Error")));
        assert_eq!(state["code"], "ProvisioningState/failed/ZonalAllocationFailed");
        ask(&fake, "POST", &format!("{WEB}/delete"), Some(json!({ "instanceIds": [name] }))).await;
        fake.skip(HOUR);
        assert_eq!(
            (all(&fake, &members).await.len(), read(&fake, WEB).await["sku"]["capacity"].clone()),
            (0, json!(0))
        );
    }
}

#[tokio::test]
async fn a_quota_is_told_at_once() {
    let fake = fleet("Flexible", 2).await;
    fake.set_quota(Some(3));
    let refused = resize(&fake, 4).await;
    assert_eq!(refused.code(), (409, "OperationNotAllowed"));
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("exceeding approved"));
    assert_eq!(read(&fake, WEB).await["sku"]["capacity"], 2);
    assert_eq!(resize(&fake, 3).await.status, 200);
}

#[tokio::test]
async fn a_set_goes_with_all_it_has() {
    for mode in ["Flexible", "Uniform"] {
        let fake = fleet(mode, 2).await;
        fake.skip(HOUR);
        let gone = ask(&fake, "DELETE", WEB, None).await;
        assert_eq!(status(&fake, &gone).await["status"], "InProgress");
        fake.skip(HOUR);
        assert_eq!(status(&fake, &gone).await["status"], "Succeeded");
        let left: Vec<String> = fake.list("").into_keys().filter(|id| !id.contains("/galleries/")).collect();
        assert_eq!(left, [""; 0], "{mode}");
    }
}

#[tokio::test]
async fn a_set_that_cannot_be_is_refused() {
    let fake = fleet("Flexible", 0).await;
    let without = |path: &str| {
        let mut body = set(&fake, "Flexible", 1);
        let (parent, field) = path.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        body
    };
    let with = |path: &str, value: Value| {
        let mut body = set(&fake, "Flexible", 1);
        *body.pointer_mut(path).unwrap() = value;
        body
    };
    let repairs = |policy: Value| {
        let mut body = set(&fake, "Flexible", 1);
        body["properties"]["automaticRepairsPolicy"] = policy;
        body
    };
    let image = "/properties/virtualMachineProfile/storageProfile/imageReference/id";
    for (name, body, expected) in [
        ("new", without("/sku/capacity"), (400, "InvalidParameter")),
        ("new", without("/sku/name"), (400, "InvalidParameter")),
        ("new", with("/sku/capacity", json!(1001)), (400, "InvalidParameter")),
        ("new", with("/zones", json!(["4"])), (400, "InvalidAvailabilityZone")),
        ("new", with("/location", json!("mars")), (400, "LocationNotAvailableForResourceType")),
        (
            "new",
            with(image, json!(fake.id("Microsoft.Compute/galleries/g/images/i/versions/9.9.9"))),
            (404, "GalleryImageNotFound"),
        ),
        ("new", without("/properties/virtualMachineProfile"), (400, "InvalidParameter")),
        ("new", repairs(json!({ "enabled": true, "gracePeriod": "PT9M" })), (400, "InvalidParameter")),
        ("web", with("/properties/orchestrationMode", json!("Uniform")), (409, "PropertyChangeNotAllowed")),
        ("web", with("/zones", json!(["1"])), (409, "PropertyChangeNotAllowed")),
    ] {
        let heard = send(&fake, "PUT", &format!("{SETS}/{name}"), Some(body.clone())).await;
        assert_eq!(heard.code(), expected, "{body}");
    }
}

#[tokio::test]
async fn a_flexible_set_names_its_members_and_a_uniform_one_counts_their_states() {
    let fake = with_image(slow());
    let mut body = set(&fake, "Uniform", 1);
    body["properties"]["automaticRepairsPolicy"] = json!({ "enabled": true });
    ask(&fake, "PUT", WEB, Some(body)).await;
    fake.skip(HOUR);
    fake.skip(HOUR);
    let view = read(&fake, &format!("{WEB}/instanceView")).await;
    assert_eq!(view["statuses"][0]["code"], "ProvisioningState/succeeded");
    assert_eq!(
        view["virtualMachine"]["statusesSummary"][1],
        json!({ "code": "ProvisioningState/succeeded", "count": 1 })
    );
    assert_eq!(view["orchestrationServices"][0]["serviceState"], "Running");

    let fake = fleet("Flexible", 1).await;
    let view = read(&fake, &format!("{WEB}/instanceView")).await;
    assert_eq!((view.get("virtualMachine"), view.get("orchestrationServices")), (None, None));
}
