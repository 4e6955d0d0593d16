//! What the tests here need: a server that answers as it was told to, and a credential that always has a token.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration, OffsetDateTime};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpListener;

use crate::Clients;
use crate::client::Answer;

/// The token that must be nowhere but in requests to the server.
pub(crate) const TOKEN: &str = "hunter2";

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answer(Answer),
    /// Ends the connection without an answer.
    HangUp,
    /// Never answers.
    Silence,
}

/// An answer with these headers.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    let mut map = HeaderMap::new();
    for (key, value) in headers {
        map.append(name(key), HeaderValue::from_str(value).unwrap());
    }
    Answer { status, headers: map, body: Bytes::copy_from_slice(body.as_bytes()) }
}

pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    Reply::Answer(answer(status, headers, body))
}

/// A server on this machine. What it has no reply for, it does not answer.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::default();
        let task = tokio::spawn(serve(listener, replies.clone(), Arc::clone(&seen)));
        Self { url, replies, seen, task }
    }

    /// Clients of this server, with a credential that always has a token.
    pub(crate) fn clients(&self) -> Clients {
        Clients::new(Arc::new(Known::default()), Some(&self.url)).unwrap()
    }

    pub(crate) fn then(&self, reply: Reply) {
        self.replies.lock().unwrap().push_back(reply);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The request, where there was one attempt.
    pub(crate) fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, replies: Arc<Mutex<VecDeque<Reply>>>, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (replies, seen) = (replies.clone(), seen.clone());
        let service = service_fn(move |request| handle(request, replies.clone(), seen.clone()));
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn handle(
    request: hyper::Request<Incoming>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<hyper::Response<Full<Bytes>>, HungUp> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push(Seen { line: format!("{} {}", head.method, head.uri), headers: head.headers, body });
    let reply = replies.lock().unwrap().pop_front().unwrap_or(Reply::HangUp);
    match reply {
        Reply::Answer(Answer { status, headers, body }) => {
            let mut response = hyper::Response::new(Full::new(body));
            *response.status_mut() = status.try_into().unwrap();
            *response.headers_mut() = headers;
            Ok(response)
        }
        Reply::HangUp => Err(HungUp),
        Reply::Silence => match std::future::pending::<Infallible>().await {},
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection ends here")]
struct HungUp;

/// A credential that always has the token, and counts how often it is asked.
#[derive(Default)]
pub(crate) struct Known {
    asked: AtomicU32,
    lasts: Option<Duration>,
}

impl Known {
    /// One whose tokens last for this time, and not for an hour.
    pub(crate) fn lasting(time: Duration) -> Self {
        Self { lasts: Some(time), ..Self::default() }
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Known {
    /// As careless as a credential of a user may be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(TOKEN)
    }
}

#[async_trait]
impl TokenCredential for Known {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(AccessToken::new(TOKEN, OffsetDateTime::now_utc() + self.lasts.unwrap_or(Duration::hours(1))))
    }
}
