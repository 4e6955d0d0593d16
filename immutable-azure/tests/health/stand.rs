//! A fake in which machines run, and settings that lead to it.

use std::sync::Arc;
use std::time::Duration;

use immutable_azure::{Clients, Config, ConfigBuilder};
use immutable_azure_fake::{Fake, Options};
use immutable_core::model::{FleetId, InstanceId};
use serde_json::{Value, json};

use crate::support::{self, Fixed};

pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const FLEET: &str = "web-0123456789ab";
pub(crate) const SET: &str = "Microsoft.Compute/virtualMachineScaleSets/im-web-0123456789ab";
const IMAGE: &str = "Microsoft.Compute/galleries/golden/images/web/versions/1.0.0";

/// A fake where everything takes an hour, so that time passes only when a test says so.
pub(crate) fn slow() -> Fake {
    let (boot_time, stop_time, health_time) = (HOUR, HOUR, HOUR);
    let fake = Fake::start(Options {
        operation_time: Duration::ZERO,
        boot_time,
        stop_time,
        health_time,
        ..Options::default()
    });
    fake.put(IMAGE, json!({}));
    fake
}

pub(crate) fn config(fake: &Fake) -> ConfigBuilder {
    let clients = Clients::new(Arc::new(Fixed), Some(&fake.url())).unwrap();
    let subscription = fake.id("").split('/').nth(2).unwrap().to_owned();
    Config::builder(clients, subscription, "fake", "westeurope")
        .vm_size("Standard_B2s")
        .subnet(fake.id("Microsoft.Network/virtualNetworks/net/subnets/main"))
}

pub(crate) fn fleet() -> FleetId {
    FLEET.parse().unwrap()
}

/// Makes the scale set of a fleet, whose machines boot for an hour. `health`: the version of the health extension.
pub(crate) async fn make_set(fake: &Fake, mode: &str, capacity: u32, health: Option<&str>) {
    let subnet = fake.id("Microsoft.Network/virtualNetworks/net/subnets/main");
    let ip = json!({ "name": "main", "properties": { "subnet": { "id": subnet } } });
    let interface = json!({ "name": "main", "properties": { "primary": true, "ipConfigurations": [ip] } });
    let extension = |version: &str| {
        let kind = json!({ "type": "ApplicationHealthLinux", "publisher": "Microsoft.ManagedServices" });
        json!({ "name": "health", "properties": { "type": kind["type"], "publisher": kind["publisher"], "typeHandlerVersion": version } })
    };
    let extensions: Vec<Value> = health.map(extension).into_iter().collect();
    let set = json!({
        "location": "westeurope",
        "sku": { "name": "Standard_B2s", "tier": "Standard", "capacity": capacity },
        "properties": {
            "orchestrationMode": mode,
            "platformFaultDomainCount": 1,
            "upgradePolicy": { "mode": "Manual" },
            "virtualMachineProfile": {
                "storageProfile": { "imageReference": { "id": fake.id(IMAGE) }, "osDisk": { "createOption": "FromImage" } },
                "osProfile": { "computerNamePrefix": "web" },
                "networkProfile": { "networkApiVersion": "2022-11-01", "networkInterfaceConfigurations": [interface] },
                "extensionProfile": { "extensions": extensions },
            },
        },
    });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.put(format!("{}{}?api-version=2024-07-01", fake.url(), fake.id(SET)));
    let request = request.bearer_auth("of-a-test").header("content-type", "application/json");
    let answer = request.body(set.to_string()).send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
}

/// The instances that there are, with the ids of their machines.
pub(crate) fn instances(fake: &Fake) -> Vec<(InstanceId, String)> {
    support::machines(fake).map(|(id, machine)| (support::instance(&machine), id)).collect()
}
