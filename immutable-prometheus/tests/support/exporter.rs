//! What is scraped: counters and levels of fleets, through the client library of Prometheus.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Page;

type Labels = Vec<(String, String)>;

/// An exporter of `requests_total`, `errors_total` and `queue`, each by `fleet` and `replica`.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) address: SocketAddr,
    metrics: Arc<Mutex<Metrics>>,
    _page: Page,
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
        let metrics = Arc::new(Mutex::new(Metrics::new()));
        let scraped = Arc::clone(&metrics);
        let page = Page::serve(move |text| encode(text, &scraped.lock().unwrap().registry)).await;
        Self { address: page.address, metrics, _page: page }
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

fn labels(fleet: &str, instance: &str) -> Labels {
    [("fleet", fleet), ("replica", instance)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
