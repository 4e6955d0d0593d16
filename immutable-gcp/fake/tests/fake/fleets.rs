//! Instance templates, managed instance groups and their machines.

use std::time::Duration;

use immutable_gcp_fake::{Fake, Options};
use serde_json::{Value, json};

use crate::client::{REGION, ask, group, quick, refused, template, with_image};

const HOUR: Duration = Duration::from_hours(1);
const HALF: Duration = Duration::from_mins(30);

fn groups() -> String {
    format!("regions/{REGION}/instanceGroupManagers")
}

/// A fake with a template and a group `web`.
async fn fleet(options: Options, change: impl FnOnce(&mut Value)) -> Fake {
    let fake = with_image(options);
    fake.put("global/healthChecks/web", json!({ "type": "TCP" }));
    ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    let mut body = group("web", "web", 3);
    change(&mut body);
    ask(&fake, "POST", &groups(), Some(body)).await;
    fake
}

async fn managed(fake: &Fake) -> Vec<Value> {
    let list = ask(fake, "POST", &format!("{}/web/listManagedInstances", groups()), None).await;
    list.get("managedInstances").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn all<'a>(members: &'a [Value], field: &str) -> Vec<&'a str> {
    members.iter().map(|member| member[field].as_str().unwrap_or("-")).collect()
}

/// The path of a member's machine, as the fake's own methods want it.
fn machine(member: &Value) -> String {
    member["instance"].as_str().unwrap().split("/fake-project/").nth(1).unwrap().to_owned()
}

async fn delete_instances(fake: &Fake, body: Value) -> Value {
    ask(fake, "POST", &format!("{}/web/deleteInstances", groups()), Some(body)).await
}

#[tokio::test]
async fn a_group_makes_its_machines_of_the_template_in_all_zones() {
    let fake = fleet(quick(), |_| {}).await;
    let members = managed(&fake).await;
    assert_eq!(all(&members, "currentAction"), ["CREATING"; 3]);
    assert_eq!(all(&members, "instanceStatus"), ["PROVISIONING"; 3]);
    fake.skip(HALF);
    assert_eq!(all(&managed(&fake).await, "instanceStatus"), ["STAGING"; 3]);
    fake.skip(HALF);
    let members = managed(&fake).await;
    assert_eq!(all(&members, "currentAction"), ["NONE"; 3]);
    let list = ask(&fake, "GET", "aggregated/instances?filter=labels.service%3Dweb", None).await;
    for (zone, here) in list["items"].as_object().unwrap() {
        let expected = usize::from(zone.starts_with("zones/europe-west1-"));
        assert_eq!(here["instances"].as_array().map_or(0, Vec::len), expected, "{zone}");
        assert_eq!(here.get("warning").is_some(), expected == 0);
    }
    let one = ask(&fake, "GET", &machine(&members[0]), None).await;
    assert_eq!(one["id"], members[0]["id"]);
    assert!(one["name"].as_str().unwrap().starts_with("web-"));
    assert!(one["networkInterfaces"][0]["networkIP"].as_str().unwrap().starts_with("10."));
    assert_eq!(one["metadata"]["items"][0], json!({ "key": "enable-oslogin", "value": "FALSE" }));
    let group = ask(&fake, "GET", &format!("{}/web", groups()), None).await;
    assert_eq!((&group["currentActions"]["none"], &group["status"]["isStable"]), (&json!(3), &json!(true)));
}

#[tokio::test]
async fn managed_instances_have_pages_if_the_group_says_so() {
    let fake = fleet(Options { page: 2, ..quick() }, |_| {}).await;
    let list = format!("{}/web/listManagedInstances", groups());
    let first = ask(&fake, "POST", &list, None).await;
    assert_eq!(first["managedInstances"].as_array().unwrap().len(), 2);
    let next = first["nextPageToken"].as_str().unwrap();
    let second = ask(&fake, "POST", &format!("{list}?pageToken={next}"), None).await;
    assert_eq!(second["managedInstances"].as_array().unwrap().len(), 1);

    let pageless = |body: &mut Value| body["listManagedInstancesResults"] = "PAGELESS".into();
    let fake = fleet(Options { page: 2, ..quick() }, pageless).await;
    assert_eq!(managed(&fake).await.len(), 3);
}

