//! What a real server of Prometheus says of a real exporter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{
    Effect, ErrorKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};
use immutable_prometheus::{MetricsBuilder, PrometheusMetrics, Query};
use jiff::Timestamp;
use support::{Exporter, Prometheus, until};

const ERRORS: &str = r#"sum(increase(errors_total{fleet="{{fleet}}"}[{{window}}]))"#;
const REQUESTS: &str = r#"sum(increase(requests_total{fleet=~"{{fleet}}"}[{{window}}]))"#;
const QUEUE: &str = r"sum(avg_over_time(queue{fleet='{{fleet}}'}[{{window}}]))";

/// A server, and what it scrapes.
struct Stand {
    exporter: Exporter,
    prometheus: Prometheus,
    start: Timestamp,
}

impl Stand {
    async fn open() -> Self {
        let exporter = Exporter::start().await;
        let prometheus = Prometheus::start(exporter.address).await;
        Self { exporter, prometheus, start: Timestamp::now() }
    }

    /// Metrics of a second each, as soon as the second is over.
    fn builder(&self) -> MetricsBuilder {
        let builder = PrometheusMetrics::builder(&self.prometheus.url);
        let builder = builder.resolution(Duration::from_secs(1)).lag(Duration::from_millis(500));
        builder.metric(name("errors"), Query::ratio(ERRORS, REQUESTS)).metric(name("queue"), Query::gauge(QUEUE))
    }

    fn metrics(&self) -> PrometheusMetrics {
        self.builder().build().unwrap()
    }

    /// All since the start.
    async fn query(&self, metrics: &PrometheusMetrics, metric: &str, fleet: &str) -> Samples {
        query(metrics, metric, fleet, self.start, Timestamp::now()).await
    }
}

type Samples = Result<Vec<MetricSample>, ProviderError>;

fn name(text: &str) -> MetricName {
    text.parse().unwrap()
}

async fn query(metrics: &PrometheusMetrics, metric: &str, fleet: &str, from: Timestamp, to: Timestamp) -> Samples {
    let (cx, fleet) = (OpContext::standalone("test"), fleet.parse::<FleetId>().unwrap());
    metrics.query(&cx, &name(metric), &fleet, Window { from, to }).await
}

/// Parts and wholes, in sum.
fn sums(samples: &[MetricSample]) -> (u64, u64) {
    let counts = samples.iter().map(|sample| match sample.value {
        MetricValue::Ratio { part, whole } => (part, whole),
        _ => panic!("{sample:?}"),
    });
    counts.fold((0, 0), |(parts, wholes), (part, whole)| (parts + part, wholes + whole))
}

#[tokio::test]
async fn errors_are_counted_of_requests_for_each_fleet_by_itself() {
    let stand = Stand::open().await;
    let metrics = stand.metrics();
    let (bad, good) = until("four seconds of traffic", async || {
        for replica in ["1", "2"] {
            stand.exporter.count("web-bad", replica, 40, 10);
            stand.exporter.count("web-good", replica, 40, 0);
        }
        let bad = stand.query(&metrics, "errors", "web-bad").await.unwrap();
        let good = stand.query(&metrics, "errors", "web-good").await.unwrap();
        (bad.len() >= 4).then_some((bad, good))
    })
    .await;
    for sample in &bad {
        let MetricValue::Ratio { part, whole } = sample.value else { panic!("{sample:?}") };
        // A quarter, but for the rounding of both.
        assert!(whole > 40 && (4 * part).abs_diff(whole) <= 4, "{sample:?}");
        assert!(sample.window.from.subsec_nanosecond() == 0 && sample.window.from >= stand.start, "{sample:?}");
        assert_eq!(sample.window.to.duration_since(sample.window.from).as_secs(), 1);
    }
    // There is no series of its errors, as there never was one.
    assert!(good.len() >= 3 && sums(&good).0 == 0 && sums(&good).1 > 160, "{good:?}");

    // What is over is the same in every window that it is in, and in none of two side by side twice.
    let (end, middle) = (bad[3].window.to, bad[1].window.to);
    let mut halves = query(&metrics, "errors", "web-bad", stand.start, middle).await.unwrap();
    assert_eq!(halves.len(), 2);
    halves.extend(query(&metrics, "errors", "web-bad", middle, end).await.unwrap());
    assert_eq!(halves, query(&metrics, "errors", "web-bad", stand.start, end).await.unwrap());
    // The server allows eleven thousand moments, and four hours have more.
    let long_ago = end.checked_sub(Duration::from_hours(4)).unwrap();
    assert_eq!(halves, query(&metrics, "errors", "web-bad", long_ago, end).await.unwrap());

    for fleet in ["web-none", ".*", "web-b(a)d", "web-bad\"}or+up{a=\"", "web-good'\\"] {
        assert_eq!(stand.query(&metrics, "errors", fleet).await.unwrap(), [], "{fleet}");
        assert_eq!(stand.query(&metrics, "queue", fleet).await.unwrap(), [], "{fleet}");
    }
}

