//! A project of the fake, and what the suite does to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{FleetId, Image, InstanceId, LaunchSpec, Release, RouteId};
use immutable_core::provider::{
    ImageBuilder as _, ImageSpec, Layer, OpContext, Pace, Platform, Progress, Recipe, TrafficSwitch,
};
use immutable_core::testkit::conformance::{Ability, Fault, Harness, Ownership, Version};
use immutable_core::testkit::{Operation, SimCloud};
use immutable_gcp::{
    BackendServiceSwitch, ComputeImageBuilder, Config, GroupHealthProbe, GroupProvisioner, UrlMapSwitch,
};
use immutable_gcp_fake::Options;
use jiff::Timestamp;
use serde_json::Value;

use crate::support::{Project, TOKEN};

/// Nothing here takes as long as on Google Cloud: a twentieth of the time is enough for everything.
const HASTE: u32 = 20;

/// How the fleets under test are kept, and what traffic goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Regional groups, and the weights of a URL map.
    Regional,
    /// Zonal groups, and the members of a backend service.
    Zonal,
}

#[derive(Debug)]
pub(crate) struct GcpHarness {
    project: Project,
    kind: Kind,
    /// The images of releases, as far as they were asked for.
    images: Mutex<BTreeMap<Version, Image>>,
    /// For the parts that are not under test.
    other: SimCloud,
}

impl GcpHarness {
    pub(crate) async fn new(kind: Kind) -> Self {
        // A group of Google's notices late as well; the suite looks at what was killed before it is repaired.
        let project = Project::open(Options { notice_time: Duration::from_secs(2), ..Options::default() }).await;
        Self { project, kind, images: Mutex::default(), other: SimCloud::default() }
    }

    fn config(&self) -> Config {
        let config = match self.kind {
            Kind::Regional => self.project.regional(),
            Kind::Zonal => self.project.zonal(),
        };
        // As long as a machine is young, its group repairs nothing.
        let check = format!("projects/{}/global/healthChecks/web", self.project.fake.project());
        let config = config.autohealing(check, Duration::from_hours(1)).weight_lag(Duration::ZERO);
        config.max_fleet_size(20).routes([self.route()]).build().unwrap()
    }

    /// The specification of an image that prints a text.
    fn image(&self, text: &str) -> ImageSpec {
        let base = format!("projects/{}/global/images/web-old", self.project.fake.project());
        let layers = vec![Layer::Script(format!("echo '{text}' >version\n"))];
        let base = Some(ComputeImageBuilder::base(&base).unwrap());
        let recipe = Recipe { base, layers, command: vec!["app".to_owned()] };
        ImageSpec { service: self.service(), recipe, version: text.to_owned(), commit: None }
    }

