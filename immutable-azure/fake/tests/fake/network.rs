//! Load balancers, application gateways, Traffic Manager.

use std::time::Duration;

use immutable_azure_fake::{Fake, Options};
use serde_json::{Value, json};

use crate::client::{Heard, all, ask, quick, read, send, send_with, set, slow, status, with_image};

const HOUR: Duration = Duration::from_hours(1);
pub(crate) const BALANCER: &str = "Microsoft.Network/loadBalancers/web";
pub(crate) const GATEWAY: &str = "Microsoft.Network/applicationGateways/web";
pub(crate) const PROFILE: &str = "Microsoft.Network/trafficManagerProfiles/web";

/// A backend address.
fn address(fake: &Fake, ip: &str, state: &str) -> Value {
    let network = fake.id("Microsoft.Network/virtualNetworks/net");
    json!({ "name": ip, "properties": { "ipAddress": ip, "virtualNetwork": { "id": network }, "adminState": state } })
}

/// A balancer with two pools; one rule leads to the first.
pub(crate) fn balancer(fake: &Fake) -> Value {
    let part = |part: &str| json!({ "id": fake.id(&format!("{BALANCER}/{part}")) });
    json!({
        "location": "westeurope",
        "sku": { "name": "Standard" },
        "properties": {
            "frontendIPConfigurations": [{ "name": "front", "properties": { "privateIPAllocationMethod": "Dynamic" } }],
            "backendAddressPools": [
                { "name": "blue", "properties": { "loadBalancerBackendAddresses": [address(fake, "10.0.0.1", "None")] } },
                { "name": "green" },
            ],
            "loadBalancingRules": [{
                "name": "http",
                "properties": {
                    "protocol": "Tcp",
                    "frontendPort": 80,
                    "backendPort": 8080,
                    "frontendIPConfiguration": part("frontendIPConfigurations/front"),
                    "backendAddressPool": part("backendAddressPools/blue"),
                    "probe": part("probes/http"),
                },
            }],
            "probes": [{ "name": "http", "properties": { "protocol": "Tcp", "port": 8080 } }],
        },
    })
}

/// A gateway with two pools; its rule leads to the first, of these addresses.
pub(crate) fn gateway(fake: &Fake, addresses: &[&str]) -> Value {
    let part = |part: &str| json!({ "id": fake.id(&format!("{GATEWAY}/{part}")) });
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({ "ipAddress": ip })).collect();
    json!({
        "location": "westeurope",
        "properties": {
            "sku": { "name": "Standard_v2", "tier": "Standard_v2", "capacity": 1 },
            "frontendIPConfigurations": [{ "name": "front", "properties": { "privateIPAllocationMethod": "Dynamic" } }],
            "frontendPorts": [{ "name": "http", "properties": { "port": 80 } }],
            "backendAddressPools": [
                { "name": "blue", "properties": { "backendAddresses": addresses } },
                { "name": "green", "properties": { "backendAddresses": [{ "ipAddress": "10.0.0.9" }] } },
            ],
            "backendHttpSettingsCollection": [{ "name": "web", "properties": { "port": 8080, "protocol": "Http" } }],
            "httpListeners": [{
                "name": "web",
                "properties": {
                    "frontendIPConfiguration": part("frontendIPConfigurations/front"),
                    "frontendPort": part("frontendPorts/http"),
                    "protocol": "Http",
                },
            }],
            "requestRoutingRules": [{
                "name": "web",
                "properties": {
                    "ruleType": "Basic",
                    "priority": 1,
                    "httpListener": part("httpListeners/web"),
                    "backendAddressPool": part("backendAddressPools/blue"),
                    "backendHttpSettings": part("backendHttpSettingsCollection/web"),
                },
            }],
        },
    })
}

fn endpoint(name: &str, weight: u32) -> Value {
    json!({
        "name": name,
        "type": "Microsoft.Network/trafficManagerProfiles/externalEndpoints",
        "properties": { "target": format!("{name}.example.com"), "endpointLocation": "West Europe", "weight": weight },
    })
}

/// A profile with two endpoints.
pub(crate) fn profile() -> Value {
    json!({
        "location": "global",
        "properties": {
            "trafficRoutingMethod": "Weighted",
            "dnsConfig": { "relativeName": "web", "ttl": 30 },
            "monitorConfig": { "protocol": "HTTP", "port": 80, "path": "/healthz" },
            "endpoints": [endpoint("blue", 1000), endpoint("green", 1)],
        },
    })
}

