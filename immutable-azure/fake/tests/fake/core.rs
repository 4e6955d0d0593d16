//! Operations, `ETag`s, lists, faults, permissions.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Request;
use immutable_azure_fake::{Fake, Options};
use serde_json::json;

use crate::client::{SETS, all, ask, quick, read, send, send_raw, send_with, set, slow, status, with_image};

const HOUR: Duration = Duration::from_hours(1);
const PUT: &str = "PUT Microsoft.Compute/virtualMachineScaleSets";

fn path(name: &str) -> String {
    format!("{SETS}/{name}")
}

#[tokio::test]
async fn a_change_is_seen_at_once_and_over_later() {
    let fake = with_image(slow());
    let made = ask(&fake, "PUT", &path("web"), Some(set(&fake, "Flexible", 0))).await;
    assert_eq!((made.status, made.header("retry-after")), (201, "1"));
    assert_eq!(made.body["properties"]["provisioningState"], "Creating");
    assert_eq!(status(&fake, &made).await["status"], "InProgress");
    fake.skip(HOUR);
    let over = status(&fake, &made).await;
    assert_eq!((&over["status"], over["endTime"].is_string()), (&json!("Succeeded"), true));
    assert_eq!(read(&fake, &path("web")).await["properties"]["provisioningState"], "Succeeded");

    let gone = ask(&fake, "DELETE", &path("web"), None).await;
    assert_eq!((gone.status, &gone.body), (202, &json!(null)));
    let location = gone.header("location").to_owned();
    let waits = ask(&fake, "GET", &location, None).await;
    assert_eq!((waits.status, waits.header("location").contains("monitor=true")), (202, true));
    assert_eq!(read(&fake, &path("web")).await["properties"]["provisioningState"], "Deleting");
    assert_eq!(send(&fake, "DELETE", &path("web"), None).await.code(), (409, "Conflict"));
    let late = send(&fake, "PUT", &path("web"), Some(set(&fake, "Flexible", 0))).await;
    assert_eq!(late.code(), (409, "Conflict"));
    fake.skip(HOUR);
    assert_eq!(ask(&fake, "GET", &location, None).await.status, 204);
    assert_eq!(send(&fake, "GET", &path("web"), None).await.code(), (404, "ResourceNotFound"));
    assert_eq!(ask(&fake, "DELETE", &path("web"), None).await.status, 204);
}

#[tokio::test]
async fn a_newer_write_takes_the_place_of_an_older_one() {
    let fake = with_image(slow());
    let first = ask(&fake, "PUT", &path("web"), Some(set(&fake, "Flexible", 0))).await;
    let second = ask(&fake, "PATCH", &path("web"), Some(json!({ "tags": { "a": "b" } }))).await;
    let over = status(&fake, &first).await;
    assert_eq!((&over["status"], &over["error"]["code"]), (&json!("Canceled"), &json!("OperationPreempted")));
    fake.skip(HOUR);
    assert_eq!(status(&fake, &second).await["status"], "Succeeded");
    assert_eq!(read(&fake, &path("web")).await["properties"]["provisioningState"], "Succeeded");
}

#[tokio::test]
async fn faults_strike_once() {
    let fake = with_image(quick());
    let body = set(&fake, "Flexible", 0);
    fake.lose_next(PUT);
    assert!(send_with(&fake, "PUT", &path("lost"), Some(body.clone()), ("", "")).await.is_none());
    assert!(fake.get(&path("lost")).is_some(), "what is lost is done");

    fake.throttle_next(PUT, 7);
    fake.refuse_next(PUT, 503, "ServerTimeout", "The request timed out.");
    let busy = send(&fake, "PUT", &path("web"), Some(body.clone())).await;
    assert_eq!((busy.code(), busy.header("retry-after")), ((429, "TooManyRequests"), "7"));
    assert_eq!(busy.header("x-ms-ratelimit-remaining-subscription-writes"), "0");
    assert_eq!(send(&fake, "PUT", &path("web"), Some(body.clone())).await.code(), (503, "ServerTimeout"));
    assert_eq!(fake.get(&path("web")), None, "what is refused is not done");

    fake.fail_next_operation(PUT, "SkuNotAvailable", "Not here.");
    let made = ask(&fake, "PUT", &path("web"), Some(body.clone())).await;
    let failed = status(&fake, &made).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("Failed"), &json!("SkuNotAvailable")));
    let there = read(&fake, &path("web")).await;
    assert_eq!(there["properties"]["provisioningState"], "Failed", "what fails is there");

    ask(&fake, "PUT", &path("web"), Some(body)).await;
    assert_eq!(fake.get(&path("web")).unwrap()["properties"]["provisioningState"], "Succeeded");
    assert_eq!(fake.calls()[PUT], 5);
}

#[tokio::test]
async fn a_failed_operation_tells_it_at_its_location_too() {
    let fake = with_image(quick());
    ask(&fake, "PUT", &path("web"), Some(set(&fake, "Flexible", 0))).await;
    fake.fail_next_operation("DELETE Microsoft.Compute/virtualMachineScaleSets", "InternalExecutionError", "Oh.");
    let gone = ask(&fake, "DELETE", &path("web"), None).await;
    let heard = send(&fake, "GET", gone.header("location"), None).await;
    assert_eq!(heard.code(), (409, "InternalExecutionError"));
    assert_eq!(fake.get(&path("web")).unwrap()["properties"]["provisioningState"], "Failed");
}