    async fn build(&self, spec: &ImageSpec) -> Image {
        let (images, cx) = (ComputeImageBuilder::new(self.config()), OpContext::standalone("release"));
        for _ in 0..1000 {
            match images.ensure(&cx, spec).await.unwrap() {
                Progress::Done(image) => return image,
                Progress::Pending { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("never built");
    }

    /// The instance whose machine is at this path.
    fn instance(&self, path: &str) -> Option<InstanceId> {
        let machine = self.project.fake.get(path)?;
        let [.., zone, _, name] = path.split('/').collect::<Vec<_>>()[..] else { return None };
        format!("{zone}/{name}/{}", machine["id"].as_str()?).parse().ok()
    }

    fn groups(&self) -> &'static str {
        match self.kind {
            Kind::Regional => "compute.regionInstanceGroupManagers",
            Kind::Zonal => "compute.instanceGroupManagers",
        }
    }

    /// The request that the next call of the provider stands or falls with.
    fn request(&self, operation: Operation) -> String {
        let groups = self.groups();
        match operation {
            Operation::EnsureFleet if self.project.fake.list("global/instanceTemplates").is_empty() => {
                "compute.instanceTemplates.insert".to_owned()
            }
            Operation::EnsureFleet => format!("{groups}.resize"),
            Operation::ObserveFleets => "compute.instances.aggregatedList".to_owned(),
            Operation::Retire => format!("{groups}.deleteInstances"),
            Operation::ObserveRoute if self.kind == Kind::Regional => "compute.urlMaps.get".to_owned(),
            Operation::ObserveRoute => "compute.backendServices.get".to_owned(),
            operation => panic!("no request is known for {operation:?}"),
        }
    }
}

#[async_trait]
impl Harness for GcpHarness {
    fn platform(&self) -> Platform {
        let config = self.config();
        let pace = Pace {
            observe: Duration::from_millis(200),
            call_timeout: Duration::from_mins(2),
            list_lag: Duration::ZERO,
            ambiguity_horizon: Duration::from_secs(1),
            ..Pace::default()
        };
        let traffic: Arc<dyn TrafficSwitch> = match self.kind {
            Kind::Regional => Arc::new(UrlMapSwitch::new(config.clone())),
            Kind::Zonal => Arc::new(BackendServiceSwitch::new(config.clone())),
        };
        let health = Arc::new(GroupHealthProbe::new(config.clone()));
        let images = Arc::new(ComputeImageBuilder::new(config.clone()));
        let fleets = Arc::new(GroupProvisioner::new(config));
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
        vec![(Ability::SilentEndpoint, "Google Cloud is asked about its instances, and nothing is asked of them")]
    }

    fn route(&self) -> RouteId {
        let route = match self.kind {
            Kind::Regional => "global/urlMaps/web",
            Kind::Zonal => "global/backendServices/web",
        };
        route.parse().unwrap()
    }

    /// More than fit on a page.
    fn many(&self) -> u32 {
        7
    }

    async fn inject(&self, fault: &Fault) -> bool {
        let fake = &self.project.fake;
        match fault {
            Fault::LoseAnswer(operation) => fake.lose_next(&self.request(*operation)),
            Fault::Throttle(operation) => fake.throttle_next(&self.request(*operation), 403),
            Fault::Kill(instance) => return fake.kill(&path(instance)),
            Fault::Drift(instance) => return fake.set_template(&path(instance), "global/instanceTemplates/by-hand"),
            Fault::MakeIll(instance) => fake.set_ill(&path(instance), true),
            Fault::Heal(instance) => fake.set_ill(&path(instance), false),
            Fault::BlindProbe => fake.throttle_next(&format!("{}.listManagedInstances", self.groups()), 429),
            _ => return false,
        }
        true
    }

    fn reopen(&self) -> Option<Platform> {
        Some(self.platform())
    }

    async fn ownership(&self, instance: &InstanceId) -> Option<Ownership> {
        let fake = &self.project.fake;
        let machine = fake.get(&path(instance))?;
        let fleet = machine["labels"]["immutable-fleet"].as_str()?;
        let template = fake.get(&format!("global/instanceTemplates/im-{fleet}"))?;
        let record: Value = serde_json::from_str(template["description"].as_str()?).ok()?;
        let of = |key: &str| record["immutable"][key].as_str();
        Some(Ownership {
            service: of("service")?.parse().ok()?,
            release: of("release")?.parse().ok()?,
            rollout: of("rollout")?.parse().ok()?,
        })
    }

    async fn request(&self) -> Option<Result<FleetId, String>> {
        let fake = &self.project.fake;
        Some(fake.request(self.route().as_str()).and_then(|path| {
            let machine = fake.get(&path).ok_or("the machine that answered is gone")?;
            let fleet =
                machine["labels"]["immutable-fleet"].as_str().ok_or("the machine that answered has no fleet")?;
            fleet.parse().map_err(|error| format!("{error}"))
        }))
    }

    async fn begin_request(&self) -> Option<InstanceId> {
        self.instance(&self.project.fake.begin_request(self.route().as_str()).ok()?)
    }

    async fn finish_request(&self) -> Result<(), String> {
        self.project.fake.finish_request()
    }

    fn other_route(&self) -> Option<RouteId> {
        let route = match self.kind {
            Kind::Regional => "global/urlMaps/other",
            Kind::Zonal => "global/backendServices/other",
        };
        route.parse().ok()
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned()]
    }
}

/// Where the machine of an instance is.
fn path(instance: &InstanceId) -> String {
    let parts: Vec<&str> = instance.as_str().split('/').collect();
    format!("zones/{}/instances/{}", parts[0], parts[1])
}
