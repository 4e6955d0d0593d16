//! As much of the S3 API as a journal uses, over real HTTP on loopback: conditional writes, reads, pages of lists, deletion.
//! An `ETag` is the MD5 of the body, as it is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use immutable_object_store::object_store::aws::AmazonS3Builder;
use immutable_object_store::{ObjectRecordStore, retry_config};
use md5::{Digest as _, Md5};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub(crate) const SECRET: &str = "the-secret-access-key";
pub(crate) const KEY_ID: &str = "the-access-key-id";
pub(crate) const TOKEN: &str = "the-session-token";
const DATE: &str = "Sat, 21 Nov 2026 05:00:00 GMT";
/// Small, so that every longer list has several pages.
const PAGE: usize = 7;

/// What happens to one write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It takes place, and the connection ends without an answer.
    LostAnswer,
    /// The connection ends before it takes place.
    LostRequest,
    /// It is refused because another is under way, and leaves everything as it was.
    Conflict,
    /// It is refused because there are too many.
    SlowDown,
    /// It is refused as badly signed, and the answer repeats what was signed.
    BadSignature,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    writes: usize,
    /// The write that fails, counted from 0.
    fault: Option<(usize, Fault)>,
}

/// A server, until it is dropped.
#[derive(Debug)]
pub(crate) struct S3 {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
    accepting: AbortHandle,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl S3 {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let accepting = tokio::spawn(accept(listener, state.clone())).abort_handle();
        Self { endpoint, state, accepting }
    }

    pub(crate) fn failing(self, write: usize, fault: Fault) -> Self {
        self.state.lock().unwrap().fault = Some((write, fault));
        self
    }

    pub(crate) fn records(&self) -> ObjectRecordStore {
        records(&self.endpoint)
    }

    pub(crate) fn writes(&self) -> usize {
        self.state.lock().unwrap().writes
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

/// Records in the bucket of a server.
pub(crate) fn records(endpoint: &str) -> ObjectRecordStore {
    let bucket = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name("bucket")
        .with_region("nowhere")
        .with_access_key_id(KEY_ID)
        .with_secret_access_key(SECRET)
        .with_token(TOKEN)
        .with_retry(retry_config())
        .build()
        .unwrap();
    ObjectRecordStore::new(Arc::new(bucket), "some/prefix")
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let state = state.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| answer(request, &state));
            // An error is a connection that ended, which is also how an answer is lost.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Result<Answer, &'static str> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| "the request was cut off")?.to_bytes();
    let mut state = state.lock().unwrap();
    let key = head.uri.path().strip_prefix("/bucket").unwrap_or_default().trim_start_matches('/').to_owned();
    if !head.headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256 ")) {
        return Ok(status(StatusCode::UNAUTHORIZED, "AccessDenied"));
    }
    let query = head.uri.query().unwrap_or_default();
    Ok(match head.method {
        Method::PUT => return state.put_or_fail(key, body, &head.headers),
        Method::POST if query == "delete" => state.delete(&String::from_utf8_lossy(&body)),
        Method::GET if key.is_empty() => state.list(query),
        Method::GET | Method::HEAD => state.get(&key),
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    })
}

impl State {
    fn put_or_fail(&mut self, key: String, body: Bytes, headers: &HeaderMap) -> Result<Answer, &'static str> {
        let number = self.writes;
        self.writes += 1;
        match self.fault {
            Some((which, fault)) if which == number => match fault {
                Fault::LostAnswer => {
                    self.put(key, body, headers);
                    Err("the answer is lost")
                }
                Fault::LostRequest => Err("the request is lost"),
                Fault::Conflict => Ok(status(StatusCode::CONFLICT, "ConditionalRequestConflict")),
                Fault::SlowDown => Ok(status(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
                Fault::BadSignature => Ok(status(
                    StatusCode::FORBIDDEN,
                    &format!("SignatureDoesNotMatch</Code><CanonicalRequest>{headers:?}</CanonicalRequest><Code>"),
                )),
            },
            _ => Ok(self.put(key, body, headers)),
        }
    }

    fn put(&mut self, key: String, body: Bytes, headers: &HeaderMap) -> Answer {
        let there = self.objects.get(&key).map(|object| e_tag(object));
        if headers.get(IF_NONE_MATCH).is_some_and(|value| value == "*") && there.is_some() {
            return status(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        match (headers.get(IF_MATCH), there) {
            (Some(_), None) => return status(StatusCode::NOT_FOUND, "NoSuchKey"),
            (Some(expected), Some(there)) if *expected != there => {
                return status(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
            }
            _ => {}
        }
        let answer = Response::builder().header(ETAG, e_tag(&body)).body(Full::default()).unwrap();
        self.objects.insert(key, body);
        answer
    }

    fn get(&self, key: &str) -> Answer {
        let Some(object) = self.objects.get(key) else { return status(StatusCode::NOT_FOUND, "NoSuchKey") };
        let answer = Response::builder().header(ETAG, e_tag(object)).header(LAST_MODIFIED, DATE);
        answer.body(Full::new(object.clone())).unwrap()
    }

    fn list(&self, query: &str) -> Answer {
        let value = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, v)| decode(v))
        };
        let prefix = value("prefix").unwrap_or_default();
        let after = value("continuation-token").or(value("start-after")).unwrap_or_default();
        let later = self.objects.range((Bound::Excluded(after), Bound::Unbounded));
        let mut found = later.filter(|(key, _)| key.starts_with(&prefix));
        let mut contents = String::new();
        let mut last = "";
        for (key, object) in found.by_ref().take(PAGE) {
            last = key;
            let (e_tag, size) = (e_tag(object).replace('"', "&quot;"), object.len());
            write!(
                contents,
                "<Contents><Key>{key}</Key><LastModified>2026-11-21T05:00:00.000Z</LastModified>\
                 <ETag>{e_tag}</ETag><Size>{size}</Size></Contents>"
            )
            .unwrap();
        }
        if found.next().is_some() {
            write!(contents, "<NextContinuationToken>{last}</NextContinuationToken>").unwrap();
        }
        xml(StatusCode::OK, format!("<ListBucketResult>{contents}</ListBucketResult>"))
    }

    fn delete(&mut self, body: &str) -> Answer {
        let mut deleted = String::new();
        for part in body.split("<Key>").skip(1) {
            let (key, _) = part.split_once("</Key>").unwrap();
            self.objects.remove(key);
            write!(deleted, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
        }
        xml(StatusCode::OK, format!("<DeleteResult>{deleted}</DeleteResult>"))
    }
}

fn e_tag(body: &[u8]) -> String {
    let mut digits = String::new();
    for byte in Md5::digest(body) {
        write!(digits, "{byte:02x}").unwrap();
    }
    format!("\"{digits}\"")
}

fn status(status: StatusCode, code: &str) -> Answer {
    xml(status, format!("<Error><Code>{code}</Code></Error>"))
}

fn xml(status: StatusCode, body: String) -> Answer {
    let body = Full::new(Bytes::from(body));
    Response::builder().status(status).header(CONTENT_TYPE, "application/xml").body(body).unwrap()
}

/// Takes the percent signs out of a part of a query.
fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        decoded.push(u8::from_str_radix(&part[..2], 16).unwrap().into());
        decoded.push_str(&part[2..]);
    }
    decoded
}
