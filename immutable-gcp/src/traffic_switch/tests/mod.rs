//! Both switches against the fake of Compute Engine.

mod conflicts;
mod kept;
mod membership;
mod refused;
mod removal;
mod steps;

use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use google_cloud_compute_v1::model::{NetworkEndpoint, NetworkEndpointGroupsAttachEndpointsRequest};
use immutable_core::model::{Endpoint, FleetId, InstanceId, RouteId, RouteVersion, Split, Weight};
use immutable_core::provider::{
    Assignment, MemberHealth, MemberTarget, OpContext, Progress, ProviderError, TrafficState, TrafficSwitch,
};
use immutable_gcp_fake::{Fake, Options};
use serde_json::{Value, json};

use super::{BackendServiceSwitch, UrlMapSwitch};
use crate::{Clients, Config, ConfigBuilder, Location};

const ROUTE: &str = "global/urlMaps/web";
const ORIGINAL: &str = "global/backendServices/web";
const ZONES: [&str; 2] = ["europe-west1-b", "europe-west1-c"];
const LINK: &str = "https://www.googleapis.com/compute/v1/projects/fake-project/";

/// A call that takes more steps than this goes in circles.
const MOST_STEPS: usize = 100;

/// A project with a balancer that has been there before us: a URL map, a backend service, a machine behind it.
struct Stand {
    fake: Fake,
    builder: ConfigBuilder,
    route: RouteId,
}

impl Stand {
    async fn open() -> Self {
        Self::open_with(Options { page: 50, ..Options::default() }).await
    }

    async fn open_with(options: Options) -> Self {
        let fake = Fake::start(options);
        let clients = Clients::new(anonymous::Builder::new().build(), Some(&fake.url())).await.unwrap();
        let location = Location::region("europe-west1", ZONES);
        let builder = Config::builder(clients, fake.project(), location, "e2-small").weight_lag(Duration::ZERO);
        let stand = Self { fake, builder, route: ROUTE.parse().unwrap() };
        stand.endpoint_group("web", "GCE_VM_IP_PORT");
        stand.fake.put(ORIGINAL, service("web", "EXTERNAL_MANAGED", "HTTP"));
        stand.fake.put(ROUTE, json!({ "defaultService": format!("{LINK}{ORIGINAL}") }));
        stand.attach_original().await;
        stand
    }

    fn endpoint_group(&self, name: &str, kind: &str) {
        let path = format!("zones/{}/networkEndpointGroups/{name}", ZONES[0]);
        self.fake.put(&path, json!({ "networkEndpointType": kind, "size": 0 }));
    }

    async fn attach_original(&self) {
        let member = self.machine("original", 0, 1);
        let endpoint = NetworkEndpoint::new().set_instance("original-1").set_ip_address(member.endpoint.host());
        let body = NetworkEndpointGroupsAttachEndpointsRequest::new().set_network_endpoints([endpoint.set_port(80)]);
        let request = self.config().clients.network_endpoint_groups.attach_network_endpoints();
        let request = request.set_project(self.fake.project()).set_zone(ZONES[0]).set_network_endpoint_group("web");
        request.set_body(body).send().await.unwrap();
        self.fake.skip(Duration::from_secs(1));
    }

    fn config(&self) -> Config {
        self.builder.clone().build().unwrap()
    }

    fn switch(&self) -> UrlMapSwitch {
        UrlMapSwitch::new(self.config())
    }

    fn membership(&self) -> BackendServiceSwitch {
        BackendServiceSwitch::new(self.config())
    }

    /// A machine that runs.
    fn machine(&self, fleet: &str, zone: usize, number: usize) -> MemberTarget {
        let (zone, name) = (ZONES[zone], format!("{fleet}-{number}"));
        let address = format!("10.{}.{}.{}", fleet.len(), number / 250, number % 250 + 1);
        let machine = json!({
            "status": "RUNNING",
            "labels": { "immutable-service": "web", "immutable-fleet": fleet },
            "networkInterfaces": [{ "networkIP": address }],
        });
        let path = format!("zones/{zone}/instances/{name}");
        self.fake.put(&path, machine);
        let id = self.fake.get(&path).unwrap()["id"].as_str().unwrap().to_owned();
        MemberTarget {
            instance: format!("{zone}/{name}/{id}").parse().unwrap(),
            fleet: fleet.parse().unwrap(),
            endpoint: Endpoint::new(&address, 80).unwrap(),
        }
    }

