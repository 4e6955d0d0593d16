//! A service in a resource group of the fake, and what is left of its rollouts.

use std::sync::Arc;
use std::time::Duration;

use immutable_azure::{
    Config, GalleryImageBuilder, ImageSettings, MonitorMetrics, Orchestration, ScaleSetHealthProbe, ScaleSetProvisioner,
};
use immutable_azure_fake::Options;
use immutable_core::engine::{Engine, Outcome, Rollout};
use immutable_core::journal::MemoryJournal;
use immutable_core::model::{FleetId, RouteId, ServiceName};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{OpContext, Pace, Platform};
use immutable_core::testkit::hasty;
use serde_json::Value;

use crate::support::{GATEWAY, Group, LOAD_BALANCER, PROFILE, SLOTS, Traffic};

/// No rollout takes so long here.
const LIMIT: Duration = Duration::from_mins(4);

#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) group: Group,
    pub(crate) journal: MemoryJournal,
    traffic: Traffic,
}

impl Stand {
    /// Pages as large as those of Azure are not needed to see that there are several.
    pub(crate) fn new(traffic: Traffic, options: Options) -> Self {
        Self { group: Group::with_balancers(options), journal: MemoryJournal::new(), traffic }
    }

    pub(crate) fn route(&self) -> RouteId {
        self.traffic.route(&self.group.fake, "web")
    }

    /// Uniform scale sets of images from elsewhere behind the load balancer; flexible ones, and a gallery of ours, in all other places.
    pub(crate) fn config(&self) -> Config {
        let config = self.group.config();
        let config = match self.traffic {
            Traffic::LoadBalancer => config.orchestration(Orchestration::Uniform),
            _ => config.images(ImageSettings::new(self.group.fake.id("Microsoft.Compute/galleries/golden"))),
        };
        let config = config.health_path("/health").repair_after(Duration::from_mins(90));
        config.drain_time(Duration::from_secs(1)).routes(self.routes()).build().unwrap()
    }

    /// With the pools behind a profile, on which something of a fleet may be left.
    fn routes(&self) -> Vec<RouteId> {
        let mut routes = vec![self.route()];
        if self.traffic == Traffic::Profile {
            routes.extend(SLOTS.map(|name| Traffic::LoadBalancer.route(&self.group.fake, name)));
        }
        routes
    }

    /// The platform, looked at more often than a real one would bear. What a machine itself answers cannot be asked: there is none.
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
        let traffic = self.traffic.switch(&self.group.fake, &config);
        Platform {
            images: Arc::new(GalleryImageBuilder::new(config.clone())),
            fleets: Arc::new(ScaleSetProvisioner::new(config.clone())),
            health: Arc::new(ScaleSetHealthProbe::new(config.clone())),
            metrics: Arc::new(MonitorMetrics::new(config)),
            traffic,
            pace,
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
        FleetId::of(&service(), &self.group.release(IMAGES[number]).id())
    }

    pub(crate) fn spec(&self, number: usize, strategy: Strategy, size: u32) -> RolloutSpec {
        RolloutSpec::new(service(), self.route(), self.group.release(IMAGES[number]), strategy).desired(size)
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
            Err(late) => panic!("{late}: {:?}\n{:?}", rollout.status(), self.group.fake.calls()),
        }
    }

    /// The machines of a fleet, by their ids.
    pub(crate) fn machines(&self, number: usize) -> Vec<String> {
        let set = format!("im-{}", self.fleet(number));
        let is_one = |id: &String| {
            let [.., owner, kind, name] = id.split('/').collect::<Vec<_>>()[..] else { return false };
            kind == "virtualmachines" && (owner == set || name.starts_with(&format!("{set}_")))
        };
        self.group.fake.list("").into_keys().filter(is_one).collect()
    }

    /// Until a fleet has traffic.
    pub(crate) async fn until_routed(&self, number: usize) {
        let (cx, fleet, traffic) = (OpContext::standalone("look"), self.fleet(number), self.platform().traffic);
        loop {
            // It may be that there is nothing to tell yet.
            if let Ok(route) = traffic.observe(&cx, &self.route()).await
                && route.split.iter().any(|(routed, _)| *routed == fleet)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing is there but one fleet of this size, and it has all of the traffic. Looked at in the fake itself, and not with the provider.
    pub(crate) fn assert_only(&self, number: usize, size: usize) {
        let fake = &self.group.fake;
        let fleet = self.fleet(number);
        let compute = fake.list("Microsoft.Compute/");
        let ours = |kind: &str| -> Vec<&String> {
            compute.keys().filter(|id| id.contains(&format!("/{kind}/")) && id.contains("im-")).collect()
        };
        let all = fake.list("");
        assert_eq!(self.machines(number).len(), size, "{:?}", all.keys());
        assert_eq!(
            ours("virtualmachines").iter().filter(|id| !id.contains("/networkinterfaces/")).count(),
            size,
            "{:?}",
            all.keys()
        );
        let interfaces = all.keys().filter(|id| id.contains("/networkinterfaces/")).count();
        assert_eq!(interfaces, size, "no interface without its machine: {:?}", all.keys());
        let disks = if self.traffic == Traffic::LoadBalancer { 0 } else { size };
        assert_eq!(ours("disks").len(), disks, "no disk without its machine: {:?}", all.keys());
        let sets: Vec<_> =
            compute.iter().filter(|(_, one)| one["type"] == "Microsoft.Compute/virtualMachineScaleSets").collect();
        let [(only, set)] = sets[..] else { panic!("{sets:?}") };
        assert!(only.ends_with(&format!("/im-{fleet}")), "{only}");
        assert_eq!(set["sku"]["capacity"], size);
        for balancer in [LOAD_BALANCER, GATEWAY] {
            let document = fake.get(balancer).unwrap().to_string();
            let other = self.fleet(1 - number);
            assert!(!document.contains(other.as_str()), "nothing of {other} is left: {document}");
        }
        self.assert_routed(&fleet, size);
    }

    fn assert_routed(&self, fleet: &FleetId, size: usize) {
        for _ in 0..2 * size {
            let answered = self.group.fake.request(self.route().as_str()).expect("every request is answered");
            assert!(answered.to_ascii_lowercase().contains(&format!("im-{fleet}")), "{answered} is not of {fleet}");
        }
        let parts = |id: &str, list: &str| -> Vec<Value> {
            self.group.fake.get(id).unwrap()["properties"][list].as_array().cloned().unwrap()
        };
        match self.traffic {
            Traffic::LoadBalancer => {
                let pools = parts(LOAD_BALANCER, "backendAddressPools");
                let entries = pools[0]["properties"]["loadBalancerBackendAddresses"].as_array().unwrap();
                let up = entries.iter().filter(|entry| entry["properties"]["adminState"] != "Down");
                assert_eq!(up.count(), size, "{entries:?}");
            }
            Traffic::GatewayPool => {
                let pools = parts(GATEWAY, "backendAddressPools");
                assert_eq!(pools[0]["properties"]["backendAddresses"].as_array().unwrap().len(), size, "{pools:?}");
            }
            Traffic::RoutingRule => {}
            Traffic::Profile => {
                let endpoints = parts(PROFILE, "endpoints");
                let with = endpoints.iter().filter(|one| one["properties"]["endpointStatus"] == "Enabled");
                assert_eq!(with.count(), 1, "{endpoints:?}");
            }
        }
    }
}

/// The images of the two releases.
pub(crate) const IMAGES: [&str; 2] = ["1.0.0", "2.0.0"];

pub(crate) fn service() -> ServiceName {
    "web".parse().unwrap()
}
