//! A gateway of the fake, machines to put behind it, and a switch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use immutable_azure::{Clients, Config, ConfigBuilder, GatewayPoolSwitch, RoutingRuleSwitch};
use immutable_azure_fake::{Fake, Options};
use immutable_core::model::{Endpoint, FleetId, RouteId, RouteVersion, Split};
use immutable_core::provider::{
    Assignment, IdempotencyKey, MemberHealth, MemberTarget, OpContext, Progress, ProviderError, TrafficState,
    TrafficSwitch,
};
use serde_json::{Value, json};

use crate::support::{Fixed, TOKEN};

pub(crate) const GATEWAY: &str = "Microsoft.Network/applicationGateways/web";
pub(crate) const GET: &str = "GET Microsoft.Network/applicationGateways";
pub(crate) const PUT: &str = "PUT Microsoft.Network/applicationGateways";
pub(crate) const HEALTH: &str = "POST Microsoft.Network/applicationGateways/backendhealth";
pub(crate) const ON_DEMAND: &str = "POST Microsoft.Network/applicationGateways/getBackendHealthOnDemand";
pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// How long the gateway takes until it knows a member, by the settings of its probe.
const PROBED_WITHIN: Duration = Duration::from_millis(2050);
const IMAGE: &str = "Microsoft.Compute/galleries/golden/images/web/versions/1.0.0";

pub(crate) struct Stand {
    pub(crate) fake: Fake,
    pub(crate) switch: Box<dyn TrafficSwitch>,
    pub(crate) route: RouteId,
}

/// What a state says, as text that is easily compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) split: String,
    pub(crate) members: Vec<(String, MemberHealth)>,
}

pub(crate) fn told(state: &TrafficState) -> Told {
    let members = state.members.iter().map(|member| (member.instance.to_string(), member.health)).collect();
    Told { split: state.split.to_string(), members }
}

impl Stand {
    /// A switch by members of the pool `web`.
    pub(crate) fn by_members() -> Self {
        Self::new("backendAddressPools/web", |config| Box::new(GatewayPoolSwitch::new(config)))
    }

    /// A switch by the pool that the rule `web` leads to.
    pub(crate) fn by_rule() -> Self {
        Self::new("requestRoutingRules/web", |config| Box::new(RoutingRuleSwitch::new(config)))
    }

    pub(crate) fn new(route: &str, switch: impl Fn(Config) -> Box<dyn TrafficSwitch>) -> Self {
        let zero = Duration::ZERO;
        let fake = Fake::start(Options {
            operation_time: zero,
            boot_time: zero,
            stop_time: zero,
            health_time: zero,
            second: zero,
            ..Options::default()
        });
        fake.put(IMAGE, json!({}));
        fake.put(GATEWAY, gateway(&fake));
        let switch = switch(config(&fake).build().unwrap());
        let route = fake.id(&format!("{GATEWAY}/{route}")).parse().unwrap();
        Self { fake, switch, route }
    }

    /// The same route seen by another process, with other settings.
    pub(crate) fn reopen(&mut self, settings: impl FnOnce(ConfigBuilder) -> ConfigBuilder) {
        let config = settings(config(&self.fake)).build().unwrap();
        self.switch = if self.route.as_str().contains("backendAddressPools") {
            Box::new(GatewayPoolSwitch::new(config))
        } else {
            Box::new(RoutingRuleSwitch::new(config))
        };
    }

    /// Starts the machines of a fleet.
    pub(crate) async fn fleet(&self, fleet: &str, size: u32) -> Vec<MemberTarget> {
        let set = self.fake.id(&format!("Microsoft.Compute/virtualMachineScaleSets/im-{fleet}"));
        let body = scale_set(&self.fake, size).to_string();
        let request = reqwest::Client::new().put(format!("{}{set}?api-version=2024-07-01", self.fake.url()));
        let request = request.header("content-type", "application/json").bearer_auth(TOKEN).body(body);
        assert!(request.send().await.unwrap().status().is_success());
        let prefix = format!("im-{fleet}_");
        let mut members = Vec::new();
        for interface in self.fake.list("Microsoft.Network/networkInterfaces").into_values() {
            let properties = &interface["properties"];
            let machine = properties["virtualMachine"]["id"].as_str().unwrap_or_default();
            let machine = machine.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
            let address = properties["ipConfigurations"][0]["properties"]["privateIPAddress"].as_str().unwrap();
            if machine.starts_with(&prefix) {
                let endpoint = Endpoint::new(address, 8080).unwrap();
                members.push(MemberTarget { instance: machine.parse().unwrap(), fleet: id(fleet), endpoint });
            }
        }
        assert_eq!(members.len(), size as usize);
        members.sort_by(|one, other| one.instance.cmp(&other.instance));
        members
    }

