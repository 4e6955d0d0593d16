//! A project of the fake.

use std::time::Duration;

use immutable_core::decide::{FleetView, InstanceView, Phase, RetireProof, World};
use immutable_core::model::{
    Fingerprint, FleetId, FleetSpec, Image, ImageLabels, InstanceId, LaunchSpec, Release, ServiceName, Split,
};
use immutable_gcp::{Clients, Config, ConfigBuilder, Location};
use immutable_gcp_fake::{Fake, Options};
use jiff::Timestamp;
use serde_json::json;

use super::credentials;

/// A region with two of its zones, and a zone of another one.
pub(crate) const LOCATIONS: (&str, [&str; 2], &str) =
    ("europe-west1", ["europe-west1-b", "europe-west1-c"], "us-central1-a");

/// A project with two images and two load balancers, each with a URL map and the backend service that it leads to.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) fake: Fake,
    pub(crate) clients: Clients,
}

impl Project {
    pub(crate) async fn open(options: Options) -> Self {
        let fake = Fake::start(options);
        for name in ["web-old", "web-new"] {
            fake.put(&format!("global/images/{name}"), json!({ "status": "READY", "diskSizeGb": "10" }));
        }
        balancer(&fake);
        let clients = Clients::new(credentials(), Some(&fake.url())).await.unwrap();
        Self { fake, clients }
    }

    /// Settings for regional groups.
    pub(crate) fn regional(&self) -> ConfigBuilder {
        let (region, zones, _) = LOCATIONS;
        self.config(Location::region(region, zones))
    }

    /// Settings for zonal groups, in another region.
    pub(crate) fn zonal(&self) -> ConfigBuilder {
        self.config(Location::zone(LOCATIONS.2))
    }

    /// The same in a region, with a security policy.
    #[allow(dead_code, reason = "not all tests have need of it")]
    pub(crate) fn regional_balancer(&self) {
        let (fake, region) = (&self.fake, format!("regions/{}", LOCATIONS.0));
        let link =
            |path: &str| format!("https://www.googleapis.com/compute/v1/projects/{}/{region}/{path}", fake.project());
        fake.put(&format!("{region}/healthChecks/web"), json!({ "type": "HTTP" }));
        let service = json!({
            "loadBalancingScheme": "EXTERNAL_MANAGED",
            "protocol": "HTTP",
            "healthChecks": [link("healthChecks/web")],
            "securityPolicy": link("securityPolicies/guard"),
        });
        fake.put(&format!("{region}/backendServices/web"), service);
        fake.put(&format!("{region}/urlMaps/web"), json!({ "defaultService": link("backendServices/web") }));
    }

    fn config(&self, location: Location) -> ConfigBuilder {
        let builder = Config::builder(self.clients.clone(), self.fake.project(), location, "e2-small");
        builder.port(8080).list_lag(Duration::ZERO)
    }

    /// One of the two images.
    pub(crate) fn image(&self, name: &str) -> Image {
        let id = format!("projects/{}/global/images/{name}", self.fake.project());
        let labels = ImageLabels { version: name.to_owned(), commit: None, built_at: Timestamp::UNIX_EPOCH };
        Image { id: id.parse().unwrap(), fingerprint: Fingerprint::of(name), parents: Vec::new(), labels }
    }

    pub(crate) fn release(&self, image: &str) -> Release {
        Release::new(self.image(image), LaunchSpec::default())
    }

    /// A fleet of the service `web`.
    pub(crate) fn spec(release: Release, size: u32) -> FleetSpec {
        let service: ServiceName = "web".parse().unwrap();
        let id = FleetId::of(&service, &release.id());
        FleetSpec { id, service, release, size, rollout: "rollout-1".parse().unwrap() }
    }
}

fn balancer(fake: &Fake) {
    let link = |path: &str| format!("https://www.googleapis.com/compute/v1/projects/{}/global/{path}", fake.project());
    fake.put("global/healthChecks/web", json!({ "type": "HTTP" }));
    let service = json!({
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "protocol": "HTTP",
        "connectionDraining": { "drainingTimeoutSec": 30 },
        "healthChecks": [link("healthChecks/web")],
    });
    for name in ["web", "other"] {
        fake.put(&format!("global/backendServices/{name}"), service.clone());
        let map = json!({ "defaultService": link(&format!("backendServices/{name}")) });
        fake.put(&format!("global/urlMaps/{name}"), map);
    }
}

/// That these may be ended.
pub(crate) fn proof(fleet: &FleetId, instances: &[InstanceId]) -> RetireProof {
    let view = |id: &InstanceId| InstanceView {
        id: id.clone(),
        phase: Phase::Drained,
        replace: false,
        dead: false,
        endpoint: None,
    };
    let views = instances.iter().map(view).collect();
    let fleets = vec![FleetView { id: fleet.clone(), instances: views, hold_growth: false }];
    let now = Timestamp::now();
    let world = World { as_of: now, fleets, split: Split::closed(), version: "1".parse().unwrap() };
    RetireProof::new(&world, fleet, instances, now, Duration::ZERO).unwrap()
}
