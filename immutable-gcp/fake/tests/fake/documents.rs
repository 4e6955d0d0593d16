//! What is not as the Discovery document says is found.

use immutable_gcp_fake::{Fake, Options};
use serde_json::json;

use crate::client::{group, quick, refused, send, send_to, template, with_image};

/// Sends an instance template, and says what was wrong with it.
async fn wrong(change: impl FnOnce(&mut serde_json::Value)) -> Vec<String> {
    let fake = Fake::start(Options::default());
    let mut body = template("web");
    change(&mut body);
    let refused = refused(&fake, "POST", "global/instanceTemplates", Some(body)).await;
    assert_eq!(refused, (400, "invalid".to_owned()));
    fake.take_violations()
}

#[tokio::test]
async fn an_unknown_field_is_a_violation() {
    let violations = wrong(|body| body["properties"]["machine"] = "e2-small".into()).await;
    assert_eq!(violations, ["compute.instanceTemplates.insert: request: properties.machine: unknown field"]);
}

#[tokio::test]
async fn a_wrong_type_is_a_violation() {
    let violations = wrong(|body| body["properties"]["disks"][0]["boot"] = "yes".into()).await;
    let expected = "properties.disks[0].boot: should be of the type boolean, but is \"yes\"";
    assert_eq!(violations, [format!("compute.instanceTemplates.insert: request: {expected}")]);
    let violations =
        wrong(|body| body["properties"]["disks"][0]["initializeParams"]["diskSizeGb"] = "big".into()).await;
    assert!(violations[0].ends_with("diskSizeGb: 'big' is no int64"), "{violations:?}");
    let violations = wrong(|body| body["properties"]["labels"] = json!({ "a": 1 })).await;
    assert!(violations[0].ends_with("labels.a: should be of the type string, but is 1"), "{violations:?}");
}

#[tokio::test]
async fn a_wrong_value_of_an_enum_is_a_violation() {
    let violations = wrong(|body| body["properties"]["disks"][0]["mode"] = "READ".into()).await;
    assert!(violations[0].ends_with("disks[0].mode: 'READ' is no value of the enum"), "{violations:?}");
}

#[tokio::test]
async fn a_name_that_cannot_be_is_a_violation() {
    let violations = wrong(|body| body["name"] = "Web_1".into()).await;
    assert!(violations[0].contains("name: 'Web_1' is not like"), "{violations:?}");
}

#[tokio::test]
async fn what_is_missing_is_a_violation() {
    let violations = wrong(|body| body["properties"]["machineType"] = serde_json::Value::Null).await;
    assert!(violations[0].ends_with("properties.machineType: the field is missing"), "{violations:?}");

    let fake = with_image(quick());
    send(&fake, "POST", "global/instanceTemplates", Some(template("web"))).await;
    send(&fake, "POST", "regions/europe-west1/instanceGroupManagers", Some(group("web", "web", 0))).await;
    refused(&fake, "POST", "regions/europe-west1/instanceGroupManagers/web/resize", None).await;
    let expected = "compute.regionInstanceGroupManagers.resize: request: size: the parameter is missing";
    assert_eq!(fake.take_violations(), [expected]);
    refused(&fake, "POST", "regions/europe-west1/instanceGroupManagers/web/resize?size=few", None).await;
    assert!(fake.take_violations()[0].contains("size: should be of the type integer"));
    refused(&fake, "POST", "global/instanceTemplates", None).await;
    assert_eq!(fake.take_violations(), ["compute.instanceTemplates.insert: request: the body is missing"]);
}

#[tokio::test]
async fn an_unknown_path_or_parameter_is_a_violation() {
    let fake = Fake::start(Options::default());
    let (status, _) = send_to(&fake, "GET", "/compute/v1/projects/p/global/machines", None).await.unwrap();
    assert_eq!(status, 404);
    let expected = "GET /compute/v1/projects/p/global/machines: no method of a Discovery document";
    assert_eq!(fake.take_violations(), [expected]);
    refused(&fake, "GET", "global/instanceTemplates?page=1", None).await;
    assert_eq!(fake.take_violations(), ["compute.instanceTemplates.list: request: page: unknown parameter"]);
}

#[tokio::test]
async fn what_google_does_and_the_fake_does_not_is_a_violation() {
    let fake = Fake::start(Options::default());
    assert_eq!(refused(&fake, "GET", "global/networks", None).await, (501, "notImplemented".to_owned()));
    assert_eq!(fake.take_violations(), ["compute.networks.list: the fake does not do this"]);
}

#[tokio::test]
async fn a_wrong_answer_is_a_violation() {
    let fake = with_image(Options::default());
    fake.spoil("global/images/web-1", "status", json!("FINE"));
    send(&fake, "GET", "global/images/web-1", None).await;
    assert_eq!(fake.take_violations(), ["compute.images.get: answer: status: 'FINE' is no value of the enum"]);
}

#[test]
#[should_panic(expected = "global/images/x cannot be so: family: should be of the type string, but is 1")]
fn a_resource_that_cannot_be_is_not_placed() {
    Fake::start(Options::default()).put("global/images/x", json!({ "family": 1 }));
}

#[tokio::test]
#[should_panic(expected = "not as the Discovery documents say:\nGET /compute/v1/projects/p/global/machines")]
async fn a_fake_with_violations_panics_at_its_end() {
    let fake = Fake::start(Options::default());
    send_to(&fake, "GET", "/compute/v1/projects/p/global/machines", None).await;
}