async fn put_if(fake: &Fake, path: &str, body: &Value, etag: &Value) -> Heard {
    let etag = etag.as_str().unwrap();
    send_with(fake, "PUT", path, Some(body.clone()), ("if-match", etag)).await.unwrap()
}

#[tokio::test]
async fn a_balancer_is_written_as_a_whole_and_its_parts_have_its_etag() {
    let fake = Fake::start(quick());
    assert_eq!(ask(&fake, "PUT", BALANCER, Some(balancer(&fake))).await.status, 201);
    let mut seen = read(&fake, BALANCER).await;
    let pools = &seen["properties"]["backendAddressPools"];
    assert_eq!(
        (&pools[0]["etag"], &pools[0]["id"]),
        (&seen["etag"], &json!(fake.id(&format!("{BALANCER}/backendAddressPools/blue"))))
    );
    assert_eq!(
        pools[0]["properties"]["loadBalancingRules"][0]["id"],
        seen["properties"]["loadBalancingRules"][0]["id"]
    );
    assert_eq!(pools[1]["properties"].get("loadBalancingRules"), None);

    let addresses = json!([address(&fake, "10.0.0.1", "Down"), address(&fake, "10.0.0.2", "Up")]);
    seen["properties"]["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"] = addresses.clone();
    let etag = seen["etag"].clone();
    assert_eq!(put_if(&fake, BALANCER, &seen, &etag).await.status, 200);
    assert_eq!(put_if(&fake, BALANCER, &seen, &etag).await.code(), (412, "PreconditionFailed"));
    let now = read(&fake, BALANCER).await;
    assert_eq!(now["properties"]["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"], addresses);
    assert_eq!(now["properties"]["resourceGuid"], seen["properties"]["resourceGuid"]);
    assert_ne!(now["etag"], etag);
}

#[tokio::test]
async fn a_change_ends_with_another_etag_and_takes_no_other_meanwhile() {
    let fake = Fake::start(slow());
    let made = ask(&fake, "PUT", BALANCER, Some(balancer(&fake))).await;
    assert_eq!(made.body["properties"]["provisioningState"], "Updating");
    let busy = put_if(&fake, BALANCER, &balancer(&fake), &made.body["etag"]).await;
    assert_eq!((busy.code(), busy.header("retry-after")), ((429, "AnotherOperationInProgress"), "1"));
    fake.skip(HOUR);
    assert_eq!(status(&fake, &made).await["status"], "Succeeded");
    let done = read(&fake, BALANCER).await;
    assert_eq!(done["properties"]["provisioningState"], "Succeeded");
    assert_ne!(done["etag"], made.body["etag"]);
    assert_eq!(put_if(&fake, BALANCER, &done, &done["etag"]).await.status, 200);
}

#[tokio::test]
async fn a_pool_can_be_written_by_itself() {
    let fake = Fake::start(quick());
    ask(&fake, "PUT", BALANCER, Some(balancer(&fake))).await;
    let pools = format!("{BALANCER}/backendAddressPools");
    let blue = format!("{pools}/blue");
    let mut pool = read(&fake, &blue).await;
    pool["properties"]["loadBalancerBackendAddresses"] = json!([address(&fake, "10.0.0.3", "None")]);
    let etag = pool["etag"].clone();
    let put = put_if(&fake, &blue, &pool, &etag).await;
    assert_eq!((put.status, &put.body["name"]), (200, &json!("blue")));
    assert_eq!(put_if(&fake, &blue, &pool, &etag).await.status, 412);
    let balancer = read(&fake, BALANCER).await;
    let addresses = &balancer["properties"]["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"];
    assert_eq!(addresses[0]["name"], "10.0.0.3");

    assert_eq!(ask(&fake, "PUT", &format!("{pools}/red"), Some(json!({ "properties": {} }))).await.status, 201);
    assert_eq!(all(&fake, &pools).await.len(), 3);
    let gone = ask(&fake, "DELETE", &format!("{pools}/red"), None).await;
    assert_eq!((gone.status, ask(&fake, "GET", gone.header("location"), None).await.status), (202, 204));
    assert_eq!(ask(&fake, "DELETE", &format!("{pools}/red"), None).await.status, 204);
    assert_eq!(send(&fake, "GET", &format!("{pools}/red"), None).await.status, 404);
    let used = send(&fake, "DELETE", &blue, None).await;
    assert_eq!(used.code(), (400, "InvalidResourceReference"), "a rule leads to it");
}

