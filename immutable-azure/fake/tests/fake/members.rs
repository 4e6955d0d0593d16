//! Members of scale sets: read, deleted, ill, killed, repaired.

use std::time::Duration;

use immutable_azure_fake::{Fake, Options};
use serde_json::{Value, json};

use crate::client::{all, ask, quick, read, send, set, status, with_image};

const HOUR: Duration = Duration::from_hours(1);
const WEB: &str = "Microsoft.Compute/virtualMachineScaleSets/web";
const MACHINES: &str = "Microsoft.Compute/virtualMachines";
const NUMBERED: &str = "Microsoft.Compute/virtualMachineScaleSets/web/virtualMachines";

/// A fake with a set `web` of so many machines that run.
async fn fleet(mode: &str, capacity: u32, change: impl FnOnce(&mut Value)) -> Fake {
    let fake = with_image(Options { health_time: Duration::ZERO, second: Duration::from_secs(1), ..quick() });
    let mut body = set(&fake, mode, capacity);
    change(&mut body);
    ask(&fake, "PUT", WEB, Some(body)).await;
    fake.skip(HOUR);
    fake
}

fn own(id: &Value) -> &str {
    id.as_str().unwrap()
}

async fn view(fake: &Fake, machine: &str) -> Value {
    read(fake, &format!("{}{machine}/instanceView?api-version=2024-07-01", fake.url())).await
}

/// What a machine's health extension says.
async fn health(fake: &Fake, machine: &Value) -> Value {
    view(fake, own(&machine["id"])).await["vmHealth"]["status"]["code"].clone()
}

#[tokio::test]
async fn named_members_are_deleted_and_the_set_is_smaller() {
    for (mode, list) in [("Flexible", MACHINES), ("Uniform", NUMBERED)] {
        let fake = fleet(mode, 3, |_| {}).await;
        let before = all(&fake, list).await;
        let name = before[1]["id"].as_str().unwrap().rsplit('/').next().unwrap();
        let gone = ask(&fake, "POST", &format!("{WEB}/delete"), Some(json!({ "instanceIds": [name] }))).await;
        assert_eq!((gone.status, status(&fake, &gone).await["status"].clone()), (202, json!("InProgress")));
        let leaving = fake.get(own(&before[1]["id"])).unwrap();
        assert_eq!(leaving["properties"]["provisioningState"], "Deleting");
        assert_eq!(read(&fake, WEB).await["sku"]["capacity"], 2);
        fake.skip(HOUR);
        assert_eq!(status(&fake, &gone).await["status"], "Succeeded");
        let left: Vec<_> = all(&fake, list).await.into_iter().map(|one| one["id"].clone()).collect();
        assert_eq!(left, [before[0]["id"].clone(), before[2]["id"].clone()]);

        let again = send(&fake, "POST", &format!("{WEB}/delete"), Some(json!({ "instanceIds": [name] }))).await;
        assert_eq!(again.code(), (400, "InvalidParameter"));
        let nothing = send(&fake, "POST", &format!("{WEB}/delete"), Some(json!({ "instanceIds": [] }))).await;
        assert_eq!(nothing.code(), (400, "InvalidParameter"));
        ask(&fake, "POST", &format!("{WEB}/delete"), Some(json!({ "instanceIds": ["*"] }))).await;
        fake.skip(HOUR);
        assert_eq!((all(&fake, list).await.len(), read(&fake, WEB).await["sku"]["capacity"].clone()), (0, json!(0)));
    }
}

#[tokio::test]
async fn a_machine_that_is_deleted_by_itself_leaves_its_set() {
    for (mode, list) in [("Flexible", MACHINES), ("Uniform", NUMBERED)] {
        let fake = fleet(mode, 2, |_| {}).await;
        let machine = all(&fake, list).await[0]["id"].clone();
        let url = format!("{}{}?api-version=2024-07-01", fake.url(), own(&machine));
        let gone = ask(&fake, "DELETE", &url, None).await;
        fake.skip(HOUR);
        assert_eq!(status(&fake, &gone).await["status"], "Succeeded");
        assert_eq!((all(&fake, list).await.len(), read(&fake, WEB).await["sku"]["capacity"].clone()), (1, json!(1)));
        assert_eq!(ask(&fake, "DELETE", &url, None).await.status, 204);
    }
}

#[tokio::test]
async fn a_filter_finds_the_members_of_a_flexible_set() {
    let fake = fleet("Flexible", 2, |_| {}).await;
    ask(&fake, "PUT", "Microsoft.Compute/virtualMachineScaleSets/api", Some(set(&fake, "Flexible", 1))).await;
    let filter = |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let of_web = filter(&format!("'virtualMachineScaleSet/id' eq '{}'", fake.id(WEB)));
    let found = all(&fake, &format!("{MACHINES}?$filter={of_web}&$expand=instanceView")).await;
    assert_eq!(found.len(), 2);
    for machine in &found {
        assert_eq!(machine["properties"]["virtualMachineScaleSet"]["id"], fake.id(WEB));
        assert_eq!(machine["properties"]["instanceView"]["statuses"][1]["code"], "PowerState/running");
    }
    assert_eq!(all(&fake, MACHINES).await.len(), 3);
    let odd = format!("{MACHINES}?$filter={}", filter("name eq 'web'"));
    assert_eq!(send(&fake, "GET", &odd, None).await.code(), (400, "BadRequest"));
    let blind = format!("{MACHINES}?$expand=instanceView");
    assert_eq!(send(&fake, "GET", &blind, None).await.code(), (400, "InvalidParameter"));
}

