//! Google's own client, in Python, understands the fake: it waits for operations, reads all pages, and reads what is there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use immutable_gcp_fake::{Fake, Options};
use serde_json::{Value, json};

const REGION: &str = "europe-west1";

/// Lets the client take a step, and gives back what it read.
fn step(fake: &Fake, step: &str) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_client.py");
    let python = target().join("gcp-emulator/bin/python");
    assert!(python.exists(), "there is no {}: run cargo xtask emulator", python.display());
    let mut command = Command::new(python);
    command.arg(script).args([fake.url(), fake.project()]).args([REGION, step]).env("NO_PROXY", "127.0.0.1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Where cargo builds.
fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |target| workspace.join(target))
}

/// What a link is to, from the zone, the region or `global` on.
fn path(link: &Value) -> &str {
    link.as_str().and_then(|link| link.split_once("/projects/")?.1.split_once('/')).map(|(_, path)| path).unwrap()
}

#[test]
fn the_official_client_makes_changes_reads_and_removes() {
    let fake = Fake::start(Options::default());
    for service in ["blue", "green"] {
        fake.put(&format!("global/backendServices/{service}"), json!({ "protocol": "HTTP" }));
    }
    let blue = format!("projects/{}/global/backendServices/blue", fake.project());
    let all = json!([{ "backendService": blue, "weight": 1000 }]);
    fake.put("global/urlMaps/web", json!({ "defaultRouteAction": { "weightedBackendServices": all } }));
    fake.put("global/images/golden", json!({ "status": "READY", "diskSizeGb": "10" }));

    let read = step(&fake, "build");
    let group = format!("regions/{REGION}/instanceGroupManagers/official");
    for (name, place) in [
        ("template", "global/instanceTemplates/official"),
        ("group", group.as_str()),
        ("url_map", "global/urlMaps/web"),
    ] {
        assert_eq!(Some(&read[name]), fake.get(place).as_ref(), "{name}");
    }
    assert_eq!(read["group"]["targetSize"], 3);
    let weights = read["url_map"]["defaultRouteAction"]["weightedBackendServices"].as_array().unwrap();
    assert_eq!(weights.iter().map(|one| &one["weight"]).collect::<Vec<_>>(), [900, 100]);
    let instances = read["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 3);
    for instance in instances {
        assert_eq!(Some(instance), fake.get(path(&instance["selfLink"])).as_ref());
        assert!(read["left"].as_array().unwrap().contains(&instance["selfLink"]), "{instance}");
    }
    for unwanted in read["unwanted"].as_array().unwrap() {
        assert_eq!(fake.get(path(unwanted)), None, "{unwanted}");
    }
    let resizes = read["resizes"].as_array().unwrap();
    assert_eq!(resizes.iter().map(|one| &one["status"]).collect::<Vec<_>>(), ["DONE"]);

    fake.fail_next_operation("compute.regionInstanceGroupManagers.resize", "QUOTA_EXCEEDED", "No more machines.");
    let told = step(&fake, "fail");
    let [operation, missing, used] = ["operation", "missing", "used"].map(|what| &told[what]);
    let quota = json!([{ "code": "QUOTA_EXCEEDED", "message": "No more machines." }]);
    assert_eq!((&operation["status"], &operation["errors"]), (&json!(403), &quota));
    assert_eq!((&missing["status"], &missing["errors"][0]["reason"]), (&json!(404), &json!("notFound")));
    assert_eq!(
        (&used["status"], &used["errors"][0]["reason"]),
        (&json!(400), &json!("resourceInUseByAnotherResource"))
    );

    assert_eq!(step(&fake, "remove"), json!({ "templates": [], "groups": [], "instances": [] }));
    assert_eq!(fake.get(&group), None);
    assert!(fake.list("global/instanceTemplates").is_empty());
}
