//! A client that knows nothing but HTTP.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use immutable_gcp_fake::{Fake, Options};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The region of the tests.
pub(crate) const REGION: &str = "europe-west1";

/// A fake where everything takes hours, so that time passes only when a test says so.
pub(crate) fn slow() -> Options {
    let hour = std::time::Duration::from_hours(1);
    Options { operation_time: hour, boot_time: hour, stop_time: hour, health_time: hour, ..Options::default() }
}

/// A fake where operations are done when they are answered.
pub(crate) fn quick() -> Options {
    let none = std::time::Duration::ZERO;
    Options { operation_time: none, notice_time: none, page: 500, ..slow() }
}

/// Sends a request; the path is that after `projects/<project>/`. No answer: the connection broke.
pub(crate) async fn send(fake: &Fake, verb: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
    let uri = format!("/compute/v1/projects/{}/{path}", fake.project());
    send_to(fake, verb, &uri, body).await
}

/// Sends a request to any path.
pub(crate) async fn send_to(fake: &Fake, verb: &str, uri: &str, body: Option<Value>) -> Option<(u16, Value)> {
    let address = fake.url().trim_start_matches("http://").to_owned();
    let stream = TokioIo::new(TcpStream::connect(&address).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder().method(verb).uri(uri).header("host", address);
    let answer = sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Some((status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() }))
}

/// Sends a request that is to succeed.
pub(crate) async fn ask(fake: &Fake, verb: &str, path: &str, body: Option<Value>) -> Value {
    let (status, body) = send(fake, verb, path, body).await.unwrap();
    assert_eq!(status, 200, "{verb} {path}: {body}");
    body
}

/// Sends a request that is to be refused: the status and the reason.
pub(crate) async fn refused(fake: &Fake, verb: &str, path: &str, body: Option<Value>) -> (u16, String) {
    let (status, body) = send(fake, verb, path, body).await.unwrap();
    (
        status,
        body["error"]["errors"][0]["reason"].as_str().unwrap_or_else(|| panic!("{verb} {path}: {body}")).to_owned(),
    )
}

/// An instance template of an image that [`with_image`] places.
pub(crate) fn template(name: &str) -> Value {
    json!({
        "name": name,
        "properties": {
            "machineType": "e2-small",
            "labels": { "service": "web" },
            "metadata": { "items": [{ "key": "enable-oslogin", "value": "FALSE" }] },
            "disks": [{
                "boot": true,
                "autoDelete": true,
                "initializeParams": { "sourceImage": "global/images/web-1", "diskSizeGb": "10" },
            }],
            "networkInterfaces": [{ "network": "global/networks/default" }],
        },
    })
}

/// A regional group of a template.
pub(crate) fn group(name: &str, template: &str, size: u32) -> Value {
    json!({
        "name": name,
        "baseInstanceName": name,
        "versions": [{ "instanceTemplate": format!("global/instanceTemplates/{template}") }],
        "targetSize": size,
        "listManagedInstancesResults": "PAGINATED",
    })
}

/// A fake with the image that [`template`] names.
pub(crate) fn with_image(options: Options) -> Fake {
    let fake = Fake::start(options);
    fake.put("global/images/web-1", json!({ "status": "READY", "family": "web" }));
    fake
}
