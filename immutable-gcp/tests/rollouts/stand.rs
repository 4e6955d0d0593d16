//! A service in a project of the fake, and what is left of its rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use immutable_core::engine::{Engine, Outcome, Rollout};
use immutable_core::journal::MemoryJournal;
use immutable_core::model::{FleetId, RouteId, ServiceName};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{OpContext, Pace, Platform};
use immutable_core::testkit::hasty;
use immutable_gcp::{BackendServiceSwitch, Config};
use immutable_gcp_fake::Options;

use crate::support::Project;

/// No rollout takes so long here.
const LIMIT: Duration = Duration::from_mins(4);

/// What the traffic goes by, and where instances are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The weights of a global URL map, and regional groups.
    Weights,
    /// The members of a backend service, and zonal groups.
    Members,
    /// The weights of a regional URL map whose backend service has a security policy, and instances with everything that needs a permission.
    Everything,
}

#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) project: Project,
    pub(crate) journal: MemoryJournal,
    kind: Kind,
}

impl Stand {
    pub(crate) async fn new(kind: Kind, options: Options) -> Self {
        let project = Project::open(options).await;
        if kind == Kind::Everything {
            project.regional_balancer();
        }
        Self { project, journal: MemoryJournal::new(), kind }
    }

    pub(crate) fn route(&self) -> RouteId {
        let route = match self.kind {
            Kind::Weights => "global/urlMaps/web",
            Kind::Members => "global/backendServices/web",
            Kind::Everything => "regions/europe-west1/urlMaps/web",
        };
        route.parse().unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        let project = self.project.fake.project();
        let builder = match self.kind {
            Kind::Weights => self.project.regional(),
            Kind::Members => self.project.zonal(),
            Kind::Everything => {
                let account = format!("web@{project}.iam.gserviceaccount.com");
                self.project.regional().service_account(account).network_tags(["web"]).with_external_addresses()
            }
        };
        let place = if self.kind == Kind::Everything { "regions/europe-west1" } else { "global" };
        let check = format!("projects/{project}/{place}/healthChecks/web");
        let builder = builder.autohealing(check, Duration::from_hours(1)).weight_lag(Duration::ZERO);
        builder.routes([self.route()]).build().unwrap()
    }

    /// The platform, looked at more often than a real one would bear.
    pub(crate) fn platform(&self) -> Platform {
        let config = self.config();
        let pace = Pace {
            observe: Duration::from_millis(50),
            probe_starting: Duration::from_millis(50),
            probe_running: Duration::from_millis(200),
            ambiguity_horizon: Duration::from_secs(1),
            list_lag: Duration::ZERO,
            ..Pace::default()
        };
        let platform = Platform { pace, ..immutable_gcp::platform(&config) };
        match self.kind {
            Kind::Weights | Kind::Everything => platform,
            Kind::Members => Platform { traffic: Arc::new(BackendServiceSwitch::new(config)), ..platform },
        }
    }

    /// The same, asked again sooner than it says: a second of the API lasts ten milliseconds on the fake.
    pub(crate) fn hasty(&self) -> Platform {
        hasty(self.platform(), 20)
    }

    /// A driver, which knows what the journal tells and nothing else.
    pub(crate) fn engine(&self) -> Engine {
        Engine::builder(self.hasty()).journal(self.journal.clone()).build()
    }

    pub(crate) fn fleet(&self, number: usize) -> FleetId {
        FleetId::of(&service(), &self.project.release(IMAGES[number]).id())
    }

    pub(crate) fn spec(&self, number: usize, strategy: Strategy, size: u32) -> RolloutSpec {
        RolloutSpec::new(service(), self.route(), self.project.release(IMAGES[number]), strategy).desired(size)
    }

    /// Rolls a release out to its end.
    pub(crate) async fn roll_out(&self, number: usize, strategy: Strategy, size: u32) -> Outcome {
        let engine = self.engine();
        let rollout = engine.start(self.spec(number, strategy, size)).await.unwrap();
        self.end(&rollout).await
    }

    /// The end of a rollout, which is to come soon.
    pub(crate) async fn end(&self, rollout: &Rollout) -> Outcome {
        match tokio::time::timeout(LIMIT, rollout.wait()).await {
            Ok(outcome) => outcome.unwrap(),
            Err(late) => panic!("{late}: {:?}\n{:?}", rollout.status(), self.project.fake.calls()),
        }
    }

    /// The machines of a fleet, by their paths.
    pub(crate) fn machines(&self, number: usize) -> Vec<String> {
        let name = format!("im-{}-", self.fleet(number));
        let zones = self.project.fake.list("zones");
        zones.into_keys().filter(|path| path.contains(&format!("/instances/{name}"))).collect()
    }

    /// Until a fleet has traffic.
    pub(crate) async fn until_routed(&self, number: usize) {
        let (cx, fleet, traffic) = (OpContext::standalone("look"), self.fleet(number), self.platform().traffic);
        loop {
            let route = traffic.observe(&cx, &self.route()).await.unwrap();
            if route.split.iter().any(|(routed, _)| *routed == fleet) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing is there but one fleet of this size, and it has all of the traffic. Looked at in the fake itself, and not with the provider.
    pub(crate) fn assert_only(&self, number: usize, size: usize) {
        let fake = &self.project.fake;
        let ours: BTreeMap<_, _> =
            ["global", "regions", "zones"].into_iter().flat_map(|place| fake.list(place)).collect();
        let named = |kind: &str| -> Vec<&String> {
            ours.keys().filter(|path| path.contains(&format!("/{kind}/im-"))).collect()
        };
        let fleet = self.fleet(number);
        assert_eq!(self.machines(number).len(), size, "{:?}", ours.keys());
        assert_eq!(named("instances").len(), size, "no machine of another fleet: {:?}", ours.keys());
        assert_eq!(named("disks").len(), size, "no disk without its machine: {:?}", ours.keys());
        for kind in ["instanceTemplates", "instanceGroupManagers"] {
            let found = named(kind);
            assert!(matches!(found[..], [only] if only.ends_with(&format!("/im-{fleet}"))), "{found:?}");
        }
        let (services, groups) = (named("backendServices"), named("networkEndpointGroups"));
        match self.kind {
            Kind::Weights | Kind::Everything => {
                let [service] = services[..] else { panic!("{services:?}") };
                let route = &fake.get(self.route().as_str()).unwrap()["defaultRouteAction"];
                let weighted = route["weightedBackendServices"].as_array().unwrap();
                let with_traffic: Vec<_> = weighted.iter().filter(|one| one["weight"] != 0).collect();
                let [only] = with_traffic[..] else { panic!("{route}") };
                assert!(only["backendService"].as_str().unwrap().ends_with(service.as_str()), "{route}");
                assert!(ours[service]["description"].as_str().unwrap().contains(fleet.as_str()));
            }
            Kind::Members => assert!(services.is_empty(), "{services:?}"),
        }
        for group in &groups {
            assert!(ours[*group]["description"].as_str().unwrap().contains(fleet.as_str()), "{groups:?}");
        }
        assert!(!groups.is_empty());
    }
}

/// The images of the two releases.
pub(crate) const IMAGES: [&str; 2] = ["web-old", "web-new"];

pub(crate) fn service() -> ServiceName {
    "web".parse().unwrap()
}