    /// Two machines of a fleet, in two zones.
    fn pair(&self, fleet: &str) -> Vec<MemberTarget> {
        vec![self.machine(fleet, 0, 1), self.machine(fleet, 1, 2)]
    }

    async fn look(&self, switch: &dyn TrafficSwitch) -> TrafficState {
        switch.observe(&OpContext::standalone("look"), &self.route).await.unwrap()
    }

    /// One attempt.
    async fn call(
        &self,
        switch: &dyn TrafficSwitch,
        key: &str,
        wanted: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let answer = switch.apply(&OpContext::standalone(key), &self.route, wanted, expected).await;
        self.fake.skip(Duration::from_millis(60));
        answer
    }

    /// The same call until it is done, as the engine sends it; `meanwhile` happens after each attempt.
    async fn until_done(
        &self,
        switch: &dyn TrafficSwitch,
        key: &str,
        wanted: &Assignment,
        mut meanwhile: impl FnMut(),
    ) -> Result<usize, ProviderError> {
        let expected = self.look(switch).await.version;
        for step in 0..MOST_STEPS {
            let answer = self.call(switch, key, wanted, &expected).await;
            meanwhile();
            if answer? == Progress::Done(()) {
                return Ok(step);
            }
        }
        panic!("{key} is not done after {MOST_STEPS} steps")
    }

    async fn apply(&self, key: &str, wanted: &Assignment) {
        self.until_done(&self.switch(), key, wanted, || {}).await.unwrap();
    }

    /// The weights by the names of backend services.
    fn weights(&self) -> BTreeMap<String, u64> {
        let map = self.fake.get(ROUTE).unwrap();
        let weighted = map["defaultRouteAction"]["weightedBackendServices"].as_array().cloned().unwrap_or_default();
        let name = |one: &Value| one["backendService"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        weighted.iter().map(|one| (name(one), one["weight"].as_u64().unwrap())).collect()
    }

    /// The name of what a fleet has on the route.
    fn name(&self, fleet: &str) -> String {
        crate::ownership::name_on(&self.route, &fleet.parse().unwrap())
    }

    fn calls(&self, method: &str) -> usize {
        self.fake.calls().get(method).copied().unwrap_or_default()
    }
}

/// A backend service with endpoint groups.
fn service(group: &str, scheme: &str, protocol: &str) -> Value {
    let target = match protocol {
        "HTTP" => json!({ "balancingMode": "RATE", "maxRatePerEndpoint": 70.0 }),
        _ => json!({ "balancingMode": "CONNECTION", "maxConnectionsPerEndpoint": 70 }),
    };
    let mut backend = target;
    backend["group"] = format!("{LINK}zones/{}/networkEndpointGroups/{group}", ZONES[0]).into();
    json!({
        "loadBalancingScheme": scheme,
        "protocol": protocol,
        "timeoutSec": 17,
        "connectionDraining": { "drainingTimeoutSec": 30 },
        "healthChecks": [format!("{LINK}global/healthChecks/web")],
        "logConfig": { "enable": true, "sampleRate": 0.5 },
        "backends": [backend],
    })
}

/// Members and shares in percent.
fn assignment(split: &[(&str, u16)], members: &[&[MemberTarget]]) -> Assignment {
    let share = |(fleet, percent): &(&str, u16)| (fleet.parse().unwrap(), Weight::percent(*percent).unwrap());
    Assignment { split: Split::new(split.iter().map(share)).unwrap(), members: members.concat() }
}

fn healths(state: &TrafficState) -> BTreeMap<InstanceId, MemberHealth> {
    state.members.iter().map(|member| (member.instance.clone(), member.health)).collect()
}

fn fleet(name: &str) -> FleetId {
    name.parse().unwrap()
}