#[tokio::test]
async fn a_list_of_all_zones_has_pages() {
    let fake = fleet(Options { page: 2, ..quick() }, |_| {}).await;
    let count = |list: &Value| -> usize {
        let zones = list["items"].as_object().unwrap().values();
        zones.map(|zone| zone["instances"].as_array().map_or(0, Vec::len)).sum()
    };
    let first = ask(&fake, "GET", "aggregated/instances", None).await;
    let next = first["nextPageToken"].as_str().unwrap();
    let second = ask(&fake, "GET", &format!("aggregated/instances?pageToken={next}"), None).await;
    assert_eq!((count(&first), count(&second), second.get("nextPageToken")), (2, 1, None));
}

#[tokio::test]
async fn a_zonal_group_stays_in_its_zone() {
    let fake = with_image(quick());
    let path = "zones/us-central1-a/instanceGroupManagers";
    ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    ask(&fake, "POST", path, Some(group("web", "web", 2))).await;
    let list = ask(&fake, "POST", &format!("{path}/web/listManagedInstances"), None).await;
    let members = list["managedInstances"].as_array().unwrap();
    assert!(members.iter().all(|member| machine(member).starts_with("zones/us-central1-a/instances/web-")), "{list}");
    assert_eq!(members.len(), 2);
    let operation = ask(&fake, "POST", &format!("{path}/web/resize?size=0"), None).await;
    assert!(operation["zone"].as_str().unwrap().ends_with("/zones/us-central1-a"));
    assert_eq!(operation["operationType"], "compute.instanceGroupManagers.resize");
    let listed = ask(&fake, "GET", path, None).await;
    assert_eq!(
        (&listed["kind"], &listed["items"][0]["targetSize"]),
        (&json!("compute#instanceGroupManagerList"), &json!(0))
    );
}

#[tokio::test]
async fn a_group_that_need_not_be_even_avoids_a_zone_without_stock() {
    let fake = with_image(quick());
    fake.set_out_of_stock("europe-west1-c", true);
    ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    let mut body = group("web", "web", 4);
    let zones: Vec<Value> =
        ["b", "c"].iter().map(|zone| json!({ "zone": format!("zones/europe-west1-{zone}") })).collect();
    body["distributionPolicy"] = json!({ "targetShape": "ANY", "zones": zones });
    ask(&fake, "POST", &groups(), Some(body)).await;
    let members = managed(&fake).await;
    assert!(members.iter().all(|member| machine(member).starts_with("zones/europe-west1-b/")), "{members:?}");
    assert_eq!(members.len(), 4);
}

#[tokio::test]
async fn named_instances_go_and_the_group_shrinks_by_them() {
    let fake = fleet(quick(), |_| {}).await;
    fake.skip(HOUR);
    let members = managed(&fake).await;
    delete_instances(&fake, json!({ "instances": [members[1]["instance"]] })).await;
    let left = managed(&fake).await;
    assert_eq!(all(&left, "currentAction"), ["NONE", "DELETING", "NONE"]);
    assert_eq!(left[1]["instanceStatus"], "STOPPING");
    let again = delete_instances(&fake, json!({ "instances": [machine(&members[1])] })).await;
    assert_eq!(again["error"]["errors"][0]["code"], "INVALID_FIELD_VALUE", "it goes already: {again}");
    let unknown = "zones/europe-west1-b/instances/web-none";
    let failed = delete_instances(&fake, json!({ "instances": [members[0]["instance"], unknown] })).await;
    assert_eq!(failed["httpErrorStatusCode"], 400, "{failed}");
    assert_eq!(managed(&fake).await[0]["currentAction"], "NONE", "all of them or none");
    let skipped = json!({ "instances": [machine(&members[1]), unknown], "skipInstancesOnValidationError": true });
    assert_eq!(delete_instances(&fake, skipped).await.get("error"), None);
    fake.skip(HOUR);
    assert_eq!(all(&managed(&fake).await, "name"), [all(&members, "name")[0], all(&members, "name")[2]]);
    assert_eq!(fake.get(&machine(&members[1])), None);
    assert_eq!(fake.list("zones/").keys().filter(|path| path.contains("/disks/")).count(), 2, "its disk goes along");
    assert_eq!(fake.get(&format!("{}/web", groups())).unwrap()["targetSize"], 2);
}

