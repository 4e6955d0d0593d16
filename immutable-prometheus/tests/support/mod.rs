//! A server of Prometheus on this machine, and an exporter that it scrapes.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod exporter;
mod page;
mod prometheus;

use std::time::Duration;

pub(crate) use exporter::Exporter;
pub(crate) use page::Page;
pub(crate) use prometheus::Prometheus;

/// Looks until there is something to see. Prometheus goes by the clock of the machine, and cannot be told of another.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..300 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("after 300 looks, still not: {what}");
}
