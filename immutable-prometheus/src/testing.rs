//! A server for the tests here, that answers as it was told to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::net::TcpListener;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) form: Vec<(String, String)>,
}

impl Seen {
    /// The value of a parameter.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap()
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        body: String,
    },
    /// Ends the connection without an answer.
    HangUp,
    /// Never answers.
    Silence,
}

/// An answer in JSON.
pub(crate) fn json(status: u16, body: &str) -> Reply {
    Reply::Answer { status, headers: vec![("content-type", "application/json")], body: body.to_owned() }
}

/// A good answer with series, each of moments and numbers.
pub(crate) fn series(series: &[&[(i64, &str)]]) -> Reply {
    let one = |(number, values): (usize, &&[(i64, &str)])| {
        let values: Vec<_> = values.iter().map(|(at, value)| format!("[{at},\"{value}\"]")).collect();
        format!(r#"{{"metric":{{"n":"{number}"}},"values":[{}]}}"#, values.join(","))
    };
    let series: Vec<_> = series.iter().enumerate().map(one).collect();
    let data = format!(r#"{{"resultType":"matrix","result":[{}]}}"#, series.join(","));
    json(200, &format!(r#"{{"status":"success","data":{data}}}"#))
}

/// A server on this machine. What it has no reply for, it does not answer.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let replies = Arc::new(Mutex::new(replies.into_iter().collect()));
        let seen = Arc::default();
        let task = tokio::spawn(serve(listener, replies, Arc::clone(&seen)));
        Self { url, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
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
        let (replies, seen) = (Arc::clone(&replies), Arc::clone(&seen));
        let service = service_fn(move |request| handle(request, Arc::clone(&replies), Arc::clone(&seen)));
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn handle(
    request: hyper::Request<Incoming>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, HungUp> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    // A form is written as the query of a URL.
    let form = Url::parse(&format!("http://a/?{}", String::from_utf8_lossy(&body))).unwrap();
    let form = form.query_pairs().into_owned().collect();
    seen.lock().unwrap().push(Seen { line: format!("{} {}", head.method, head.uri), headers: head.headers, form });
    let reply = replies.lock().unwrap().pop_front().unwrap_or(Reply::HangUp);
    match reply {
        Reply::Answer { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body.into())).unwrap())
        }
        Reply::HangUp => Err(HungUp),
        Reply::Silence => match std::future::pending::<Infallible>().await {},
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection ends here")]
struct HungUp;