#[tokio::test]
async fn a_rule_tells_how_the_members_are_that_it_leads_to() {
    let fake = with_image(Options { health_time: Duration::ZERO, ..quick() });
    ask(&fake, "PUT", "Microsoft.Compute/virtualMachineScaleSets/web", Some(set(&fake, "Flexible", 2))).await;
    fake.skip(HOUR);
    let interfaces = all(&fake, "Microsoft.Network/networkInterfaces").await;
    let ip = |index: usize| {
        let address = &interfaces[index]["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"];
        address.as_str().unwrap().to_owned()
    };
    let mut body = balancer(&fake);
    body["properties"]["backendAddressPools"][0]["properties"]["loadBalancerBackendAddresses"] = json!([
        address(&fake, &ip(0), "None"),
        address(&fake, &ip(1), "Down"),
        address(&fake, "10.9.9.9", "None"),
        address(&fake, "10.9.9.8", "Up"),
    ]);
    ask(&fake, "PUT", BALANCER, Some(body)).await;
    let asked = ask(&fake, "POST", &format!("{BALANCER}/loadBalancingRules/http/health"), None).await;
    assert_eq!(asked.status, 202);
    let health = read(&fake, asked.header("location")).await;
    let look = |ip: &str, state: &str, reason: &str| json!({ "ipAddress": ip, "state": state, "reason": reason });
    let expected = json!({
        "up": 2,
        "down": 2,
        "loadBalancerBackendAddresses": [
            look(&ip(0), "Up", "Up_Probe_Success"),
            look(&ip(1), "Down", "Down_Admin"),
            look("10.9.9.9", "Down", "Down_Probe_TcpProbeTimeout"),
            look("10.9.9.8", "Up", "Up_Admin"),
        ],
    });
    assert_eq!(health, expected);
    assert_eq!(send(&fake, "POST", &format!("{BALANCER}/loadBalancingRules/none/health"), None).await.status, 404);
}

#[tokio::test]
async fn pools_and_rules_that_cannot_be_are_refused() {
    let fake = Fake::start(quick());
    let pool = "/properties/backendAddressPools/0/properties/loadBalancerBackendAddresses";
    let other = fake.id(&format!("{BALANCER}/backendAddressPools/other"));
    for (path, value, expected) in [
        (pool, json!([address(&fake, "10.0.0.1", "Drain")]), (400, "InvalidRequestFormat")),
        (pool, json!([address(&fake, "10.0.0.256", "Up")]), (400, "InvalidRequestFormat")),
        (
            pool,
            json!([address(&fake, "10.0.0.1", "Up"), address(&fake, "10.0.0.1", "Up")]),
            (400, "InvalidRequestFormat"),
        ),
        (pool, json!([{ "name": "a", "properties": { "ipAddress": "10.0.0.1" } }]), (400, "InvalidRequestFormat")),
        ("/properties/backendAddressPools/0/name", json!("green"), (400, "InvalidRequestFormat")),
        (
            "/properties/loadBalancingRules/0/properties/backendAddressPool/id",
            json!(other),
            (400, "InvalidResourceReference"),
        ),
    ] {
        let mut body = balancer(&fake);
        *body.pointer_mut(path).unwrap() = value;
        assert_eq!(send(&fake, "PUT", BALANCER, Some(body.clone())).await.code(), expected, "{body}");
    }
    assert_eq!(fake.get(BALANCER), None);
}

