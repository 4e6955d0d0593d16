//! The vendor's own clients, in Python, understand the fake: they wait for operations, read all pages, and read what is there;
//! and their models know all that is said.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use immutable_azure_fake::{Fake, Options, Ran};
use serde_json::{Value, json};

const SET: &str = "Microsoft.Compute/virtualMachineScaleSets/official";

/// Lets the clients take a step, and gives back what they read.
fn step(fake: &Fake, step: &str) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_client.py");
    let python = target().join("azure-emulator/bin/python");
    assert!(python.exists(), "there is no {}: run cargo xtask emulator", python.display());
    let mut command = Command::new(python);
    command.arg(script).args([fake.url(), Options::default().subscription]).args(["fake", step]);
    let output = command.env("NO_PROXY", "127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Where cargo builds.
fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |target| workspace.join(target))
}

/// A fake that the clients do not wait for longer than they must, with an image to make machines of.
fn fake() -> Fake {
    let fake = Fake::start(Options { retry_after: 0, ..Options::default() });
    fake.put("Microsoft.Compute/galleries/golden/images/web/versions/1.0.0", json!({}));
    fake
}

fn all<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|one| one.pointer(field).and_then(Value::as_str).unwrap()).collect()
}

#[test]
fn the_official_clients_work_with_a_flexible_set() {
    let fake = fake();
    let read = step(&fake, "flexible");
    assert_eq!(Some(&read["set"]), fake.get(SET).as_ref());
    assert_eq!(read["set"]["sku"]["capacity"], 3);
    let names = all(&read["machines"], "/name");
    assert_eq!((names.len(), json!(names)), (3, read["named"].clone()));
    for machine in read["machines"].as_array().unwrap() {
        assert_eq!(Some(machine), fake.get(machine["id"].as_str().unwrap()).as_ref());
        assert!(!read["unwanted"].as_array().unwrap().contains(&machine["name"]));
    }
    assert!(all(&read["addresses"], "").iter().all(|address| address.starts_with("10.1.")));
    assert_eq!(all(&read["views"], "/statuses/1/code"), ["PowerState/running"; 3]);

    let code = "OverconstrainedAllocationRequest";
    fake.fail_next_operation("PATCH Microsoft.Compute/virtualMachineScaleSets", code, "No room.");
    let told = step(&fake, "fail");
    for (what, status, code) in [
        ("operation", 200, code),
        ("missing", 404, "ResourceNotFound"),
        ("nobody", 400, "InvalidParameter"),
        ("elsewhere", 404, "ResourceGroupNotFound"),
    ] {
        assert_eq!(told[what], json!({ "status": status, "code": code }), "{what}");
    }
    assert_eq!(told["state"], "Failed");

    assert_eq!(step(&fake, "remove"), json!({ "sets": [], "machines": [], "interfaces": [] }));
    assert_eq!(fake.unlike_models(), [""; 0]);
}

#[test]
fn the_official_clients_work_with_a_uniform_set() {
    let fake = fake();
    // The clients try again by themselves.
    fake.throttle_next("PUT Microsoft.Compute/virtualMachineScaleSets", 0);
    let read = step(&fake, "uniform");
    assert_eq!(read["stale"], json!({ "status": 412, "code": "PreconditionFailed" }));
    assert_eq!(Some(&read["set"]), fake.get(SET).as_ref());
    let members = all(&read["members"], "/instanceId");
    assert_eq!((members.len(), read["interfaces"].as_array().unwrap().len()), (2, 2));
    assert!(!members.contains(&read["unwanted"][0].as_str().unwrap()));
    for member in members {
        let there = fake.get(&format!("{SET}/virtualMachines/{member}"));
        assert!(read["members"].as_array().unwrap().contains(&there.unwrap()));
    }
    let running = json!({ "code": "PowerState/running", "count": 2 });
    assert_eq!(read["view"]["virtualMachine"]["statusesSummary"][0], running);
    assert_eq!(step(&fake, "remove")["sets"], json!([]));
    assert_eq!(fake.unlike_models(), [""; 0]);
}