#[tokio::test]
async fn a_group_grows_and_shrinks_to_its_size() {
    let fake = fleet(quick(), |_| {}).await;
    fake.skip(HOUR);
    ask(&fake, "POST", &format!("{}/web/resize?size=5", groups()), None).await;
    let actions = managed(&fake).await;
    assert_eq!(all(&actions, "currentAction").iter().filter(|action| **action == "CREATING").count(), 2);
    ask(&fake, "POST", &format!("{}/web/resize?size=3", groups()), None).await;
    fake.skip(HOUR * 2);
    assert_eq!(all(&managed(&fake).await, "currentAction"), ["NONE"; 3], "those go that did not run yet");
}

#[tokio::test]
async fn an_abandoned_instance_runs_on_in_no_group() {
    let fake = fleet(quick(), |_| {}).await;
    fake.skip(HOUR);
    let members = managed(&fake).await;
    let body = json!({ "instances": [machine(&members[0])] });
    ask(&fake, "POST", &format!("{}/web/abandonInstances", groups()), Some(body)).await;
    assert_eq!(managed(&fake).await.len(), 2);
    let path = machine(&members[0]);
    assert_eq!(ask(&fake, "GET", &path, None).await["status"], "RUNNING");
    ask(&fake, "DELETE", &path, None).await;
    assert_eq!(ask(&fake, "GET", &path, None).await["status"], "STOPPING");
    fake.skip(HOUR);
    assert_eq!(refused(&fake, "GET", &path, None).await, (404, "notFound".to_owned()));
}

#[tokio::test]
async fn what_fails_is_repaired_as_another_machine_of_the_same_name() {
    let fake = fleet(quick(), |body| {
        body["autoHealingPolicies"] = json!([{ "healthCheck": "global/healthChecks/web", "initialDelaySec": 0 }]);
    })
    .await;
    fake.skip(HOUR);
    assert_eq!(all(&managed(&fake).await, "currentAction"), ["VERIFYING"; 3]);
    fake.skip(HOUR);
    let members = managed(&fake).await;
    assert_eq!(all(&members, "currentAction"), ["NONE"; 3]);
    assert_eq!(members[0]["instanceHealth"][0]["detailedHealthState"], "HEALTHY");

    ask(&fake, "DELETE", &machine(&members[0]), None).await;
    ask(&fake, "POST", &format!("{}/stop", machine(&members[1])), None).await;
    fake.set_ill(&machine(&members[2]), true);
    assert_eq!(managed(&fake).await[2]["currentAction"], "RECREATING");
    fake.skip(HOUR);
    assert_eq!(all(&managed(&fake).await, "currentAction"), ["RECREATING"; 3]);
    fake.skip(HOUR * 5);
    let repaired = managed(&fake).await;
    assert_eq!(all(&repaired, "currentAction"), ["NONE"; 3]);
    for (old, new) in members.iter().zip(&repaired) {
        assert_eq!(old["name"], new["name"]);
        assert_ne!(old["id"], new["id"]);
    }
}