    /// Each change of the gateway is on its way until [`Stand::pass`].
    pub(crate) fn slow(&self) {
        self.fake.set(|options| options.operation_time = HOUR);
    }

    pub(crate) fn pass(&self) {
        self.fake.skip(HOUR);
    }

    pub(crate) async fn observe(&self) -> TrafficState {
        self.switch.observe(&OpContext::standalone("observe"), &self.route).await.unwrap()
    }

    /// The route when the gateway has said what it thinks of it, in a question of after now.
    pub(crate) async fn settled(&self) -> Told {
        for _ in 0..4 {
            self.observe().await;
        }
        told(&self.observe().await)
    }

    /// The same when the gateway has had the time to probe everybody.
    pub(crate) async fn probed(&self) -> Told {
        self.observe().await;
        tokio::time::sleep(PROBED_WITHIN).await;
        self.settled().await
    }

    /// One call of `apply`.
    pub(crate) async fn once(
        &self,
        key: &str,
        wanted: &Assignment,
        version: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        self.switch.apply(&cx(key), &self.route, wanted, version).await
    }

    /// Applies to the version that is there, until it is done.
    pub(crate) async fn apply(&self, wanted: &Assignment) -> Result<(), ProviderError> {
        let version = self.observe().await.version;
        let key = format!("{wanted:?} {version}");
        for _ in 0..50 {
            if self.once(&key, wanted, &version).await? == Progress::Done(()) {
                return Ok(());
            }
        }
        panic!("never done: {:?}", self.once(&key, wanted, &version).await);
    }

    /// The fleets whose machines answer requests now. None may be lost.
    pub(crate) fn answering(&self) -> BTreeSet<String> {
        let answer = || {
            let machine =
                self.fake.request(self.route.as_str()).unwrap_or_else(|lost| panic!("a request was lost: {lost}"));
            let name = machine.rsplit('/').next().unwrap().to_ascii_lowercase();
            name.rsplit_once('_').unwrap().0.trim_start_matches("im-").to_owned()
        };
        (0..6).map(|_| answer()).collect()
    }

    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.fake.calls().get(operation).copied().unwrap_or_default()
    }

    /// The addresses in each pool.
    pub(crate) fn pools(&self) -> BTreeMap<String, Vec<String>> {
        let gateway = self.fake.get(GATEWAY).unwrap();
        let pools = gateway["properties"]["backendAddressPools"].as_array().unwrap().iter();
        let targets = |pool: &Value| {
            let all = pool["properties"]["backendAddresses"].as_array().into_iter().flatten();
            let text = |target: &Value| target["ipAddress"].as_str().or(target["fqdn"].as_str()).unwrap().to_owned();
            all.map(text).collect()
        };
        pools.map(|pool| (pool["name"].as_str().unwrap().to_owned(), targets(pool))).collect()
    }

    /// Which pool the rule leads to.
    pub(crate) fn led_to(&self) -> String {
        let gateway = self.fake.get(GATEWAY).unwrap();
        let pool = gateway.pointer("/properties/requestRoutingRules/0/properties/backendAddressPool/id");
        pool.unwrap().as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    /// Changes a part of the gateway by hand.
    pub(crate) fn change(&self, path: &str, value: Value) {
        self.fake.change(GATEWAY, |gateway| *gateway.pointer_mut(path).unwrap() = value);
    }
}

pub(crate) fn id(fleet: &str) -> FleetId {
    fleet.parse().unwrap()
}

pub(crate) fn cx(key: &str) -> OpContext {
    OpContext { key: IdempotencyKey::of(&[key]), ..OpContext::standalone(key) }
}

pub(crate) fn ips(members: &[MemberTarget]) -> Vec<String> {
    members.iter().map(|member| member.endpoint.host().to_owned()).collect()
}

/// All traffic to a fleet, and these members.
pub(crate) fn to(fleet: &str, members: &[&[MemberTarget]]) -> Assignment {
    let split = if fleet.is_empty() { Split::closed() } else { Split::all_to(id(fleet)) };
    Assignment { split, members: members.concat() }
}