#[tokio::test]
async fn a_level_is_a_number_or_nothing() {
    let stand = Stand::open().await;
    stand.exporter.level("web-1", "1", 2.5);
    stand.exporter.level("web-1", "2", -1.0);
    stand.exporter.level("web-nan", "1", f64::NAN);
    stand.exporter.level("web-full", "1", f64::INFINITY);
    let metrics = stand.metrics();
    let levels = until("two levels", async || {
        let levels = stand.query(&metrics, "queue", "web-1").await.unwrap();
        (levels.len() > 1).then_some(levels)
    })
    .await;
    assert!(levels.iter().all(|sample| sample.value == MetricValue::Gauge(1.5)), "{levels:?}");
    // They were in the same scrapes.
    for fleet in ["web-nan", "web-full", "web-2"] {
        assert_eq!(stand.query(&metrics, "queue", fleet).await.unwrap(), [], "{fleet}");
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_judged_is_refused_before_anything_is_touched() {
    let stand = Stand::open().await;
    let by_replica = r#"avg_over_time(queue{fleet="{{fleet}}"}[{{window}}])"#;
    let unequal = r#"queue{fleet="{{fleet}}"} + on() avg_over_time(queue{fleet="{{fleet}}"}[{{window}}])"#;
    let builder = stand.builder().sample_fleet("web-1".parse().unwrap());
    let builder = builder.metric(name("several"), Query::gauge(by_replica));
    let builder = builder.metric(name("unequal"), Query::gauge(unequal));
    let builder = builder.metric(name("text"), Query::gauge(r#""{{fleet}} {{window}}""#));
    let builder = builder.metric(name("malformed"), Query::ratio(format!("{ERRORS})"), REQUESTS));
    let metrics = builder.build().unwrap();
    let cx = OpContext::standalone("test");
    let describe = async |metric: &str| metrics.describe(&cx, &name(metric)).await;
    for replica in ["1", "2"] {
        stand.exporter.level("web-1", replica, 1.0);
    }
    let several = "metric several, query: comes to several series: aggregate with sum()";
    until("levels of two", async || {
        let error = describe("several").await.err()?;
        error.to_string().ends_with(several).then_some(())
    })
    .await;
    let query = stand.query(&metrics, "several", "web-1").await.unwrap_err();
    assert_eq!((query.kind(), query.effect()), (ErrorKind::InvalidRequest, Effect::None));
    for (metric, words) in [
        ("malformed", "metric malformed, part: the server refuses the query: 1:48: parse error"),
        ("text", "metric text, query: the server refuses the query: invalid expression type"),
        ("unequal", "metric unequal, query: the server refuses the query: found duplicate series"),
    ] {
        let error = describe(metric).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    describe("queue").await.unwrap();
    // Nobody has sent a request, and the fleet was said to have data.
    let error = describe("errors").await.unwrap_err();
    assert!(error.to_string().contains("metric errors, whole: comes to no number for fleet web-1"), "{error}");
    stand.metrics().describe(&cx, &name("errors")).await.unwrap();
}

#[tokio::test]
async fn counters_that_begin_anew_are_no_negative_count() {
    let stand = Stand::open().await;
    let wrong = REQUESTS.replace("increase", "delta");
    let metrics = stand.builder().metric(name("fallen"), Query::ratio(ERRORS, wrong)).build().unwrap();
    stand.exporter.count("web-1", "1", 1_000_000, 1_000_000);
    let mut counted = 0;
    let mut traffic = |number: u64| {
        stand.exporter.count("web-1", "1", number, 0);
        counted += number;
    };
    let since = async |moment: Timestamp| {
        let samples = stand.query(&metrics, "errors", "web-1").await.unwrap();
        samples.iter().filter(|sample| sample.window.from >= moment).count()
    };
    let start = stand.start;
    until("two seconds of traffic", async || {
        traffic(40);
        (since(start).await >= 2).then_some(())
    })
    .await;
    // Between two scrapes of the same second: what falls from one second to the next is in neither.
    let is_amid = || (300..600).contains(&Timestamp::now().subsec_millisecond());
    until("the middle of a second", async || is_amid().then_some(())).await;
    stand.exporter.restart();
    let restart = Timestamp::now();
    until("two seconds of traffic after the restart", async || {
        traffic(40);
        (since(restart).await >= 2).then_some(())
    })
    .await;
    let samples = stand.query(&metrics, "errors", "web-1").await.unwrap();
    let (errors, requests) = sums(&samples);
    assert!(errors == 0 && (counted / 3..2 * counted).contains(&requests), "{counted} counted: {samples:?}");
    // Whoever takes a difference for a count has a second without data, and none with less than nothing.
    let fallen = stand.query(&metrics, "fallen", "web-1").await.unwrap();
    assert!(sums(&fallen).1 < 2 * counted && fallen.len() < samples.len(), "{fallen:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_and_no_silence() {
    let mut stand = Stand::open().await;
    let metrics = stand.metrics();
    let cx = OpContext::standalone("test");
    metrics.describe(&cx, &name("errors")).await.unwrap();
    stand.prometheus.stop();
    let past = stand.start.checked_sub(Duration::from_mins(1)).unwrap();
    let error = query(&metrics, "errors", "web-1", past, stand.start).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None), "{error}");
    let error = metrics.describe(&cx, &name("errors")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
