//! A simulated cloud whose requests are counted by an exporter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{FleetId, MetricName, Release};
use immutable_core::provider::{
    ImageSpec, MetricKind, MetricSample, MetricSource, OpContext, Pace, Platform, ProviderError, Recipe, Window,
};
use immutable_core::testkit::conformance::{Ability, Harness, Version};
use immutable_core::testkit::{SimCloud, SimOptions};
use immutable_prometheus::{PrometheusMetrics, Query, Secret};
use jiff::{SignedDuration, Timestamp};

use crate::support::{Exporter, Prometheus};

const TENANT: &str = "a tenant that nobody must know";

#[derive(Debug)]
pub(crate) struct PrometheusHarness {
    cloud: SimCloud,
    exporter: Exporter,
    metrics: Arc<OfTheCloud>,
    _prometheus: Prometheus,
}

impl PrometheusHarness {
    pub(crate) async fn new() -> Self {
        let exporter = Exporter::start().await;
        let prometheus = Prometheus::start(exporter.address).await;
        let (boot, quick) = (Duration::from_millis(200), Duration::from_millis(20));
        let cloud = SimCloud::new(SimOptions {
            boot,
            ready_after: quick,
            register_after: quick,
            drain_for: quick,
            end_after: quick,
            call_latency: quick,
            ..SimOptions::default()
        });
        let of = |counter: &str| format!(r#"sum(increase({counter}{{fleet="{{{{fleet}}}}"}}[{{{{window}}}}]))"#);
        let metrics = PrometheusMetrics::builder(&prometheus.url)
            .header("X-Scope-OrgID", Secret::new(TENANT))
            .resolution(Duration::from_secs(1))
            .lag(Duration::from_millis(500))
            .metric("errors".parse().unwrap(), Query::ratio(of("errors_total"), of("requests_total")))
            .build()
            .unwrap();
        let ahead = Timestamp::now().duration_since(cloud.now());
        Self { cloud, exporter, metrics: Arc::new(OfTheCloud { metrics, ahead }), _prometheus: prometheus }
    }
}

/// Metrics by the time of the cloud, which has one of its own.
#[derive(Debug)]
struct OfTheCloud {
    metrics: PrometheusMetrics,
    /// How far the time of Prometheus is ahead.
    ahead: SignedDuration,
}

fn shifted(window: Window, by: SignedDuration) -> Window {
    let shift = |moment: Timestamp| moment.checked_add(by).unwrap();
    Window { from: shift(window.from), to: shift(window.to) }
}

#[async_trait]
impl MetricSource for OfTheCloud {
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        self.metrics.describe(cx, metric).await
    }

    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let samples = self.metrics.query(cx, metric, fleet, shifted(window, self.ahead)).await?;
        let back = |sample: MetricSample| MetricSample { window: shifted(sample.window, -self.ahead), ..sample };
        Ok(samples.into_iter().map(back).collect())
    }
}

#[async_trait]
impl Harness for PrometheusHarness {
    fn platform(&self) -> Platform {
        let pace = Pace { observe: Duration::from_millis(100), ..Pace::default() };
        Platform { metrics: self.metrics.clone(), pace, ..self.cloud.platform() }
    }

    fn now(&self) -> Timestamp {
        self.cloud.now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn patience(&self) -> Duration {
        Duration::from_mins(1)
    }

    async fn release(&self, version: Version) -> Release {
        self.cloud.release(&format!("{version:?}"))
    }

    fn image_spec(&self, version: Version) -> ImageSpec {
        let recipe = Recipe { base: None, layers: Vec::new(), command: vec!["app".to_owned()] };
        ImageSpec { service: self.service(), recipe, version: format!("{version:?}"), commit: None }
    }

    fn lacks(&self) -> Vec<(Ability, &'static str)> {
        let not_here = "only metrics are under test";
        let faults = [
            Ability::LoseAnswers,
            Ability::Throttle,
            Ability::Kill,
            Ability::MakeIll,
            Ability::BlindProbe,
            Ability::HoldRequest,
            Ability::Ownership,
            Ability::Reopen,
            Ability::SilentEndpoint,
        ];
        faults.map(|ability| (ability, not_here)).to_vec()
    }

    /// A request that the cloud only counts: who has the traffic has it. One in four fails.
    async fn request(&self) -> Option<Result<FleetId, String>> {
        let split = self.cloud.split();
        let fleet = split.iter().next().map(|(fleet, _)| fleet.clone());
        Some(fleet.ok_or_else(|| "the route is closed".to_owned()).inspect(|fleet| {
            self.exporter.count(fleet.as_str(), "1", 4, 1);
        }))
    }

    fn secrets(&self) -> Vec<String> {
        vec![TENANT.to_owned()]
    }
}
