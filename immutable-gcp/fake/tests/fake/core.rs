//! Operations, request ids, fingerprints, lists, faults, permissions.

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_gcp_fake::Options;
use serde_json::{Value, json};

use crate::client::{REGION, ask, group, quick, refused, send, send_to, slow, template, with_image};

const HALF_AN_HOUR: Duration = Duration::from_mins(30);
const ID: &str = "requestId=f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

fn path(operation: &Value) -> String {
    format!("global/operations/{}", operation["name"].as_str().unwrap())
}

#[tokio::test]
async fn an_operation_has_its_effect_before_it_is_done() {
    let fake = with_image(slow());
    let operation = ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    assert_eq!((&operation["status"], &operation["operationType"]), (&json!("RUNNING"), &json!("insert")));
    assert!(operation["targetLink"].as_str().unwrap().ends_with("/global/instanceTemplates/web"));
    assert_eq!(refused(&fake, "GET", "global/instanceTemplates/web", None).await, (404, "notFound".to_owned()));
    let again = refused(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    assert_eq!(again, (409, "alreadyExists".to_owned()), "it is being made");

    fake.skip(HALF_AN_HOUR);
    let made = ask(&fake, "GET", "global/instanceTemplates/web", None).await;
    assert_eq!(made["properties"]["machineType"], "e2-small");
    assert_eq!(ask(&fake, "GET", &path(&operation), None).await["status"], "RUNNING");
    let early = refused(&fake, "DELETE", "global/instanceTemplates/web", None).await;
    assert_eq!(early, (400, "resourceNotReady".to_owned()));

    fake.skip(HALF_AN_HOUR);
    let done = ask(&fake, "GET", &path(&operation), None).await;
    assert_eq!((&done["status"], &done["progress"]), (&json!("DONE"), &json!(100)));
    assert!(done["endTime"].is_string() && done.get("error").is_none());
    assert_eq!(done["targetId"], made["id"]);
}

#[tokio::test]
async fn the_same_request_id_begins_nothing_new() {
    let fake = with_image(slow());
    let insert = format!("global/instanceTemplates?{ID}");
    let first = ask(&fake, "POST", &insert, Some(template("web"))).await;
    assert_eq!(first["clientOperationId"], ID.trim_start_matches("requestId="));
    fake.skip(HALF_AN_HOUR * 2);
    let again = ask(&fake, "POST", &insert, Some(template("web"))).await;
    assert_eq!((&again["name"], &again["status"]), (&first["name"], &json!("DONE")));
    assert_eq!(fake.list("global/operations").len(), 1);

    let other = refused(&fake, "POST", &insert, Some(template("api"))).await;
    assert_eq!(other, (400, "invalid".to_owned()));
    assert_eq!(fake.take_violations().len(), 1);
    let none = "global/instanceTemplates?requestId=00000000-0000-0000-0000-000000000000";
    assert_eq!(refused(&fake, "POST", none, Some(template("api"))).await, (400, "invalid".to_owned()));
    assert_eq!(fake.take_violations().len(), 1);
}

#[tokio::test]
async fn faults_strike_once() {
    let method = "compute.instanceTemplates.insert";
    let insert = "global/instanceTemplates";
    let fake = with_image(quick());
    fake.lose_next(method);
    assert_eq!(send(&fake, "POST", insert, Some(template("lost"))).await, None);
    assert!(fake.get("global/instanceTemplates/lost").is_some(), "what is lost is done");

    fake.throttle_next(method, 403);
    fake.refuse_next(method, 503, "backendError", "Backend Error");
    assert_eq!(refused(&fake, "POST", insert, Some(template("web"))).await, (403, "rateLimitExceeded".to_owned()));
    assert_eq!(refused(&fake, "POST", insert, Some(template("web"))).await, (503, "backendError".to_owned()));
    assert_eq!(fake.get("global/instanceTemplates/web"), None, "what is refused is not done");

    fake.fail_next_operation(method, "QUOTA_EXCEEDED", "Quota 'INSTANCE_TEMPLATES' exceeded.");
    let failed = ask(&fake, "POST", insert, Some(template("web"))).await;
    assert_eq!((&failed["status"], &failed["httpErrorStatusCode"]), (&json!("DONE"), &json!(403)));
    assert_eq!(failed["error"]["errors"][0]["code"], "QUOTA_EXCEEDED");
    assert_eq!(fake.get("global/instanceTemplates/web"), None, "what fails is not done");

    ask(&fake, "POST", insert, Some(template("web"))).await;
    assert!(fake.get("global/instanceTemplates/web").is_some());
    assert_eq!(fake.calls()[method], 5);
}

#[tokio::test]
async fn lists_come_in_pages_and_in_order() {
    let fake = with_image(Options { page: 2, ..quick() });
    for name in ["c", "a", "b"] {
        ask(&fake, "POST", "global/instanceTemplates", Some(template(name))).await;
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = ask(&fake, "GET", "global/instanceTemplates?maxResults=500", None).await;
    assert_eq!(names(&first), ["a", "b"]);
    let next = first["nextPageToken"].as_str().unwrap();
    let second = ask(&fake, "GET", &format!("global/instanceTemplates?pageToken={next}"), None).await;
    assert_eq!((names(&second), second.get("nextPageToken")), (vec!["c".to_owned()], None));
    let filtered = ask(&fake, "GET", "global/instanceTemplates?filter=name%20eq%20(a%7Cc)", None).await;
    assert_eq!(names(&filtered), ["a", "c"]);

    let newest = ask(&fake, "GET", "global/operations?orderBy=creationTimestamp%20desc&maxResults=1", None).await;
    assert!(newest["items"][0]["targetLink"].as_str().unwrap().ends_with("/b"), "{newest}");
    let next = newest["nextPageToken"].as_str().unwrap();
    let page = format!("global/operations?orderBy=creationTimestamp%20desc&maxResults=1&pageToken={next}");
    let older = ask(&fake, "GET", &page, None).await;
    assert!(older["items"][0]["targetLink"].as_str().unwrap().ends_with("/a"), "{older}");

    let odd = refused(&fake, "GET", "global/instanceTemplates?filter=name%20like%20a", None).await;
    assert_eq!(odd, (400, "invalid".to_owned()));
    assert_eq!(fake.take_violations().len(), 1);
}

#[tokio::test]
async fn lists_lag_and_a_look_does_not() {
    let hour = HALF_AN_HOUR * 2;
    let fake = with_image(Options { list_lag: hour, ..quick() });
    ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    ask(&fake, "GET", "global/instanceTemplates/web", None).await;
    assert_eq!(ask(&fake, "GET", "global/instanceTemplates", None).await.get("items"), None);
    fake.skip(hour);
    assert!(ask(&fake, "GET", "global/instanceTemplates", None).await["items"].is_array());
    ask(&fake, "DELETE", "global/instanceTemplates/web", None).await;
    assert_eq!(refused(&fake, "GET", "global/instanceTemplates/web", None).await.0, 404);
    assert!(ask(&fake, "GET", "global/instanceTemplates", None).await["items"].is_array(), "gone, but listed");
    fake.skip(hour);
    assert_eq!(ask(&fake, "GET", "global/instanceTemplates", None).await.get("items"), None);
}

#[tokio::test]
async fn a_change_needs_the_fingerprint_of_what_is_there() {
    let fake = with_image(quick());
    ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    let groups = format!("regions/{REGION}/instanceGroupManagers");
    ask(&fake, "POST", &groups, Some(group("web", "web", 0))).await;
    let path = format!("{groups}/web");
    let read = ask(&fake, "GET", &path, None).await["fingerprint"].clone();
    ask(&fake, "PATCH", &path, Some(json!({ "fingerprint": read, "description": "one" }))).await;
    let late = refused(&fake, "PATCH", &path, Some(json!({ "fingerprint": read, "description": "two" }))).await;
    assert_eq!(late, (412, "conditionNotMet".to_owned()));
    let group = ask(&fake, "GET", &path, None).await;
    assert_eq!((&group["description"], &group["baseInstanceName"]), (&json!("one"), &json!("web")));
}

#[tokio::test]
async fn what_is_not_permitted_is_refused_by_name() {
    let permissions = BTreeSet::from(["compute.instanceTemplates.create".to_owned()]);
    let fake = with_image(Options { permissions: Some(permissions), ..quick() });
    ask(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    let (status, body) = send(&fake, "DELETE", "global/instanceTemplates/web", None).await.unwrap();
    assert_eq!(status, 403);
    let expected = "Required 'compute.instanceTemplates.delete' permission for 'projects/fake-project/global'";
    assert_eq!(body["error"]["message"], expected);
    assert_eq!(body["error"]["errors"][0]["reason"], "forbidden");
}

#[tokio::test]
async fn what_is_public_can_be_read_and_not_changed() {
    let fake = with_image(Options { permissions: Some(BTreeSet::new()), ..quick() });
    let path = "/compute/v1/projects/debian-cloud/global/images/debian-12";
    assert_eq!(send_to(&fake, "GET", path, None).await.unwrap().0, 404);
    fake.put("projects/debian-cloud/global/images/debian-12", json!({ "status": "READY" }));
    assert_eq!(send_to(&fake, "GET", path, None).await.unwrap().0, 200);
    assert_eq!(send_to(&fake, "DELETE", path, None).await.unwrap().0, 403);
}

#[tokio::test]
async fn there_is_nothing_in_places_that_are_not() {
    let fake = with_image(quick());
    assert_eq!(refused(&fake, "GET", "zones/mars-1/instances", None).await, (400, "invalid".to_owned()));
    assert_eq!(refused(&fake, "GET", "zones/europe-west1-b/instances/x", None).await, (404, "notFound".to_owned()));
    let zone = ask(&fake, "GET", "zones/europe-west1-b", None).await;
    assert!(zone["region"].as_str().unwrap().ends_with("/regions/europe-west1"));
    assert_eq!(ask(&fake, "GET", "regions", None).await["items"].as_array().unwrap().len(), 2);
}
