//! Where metrics are read: a page at a loopback port.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// It is served until it is dropped.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Page {
    /// Serves what is written for each scrape anew.
    pub(crate) async fn serve(write: impl Fn(&mut String) -> fmt::Result + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, task: tokio::spawn(accept(listener, Arc::new(write))) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, write: Arc<impl Fn(&mut String) -> fmt::Result + Send + Sync + 'static>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let write = Arc::clone(&write);
        let service = service_fn(move |_| {
            let mut text = String::new();
            write(&mut text).unwrap();
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            let answer = Response::builder().header("content-type", kind).body(Full::new(Bytes::from(text)));
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
