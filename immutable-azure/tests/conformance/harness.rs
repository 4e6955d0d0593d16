//! A resource group of the fake, and what the suite does to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use immutable_azure::{
    Config, GalleryImageBuilder, ImageSettings, Orchestration, ScaleSetHealthProbe, ScaleSetProvisioner,
};
use immutable_azure_fake::Options;
use immutable_core::model::{FleetId, Image, InstanceId, LaunchSpec, Release, RouteId};
use immutable_core::provider::{ImageBuilder as _, ImageSpec, Layer, OpContext, Pace, Platform, Progress, Recipe};
use immutable_core::testkit::conformance::{Ability, Fault, Harness, Ownership, Version};
use immutable_core::testkit::{Operation, SimCloud};
use jiff::Timestamp;

use crate::support::{self, Group, TOKEN, Traffic};

/// Nothing here takes as long as on Azure: a twentieth of the time is enough for everything.
const HASTE: u32 = 20;

#[derive(Debug)]
pub(crate) struct AzureHarness {
    group: Group,
    traffic: Traffic,
    /// The images of releases, as far as they were asked for.
    images: Mutex<BTreeMap<Version, Image>>,
    /// For the parts that are not under test.
    other: SimCloud,
}

impl AzureHarness {
    pub(crate) fn new(traffic: Traffic) -> Self {
        Self {
            group: Group::with_balancers(Options::default()),
            traffic,
            images: Mutex::default(),
            other: SimCloud::default(),
        }
    }

    fn config(&self) -> Config {
        let config = match self.traffic {
            Traffic::LoadBalancer => self.group.config().orchestration(Orchestration::Uniform),
            _ => self.group.config(),
        };
        // As long as a machine is young, its scale set repairs nothing.
        let config = config.repair_after(Duration::from_mins(90)).drain_time(Duration::from_secs(1));
        let images = ImageSettings::new(self.group.fake.id("Microsoft.Compute/galleries/golden"));
        config.health_path("/health").max_fleet_size(20).images(images).routes([self.route()]).build().unwrap()
    }

    /// The specification of an image that prints a text.
    fn image(&self, text: &str) -> ImageSpec {
        let layers = vec![Layer::Script(format!("echo '{text}' >version\n"))];
        let recipe = Recipe {
            base: Some(GalleryImageBuilder::base("debian:debian-12:12-gen2:0.20260112.1").unwrap()),
            layers,
            command: vec!["app".to_owned()],
        };
        ImageSpec { service: self.service(), recipe, version: text.to_owned(), commit: None }
    }

