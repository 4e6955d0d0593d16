//! All kinds of bodies, held to the vendor's models.

use std::time::Duration;

use immutable_azure_fake::{Fake, Options};
use serde_json::json;

use crate::client::{all, ask, quick, read, send, set, with_image};
use crate::images::{BUILDER, builder};
use crate::network::{BALANCER, GATEWAY, PROFILE, balancer, gateway, profile};

const HOUR: Duration = Duration::from_hours(1);
const SETS: &str = "Microsoft.Compute/virtualMachineScaleSets";

/// A fake where health is known as soon as a machine runs.
fn fake() -> Fake {
    with_image(Options { health_time: Duration::ZERO, ..quick() })
}

/// Sets of both kinds, and all views of them and their members.
async fn look_at_sets(fake: &Fake) {
    for (name, mode) in [("named", "Flexible"), ("numbered", "Uniform")] {
        let path = format!("{SETS}/{name}");
        let mut body = set(fake, mode, 2);
        body["properties"]["automaticRepairsPolicy"] = json!({ "enabled": true, "gracePeriod": "PT30M" });
        ask(fake, "PUT", &path, Some(body)).await;
        send(fake, "PATCH", &path, Some(json!({ "sku": { "capacity": 1001 } }))).await;
        ask(fake, "PATCH", &path, Some(json!({ "sku": { "capacity": 3 } }))).await;
        fake.skip(HOUR);
        for view in ["", "/instanceView", "/virtualMachines", "/networkInterfaces"] {
            read(fake, &format!("{path}{view}")).await;
        }
    }
    let numbered = format!("{SETS}/numbered/virtualMachines");
    let member = all(fake, &format!("{numbered}?$expand=instanceView")).await.remove(0);
    let number = member["instanceId"].as_str().unwrap();
    for view in ["", "?$expand=instanceView", "/instanceView", "/networkInterfaces"] {
        read(fake, &format!("{numbered}/{number}{view}")).await;
    }
    let filter = format!("'virtualMachineScaleSet/id' eq '{}'", fake.id(&format!("{SETS}/named")));
    let filter: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    let named = format!("Microsoft.Compute/virtualMachines?$filter={filter}&$expand=instanceView");
    let machine = all(fake, &named).await.remove(0);
    fake.set_ill(machine["id"].as_str().unwrap(), true);
    let path = format!("Microsoft.Compute/virtualMachines/{}", machine["name"].as_str().unwrap());
    for view in ["", "?$expand=instanceView", "/instanceView"] {
        read(fake, &format!("{path}{view}")).await;
    }
    let unwanted = json!({ "instanceIds": [machine["name"]] });
    ask(fake, "POST", &format!("{SETS}/named/delete"), Some(unwanted)).await;
    ask(fake, "DELETE", &format!("{SETS}/numbered"), None).await;
}

/// What leads traffic, as a whole and by its parts.
async fn look_at_the_network(fake: &Fake) {
    ask(fake, "PUT", BALANCER, Some(balancer(fake))).await;
    let pool = format!("{BALANCER}/backendAddressPools/blue");
    let blue = read(fake, &pool).await;
    ask(fake, "PUT", &pool, Some(blue)).await;
    ask(fake, "PATCH", BALANCER, Some(json!({ "tags": { "a": "b" } }))).await;
    ask(fake, "PUT", GATEWAY, Some(gateway(fake, &["10.0.0.1"]))).await;
    for question in [format!("{GATEWAY}/backendhealth"), format!("{BALANCER}/loadBalancingRules/http/health")] {
        let health = ask(fake, "POST", &question, None).await;
        read(fake, health.header("location")).await;
    }
    ask(fake, "PUT", PROFILE, Some(profile())).await;
    let green = format!("{PROFILE}/externalEndpoints/green");
    ask(fake, "PATCH", &green, Some(json!({ "properties": { "weight": 500 } }))).await;
    send(fake, "PATCH", &green, Some(json!({ "properties": { "weight": 0 } }))).await;
    for list in ["loadBalancers", "applicationGateways", "trafficManagerProfiles", "networkInterfaces"] {
        all(fake, &format!("Microsoft.Network/{list}")).await;
    }
    all(fake, &format!("{BALANCER}/backendAddressPools")).await;
    for path in [BALANCER, GATEWAY, &green, PROFILE] {
        read(fake, path).await;
        ask(fake, "DELETE", path, None).await;
    }
}

/// A machine on which a script runs.
async fn look_at_a_builder(fake: &Fake) {
    ask(fake, "PUT", BUILDER, Some(builder("Delete"))).await;
    fake.skip(HOUR);
    let command = json!({ "location": "westeurope", "properties": { "source": { "script": "true" } } });
    ask(fake, "PUT", &format!("{BUILDER}/runCommands/build"), Some(command)).await;
    fake.skip(HOUR);
    read(fake, &format!("{BUILDER}/runCommands/build?$expand=instanceView")).await;
    ask(fake, "PATCH", BUILDER, Some(json!({ "tags": { "a": "b" } }))).await;
    for action in ["deallocate", "generalize"] {
        ask(fake, "POST", &format!("{BUILDER}/{action}"), None).await;
    }
    read(fake, &format!("{BUILDER}/instanceView")).await;
    all(fake, "Microsoft.Compute/disks").await;
    all(fake, "Microsoft.Compute/galleries/golden/images/web/versions").await;
}

#[tokio::test]
async fn the_models_know_all_that_is_said() {
    let fake = fake();
    for place in ["Microsoft.Compute/galleries/golden", "Microsoft.Compute/galleries/golden/images/web"] {
        fake.put(place, json!({}));
    }
    // The image of the other tests has no properties, and is not looked at by them.
    fake.remove(crate::client::IMAGE);
    fake.put(crate::client::IMAGE, crate::images::version(&fake.id(BUILDER)));
    look_at_sets(&fake).await;
    look_at_the_network(&fake).await;
    look_at_a_builder(&fake).await;
    assert_eq!(fake.unlike_models(), [""; 0]);
}