#[test]
fn what_the_models_do_not_know_is_found() {
    let fake = fake();
    let other = "Microsoft.Compute/virtualMachineScaleSets/other";
    fake.put(other, json!({ "sku": { "name": "Standard_B2s", "capacity": 0, "kapacity": 0 }, "zones": "1" }));
    fake.put("Microsoft.Network/networkInterfaces/nic", json!({ "propertiez": 1 }));
    step(&fake, "remove");
    let unlike = fake.unlike_models();
    for part in ["sku.kapacity is unknown to Sku", "zones is no list", "propertiez is unknown to NetworkInterface"] {
        assert!(unlike.iter().any(|what| what.contains(part)), "{part}: {unlike:?}");
    }
}

#[test]
fn the_official_clients_switch_traffic() {
    let fake = fake();
    let part = |part: &str| json!({ "id": fake.id(&format!("Microsoft.Network/{part}")) });
    let address = json!({ "ipAddress": "10.0.0.1", "virtualNetwork": part("virtualNetworks/net") });
    let balancer = json!({
        "sku": { "name": "Standard" },
        "properties": {
            "backendAddressPools": [
                {
                    "name": "blue",
                    "properties": { "loadBalancerBackendAddresses": [{ "name": "10.0.0.1", "properties": address }] },
                },
                { "name": "green" },
            ],
            "probes": [{ "name": "http", "properties": { "protocol": "Tcp", "port": 8080 } }],
        },
    });
    fake.put("Microsoft.Network/loadBalancers/web", balancer);
    let gateway = json!({
        "properties": {
            "sku": { "name": "Standard_v2", "tier": "Standard_v2" },
            "backendAddressPools": [
                { "name": "blue", "properties": { "backendAddresses": [{ "ipAddress": "10.0.0.1" }] } },
                { "name": "green", "properties": { "backendAddresses": [{ "ipAddress": "10.0.0.2" }] } },
            ],
            "backendHttpSettingsCollection": [{ "name": "web", "properties": { "port": 80, "protocol": "Http" } }],
            "requestRoutingRules": [{
                "name": "web",
                "properties": {
                    "ruleType": "Basic",
                    "priority": 1,
                    "backendAddressPool": part("applicationGateways/web/backendAddressPools/blue"),
                    "backendHttpSettings": part("applicationGateways/web/backendHttpSettingsCollection/web"),
                },
            }],
        },
    });
    fake.put("Microsoft.Network/applicationGateways/web", gateway);

    let read = step(&fake, "balance");
    let refused = json!({ "status": 412, "code": "PreconditionFailed" });
    assert_eq!(read["stale"], json!([refused, refused]));
    assert_eq!(Some(&read["balancer"]), fake.get("Microsoft.Network/loadBalancers/web").as_ref());
    assert_eq!(Some(&read["gateway"]), fake.get("Microsoft.Network/applicationGateways/web").as_ref());
    let pools = &read["balancer"]["properties"]["backendAddressPools"];
    let states =
        [0, 1].map(|pool| &pools[pool]["properties"]["loadBalancerBackendAddresses"][0]["properties"]["adminState"]);
    assert_eq!(states, ["Down", "Up"]);
    let server = "/backendAddressPools/0/backendHttpSettingsCollection/0/servers/0";
    assert_eq!(read["health"].pointer(server).unwrap(), &json!({ "address": "10.0.0.2", "health": "Unhealthy" }));

    let profile = step(&fake, "weigh");
    assert_eq!(Some(&profile), fake.get("Microsoft.Network/trafficManagerProfiles/web").as_ref());
    let weights = [0, 1].map(|endpoint| &profile["properties"]["endpoints"][endpoint]["properties"]["weight"]);
    assert_eq!(weights, [1000, 500]);
    assert_eq!(fake.unlike_models(), [""; 0]);
}

#[test]
fn the_official_clients_build_an_image() {
    let fake = fake();
    fake.on_run_command(|_, script| Some(Ran { output: script.replace("echo ", ""), ..Ran::default() }));
    let read = step(&fake, "build");
    assert_eq!(read["ran"], json!(["Succeeded", "well"]));
    assert_eq!(read["early"], json!({ "status": 409, "code": "OperationNotAllowed" }));
    assert_eq!(read["version"]["properties"]["replicationStatus"]["aggregatedState"], "Completed");
    assert_eq!(read["version"]["tags"], json!({ "fingerprint": "f" }));
    assert_eq!(read["left"], json!([]));
    assert_eq!(fake.unlike_models(), [""; 0]);
}
