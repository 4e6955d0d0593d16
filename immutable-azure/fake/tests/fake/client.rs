//! A client that knows nothing but HTTP.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::http::HeaderMap;
use hyper::{Request, http};
use hyper_util::rt::TokioIo;
use immutable_azure_fake::{Fake, Options};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The type of scale sets.
pub(crate) const SETS: &str = "Microsoft.Compute/virtualMachineScaleSets";

/// The image that [`with_image`] places.
pub(crate) const IMAGE: &str = "Microsoft.Compute/galleries/golden/images/web/versions/1.0.0";

/// A fake where everything takes hours, so that time passes only when a test says so.
pub(crate) fn slow() -> Options {
    let hour = std::time::Duration::from_hours(1);
    Options { operation_time: hour, boot_time: hour, stop_time: hour, health_time: hour, ..Options::default() }
}

/// A fake where an operation that waits for no machine is over when it is answered.
pub(crate) fn quick() -> Options {
    Options { operation_time: std::time::Duration::ZERO, page: 500, ..slow() }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or_else(|| panic!("{self:?}")))
    }
}

/// Sends any request to the path and query of a URL. No answer: the connection broke.
pub(crate) async fn send_raw(fake: &Fake, request: http::request::Builder, url: &str, body: String) -> Option<Heard> {
    let host = fake.url().trim_start_matches("http://").to_owned();
    let stream = TokioIo::new(TcpStream::connect(&host).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = request.uri(url.strip_prefix(&fake.url()).unwrap_or(url)).header("host", host);
    let answer = sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.ok()?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some(Heard { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// Sends a request about a resource, named from its type on, with a header if there is one to give.
pub(crate) async fn send_with(
    fake: &Fake,
    verb: &str,
    path: &str,
    body: Option<Value>,
    (name, value): (&str, &str),
) -> Option<Heard> {
    let url = if path.starts_with("http://") {
        path.to_owned()
    } else {
        let sign = if path.contains('?') { '&' } else { '?' };
        format!("{}{sign}api-version=2024-07-01", fake.id(path))
    };
    let mut request = Request::builder().method(verb).header("authorization", "Bearer of-a-test");
    if !name.is_empty() {
        request = request.header(name, value);
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    send_raw(fake, request, &url, body.map(|body| body.to_string()).unwrap_or_default()).await
}

/// Sends a request about a resource.
pub(crate) async fn send(fake: &Fake, verb: &str, path: &str, body: Option<Value>) -> Heard {
    send_with(fake, verb, path, body, ("", "")).await.unwrap_or_else(|| panic!("{verb} {path}: no answer"))
}

/// Sends a request that is to succeed.
pub(crate) async fn ask(fake: &Fake, verb: &str, path: &str, body: Option<Value>) -> Heard {
    let heard = send(fake, verb, path, body).await;
    assert!(heard.status < 300, "{verb} {path}: {heard:?}");
    heard
}

/// Reads a resource, or a URL.
pub(crate) async fn read(fake: &Fake, path: &str) -> Value {
    ask(fake, "GET", path, None).await.body
}

/// The status of the operation that an answer leads to.
pub(crate) async fn status(fake: &Fake, heard: &Heard) -> Value {
    read(fake, heard.header("azure-asyncoperation")).await
}

/// All entries of a list, from all of its pages.
pub(crate) async fn all(fake: &Fake, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = read(fake, &next).await;
        found.extend(page["value"].as_array().unwrap().clone());
        let Some(link) = page["nextLink"].as_str() else { return found };
        link.clone_into(&mut next);
    }
}

/// A fake with an image to make machines of.
pub(crate) fn with_image(options: Options) -> Fake {
    let fake = Fake::start(options);
    fake.put(IMAGE, json!({}));
    fake
}

/// A scale set of that image: machines in all zones, with a health extension.
pub(crate) fn set(fake: &Fake, mode: &str, capacity: u32) -> Value {
    let subnet = fake.id("Microsoft.Network/virtualNetworks/net/subnets/main");
    json!({
        "location": "westeurope",
        "sku": { "name": "Standard_B2s", "tier": "Standard", "capacity": capacity },
        "zones": ["1", "2", "3"],
        "tags": { "service": "web" },
        "properties": {
            "orchestrationMode": mode,
            "platformFaultDomainCount": 1,
            "upgradePolicy": { "mode": "Manual" },
            "virtualMachineProfile": {
                "storageProfile": { "imageReference": { "id": fake.id(IMAGE) }, "osDisk": { "createOption": "FromImage" } },
                "osProfile": { "computerNamePrefix": "web", "customData": "c2VjcmV0" },
                "networkProfile": {
                    "networkApiVersion": "2022-11-01",
                    "networkInterfaceConfigurations": [{
                        "name": "main",
                        "properties": {
                            "primary": true,
                            "ipConfigurations": [{ "name": "main", "properties": { "subnet": { "id": subnet } } }],
                        },
                    }],
                },
                "extensionProfile": {
                    "extensions": [{
                        "name": "health",
                        "properties": {
                            "publisher": "Microsoft.ManagedServices",
                            "type": "ApplicationHealthLinux",
                            "typeHandlerVersion": "1.0",
                            "settings": { "protocol": "http", "port": 8080, "requestPath": "/healthz" },
                        },
                    }],
                },
            },
        },
    })
}