#[tokio::test]
async fn a_gateway_switches_its_rule_and_tells_how_its_backends_are() {
    let fake = with_image(Options { health_time: Duration::ZERO, ..quick() });
    ask(&fake, "PUT", "Microsoft.Compute/virtualMachineScaleSets/web", Some(set(&fake, "Flexible", 2))).await;
    fake.skip(HOUR);
    let interfaces = all(&fake, "Microsoft.Network/networkInterfaces").await;
    let ips: Vec<&str> = interfaces
        .iter()
        .map(|one| one["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"].as_str().unwrap())
        .collect();
    ask(&fake, "PUT", GATEWAY, Some(gateway(&fake, &ips))).await;
    fake.set_ill(interfaces[1]["properties"]["virtualMachine"]["id"].as_str().unwrap(), true);
    let asked = ask(&fake, "POST", &format!("{GATEWAY}/backendhealth"), None).await;
    let early = read(&fake, asked.header("location")).await;
    let early = &early["backendAddressPools"][0]["backendHttpSettingsCollection"][0]["servers"];
    assert_eq!(
        (&early[0]["health"], &early[1]["health"]),
        (&json!("Unhealthy"), &json!("Unhealthy")),
        "not probed yet"
    );
    fake.skip(HOUR);
    let asked = ask(&fake, "POST", &format!("{GATEWAY}/backendhealth"), None).await;
    assert_eq!(asked.status, 202);
    let health = read(&fake, asked.header("location")).await;
    let pools = health["backendAddressPools"].as_array().unwrap();
    assert_eq!(pools.len(), 1, "no rule leads to the other");
    let servers = &pools[0]["backendHttpSettingsCollection"][0]["servers"];
    let expected = json!([
        { "address": ips[0], "health": "Healthy" },
        { "address": ips[1], "health": "Unhealthy" },
    ]);
    assert_eq!(servers, &expected);

    let mut seen = read(&fake, GATEWAY).await;
    let green = fake.id(&format!("{GATEWAY}/backendAddressPools/green"));
    seen["properties"]["requestRoutingRules"][0]["properties"]["backendAddressPool"]["id"] = green.as_str().into();
    let etag = seen["etag"].clone();
    assert_eq!(put_if(&fake, GATEWAY, &seen, &etag).await.status, 200);
    assert_eq!(put_if(&fake, GATEWAY, &seen, &etag).await.status, 412);
    let asked = ask(&fake, "POST", &format!("{GATEWAY}/backendhealth"), None).await;
    let health = read(&fake, asked.header("location")).await;
    assert_eq!(health["backendAddressPools"][0]["backendAddressPool"]["id"], green);
    assert_eq!(
        health["backendAddressPools"][0]["backendHttpSettingsCollection"][0]["servers"][0]["health"],
        "Unhealthy"
    );
}

