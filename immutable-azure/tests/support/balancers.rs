//! What a team has in front of its machines before it rolls anything out.

use immutable_azure_fake::Fake;
use serde_json::{Value, json};

/// The load balancer, the gateway, and the profile of Traffic Manager. The first two have the pools `web` and `other`, and the gateway a rule of each name
/// as well. The balancer also has the pools `blue` and `green`, each behind a public address, which are the endpoints of the profile.
pub(crate) const LOAD_BALANCER: &str = "Microsoft.Network/loadBalancers/web";
pub(crate) const GATEWAY: &str = "Microsoft.Network/applicationGateways/web";
pub(crate) const PROFILE: &str = "Microsoft.Network/trafficManagerProfiles/web";

/// Places all of them.
pub(crate) fn place(fake: &Fake) {
    fake.put(LOAD_BALANCER, load_balancer(fake));
    fake.put(GATEWAY, gateway(fake));
    fake.put(PROFILE, profile(fake));
}

fn load_balancer(fake: &Fake) -> Value {
    let part = |part: &str| json!({ "id": fake.id(&format!("{LOAD_BALANCER}/{part}")) });
    let names = ["web", "other", "blue", "green"];
    let fronts =
        names.map(|name| json!({ "name": name, "properties": { "publicIPAddress": { "id": public(fake, name) } } }));
    let rules = names.map(|name| {
        json!({
            "name": name,
            "properties": {
                "protocol": "Tcp",
                "frontendPort": 80,
                "backendPort": 8080,
                "frontendIPConfiguration": part(&format!("frontendIPConfigurations/{name}")),
                "backendAddressPool": part(&format!("backendAddressPools/{name}")),
                "probe": part("probes/http"),
            },
        })
    });
    let pools = names.map(|name| json!({ "name": name, "properties": { "drainPeriodInSeconds": 1 } }));
    json!({
        "sku": { "name": "Standard" },
        "properties": {
            "frontendIPConfigurations": fronts,
            "backendAddressPools": pools,
            "loadBalancingRules": rules,
            "probes": [{ "name": "http", "properties": { "protocol": "Tcp", "port": 8080, "intervalInSeconds": 5 } }],
        },
    })
}

fn gateway(fake: &Fake) -> Value {
    let part = |part: &str| json!({ "id": fake.id(&format!("{GATEWAY}/{part}")) });
    let names = ["web", "other"];
    let each = |make: &dyn Fn(usize, &str) -> Value| -> Vec<Value> {
        names.iter().enumerate().map(|(index, name)| json!({ "name": name, "properties": make(index, name) })).collect()
    };
    json!({
        "properties": {
            "sku": { "name": "Standard_v2", "tier": "Standard_v2", "capacity": 1 },
            "frontendIPConfigurations": [
                { "name": "front", "properties": { "publicIPAddress": { "id": public(fake, "gateway") } } },
            ],
            "frontendPorts": each(&|index, _| json!({ "port": 80 + index })),
            "backendAddressPools": each(&|_, _| json!({ "backendAddresses": [] })),
            "backendHttpSettingsCollection": each(&|_, _| {
                let draining = json!({ "enabled": true, "drainTimeoutInSec": 1 });
                json!({ "port": 8080, "protocol": "Http", "connectionDraining": draining, "probe": part("probes/http") })
            }),
            "probes": [{
                "name": "http",
                "properties": {
                    "protocol": "Http",
                    "path": "/health",
                    "host": "localhost",
                    "interval": 1,
                    "timeout": 1,
                    "unhealthyThreshold": 1,
                },
            }],
            "httpListeners": each(&|_, name| json!({
                "frontendIPConfiguration": part("frontendIPConfigurations/front"),
                "frontendPort": part(&format!("frontendPorts/{name}")),
                "protocol": "Http",
            })),
            "requestRoutingRules": each(&|index, name| json!({
                "ruleType": "Basic",
                "priority": index + 1,
                "httpListener": part(&format!("httpListeners/{name}")),
                "backendAddressPool": part(&format!("backendAddressPools/{name}")),
                "backendHttpSettings": part(&format!("backendHttpSettingsCollection/{name}")),
            })),
        },
    })
}

/// A profile whose clients ask again after a second.
fn profile(fake: &Fake) -> Value {
    let endpoint = |name: &str| {
        json!({
            "name": name,
            "type": "Microsoft.Network/trafficManagerProfiles/azureEndpoints",
            "properties": { "targetResourceId": public(fake, name), "weight": 1, "endpointStatus": "Disabled" },
        })
    };
    json!({
        "location": "global",
        "properties": {
            "trafficRoutingMethod": "Weighted",
            "dnsConfig": { "relativeName": "web", "ttl": 1 },
            "monitorConfig": { "protocol": "HTTP", "port": 80, "path": "/health" },
            "endpoints": SLOTS.map(endpoint),
        },
    })
}

/// The endpoints of the profile, and the pools behind them, which have the same names.
pub(crate) const SLOTS: [&str; 2] = ["blue", "green"];

fn public(fake: &Fake, name: &str) -> String {
    fake.id(&format!("Microsoft.Network/publicIPAddresses/{name}"))
}
