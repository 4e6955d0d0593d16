//! Two fleets of machines in the fake, and a load balancer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use immutable_azure::{Clients, Config, ConfigBuilder};
use immutable_azure_fake::{Fake, Options};
use immutable_core::model::{Endpoint, FleetId, InstanceId, RouteId, RouteVersion, Split, Weight};
use immutable_core::provider::{
    Assignment, MemberHealth, MemberTarget, OpContext, Progress, ProviderError, TrafficState, TrafficSwitch,
};
use serde_json::{Value, json};

use crate::support::Fixed;

/// The balancer of the user.
pub(crate) const BALANCER: &str = "Microsoft.Network/loadBalancers/web";

/// So many calls in a row are enough for everything.
const MOST_CALLS: usize = 200;

/// When the same call is sent again.
const STEP: Duration = Duration::from_millis(10);

const IMAGE: &str = "Microsoft.Compute/galleries/golden/images/web/versions/1.0.0";
const SETS: &str = "Microsoft.Compute/virtualMachineScaleSets";

/// A fake with the machines of `web-old` and `web-new`, three of each, and a balancer whose pool has an entry of somebody else's.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) fake: Fake,
    machines: BTreeMap<String, Vec<MemberTarget>>,
}

/// A fake whose operations are over when they are answered.
pub(crate) fn quick() -> Options {
    Options { operation_time: Duration::ZERO, health_time: Duration::ZERO, page: 500, ..Options::default() }
}

impl Stand {
    pub(crate) async fn open(options: Options) -> Self {
        let fake = Fake::start(Options { boot_time: Duration::ZERO, health_time: Duration::ZERO, ..options });
        fake.put(IMAGE, json!({}));
        let mut machines = BTreeMap::new();
        for fleet in ["web-old", "web-new"] {
            machines.insert(fleet.to_owned(), boot(&fake, fleet).await);
        }
        let stand = Self { fake, machines };
        stand.fake.put(BALANCER, balancer(&stand.fake));
        stand
    }

    pub(crate) fn config(&self) -> ConfigBuilder {
        let clients = Clients::new(Arc::new(Fixed), Some(&self.fake.url())).unwrap();
        let (subscription, group) = ("00000000-0000-0000-0000-00000000fa4e", "fake");
        let subnet = self.fake.id("Microsoft.Network/virtualNetworks/net/subnets/main");
        let builder =
            Config::builder(clients, subscription, group, "westeurope").vm_size("Standard_B2s").subnet(subnet);
        builder.drain_time(Duration::from_hours(1))
    }

    /// A pool of the balancer.
    pub(crate) fn route(&self, pool: &str) -> RouteId {
        self.fake.id(&format!("{BALANCER}/backendAddressPools/{pool}")).parse().unwrap()
    }

    /// The machines of a fleet.
    pub(crate) fn machines(&self, fleet: &str) -> Vec<MemberTarget> {
        self.machines[fleet].clone()
    }

    /// The entries of a pool.
    pub(crate) fn entries(&self, pool: &str) -> Vec<Value> {
        let balancer = self.fake.get(BALANCER).unwrap();
        let pools = balancer["properties"]["backendAddressPools"].as_array().cloned().unwrap();
        let found = pools.into_iter().find(|one| one["name"] == pool).unwrap();
        found["properties"]["loadBalancerBackendAddresses"].as_array().cloned().unwrap_or_default()
    }

    /// Changes the balancer behind the switch's back.
    pub(crate) fn change(&self, path: &str, value: Value) {
        self.fake.change(BALANCER, |balancer| *balancer.pointer_mut(path).unwrap() = value);
    }

    /// How often the pool was written.
    pub(crate) fn writes(&self) -> usize {
        self.fake.calls().get(PUT_POOL).copied().unwrap_or_default()
    }
}

/// The write of a pool, as the fake counts it.
pub(crate) const PUT_POOL: &str = "PUT Microsoft.Network/loadBalancers/backendAddressPools";

/// Makes the machines of a fleet, as its scale set does.
async fn boot(fake: &Fake, fleet: &str) -> Vec<MemberTarget> {
    let subnet = fake.id("Microsoft.Network/virtualNetworks/net/subnets/main");
    let address = json!({ "name": "main", "properties": { "subnet": { "id": subnet } } });
    let interface = json!({ "name": "main", "properties": { "primary": true, "ipConfigurations": [address] } });
    let body = json!({
        "location": "westeurope",
        "sku": { "name": "Standard_B2s", "tier": "Standard", "capacity": 3 },
        "properties": {
            "orchestrationMode": "Flexible",
            "platformFaultDomainCount": 1,
            "virtualMachineProfile": {
                "storageProfile": { "imageReference": { "id": fake.id(IMAGE) }, "osDisk": { "createOption": "FromImage" } },
                "osProfile": { "computerNamePrefix": "web" },
                "networkProfile": { "networkApiVersion": "2022-11-01", "networkInterfaceConfigurations": [interface] },
            },
        },
    });
    let id = fake.id(&format!("{SETS}/im-{fleet}"));
    let request = reqwest::Client::new().put(format!("{}{id}?api-version=2024-07-01", fake.url()));
    let request = request.bearer_auth("of-a-test").header("content-type", "application/json").body(body.to_string());
    assert!(request.send().await.unwrap().status().is_success());
    let mut found = Vec::new();
    for _ in 0..MOST_CALLS {
        fake.skip(Duration::from_secs(1));
        found = fake
            .list("Microsoft.Network/networkInterfaces")
            .into_values()
            .filter_map(|one| target(&one, fleet))
            .collect();
        if found.len() == 3 {
            break;
        }
    }
    assert_eq!(found.len(), 3, "{found:?}");
    found
}

