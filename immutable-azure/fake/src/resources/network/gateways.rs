//! Application gateways: backend pools, rules, and how the backends are.

use serde_json::{Value, json};

use super::{check_references, complete_parts};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::resources::machines;
use crate::route::What;
use crate::world::{Outcome, World, key};

const KIND: &str = "Microsoft.Network/applicationGateways";

/// The lists of parts that a gateway has.
const PARTS: [&str; 13] = [
    "backendAddressPools",
    "backendHttpSettingsCollection",
    "frontendIPConfigurations",
    "frontendPorts",
    "gatewayIPConfigurations",
    "httpListeners",
    "probes",
    "redirectConfigurations",
    "requestRoutingRules",
    "rewriteRuleSets",
    "sslCertificates",
    "trustedRootCertificates",
    "urlPathMaps",
];

/// Which of the parts refer to which others.
const REFERENCES: [(&str, &str); 11] = [
    ("backendHttpSettingsCollection", "probe"),
    ("httpListeners", "frontendIPConfiguration"),
    ("httpListeners", "frontendPort"),
    ("requestRoutingRules", "backendAddressPool"),
    ("requestRoutingRules", "backendHttpSettings"),
    ("requestRoutingRules", "httpListener"),
    ("requestRoutingRules", "redirectConfiguration"),
    ("requestRoutingRules", "rewriteRuleSet"),
    ("requestRoutingRules", "urlPathMap"),
    ("urlPathMaps", "defaultBackendAddressPool"),
    ("urlPathMaps", "defaultBackendHttpSettings"),
];

pub(in crate::resources) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("POST", What::Action(action)) if action.eq_ignore_ascii_case("backendhealth") => health(world, call),
        _ => super::handle(world, call, complete),
    }
}

pub(in crate::resources) fn complete(id: &str, gateway: &mut Value) -> Result<(), Failure> {
    complete_parts(id, KIND, gateway, &PARTS)?;
    check_references(id, gateway, &REFERENCES)?;
    gateway["properties"]["operationalState"] = "Running".into();
    Ok(())
}

/// Asks how all backends are: by an operation that has the answer.
fn health(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.find(call.id())?;
    let id = call.id().to_owned();
    let operation =
        world.operate(call, move |world| world.find(&id).map(|gateway| Outcome::Done(looked(world, gateway))));
    Ok(world.accepted(call, &operation))
}

/// How the servers of the pools are that rules lead to, by the settings that the rules use.
fn looked(world: &World, gateway: &Value) -> Value {
    let properties = &gateway["properties"];
    let mut uses: Vec<(String, String)> = Vec::new();
    let rules = properties["requestRoutingRules"].as_array().into_iter().flatten();
    let maps = properties["urlPathMaps"].as_array().into_iter().flatten();
    for (part, pool, settings) in rules
        .map(|rule| (rule, "backendAddressPool", "backendHttpSettings"))
        .chain(maps.map(|map| (map, "defaultBackendAddressPool", "defaultBackendHttpSettings")))
    {
        let id = |field: &str| part["properties"][field]["id"].as_str().map(key);
        if let (Some(pool), Some(settings)) = (id(pool), id(settings))
            && !uses.contains(&(pool.clone(), settings.clone()))
        {
            uses.push((pool, settings));
        }
    }
    let mut pools = Vec::new();
    for pool in properties["backendAddressPools"].as_array().into_iter().flatten() {
        let here = uses.iter().filter(|(used, _)| pool["id"].as_str().is_some_and(|id| key(id) == *used));
        let settings: Vec<Value> = here
            .map(|(_, settings)| {
                let addresses = pool["properties"]["backendAddresses"].as_array().into_iter().flatten();
                let servers: Vec<Value> = addresses.map(|address| server(world, address)).collect();
                json!({ "backendHttpSettings": { "id": settings }, "servers": servers })
            })
            .collect();
        if !settings.is_empty() {
            pools
                .push(json!({ "backendAddressPool": { "id": pool["id"] }, "backendHttpSettingsCollection": settings }));
        }
    }
    json!({ "backendAddressPools": pools })
}

/// One server. The second generation of gateways uses words that the reference does not list.
fn server(world: &World, address: &Value) -> Value {
    let address = address["ipAddress"].as_str().or(address["fqdn"].as_str()).unwrap_or_default();
    let health = if machines::answers(world, address) { "Healthy" } else { "Unhealthy" };
    json!({ "address": address, "health": health })
}
