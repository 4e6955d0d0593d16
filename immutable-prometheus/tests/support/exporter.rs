//! What is scraped: counters and levels of fleets, through the client library of Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

type Labels = Vec<(String, String)>;

/// An exporter of `requests_total`, `errors_total` and `queue`, each by `fleet` and `replica`.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) address: SocketAddr,
    metrics: Arc<Mutex<Metrics>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    queue: Family<Labels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    fn new() -> Self {
        let mut metrics = Self::default();
        metrics.registry.register("requests", "All requests", metrics.requests.clone());
        metrics.registry.register("errors", "Those that failed", metrics.errors.clone());
        metrics.registry.register("queue", "Those that wait", metrics.queue.clone());
        metrics
    }
}

impl Exporter {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Mutex::new(Metrics::new()));
        let task = tokio::spawn(serve(listener, Arc::clone(&metrics)));
        Self { address, metrics, task }
    }

    /// Counts requests to an instance, and those of them that failed. No failure has ever been counted where none is.
    pub(crate) fn count(&self, fleet: &str, instance: &str, requests: u64, errors: u64) {
        let metrics = self.metrics.lock().unwrap();
        metrics.requests.get_or_create(&labels(fleet, instance)).inc_by(requests);
        if errors > 0 {
            metrics.errors.get_or_create(&labels(fleet, instance)).inc_by(errors);
        }
    }

    /// Sets the level of an instance.
    pub(crate) fn level(&self, fleet: &str, instance: &str, level: f64) {
        self.metrics.lock().unwrap().queue.get_or_create(&labels(fleet, instance)).set(level);
    }

    /// Forgets all counters, as a process does that starts anew.
    pub(crate) fn restart(&self) {
        *self.metrics.lock().unwrap() = Metrics::new();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn labels(fleet: &str, instance: &str) -> Labels {
    [("fleet", fleet), ("replica", instance)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

async fn serve(listener: TcpListener, metrics: Arc<Mutex<Metrics>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let metrics = Arc::clone(&metrics);
        let service = service_fn(move |_| {
            let mut text = String::new();
            encode(&mut text, &metrics.lock().unwrap().registry).unwrap();
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            let answer = Response::builder().header("content-type", kind).body(Full::new(Bytes::from(text)));
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