#[tokio::test]
async fn who_has_not_seen_a_resource_as_it_is_cannot_change_it() {
    let fake = with_image(quick());
    let body = set(&fake, "Flexible", 0);
    let put = async |name, value| {
        send_with(&fake, "PUT", &path("web"), Some(body.clone()), (name, value)).await.unwrap().status
    };
    assert_eq!(put("if-match", "*").await, 412, "there is none");
    assert_eq!(put("if-none-match", "*").await, 201);
    assert_eq!(put("if-none-match", "*").await, 412, "there is one");
    let etag = read(&fake, &path("web")).await["etag"].as_str().unwrap().to_owned();
    assert_eq!(put("if-match", &etag).await, 200);
    assert_eq!(put("if-match", &etag).await, 412, "it has another one now");
    let refused = send_with(&fake, "DELETE", &path("web"), None, ("if-match", &etag)).await.unwrap();
    assert_eq!(refused.code(), (412, "PreconditionFailed"));
    assert_eq!(put("if-match", "*").await, 200);
}

#[tokio::test]
async fn lists_come_in_pages_and_in_order() {
    let fake = with_image(Options { page: 2, ..quick() });
    for name in ["c", "a", "b"] {
        ask(&fake, "PUT", &path(name), Some(set(&fake, "Flexible", 0))).await;
    }
    let first = read(&fake, SETS).await;
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    assert!(first["nextLink"].as_str().unwrap().starts_with(&fake.url()));
    let names = |list: &[serde_json::Value]| list.iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&all(&fake, SETS).await), ["a", "b", "c"]);
    let subscription = Options::default().subscription;
    let everywhere = format!("{}/subscriptions/{subscription}/providers/{SETS}?api-version=2024-07-01", fake.url());
    assert_eq!(names(&all(&fake, &everywhere).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn lists_lag_and_a_look_does_not() {
    let fake = with_image(Options { list_lag: HOUR, ..quick() });
    ask(&fake, "PUT", &path("web"), Some(set(&fake, "Flexible", 0))).await;
    read(&fake, &path("web")).await;
    assert_eq!(all(&fake, SETS).await.len(), 0);
    fake.skip(HOUR);
    assert_eq!(all(&fake, SETS).await.len(), 1);
    ask(&fake, "DELETE", &path("web"), None).await;
    assert_eq!(send(&fake, "GET", &path("web"), None).await.status, 404);
    assert_eq!(all(&fake, SETS).await.len(), 1, "gone, but listed");
    fake.skip(HOUR);
    assert_eq!(all(&fake, SETS).await.len(), 0);
}

#[tokio::test]
async fn what_is_not_permitted_is_refused_by_name() {
    let write = "Microsoft.Compute/virtualMachineScaleSets/write";
    let read = "Microsoft.Compute/galleries/images/versions/read";
    let join = "Microsoft.Network/virtualNetworks/subnets/join/action";
    let fake = with_image(quick());
    let attempt = async |actions: &[&str]| {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect::<BTreeSet<_>>();
        fake.set(|options| options.actions = Some(actions));
        let heard = send(&fake, "PUT", &path("web"), Some(set(&fake, "Flexible", 0))).await;
        (heard.status, heard.body["error"]["code"].clone(), heard.body["error"]["message"].to_string())
    };
    let (status, code, message) = attempt(&[]).await;
    assert_eq!((status, code), (403, json!("AuthorizationFailed")));
    assert!(message.contains(&format!("perform action '{write}' over scope '{}'", fake.id(&path("web")))), "{message}");
    for (allowed, missing) in [(vec![write, join], read), (vec![write, read], join)] {
        let (status, code, message) = attempt(&allowed).await;
        assert_eq!((status, code), (403, json!("LinkedAuthorizationFailed")));
        assert!(message.contains(missing), "{message}");
    }
    assert_eq!(attempt(&[write, read, join]).await.0, 201);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let fake = Fake::start(quick());
    let id = fake.id(&path("web"));
    let token = || Request::builder().header("authorization", "Bearer of-a-test");
    let version = format!("{id}?api-version=2024-07-01");
    for (request, url, body, expected) in [
        (Request::builder(), &version, "", (401, "AuthenticationFailed")),
        (token(), &id, "", (400, "MissingApiVersionParameter")),
        (token(), &format!("{id}?api-version=new"), "", (400, "InvalidApiVersionParameter")),
        (token().method("PUT"), &version, "{}", (415, "UnsupportedMediaType")),
        (
            token().method("PUT").header("content-type", "application/json"),
            &version,
            "{",
            (400, "InvalidRequestContent"),
        ),
        (token().method("PUT").header("content-type", "application/json"), &version, "{}", (400, "LocationRequired")),
        (token(), &version.replace("/fake/", "/other/"), "", (404, "ResourceGroupNotFound")),
        (token(), &version.replace("fa4e", "0000"), "", (404, "SubscriptionNotFound")),
        (token(), &version, "", (404, "ResourceNotFound")),
    ] {
        let heard = send_raw(&fake, request, url, body.to_owned()).await.unwrap();
        assert_eq!(heard.code(), expected, "{url}");
    }
}

#[tokio::test]
async fn ids_mean_the_same_in_any_letters() {
    let fake = with_image(quick());
    ask(&fake, "PUT", &path("Web"), Some(set(&fake, "Flexible", 0))).await;
    let found = read(&fake, "microsoft.compute/VIRTUALMACHINESCALESETS/wEB").await;
    assert_eq!((&found["name"], &found["id"]), (&json!("Web"), &json!(fake.id(&path("Web")))));
}

#[tokio::test]
async fn what_the_fake_does_not_do_is_no_test() {
    let fake = Fake::start(quick());
    assert_eq!(send(&fake, "POST", &format!("{SETS}/web/reimage"), None).await.code(), (501, "NotImplemented"));
    assert_eq!(send(&fake, "GET", "Microsoft.Web/sites/web", None).await.code(), (404, "InvalidResourceType"));
    assert_eq!(fake.take_violations().len(), 2);
}
