//! Metrics of rollouts from [Prometheus](https://prometheus.io), and from what speaks its API.
//!
//! [`PrometheusMetrics`] is the [`MetricSource`](immutable_core::provider::MetricSource) of a platform; the other parts of that are
//! anybody's. What a metric is, its [`Query`] says:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use immutable_core::provider::Platform;
//! use immutable_prometheus::{PrometheusMetrics, Query, Secret};
//!
//! fn with_prometheus(platform: Platform, token: String) -> Result<Platform, Box<dyn std::error::Error>> {
//!     let metrics = PrometheusMetrics::builder("https://prometheus.example.com")
//!         .bearer_token(Secret::new(token))
//!         .resolution(Duration::from_secs(60)) // four scrapes, one each 15 seconds
//!         .metric(
//!             "errors".parse()?,
//!             Query::ratio(
//!                 r#"sum(increase(http_requests_total{fleet="{{fleet}}",code=~"5.."}[{{window}}]))"#,
//!                 r#"sum(increase(http_requests_total{fleet="{{fleet}}"}[{{window}}]))"#,
//!             ),
//!         )
//!         .metric(
//!             "latency_p99".parse()?,
//!             Query::gauge(
//!                 r#"histogram_quantile(0.99, sum by (le) (rate(http_seconds_bucket{fleet="{{fleet}}"}[{{window}}])))"#,
//!             ),
//!         )
//!         .build()?;
//!     Ok(Platform { metrics: Arc::new(metrics), ..platform })
//! }
//! ```
//!
//! # What Prometheus must know
//! Series need a label that tells fleets apart. Every instance is tagged with its fleet; the discovery of a cloud makes that a label of its
//! targets, such as `__meta_ec2_tag_immutable_fleet` on AWS, and a rule of the scrape's `relabel_configs` keeps it as `fleet`. Whoever
//! exports its own metrics can put the label on by itself.
//!
//! A scrape must come often enough for the [resolution](MetricsBuilder::resolution), and what is known late must be known within the
//! [lag](MetricsBuilder::lag).

mod client;
mod config;
mod metric_source;
mod query;
mod secret;
mod steps;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod value;

pub use config::{ConfigError, MetricsBuilder};
pub use metric_source::PrometheusMetrics;
pub use query::Query;
pub use secret::Secret;