#[tokio::test]
async fn a_flexible_set_knows_its_members_by_name_only() {
    let fake = fleet("Flexible", 1, |_| {}).await;
    let named = &all(&fake, NUMBERED).await[0];
    let machine = &all(&fake, MACHINES).await[0];
    assert_eq!((&named["instanceId"], &named["zones"]), (&machine["name"], &machine["zones"]));
    let heard = send(&fake, "GET", &format!("{NUMBERED}/{}/instanceView", own(&named["name"])), None).await;
    assert_eq!(heard.code(), (400, "InvalidParameter"));
}

#[tokio::test]
async fn machines_have_addresses_where_their_kind_has_them() {
    let fake = fleet("Flexible", 2, |_| {}).await;
    let machine = &all(&fake, MACHINES).await[0];
    let interface = own(&machine["properties"]["networkProfile"]["networkInterfaces"][0]["id"]);
    let url = format!("{}{interface}?api-version=2022-11-01", fake.url());
    let found = read(&fake, &url).await;
    assert_eq!(found["properties"]["virtualMachine"]["id"], machine["id"]);
    let address = own(&found["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"]).to_owned();
    assert!(address.starts_with("10.1."), "{address}");
    assert_eq!(all(&fake, "Microsoft.Network/networkInterfaces").await.len(), 2);

    let fake = fleet("Uniform", 2, |_| {}).await;
    let member = &all(&fake, NUMBERED).await[0];
    assert_eq!(all(&fake, &format!("{WEB}/networkInterfaces")).await.len(), 2);
    let own_ones = all(&fake, &format!("{NUMBERED}/{}/networkInterfaces", own(&member["instanceId"]))).await;
    assert_eq!(own_ones.len(), 1);
    assert_eq!(own_ones[0]["properties"]["virtualMachine"]["id"], member["id"]);
}

#[tokio::test]
async fn a_machine_tells_how_it_is() {
    let fake = fleet("Flexible", 1, |_| {}).await;
    let machine = &all(&fake, MACHINES).await[0];
    assert_eq!(health(&fake, machine).await, "HealthState/healthy");
    fake.set_ill(own(&machine["id"]), true);
    assert_eq!(health(&fake, machine).await, "HealthState/unhealthy");
    fake.set_ill(own(&machine["id"]), false);
    assert_eq!(health(&fake, machine).await, "HealthState/healthy");
    assert!(fake.kill(own(&machine["id"])));
    assert!(!fake.kill(own(&machine["id"])), "it is off");
    assert_eq!(health(&fake, machine).await, Value::Null);
    assert_eq!(view(&fake, own(&machine["id"])).await["statuses"][1]["code"], "PowerState/stopped");

    let extension = "/properties/virtualMachineProfile/extensionProfile/extensions/0/properties/typeHandlerVersion";
    let fake = fleet("Uniform", 1, |set| *set.pointer_mut(extension).unwrap() = "2.0".into()).await;
    let machine = &all(&fake, NUMBERED).await[0];
    fake.kill(own(&machine["id"]));
    assert_eq!(health(&fake, machine).await, "HealthState/unknown");

    let fake = fleet("Flexible", 1, |set| {
        set["properties"]["virtualMachineProfile"]["extensionProfile"]["extensions"] = json!([]);
    })
    .await;
    assert_eq!(health(&fake, &all(&fake, MACHINES).await[0]).await, Value::Null);
}

#[tokio::test]
async fn an_ill_member_is_replaced_after_its_grace() {
    for (mode, list) in [("Flexible", MACHINES), ("Uniform", NUMBERED)] {
        let fake = with_image(Options { health_time: Duration::ZERO, second: Duration::from_secs(1), ..quick() });
        let mut body = set(&fake, mode, 2);
        body["properties"]["automaticRepairsPolicy"] = json!({ "enabled": true, "gracePeriod": "PT30M" });
        ask(&fake, "PUT", WEB, Some(body)).await;
        fake.skip(HOUR);
        let before = all(&fake, list).await;
        fake.set_ill(own(&before[0]["id"]), true);
        fake.set_ill(own(&before[1]["id"]), true);
        fake.skip(Duration::from_mins(29));
        assert_eq!(health(&fake, &before[0]).await, "HealthState/unhealthy");
        fake.set_ill(own(&before[1]["id"]), false);
        fake.skip(Duration::from_mins(1));
        let members = all(&fake, list).await;
        assert_eq!(members.len(), 3, "{mode}: one goes, one comes");
        fake.skip(HOUR);
        let members = all(&fake, list).await;
        assert_eq!((members.len(), read(&fake, WEB).await["sku"]["capacity"].clone()), (2, json!(2)));
        assert!(members.iter().any(|one| one["id"] == before[1]["id"]), "who got well stays");
        let new = members.iter().find(|one| one["id"] != before[1]["id"]).unwrap();
        assert_eq!((&new["zones"], health(&fake, new).await), (&before[0]["zones"], json!("HealthState/healthy")));
    }
}

#[tokio::test]
async fn nobody_is_replaced_without_repairs() {
    let fake = fleet("Flexible", 1, |_| {}).await;
    let machine = &all(&fake, MACHINES).await[0];
    fake.set_ill(own(&machine["id"]), true);
    fake.skip(HOUR * 24);
    assert_eq!(health(&fake, machine).await, "HealthState/unhealthy");
}