#[tokio::test]
async fn a_new_machine_has_time_to_become_healthy() {
    let second = HOUR;
    let fake = fleet(Options { second, ..quick() }, |body| {
        body["autoHealingPolicies"] = json!([{ "healthCheck": "global/healthChecks/web", "initialDelaySec": 10 }]);
    })
    .await;
    let path = machine(&managed(&fake).await[0]);
    fake.set_ill(&path, true);
    fake.skip(HOUR + second * 9);
    let waiting = managed(&fake).await;
    assert_eq!((&waiting[0]["currentAction"], &waiting[1]["currentAction"]), (&json!("VERIFYING"), &json!("NONE")));
    assert_eq!(waiting[0]["instanceHealth"][0]["detailedHealthState"], "UNHEALTHY");
    fake.skip(second);
    assert_eq!(managed(&fake).await[0]["currentAction"], "RECREATING");
}

#[tokio::test]
async fn a_machine_that_went_off_is_off_until_its_group_sees_it() {
    let fake = fleet(Options { notice_time: HOUR, ..quick() }, |_| {}).await;
    fake.skip(HOUR);
    let members = managed(&fake).await;
    assert!(fake.kill(&machine(&members[0])) && !fake.kill("zones/europe-west1-b/instances/none"));
    let off = &managed(&fake).await[0];
    assert_eq!((&off["instanceStatus"], &off["currentAction"]), (&json!("TERMINATED"), &json!("NONE")));
    fake.skip(HOUR);
    assert_eq!(managed(&fake).await[0]["currentAction"], "RECREATING");
    fake.skip(HOUR * 2);
    let repaired = &managed(&fake).await[0];
    assert_eq!((&repaired["instanceStatus"], &repaired["currentAction"]), (&json!("RUNNING"), &json!("NONE")));
    assert_ne!(repaired["id"], members[0]["id"]);
}

#[tokio::test]
async fn groups_of_all_places_are_in_one_list_and_tell_what_their_instances_are_of() {
    let fake = fleet(quick(), |_| {}).await;
    let zonal = "zones/us-central1-a";
    ask(&fake, "POST", &format!("{zonal}/instanceGroupManagers"), Some(group("alone", "web", 1))).await;
    let list = ask(&fake, "GET", "aggregated/instanceGroupManagers?filter=name%20eq%20.*", None).await;
    for (place, here) in list["items"].as_object().unwrap() {
        let expected = usize::from([zonal, &format!("regions/{REGION}")].contains(&place.as_str()));
        assert_eq!(here["instanceGroupManagers"].as_array().map_or(0, Vec::len), expected, "{place}");
    }
    let member = &managed(&fake).await[0];
    assert!(fake.set_template(&machine(member), "global/instanceTemplates/other"));
    let template = managed(&fake).await[0]["version"]["instanceTemplate"].clone();
    assert!(template.as_str().unwrap().ends_with("/global/instanceTemplates/other"), "{template}");
    assert!(!fake.set_template("zones/europe-west1-b/instances/none", "global/instanceTemplates/other"));
}

#[tokio::test]
async fn a_group_that_must_not_repair_does_not() {
    let fake = fleet(quick(), |body| {
        body["instanceLifecyclePolicy"] = json!({ "defaultActionOnFailure": "DO_NOTHING" });
    })
    .await;
    fake.skip(HOUR);
    let members = managed(&fake).await;
    ask(&fake, "POST", &format!("{}/stop", machine(&members[0])), None).await;
    fake.skip(HOUR * 5);
    let left = managed(&fake).await;
    assert_eq!((&left[0]["instanceStatus"], &left[0]["currentAction"]), (&json!("TERMINATED"), &json!("NONE")));
    assert_eq!(left[0]["id"], members[0]["id"]);
}

#[tokio::test]
async fn a_group_without_stock_or_quota_tries_again() {
    let fake = with_image(quick());
    for zone in ["b", "c", "d"] {
        fake.set_out_of_stock(&format!("europe-west1-{zone}"), zone != "b");
    }
    fake.set_quota(Some(0));
    ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    ask(&fake, "POST", &groups(), Some(group("web", "web", 3))).await;
    let code = |member: &Value| member["lastAttempt"]["errors"]["errors"][0]["code"].as_str().unwrap_or("-").to_owned();
    let mut codes: Vec<_> = managed(&fake).await.iter().map(code).collect();
    codes.sort();
    assert_eq!(codes, ["QUOTA_EXCEEDED", "ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED"]);
    assert_eq!(all(&managed(&fake).await, "id"), ["-"; 3]);
    fake.set_quota(None);
    fake.set_out_of_stock("europe-west1-c", false);
    fake.set_out_of_stock("europe-west1-d", false);
    fake.skip(HOUR * 2);
    let members = managed(&fake).await;
    assert_eq!(all(&members, "currentAction"), ["NONE"; 3]);
    assert_eq!(members.iter().map(code).collect::<Vec<_>>(), ["-"; 3]);
}

