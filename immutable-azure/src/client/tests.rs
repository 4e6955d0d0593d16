use std::time::Duration;

use azure_core::time::Duration as Span;
use azure_mgmt_compute::package_2024_07_01::models::{Resource, VirtualMachineScaleSet};
use futures_util::TryStreamExt as _;
use reqwest::Method;
use serde_json::json;

use super::*;
use crate::testing::{Known, Reply, Server, TOKEN, reply};

const BALANCER: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/loadBalancers/web";

fn get() -> Request {
    Request::new(Method::GET, BALANCER, "2024-05-01")
}

#[tokio::test]
async fn a_request_carries_what_it_was_given_and_its_answer_everything() {
    let headers = [("ETag", "\"2\""), ("Azure-AsyncOperation", "https://a/b"), ("Retry-After", "7")];
    let server = Server::start([reply(201, &headers, r#"{"name":"web"}"#)]).await;
    let request = Request::new(Method::PUT, BALANCER, "2024-05-01").query("$expand", "all of it").if_match("\"1\"");
    let answer = server.clients().send(request.json(&json!({"tags": {}})).unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.header("etag")), (201, Some("\"2\"")));
    assert_eq!(answer.header("azure-asyncoperation"), Some("https://a/b"));
    assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(answer.json::<serde_json::Value>().unwrap(), json!({"name": "web"}));

    let seen = server.only();
    assert_eq!(seen.line, format!("PUT {BALANCER}?api-version=2024-05-01&%24expand=all%20of%20it"));
    assert_eq!(seen.header("if-match"), Some("\"1\""));
    assert_eq!(seen.header("authorization"), Some("Bearer hunter2"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(&seen.body[..], br#"{"tags":{}}"#);
}

#[tokio::test]
async fn a_thing_can_be_made_only_if_there_is_none() {
    let server = Server::start([reply(201, &[], "{}")]).await;
    let request = Request::new(Method::PUT, BALANCER, "2024-05-01").if_absent();
    server.clients().send(request).await.unwrap();
    assert_eq!((server.only().header("if-none-match"), server.only().header("if-match")), (Some("*"), None));
}

#[tokio::test]
async fn whatever_happens_there_is_one_attempt() {
    let elsewhere = [("Location", "/elsewhere")];
    for status in [301, 302, 307, 308, 400, 401, 404, 408, 409, 412, 429, 500, 502, 503, 504] {
        let server = Server::start([reply(status, &elsewhere, ""), reply(200, &[], "")]).await;
        let clients = server.clients();
        let failure = clients.send(get()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused(answer) if answer.status == status), "{status}: {failure:?}");
        assert_eq!(server.seen().len(), 1, "{status}");

        let server = Server::start([reply(status, &elsewhere, ""), reply(200, &[], "")]).await;
        let sent = server.clients().compute().virtual_machine_scale_sets_client().get("g", "web", "s").send().await;
        let failure = Answer::of(sent).await.unwrap_err();
        assert!(matches!(&failure, Failure::Refused(answer) if answer.status == status), "{status}: {failure:?}");
        assert_eq!(server.seen().len(), 1, "{status}");
    }
    let server = Server::start([Reply::HangUp, reply(200, &[], "")]).await;
    let failure = server.clients().send(get()).await.unwrap_err();
    assert!(matches!(failure, Failure::Lost(_)), "{failure:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_told_from_a_request_that_was_never_sent() {
    let server = Server::start([Reply::Silence]).await;
    let url = Url::parse(&server.url).unwrap();
    let http = pipeline::http_client(&url, Duration::from_millis(100)).unwrap();
    let failure = Failure::from(http.get(url).send().await.unwrap_err());
    assert!(matches!(failure, Failure::Late(_)), "{failure:?}");

    // A port that is taken, and where nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let clients = Clients::new(Arc::new(Known::default()), Some(&format!("http://{address}"))).unwrap();
    let failure = clients.send(get()).await.unwrap_err();
    assert!(matches!(failure, Failure::Unreached(_)), "{failure:?}");
}

#[tokio::test]
async fn a_token_goes_only_to_the_host_that_may_have_it() {
    let (server, other) = (Server::start([]).await, Server::start([reply(200, &[], "{}")]).await);
    let clients = server.clients();
    let port = other.url.rsplit(':').next().unwrap();
    for link in [
        other.url.clone(),
        format!("http://localhost:{port}/"),
        format!("//127.0.0.1:{port}/"),
        server.url.replace("http://", "https://"),
        server.url.replace("http://", "http://user@"),
        "https://management.azure.com/".to_owned(),
    ] {
        let failure = clients.send(Request::link(&link)).await.unwrap_err();
        assert!(matches!(failure, Failure::Foreign(_)), "{link}: {failure:?}");
    }
    // A page whose next one is elsewhere.
    server.then(reply(200, &[], &json!({"value": [], "nextLink": other.url}).to_string()));
    let mut pages = clients.compute().virtual_machine_scale_sets_client().list("g", "s").into_stream();
    assert!(pages.try_next().await.unwrap().is_some());
    let failure = Failure::from(pages.try_next().await.unwrap_err());
    assert!(matches!(failure, Failure::Foreign(_)), "{failure:?}");
    assert!(other.seen().is_empty());
}

#[test]
fn links_in_a_region_of_the_public_cloud_may_be_followed() {
    let endpoint = Url::parse(ENDPOINT).unwrap();
    let allowed = |link: &str| pipeline::is_allowed(&endpoint, &Url::parse(link).unwrap());
    for link in [
        "https://management.azure.com/a",
        "https://management.azure.com:443/a?t=1",
        "https://westeurope.management.azure.com/a",
    ] {
        assert!(allowed(link), "{link}");
    }
    for link in [
        "http://management.azure.com/a",
        "https://management.azure.com:8443/a",
        "https://management.azure.com.evil.example/a",
        "https://evilmanagement.azure.com/a",
        "https://a.b.management.azure.com/a",
        "https://.management.azure.com/a",
        "https://login.microsoftonline.com/a",
        "https://user@management.azure.com/a",
        "https://169.254.169.254/metadata",
    ] {
        assert!(!allowed(link), "{link}");
    }
}

#[tokio::test]
async fn an_answer_without_content_is_read() {
    let headers = [
        ("Location", "https://management.azure.com/operations/1"),
        ("x-ms-ratelimit-remaining-resource", "a;1"),
        ("x-ms-ratelimit-remaining-resource", "b;2"),
    ];
    let server = Server::start([reply(202, &headers, ""), reply(202, &headers, "")]).await;
    let clients = server.clients();
    let ours = clients.send(Request::new(Method::DELETE, BALANCER, "2024-05-01")).await.unwrap();
    let sets = clients.compute().virtual_machine_scale_sets_client();
    let theirs = Answer::of(sets.delete("g", "web", "s").send().await).await.unwrap();
    for answer in [ours, theirs] {
        assert_eq!((answer.status, answer.body.len()), (202, 0));
        assert_eq!(answer.header("location"), Some("https://management.azure.com/operations/1"));
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_not_read_to_its_end() {
    let long = "x".repeat(pipeline::LONGEST + 1);
    let server = Server::start([200, 409].map(|status| reply(status, &[], &long))).await;
    let clients = server.clients();
    let failure = clients.send(get()).await.unwrap_err();
    assert!(matches!(failure, Failure::Unreadable), "{failure:?}");
    let failure = clients.send(get()).await.unwrap_err();
    assert!(matches!(&failure, Failure::Refused(answer) if answer.status == 409), "{failure:?}");
}

#[tokio::test]
async fn requests_of_the_crate_for_compute_go_the_same_way() {
    let server = Server::start([reply(200, &[("ETag", "\"2\"")], r#"{"location":"westeurope","name":"web"}"#)]).await;
    let sets = server.clients().compute().virtual_machine_scale_sets_client();
    let fleet = VirtualMachineScaleSet::new(Resource::new("westeurope".to_owned()));
    let sent = sets.create_or_update("g", "web", fleet, "s").if_match("\"1\"").if_none_match("*").send().await;
    let answer = Answer::of(sent).await.unwrap();
    assert_eq!(answer.header("etag"), Some("\"2\""));
    assert_eq!(answer.json::<VirtualMachineScaleSet>().unwrap().resource.name.as_deref(), Some("web"));

    let seen = server.only();
    let path = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/web";
    assert_eq!(seen.line, format!("PUT {path}?api-version=2024-07-01"));
    assert_eq!((seen.header("if-match"), seen.header("if-none-match")), (Some("\"1\""), Some("*")));
    assert_eq!(seen.header("authorization"), Some("Bearer hunter2"));
    assert!(seen.header("user-agent").unwrap().starts_with("immutable-azure/"));
    assert_eq!(&seen.body[..], br#"{"location":"westeurope"}"#);
}

#[tokio::test]
async fn a_token_is_asked_for_again_when_it_ends_or_is_refused() {
    for (lasts, statuses, asked) in [
        (Span::hours(1), vec![200, 200, 403, 200], 1),
        (Span::minutes(4), vec![200, 200], 2),
        (Span::hours(1), vec![401, 200, 200], 2),
    ] {
        let server = Server::start(statuses.iter().map(|status| reply(*status, &[], ""))).await;
        let credential = Arc::new(Known::lasting(lasts));
        let clients = Clients::new(credential.clone(), Some(&server.url)).unwrap();
        for _ in &statuses {
            let _ = clients.send(get()).await;
        }
        assert_eq!(credential.asked(), asked, "{statuses:?}");
    }
}

#[tokio::test]
async fn the_token_is_in_no_debug() {
    let server = Server::start([reply(200, &[], ""), Reply::HangUp]).await;
    let clients = server.clients();
    clients.send(get()).await.unwrap();
    let failure = clients.send(get()).await.unwrap_err();
    assert_eq!(server.seen().len(), 2, "a connection that was used before is no reason to try again");
    for text in [format!("{clients:?}"), format!("{failure:?}"), failure.to_string()] {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn an_endpoint_that_would_see_the_token_without_encryption_is_none() {
    for good in [
        "https://management.azure.com",
        "https://management.usgovcloudapi.net/",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost:1",
    ] {
        assert!(endpoint(good).is_ok(), "{good}");
    }
    for wrong in [
        "",
        "management.azure.com",
        "http://management.azure.com",
        "http://127.0.0.1.evil.example",
        "https://a/b",
        "https://u@a",
        "https://a?b",
        "ftp://127.0.0.1",
    ] {
        assert_eq!(endpoint(wrong).unwrap_err().field(), "endpoint", "{wrong}");
    }
}
