//! A resource group of the fake.

use std::sync::Arc;
use std::time::Duration;

use immutable_azure::{Clients, Config, ConfigBuilder};
use immutable_azure_fake::{Fake, Options};
use immutable_core::decide::{FleetView, InstanceView, Phase, RetireProof, World};
use immutable_core::model::{
    Fingerprint, FleetId, FleetSpec, Image, ImageLabels, InstanceId, LaunchSpec, Release, ServiceName, Split,
};
use jiff::Timestamp;
use serde_json::json;

use super::{Fixed, balancers, builders};

/// A resource group with a gallery of two images.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) fake: Fake,
    pub(crate) clients: Clients,
}

impl Group {
    pub(crate) fn open(options: Options) -> Self {
        let fake = Fake::start(options);
        for version in ["1.0.0", "2.0.0"] {
            let image =
                json!({ "properties": { "publishingProfile": { "targetRegions": [{ "name": "westeurope" }] } } });
            fake.put(&format!("Microsoft.Compute/galleries/golden/images/web/versions/{version}"), image);
        }
        builders::place(&fake);
        let clients = Clients::new(Arc::new(Fixed), Some(&fake.url())).unwrap();
        Self { fake, clients }
    }

    /// The same, and what stands in front of machines.
    pub(crate) fn with_balancers(options: Options) -> Self {
        let group = Self::open(options);
        balancers::place(&group.fake);
        group
    }

    /// The fewest settings that make sense here.
    pub(crate) fn config(&self) -> ConfigBuilder {
        let options = Options::default();
        let group = options.groups.first().unwrap().clone();
        Config::builder(self.clients.clone(), options.subscription, group, options.location)
            .vm_size("Standard_D2s_v5")
            .subnet(self.fake.id("Microsoft.Network/virtualNetworks/web/subnets/default"))
            .port(8080)
            .list_lag(Duration::ZERO)
    }

    /// One of the two images.
    pub(crate) fn image(&self, version: &str) -> Image {
        let id = self.fake.id(&format!("Microsoft.Compute/galleries/golden/images/web/versions/{version}"));
        let labels = ImageLabels { version: version.to_owned(), commit: None, built_at: Timestamp::UNIX_EPOCH };
        Image { id: id.parse().unwrap(), fingerprint: Fingerprint::of(version), parents: Vec::new(), labels }
    }

    pub(crate) fn release(&self, version: &str) -> Release {
        Release::new(self.image(version), LaunchSpec::default())
    }

    /// A fleet of the service `web`.
    pub(crate) fn spec(release: Release, size: u32) -> FleetSpec {
        let service: ServiceName = "web".parse().unwrap();
        let id = FleetId::of(&service, &release.id());
        FleetSpec { id, service, release, size, rollout: "rollout-1".parse().unwrap() }
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
