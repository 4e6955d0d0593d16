//! Requests through load balancers, gateways and Traffic Manager.

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_azure_fake::{Fake, Options};
use serde_json::{Value, json};

use crate::client::{SETS, all, ask, set, slow, with_image};
use crate::network::{BALANCER, GATEWAY, PROFILE, balancer, gateway, profile};

const HOUR: Duration = Duration::from_hours(1);

/// A fake with two machines that run, and their addresses. Operations take an hour.
async fn machines() -> (Fake, Vec<(String, String)>) {
    let fake = with_image(Options { page: 500, second: Duration::from_secs(1), ..slow() });
    ask(&fake, "PUT", &format!("{SETS}/web"), Some(set(&fake, "Flexible", 2))).await;
    fake.skip(3 * HOUR);
    let interfaces = all(&fake, "Microsoft.Network/networkInterfaces").await;
    let found = interfaces.iter().map(|one| {
        let address = &one["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"];
        let machine = &one["properties"]["virtualMachine"]["id"];
        (machine.as_str().unwrap().to_owned(), address.as_str().unwrap().to_owned())
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), 2);
    (fake, found)
}

fn member(fake: &Fake, address: &str, state: &str) -> Value {
    let network = fake.id("Microsoft.Network/virtualNetworks/net");
    json!({ "name": address, "properties": { "ipAddress": address, "virtualNetwork": { "id": network }, "adminState": state } })
}

/// Who answers ten requests.
fn answered(fake: &Fake, route: &str) -> BTreeSet<String> {
    (0..10).map(|_| fake.request(route).unwrap_or_else(|problem| panic!("{problem}"))).collect()
}

#[tokio::test]
async fn a_load_balancer_gives_new_connections_to_whom_its_probe_and_the_states_allow() {
    let (fake, found) = machines().await;
    let [(first, one), (second, two)] = &found[..] else { unreachable!() };
    fake.put(BALANCER, balancer(&fake));
    let (pool, path) = (format!("{BALANCER}/backendAddressPools/blue"), format!("{BALANCER}/backendAddressPools/blue"));
    let put = async |states: &[(&str, &str)]| {
        let members: Vec<_> = states.iter().map(|(address, state)| member(&fake, address, state)).collect();
        ask(&fake, "PUT", &path, Some(json!({ "properties": { "loadBalancerBackendAddresses": members } }))).await;
    };
    assert!(fake.request(&pool).unwrap_err().contains("nobody"), "nobody has the address");
    put(&[(one, "None"), (two, "None")]).await;
    assert!(fake.request(&pool).is_err(), "the change is not in use yet");
    fake.skip(HOUR);
    assert_eq!(answered(&fake, &pool), BTreeSet::from([first.clone(), second.clone()]));
    fake.set_ill(first, true);
    assert_eq!(answered(&fake, &pool), BTreeSet::from([second.clone()]));
    fake.set_ill(first, false);

    let held = fake.begin_request(&pool).unwrap();
    let (down, up) = if held == *first { (one, two) } else { (two, one) };
    put(&[(down, "Down"), (up, "None")]).await;
    fake.skip(HOUR);
    assert!(!answered(&fake, &pool).contains(&held));
    assert_eq!(fake.finish_request(), Ok(()), "connections that are there go on");
    put(&[(down, "None"), (up, "Down")]).await;
    fake.skip(HOUR);
    assert_eq!(fake.begin_request(&pool).unwrap(), held);
    put(&[(up, "None")]).await;
    fake.skip(HOUR);
    assert!(fake.finish_request().unwrap_err().contains("closed the connection"));
}

#[tokio::test]
async fn a_gateway_answers_by_who_is_well_and_by_where_its_rule_leads() {
    let (fake, found) = machines().await;
    let [(first, one), (second, two)] = &found[..] else { unreachable!() };
    let mut body = gateway(&fake, &[one]);
    body["properties"]["backendAddressPools"][1]["properties"]["backendAddresses"] = json!([{ "ipAddress": two }]);
    fake.put(GATEWAY, body.clone());
    let rule = format!("{GATEWAY}/requestRoutingRules/web");
    assert_eq!(answered(&fake, &rule), BTreeSet::from([first.clone()]));
    assert_eq!(answered(&fake, &format!("{GATEWAY}/backendAddressPools/green")), BTreeSet::from([second.clone()]));
    fake.begin_request(&rule).unwrap();
    let green = fake.id(&format!("{GATEWAY}/backendAddressPools/green"));
    body["properties"]["requestRoutingRules"][0]["properties"]["backendAddressPool"]["id"] = green.into();
    ask(&fake, "PUT", GATEWAY, Some(body)).await;
    assert_eq!(answered(&fake, &rule), BTreeSet::from([first.clone()]), "the change is not in use yet");
    fake.skip(HOUR);
    assert_eq!(answered(&fake, &rule), BTreeSet::from([second.clone()]));
    assert_eq!(fake.finish_request(), Ok(()));
    fake.kill(second);
    assert!(fake.request(&rule).is_err());
}

#[tokio::test]
async fn clients_of_a_profile_believe_what_they_were_told_until_its_time_is_over() {
    let (fake, found) = machines().await;
    let [(first, one), (second, two)] = &found[..] else { unreachable!() };
    let mut body = balancer(&fake);
    let part = |part: &str| json!({ "id": fake.id(&format!("{BALANCER}/{part}")) });
    let public = |name: &str| fake.id(&format!("Microsoft.Network/publicIPAddresses/{name}"));
    let front = |name: &str| json!({ "name": name, "properties": { "publicIPAddress": { "id": public(name) } } });
    let properties = &mut body["properties"];
    properties["frontendIPConfigurations"] = json!([front("blue"), front("green")]);
    let mut rules = Vec::new();
    for (index, (name, address)) in [("blue", one), ("green", two)].into_iter().enumerate() {
        properties["backendAddressPools"][index]["properties"]["loadBalancerBackendAddresses"] =
            json!([member(&fake, address, "None")]);
        let mut rule = properties["loadBalancingRules"][0].clone();
        rule["name"] = name.into();
        rule["properties"]["frontendIPConfiguration"] = part(&format!("frontendIPConfigurations/{name}"));
        rule["properties"]["backendAddressPool"] = part(&format!("backendAddressPools/{name}"));
        rules.push(rule);
    }
    properties["loadBalancingRules"] = rules.into();
    fake.put(BALANCER, body);
    let mut body = profile();
    for (index, name) in ["blue", "green"].into_iter().enumerate() {
        let endpoint = &mut body["properties"]["endpoints"][index];
        endpoint["type"] = "Microsoft.Network/trafficManagerProfiles/azureEndpoints".into();
        let status = if name == "blue" { "Enabled" } else { "Disabled" };
        endpoint["properties"] = json!({ "targetResourceId": public(name), "weight": 1, "endpointStatus": status });
    }
    ask(&fake, "PUT", PROFILE, Some(body)).await;
    assert_eq!(answered(&fake, PROFILE), BTreeSet::from([first.clone()]));
    let change = |status: &str| json!({ "properties": { "endpointStatus": status } });
    for (name, status) in [("green", "Enabled"), ("blue", "Disabled")] {
        ask(&fake, "PATCH", &format!("{PROFILE}/azureEndpoints/{name}"), Some(change(status))).await;
    }
    assert_eq!(answered(&fake, PROFILE), BTreeSet::from([first.clone()]), "this is what they were told");
    fake.skip(Duration::from_secs(31));
    assert_eq!(answered(&fake, PROFILE), BTreeSet::from([second.clone()]));
}