    async fn build(&self, spec: &ImageSpec) -> Image {
        let (images, cx) = (GalleryImageBuilder::new(self.config()), OpContext::standalone("release"));
        for _ in 0..1000 {
            match images.ensure(&cx, spec).await.unwrap() {
                Progress::Done(image) => return image,
                Progress::Pending { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("never built");
    }

    /// Where the machine of an instance is.
    fn path(&self, instance: &InstanceId) -> String {
        support::machine(&self.group.fake, instance)
    }

    /// The instance whose machine has this id.
    fn instance(&self, id: &str) -> Option<InstanceId> {
        self.group.fake.get(id).as_ref().map(support::instance)
    }

    /// The request that the next call of the provider stands or falls with.
    fn request(&self, operation: Operation) -> String {
        match operation {
            Operation::EnsureFleet if self.group.fake.list(SETS).is_empty() => format!("PUT {SETS}"),
            Operation::EnsureFleet => format!("PATCH {SETS}"),
            Operation::ObserveFleets => format!("LIST {SETS}"),
            Operation::Retire => format!("POST {SETS}/delete"),
            Operation::ObserveRoute => match self.traffic {
                Traffic::LoadBalancer => "GET Microsoft.Network/loadBalancers".to_owned(),
                Traffic::GatewayPool | Traffic::RoutingRule => "GET Microsoft.Network/applicationGateways".to_owned(),
                Traffic::Profile => "GET Microsoft.Network/trafficManagerProfiles".to_owned(),
            },
            operation => panic!("no request is known for {operation:?}"),
        }
    }
}

const SETS: &str = "Microsoft.Compute/virtualMachineScaleSets";

#[async_trait]
impl Harness for AzureHarness {
    fn platform(&self) -> Platform {
        let config = self.config();
        let pace = Pace {
            observe: Duration::from_millis(200),
            call_timeout: Duration::from_mins(2),
            list_lag: Duration::ZERO,
            ambiguity_horizon: Duration::from_secs(1),
            ..Pace::default()
        };
        let traffic = self.traffic.switch(&self.group.fake, &config);
        let health = Arc::new(ScaleSetHealthProbe::new(config.clone()));
        let images = Arc::new(GalleryImageBuilder::new(config.clone()));
        let fleets = Arc::new(ScaleSetProvisioner::new(config));
        Platform { images, fleets, health, traffic, pace, ..self.other.platform() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time / HASTE).await;
    }

    fn patience(&self) -> Duration {
        Duration::from_mins(2)
    }

    async fn release(&self, version: Version) -> Release {
        let known = self.images.lock().unwrap().get(&version).cloned();
        let image = match known {
            Some(image) => image,
            None => self.build(&self.image(&format!("{version:?}"))).await,
        };
        self.images.lock().unwrap().insert(version, image.clone());
        Release::new(image, LaunchSpec::default())
    }

    fn image_spec(&self, version: Version) -> ImageSpec {
        self.image(&format!("only built: {version:?}"))
    }

    fn lacks(&self) -> Vec<(Ability, &'static str)> {
        let mut lacks =
            vec![(Ability::SilentEndpoint, "Azure is asked about its instances, and nothing is asked of them")];
        if self.traffic == Traffic::Profile {
            lacks.push((Ability::OtherRoute, "a switch is for one profile"));
        }
        lacks
    }

    fn route(&self) -> RouteId {
        self.traffic.route(&self.group.fake, "web")
    }

    /// More than fit on a page.
    fn many(&self) -> u32 {
        7
    }

    async fn inject(&self, fault: &Fault) -> bool {
        let fake = &self.group.fake;
        match fault {
            Fault::LoseAnswer(operation) => fake.lose_next(&self.request(*operation)),
            Fault::Throttle(operation) => fake.throttle_next(&self.request(*operation), 1),
            Fault::Kill(instance) => return fake.kill(&self.path(instance)),
            Fault::Drift(instance) => {
                let by_hand = fake.id("Microsoft.Compute/galleries/golden/images/web/versions/1.0.0");
                fake.change(&self.path(instance), |machine| {
                    machine["properties"]["storageProfile"]["imageReference"]["id"] = by_hand.into();
                });
            }
            Fault::MakeIll(instance) => fake.set_ill(&self.path(instance), true),
            Fault::Heal(instance) => fake.set_ill(&self.path(instance), false),
            Fault::BlindProbe => match self.traffic {
                Traffic::LoadBalancer => fake.throttle_next(&format!("LIST {SETS}/virtualMachines"), 1),
                _ => fake.throttle_next("LIST Microsoft.Compute/virtualMachines", 1),
            },
            _ => return false,
        }
        true
    }

    fn reopen(&self) -> Option<Platform> {
        Some(self.platform())
    }

    async fn ownership(&self, instance: &InstanceId) -> Option<Ownership> {
        let (set, _) = instance.as_str().rsplit_once('_')?;
        let set = self.group.fake.get(&format!("{SETS}/{set}"))?;
        let of = |key: &str| set["tags"][key].as_str();
        Some(Ownership {
            service: of("immutable-service")?.parse().ok()?,
            release: of("immutable-release")?.parse().ok()?,
            rollout: of("immutable-rollout")?.parse().ok()?,
        })
    }

    async fn request(&self) -> Option<Result<FleetId, String>> {
        let answered = self.group.fake.request(self.route().as_str()).and_then(|machine| {
            let instance = self.instance(&machine).ok_or("the machine that answered is gone")?;
            let (set, _) = instance.as_str().rsplit_once('_').ok_or("the machine that answered has no fleet")?;
            set.trim_start_matches("im-").parse().map_err(|error| format!("{error}"))
        });
        Some(answered)
    }

    async fn begin_request(&self) -> Option<InstanceId> {
        self.instance(&self.group.fake.begin_request(self.route().as_str()).ok()?)
    }

    async fn finish_request(&self) -> Result<(), String> {
        self.group.fake.finish_request()
    }

    fn other_route(&self) -> Option<RouteId> {
        (self.traffic != Traffic::Profile).then(|| self.traffic.route(&self.group.fake, "other"))
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned()]
    }
}
