//! Four processes behind the local proxy, an exporter of the proxy's counters, and a server of Prometheus that scrapes it.

use std::sync::Arc;
use std::time::Duration;

use immutable_core::analysis::{Analysis, AtDeadline, Compared};
use immutable_core::engine::{Engine, Event, Outcome};
use immutable_core::health::HttpProbe;
use immutable_core::model::{FleetId, InstanceId, LaunchSpec, Release, RouteVersion, ServiceName, Split};
use immutable_core::plan::{RolloutSpec, StageSpec, Strategy};
use immutable_core::provider::{OpContext, Platform, Window};
use immutable_local::{LocalConfig, LocalProvisioner, LocalSwitch, SwitchOptions};
use immutable_prometheus::{PrometheusMetrics, Query};
use jiff::Timestamp;

use crate::exporter::export;
use crate::processes::{Directory, example};
use crate::scraping::{Page, Prometheus, until};
use crate::support::images::recipe_with;
use crate::support::load::{Load, LoadOptions};
use crate::support::service::Behaviour;

/// Errors of requests, as the proxy counts them.
pub(crate) const ERRORS: &str = "errors";
/// The same of series that nobody exports.
pub(crate) const SILENT: &str = "silent";
/// The same with a slip of the pen.
pub(crate) const MALFORMED: &str = "malformed";

/// The least that Prometheus can be asked about: five scrapes.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// Within this time a scrape is known to the server.
const LAG: Duration = Duration::from_millis(500);

/// Each of the canary and its baseline has a quarter.
const REQUESTS_PER_SECOND: u32 = 400;

pub(crate) struct Stand {
    pub(crate) engine: Engine,
    platform: Platform,
    switch: LocalSwitch,
    /// After the engine, which would start instances anew.
    directory: Directory,
    _exporter: Page,
    _prometheus: Prometheus,
}

/// What a rollout can touch.
#[derive(Debug, PartialEq)]
pub(crate) struct World {
    instances: Vec<(FleetId, Vec<InstanceId>)>,
    split: Split,
    version: RouteVersion,
    events: Vec<Event>,
}

impl Stand {
    /// Release 1 serves.
    pub(crate) async fn open() -> Self {
        let directory = Directory::new();
        let switch = LocalSwitch::bind(SwitchOptions::default()).unwrap();
        let exporter = export(switch.clone()).await;
        let prometheus = Prometheus::start(exporter.address).await;
        let probe = HttpProbe::get("/health").build().unwrap();
        let local = immutable_local::platform(LocalConfig::new(directory.root()), &switch, probe);
        let platform = Platform { metrics: Arc::new(metrics(&prometheus.url)), ..local };
        let engine = Engine::new(platform.clone());
        let stand = Self { engine, platform, switch, directory, _exporter: exporter, _prometheus: prometheus };
        let first = stand.release(&Behaviour::of("1")).await;
        assert_eq!(stand.roll_out(first, Strategy::blue_green()).await, Outcome::Promoted);
        stand
    }

    /// A load on the route, from now on; when this comes back Prometheus knows how it is answered.
    pub(crate) async fn load(&self) -> Load {
        let load = Load::start(self.switch.address(), LoadOptions::per_second(REQUESTS_PER_SECOND));
        let (cx, errors, from) = (OpContext::standalone("wait for data"), name(ERRORS), Timestamp::now());
        let fleet = self.world().await.instances.remove(0).0;
        until("Prometheus knows of release 1", async || {
            let window = Window { from, to: Timestamp::now() };
            let samples = self.platform.metrics.query(&cx, &errors, &fleet, window).await.unwrap();
            (!samples.is_empty()).then_some(())
        })
        .await;
        load
    }

    /// The release that behaves so.
    pub(crate) async fn release(&self, behaviour: &Behaviour) -> Release {
        let image = recipe_with(&example("service"), self.directory.path(), &service(), behaviour).unwrap();
        Release::new(self.engine.image(&image).await.unwrap(), LaunchSpec::default())
    }

    pub(crate) fn spec(&self, release: Release, strategy: Strategy) -> RolloutSpec {
        RolloutSpec::new(service(), self.switch.route().clone(), release, strategy).desired(4)
    }

    /// Rolls a release out to the end.
    pub(crate) async fn roll_out(&self, release: Release, strategy: Strategy) -> Outcome {
        self.engine.start(self.spec(release, strategy)).await.unwrap().wait().await.unwrap()
    }

    /// What happened in the last rollout, by the journal.
    pub(crate) async fn events(&self) -> Vec<Event> {
        self.engine.history(&service()).await.unwrap().last_rollout().to_vec()
    }

    pub(crate) async fn world(&self) -> World {
        let cx = OpContext::standalone("look around");
        let fleets = self.platform.fleets.observe(&cx, &service()).await.unwrap().fleets;
        let ids = |fleet: immutable_core::model::ObservedFleet| {
            (fleet.id, fleet.instances.into_iter().map(|instance| instance.id).collect())
        };
        let traffic = self.platform.traffic.observe(&cx, self.switch.route()).await.unwrap();
        World {
            instances: fleets.into_iter().map(ids).collect(),
            split: traffic.split,
            version: traffic.version,
            events: self.events().await,
        }
    }

    /// Ends all instances.
    pub(crate) async fn close(self) {
        drop(self.engine);
        LocalProvisioner::new(LocalConfig::new(self.directory.root())).shut_down(&service()).await.unwrap();
    }
}

/// A quarter of the traffic, then half, each judged by a metric beside a baseline of the same size and share.
pub(crate) fn canary(metric: &str) -> Strategy {
    let analysis = Analysis::of([Compared::new(name(metric)).acceptable(0.02)])
        .interval(INTERVAL)
        .delay(LAG)
        .minimum_time(Duration::from_secs(3))
        .minimum_requests(200)
        .minimum_instances(1)
        .deadline(Duration::from_mins(2))
        .at_deadline(AtDeadline::GoBack);
    Strategy::canary([25, 50].map(|percent| StageSpec::percent(percent).unwrap())).analysis(analysis)
}

fn metrics(url: &str) -> PrometheusMetrics {
    let of = |counter: &str| format!(r#"sum(increase({counter}{{fleet="{{{{fleet}}}}"}}[{{{{window}}}}]))"#);
    let (errors, requests) = (of("errors_total"), of("requests_total"));
    PrometheusMetrics::builder(url)
        .resolution(INTERVAL)
        .lag(LAG)
        .metric(name(ERRORS), Query::ratio(&errors, &requests))
        .metric(name(SILENT), Query::ratio(&errors, of("reqeusts_total")))
        .metric(name(MALFORMED), Query::ratio(format!("{errors})"), &requests))
        .build()
        .unwrap()
}

fn service() -> ServiceName {
    name("web")
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}