#[tokio::test]
async fn a_profile_weighs_its_endpoints() {
    let fake = Fake::start(quick());
    let made = ask(&fake, "PUT", PROFILE, Some(profile())).await;
    assert_eq!((made.status, &made.body["properties"]["dnsConfig"]["fqdn"]), (201, &json!("web.trafficmanager.net")));
    assert_eq!(made.body.get("etag"), None);
    let green = format!("{PROFILE}/externalEndpoints/green");
    let patched = ask(&fake, "PATCH", &green, Some(json!({ "properties": { "weight": 500 } }))).await.body;
    assert_eq!(
        (&patched["properties"]["weight"], &patched["properties"]["target"]),
        (&json!(500), &json!("green.example.com"))
    );
    let seen = read(&fake, PROFILE).await;
    let weights: Vec<_> =
        seen["properties"]["endpoints"].as_array().unwrap().iter().map(|one| &one["properties"]["weight"]).collect();
    assert_eq!(weights, [1000, 500]);
    for weight in [0, 1001] {
        let refused = send(&fake, "PATCH", &green, Some(json!({ "properties": { "weight": weight } }))).await;
        assert_eq!(refused.code(), (400, "BadRequest"));
    }
    assert_eq!(
        ask(&fake, "PUT", &format!("{PROFILE}/externalEndpoints/red"), Some(endpoint("red", 5))).await.status,
        201
    );
    ask(&fake, "DELETE", &green, None).await;
    assert_eq!(send(&fake, "GET", &green, None).await.status, 404);
    assert_eq!(read(&fake, PROFILE).await["properties"]["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(ask(&fake, "DELETE", PROFILE, None).await.status, 200);
    assert_eq!(ask(&fake, "DELETE", PROFILE, None).await.status, 204);
}

#[test]
#[should_panic(expected = "cannot be so")]
fn what_cannot_be_is_not_put_behind_the_back() {
    let fake = Fake::start(quick());
    let mut body = balancer(&fake);
    body["properties"]["probes"] = json!([]);
    fake.put(BALANCER, body);
}

#[tokio::test]
async fn what_is_put_behind_the_back_can_be_changed_there() {
    let fake = Fake::start(quick());
    fake.put(BALANCER, balancer(&fake));
    let before = read(&fake, BALANCER).await;
    fake.change(BALANCER, |balancer| balancer["tags"] = json!({ "by": "somebody" }));
    assert_eq!(put_if(&fake, BALANCER, &before, &before["etag"]).await.status, 412);
    assert_eq!(
        ask(&fake, "PATCH", BALANCER, Some(json!({ "tags": { "a": "b" } }))).await.body["tags"]["by"],
        "somebody"
    );
}

#[tokio::test]
async fn a_gateway_probes_a_pool_on_demand_that_no_rule_leads_to() {
    let fake = Fake::start(quick());
    ask(&fake, "PUT", GATEWAY, Some(gateway(&fake, &[]))).await;
    let part = |part: &str| json!({ "id": fake.id(&format!("{GATEWAY}/{part}")) });
    let question = |pool: &str| {
        let pool = part(&format!("backendAddressPools/{pool}"));
        let settings = part("backendHttpSettingsCollection/web");
        json!({ "protocol": "Http", "path": "/", "timeout": 30, "backendAddressPool": pool, "backendHttpSettings": settings })
    };
    let on_demand = format!("{GATEWAY}/getBackendHealthOnDemand");
    let asked = ask(&fake, "POST", &on_demand, Some(question("green"))).await;
    let health = read(&fake, asked.header("location")).await;
    assert_eq!(health["backendAddressPool"], part("backendAddressPools/green"));
    let expected = json!([{ "address": "10.0.0.9", "health": "Unhealthy" }]);
    assert_eq!(health["backendHealthHttpSettings"]["servers"], expected);
    let asked = ask(&fake, "POST", &on_demand, Some(question("none"))).await;
    assert_eq!(status(&fake, &asked).await["error"]["code"], "InvalidResourceReference");
}

#[tokio::test]
async fn a_gateway_keeps_the_private_part_of_a_certificate_and_never_tells_it() {
    let fake = Fake::start(quick());
    let with = |certificates: Value| {
        let mut body = gateway(&fake, &[]);
        body["properties"]["sslCertificates"] = certificates;
        body
    };
    let whole = json!([{ "name": "own", "properties": { "data": "c2VjcmV0", "password": "hunter2" } }]);
    let made = ask(&fake, "PUT", GATEWAY, Some(with(whole))).await;
    let told = made.body["properties"]["sslCertificates"][0]["properties"].clone();
    assert_eq!((told.get("data"), told.get("password")), (None, None));
    let seen = read(&fake, GATEWAY).await;
    assert_eq!(seen["properties"]["sslCertificates"][0]["properties"], told);
    ask(&fake, "PUT", GATEWAY, Some(seen)).await;
    let kept = fake.get(GATEWAY).unwrap()["properties"]["sslCertificates"][0]["properties"].clone();
    assert_eq!((&kept["data"], &kept["password"]), (&json!("c2VjcmV0"), &json!("hunter2")));
    let unknown = send(&fake, "PUT", GATEWAY, Some(with(json!([{ "name": "new", "properties": {} }])))).await;
    assert_eq!(unknown.status, 400);
    let vault =
        json!([{ "name": "new", "properties": { "keyVaultSecretId": "https://web.vault.azure.net/secrets/web" } }]);
    ask(&fake, "PUT", GATEWAY, Some(with(vault))).await;
}

#[tokio::test]
async fn rules_by_path_lead_to_pools_as_well() {
    let fake = Fake::start(quick());
    let part = |part: &str| json!({ "id": fake.id(&format!("{GATEWAY}/{part}")) });
    let (pool, settings) = (part("backendAddressPools/green"), part("backendHttpSettingsCollection/web"));
    let mut body = gateway(&fake, &[]);
    body["properties"]["urlPathMaps"] = json!([{ "name": "paths", "properties": {
        "defaultBackendAddressPool": part("backendAddressPools/blue"),
        "defaultBackendHttpSettings": settings,
        "pathRules": [{ "name": "api", "properties": {
            "paths": ["/api/*"], "backendAddressPool": pool, "backendHttpSettings": settings,
        } }],
    } }]);
    let made = ask(&fake, "PUT", GATEWAY, Some(body)).await.body;
    let rule = &made["properties"]["urlPathMaps"][0]["properties"]["pathRules"][0];
    assert_eq!(rule["id"], fake.id(&format!("{GATEWAY}/urlPathMaps/paths/pathRules/api")));
    let asked = ask(&fake, "POST", &format!("{GATEWAY}/backendhealth"), None).await;
    let health = read(&fake, asked.header("location")).await;
    let probed = health["backendAddressPools"].as_array().unwrap().iter().map(|pool| &pool["backendAddressPool"]);
    assert_eq!(probed.collect::<Vec<_>>(), [&part("backendAddressPools/blue"), &pool]);
}