#[tokio::test]
async fn a_template_in_use_stays_and_a_group_takes_its_machines_along() {
    let fake = fleet(quick(), |_| {}).await;
    fake.skip(HOUR);
    let used = refused(&fake, "DELETE", "global/instanceTemplates/web", None).await;
    assert_eq!(used, (400, "resourceInUseByAnotherResource".to_owned()));
    let operation = ask(&fake, "DELETE", &format!("{}/web", groups()), None).await;
    let again = refused(&fake, "DELETE", &format!("{}/web", groups()), None).await;
    assert_eq!(again, (400, "resourceNotReady".to_owned()));
    assert_eq!(all(&managed(&fake).await, "currentAction"), ["DELETING"; 3]);
    let path = format!("regions/{REGION}/operations/{}", operation["name"].as_str().unwrap());
    assert_eq!(ask(&fake, "GET", &path, None).await["status"], "RUNNING");
    fake.skip(HOUR);
    assert_eq!(ask(&fake, "GET", &path, None).await["status"], "DONE");
    assert_eq!(refused(&fake, "GET", &format!("{}/web", groups()), None).await.0, 404);
    assert!(fake.list("zones/").keys().all(|path| !path.contains("/instances/")));
    ask(&fake, "DELETE", "global/instanceTemplates/web", None).await;
}

#[tokio::test]
async fn an_instance_needs_an_image_that_is_there() {
    let fake = with_image(quick());
    let zone = "zones/europe-west1-b/instances";
    let mut body = json!({
        "name": "builder",
        "machineType": "zones/europe-west1-b/machineTypes/e2-small",
        "disks": [{ "boot": true, "initializeParams": { "sourceImage": "global/images/none" } }],
        "networkInterfaces": [{}],
    });
    assert_eq!(refused(&fake, "POST", zone, Some(body.clone())).await, (404, "notFound".to_owned()));
    body["disks"][0]["initializeParams"]["sourceImage"] = "global/images/family/web".into();
    fake.set_out_of_stock("europe-west1-b", true);
    let failed = ask(&fake, "POST", zone, Some(body.clone())).await;
    assert_eq!(failed["error"]["errors"][0]["code"], "ZONE_RESOURCE_POOL_EXHAUSTED");
    assert_eq!(failed["httpErrorStatusCode"], 503);
    fake.set_out_of_stock("europe-west1-b", false);
    ask(&fake, "POST", zone, Some(body)).await;
    let disk = fake.get("zones/europe-west1-b/disks/builder").unwrap();
    assert!(disk["sourceImage"].as_str().unwrap().ends_with("/global/images/web-1"));

    let path = format!("{zone}/builder");
    let read = ask(&fake, "GET", &path, None).await["labelFingerprint"].clone();
    let labels = json!({ "labelFingerprint": read, "labels": { "step": "done" } });
    ask(&fake, "POST", &format!("{path}/setLabels"), Some(labels.clone())).await;
    let late = refused(&fake, "POST", &format!("{path}/setLabels"), Some(labels)).await;
    assert_eq!(late, (412, "conditionNotMet".to_owned()));
    assert_eq!(ask(&fake, "GET", &path, None).await["labels"]["step"], "done");
    ask(&fake, "DELETE", &path, None).await;
    fake.skip(HOUR);
    assert!(fake.get("zones/europe-west1-b/disks/builder").is_some(), "a disk that is not to be deleted along stays");
}