/// These members with one health each.
pub(crate) fn all(members: &[&[MemberTarget]], health: MemberHealth) -> Vec<(String, MemberHealth)> {
    let mut all: Vec<_> = members.concat().into_iter().map(|member| (member.instance.to_string(), health)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

pub(crate) fn config(fake: &Fake) -> ConfigBuilder {
    let clients = Clients::new(Arc::new(Fixed), Some(&fake.url())).unwrap();
    let options = Options::default();
    Config::builder(clients, options.subscription, "fake", options.location)
        .vm_size("Standard_B2s")
        .subnet(fake.id("Microsoft.Network/virtualNetworks/net/subnets/main"))
        .port(8080)
        .drain_time(Duration::ZERO)
}

fn scale_set(fake: &Fake, size: u32) -> Value {
    let subnet = json!({ "id": fake.id("Microsoft.Network/virtualNetworks/net/subnets/main") });
    let address = json!({ "name": "main", "properties": { "subnet": subnet } });
    let interface = json!({ "name": "main", "properties": { "primary": true, "ipConfigurations": [address] } });
    json!({
        "location": "westeurope",
        "sku": { "name": "Standard_B2s", "tier": "Standard", "capacity": size },
        "properties": {
            "orchestrationMode": "Flexible",
            "platformFaultDomainCount": 1,
            "upgradePolicy": { "mode": "Manual" },
            "virtualMachineProfile": {
                "storageProfile": { "imageReference": { "id": fake.id(IMAGE) }, "osDisk": { "createOption": "FromImage" } },
                "osProfile": { "computerNamePrefix": "web" },
                "networkProfile": { "networkApiVersion": "2022-11-01", "networkInterfaceConfigurations": [interface] },
            },
        },
    })
}

/// A gateway that serves more than these routes: with a certificate, with tags, with rules by path, and with what this crate knows nothing of.
fn gateway(fake: &Fake) -> Value {
    let part = |part: &str| json!({ "id": fake.id(&format!("{GATEWAY}/{part}")) });
    let rule = |name: &str, priority: u32, rest: Value| {
        let mut rule = json!({ "name": name, "properties": {
            "ruleType": "Basic", "priority": priority, "httpListener": part("httpListeners/web"),
        } });
        rule["properties"].as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        rule
    };
    let leads = |pool: &str| {
        json!({
            "backendAddressPool": part(&format!("backendAddressPools/{pool}")),
            "backendHttpSettings": part("backendHttpSettingsCollection/web"),
        })
    };
    let mut by_path = leads("other");
    by_path["paths"] = json!(["/api/*"]);
    json!({
        "location": "westeurope",
        "zones": ["1", "2"],
        "tags": { "Owner": "somebody" },
        "properties": {
            "sku": { "name": "WAF_v2", "tier": "WAF_v2" },
            "autoscaleConfiguration": { "minCapacity": 1, "maxCapacity": 3 },
            "enableHttp2": true,
            "gatewayIPConfigurations": [{ "name": "main", "properties": {
                "subnet": { "id": fake.id("Microsoft.Network/virtualNetworks/net/subnets/gateway") },
            } }],
            "frontendIPConfigurations": [{ "name": "front", "properties": {
                "privateIPAllocationMethod": "Dynamic",
                "publicIPAddress": { "id": fake.id("Microsoft.Network/publicIPAddresses/web") },
            } }],
            "frontendPorts": [{ "name": "https", "properties": { "port": 443 } }],
            "sslCertificates": [
                { "name": "own", "properties": { "data": "c2VjcmV0", "password": "hunter2", "publicCertData": "cHVibGlj" } },
                { "name": "vault", "properties": { "keyVaultSecretId": "https://web.vault.azure.net/secrets/web" } },
            ],
            "backendAddressPools": [
                { "name": "web", "properties": { "backendAddresses": [{ "fqdn": "legacy.example" }, { "ipAddress": "10.9.9.9" }] } },
                { "name": "other", "properties": { "backendAddresses": [{ "ipAddress": "10.9.9.8" }] } },
            ],
            "probes": [{ "name": "web", "properties": {
                "protocol": "Http", "path": "/health", "interval": 1, "timeout": 1, "unhealthyThreshold": 2,
                "pickHostNameFromBackendHttpSettings": true,
            } }],
            "backendHttpSettingsCollection": [
                { "name": "web", "properties": { "port": 8080, "protocol": "Http", "probe": part("probes/web"), "hostName": "web.example" } },
            ],
            "httpListeners": [{ "name": "web", "properties": {
                "frontendIPConfiguration": part("frontendIPConfigurations/front"),
                "frontendPort": part("frontendPorts/https"),
                "protocol": "Https",
                "sslCertificate": part("sslCertificates/own"),
            } }],
            "redirectConfigurations": [{ "name": "away", "properties": { "redirectType": "Permanent", "targetUrl": "https://web.example" } }],
            "urlPathMaps": [{ "name": "paths", "properties": {
                "defaultBackendAddressPool": part("backendAddressPools/other"),
                "defaultBackendHttpSettings": part("backendHttpSettingsCollection/web"),
                "pathRules": [{ "name": "api", "properties": by_path }],
            } }],
            "requestRoutingRules": [
                rule("web", 1, leads("web")),
                rule("away", 2, json!({ "redirectConfiguration": part("redirectConfigurations/away") })),
                rule("paths", 3, json!({ "ruleType": "PathBasedRouting", "urlPathMap": part("urlPathMaps/paths") })),
            ],
        },
    })
}
