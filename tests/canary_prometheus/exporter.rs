//! The counters of the local proxy, for Prometheus.

use std::fmt;

use immutable_core::model::FleetId;
use immutable_local::{FleetCounters, LocalSwitch};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

use crate::scraping::Page;

/// Exports `requests_total` and `errors_total` by `fleet`, as they are at each scrape. Every fleet begins with both at zero.
pub(crate) async fn export(switch: LocalSwitch) -> Page {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Counters(switch)));
    Page::serve(move |text| encode(text, &registry)).await
}

#[derive(Debug)]
struct Counters(LocalSwitch);

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let fleets: Vec<_> = self.0.counters().into_iter().collect();
        // As the metric `errors` of the proxy itself has it.
        let failed = |counters: &FleetCounters| counters.server_error + counters.upstream_failures;
        each(&mut encoder, "requests", "All requests", &fleets, |counters| counters.requests)?;
        each(&mut encoder, "errors", "Those that failed", &fleets, failed)
    }
}

/// A counter of each fleet.
fn each(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    fleets: &[(FleetId, FleetCounters)],
    count: impl Fn(&FleetCounters) -> u64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (fleet, counters) in fleets {
        let labels = [("fleet", fleet.as_str())];
        ConstCounter::new(count(counters)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