fn target(interface: &Value, fleet: &str) -> Option<MemberTarget> {
    let properties = &interface["properties"];
    let name = properties["virtualMachine"]["id"].as_str()?.rsplit('/').next()?.to_ascii_lowercase();
    let ip = properties["ipConfigurations"][0]["properties"]["privateIPAddress"].as_str()?;
    let instance = InstanceId::new(name).unwrap();
    let is_of = instance.as_str().starts_with(&format!("im-{fleet}_"));
    let endpoint = Endpoint::new(ip, 8080).unwrap();
    is_of.then(|| MemberTarget { instance, fleet: self::fleet(fleet), endpoint })
}

/// A balancer with four pools: `blue`, `red` and `black` with a public address, a rule and a probe each, `green` without.
fn balancer(fake: &Fake) -> Value {
    let part = |part: &str| json!({ "id": fake.id(&format!("{BALANCER}/{part}")) });
    let rule = |name: &str, port: u16| {
        json!({
            "name": name,
            "properties": {
                "protocol": "Tcp",
                "frontendPort": port,
                "backendPort": 8080,
                "frontendIPConfiguration": part(&format!("frontendIPConfigurations/{name}")),
                "backendAddressPool": part(&format!("backendAddressPools/{name}")),
                "probe": part("probes/http"),
            },
        })
    };
    let front =
        |name: &str| json!({ "name": name, "properties": { "publicIPAddress": { "id": public_address(fake, name) } } });
    let network = json!({ "id": fake.id("Microsoft.Network/virtualNetworks/net") });
    let foreign = json!({ "name": "somebody", "properties": { "ipAddress": "10.0.0.9", "virtualNetwork": network } });
    json!({
        "sku": { "name": "Standard" },
        "tags": { "owner": "somebody" },
        "properties": {
            "resourceGuid": "00000000-0000-4000-8000-000000000001",
            "frontendIPConfigurations": [front("blue"), front("red"), front("black")],
            "backendAddressPools": [
                { "name": "blue", "properties": { "loadBalancerBackendAddresses": [foreign], "syncMode": "Manual" } },
                { "name": "green", "properties": {} },
                { "name": "red", "properties": {} },
                { "name": "black", "properties": {} },
            ],
            "loadBalancingRules": [rule("blue", 80), rule("red", 81), rule("black", 82)],
            "probes": [{
                "name": "http",
                "properties": { "protocol": "Tcp", "port": 8080, "intervalInSeconds": 5, "probeThreshold": 1 },
            }],
        },
    })
}

/// The public address of a pool.
pub(crate) fn public_address(fake: &Fake, pool: &str) -> String {
    fake.id(&format!("Microsoft.Network/publicIPAddresses/{pool}"))
}

pub(crate) fn fleet(name: &str) -> FleetId {
    name.parse().unwrap()
}

/// All of these as members, with these weights in basis points.
pub(crate) fn assignment(weights: &[(&str, u16)], members: &[&[MemberTarget]]) -> Assignment {
    let weights = weights.iter().map(|(name, points)| (fleet(name), Weight::basis_points(*points).unwrap()));
    Assignment { split: Split::new(weights).unwrap(), members: members.concat() }
}

pub(crate) async fn look(switch: &dyn TrafficSwitch, route: &RouteId) -> TrafficState {
    switch.observe(&OpContext::standalone("look"), route).await.unwrap()
}

/// Looks until the state is so.
pub(crate) async fn until(
    switch: &dyn TrafficSwitch,
    route: &RouteId,
    is_so: impl Fn(&TrafficState) -> bool,
) -> TrafficState {
    let mut state = look(switch, route).await;
    for _ in 0..MOST_CALLS {
        if is_so(&state) {
            return state;
        }
        tokio::time::sleep(STEP).await;
        state = look(switch, route).await;
    }
    panic!("it never was so: {state:?}");
}

/// One attempt.
pub(crate) async fn call(
    switch: &dyn TrafficSwitch,
    route: &RouteId,
    key: &str,
    wanted: &Assignment,
    expected: &RouteVersion,
) -> Result<Progress<()>, ProviderError> {
    switch.apply(&OpContext::standalone(key), route, wanted, expected).await
}

/// The same call until it is done, or refused.
pub(crate) async fn again(
    switch: &dyn TrafficSwitch,
    route: &RouteId,
    key: &str,
    wanted: &Assignment,
    expected: &RouteVersion,
) -> Result<(), ProviderError> {
    let mut note = String::new();
    for _ in 0..MOST_CALLS {
        match call(switch, route, key, wanted, expected).await? {
            Progress::Done(()) => return Ok(()),
            Progress::Pending { note: waits, .. } => note = waits,
        }
        tokio::time::sleep(STEP).await;
    }
    panic!("{key} waits for ever: {note}");
}

/// A change of the route as it is, to its end.
pub(crate) async fn make(
    switch: &dyn TrafficSwitch,
    route: &RouteId,
    key: &str,
    wanted: &Assignment,
) -> Result<(), ProviderError> {
    let expected = look(switch, route).await.version;
    again(switch, route, key, wanted, &expected).await
}

/// What the balancer thinks of each member.
pub(crate) fn healths(state: &TrafficState) -> BTreeMap<InstanceId, MemberHealth> {
    state.members.iter().map(|member| (member.instance.clone(), member.health)).collect()
}
