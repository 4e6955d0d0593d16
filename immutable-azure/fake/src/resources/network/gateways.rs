//! Application gateways: backend pools, rules, and how the backends are.

use std::time::Duration;

use serde_json::{Value, json};

use super::{check_references, complete_parts, is_named};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::resources::machines;
use crate::resources::requests::{self, Probed};
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
        ("POST", What::Action(action)) if action.eq_ignore_ascii_case("getBackendHealthOnDemand") => {
            on_demand(world, call)
        }
        ("PUT", What::Resource) => {
            super::check_location(world, &call.body)?;
            let mut gateway = call.body.clone();
            keep_secrets(world.get(call.id()), &mut gateway)?;
            note_probed(world, call.id(), None);
            let answer = super::write(world, call, gateway, complete)?;
            let id = call.id().to_owned();
            // Behind the end of the operation.
            world.after(world.options.operation_time, move |world| note_probed(world, &id, Some(world.now())));
            Ok(without_secrets(answer))
        }
        _ => super::handle(world, call, complete).map(without_secrets),
    }
}

pub(in crate::resources) fn complete(id: &str, gateway: &mut Value) -> Result<(), Failure> {
    complete_parts(id, KIND, gateway, &PARTS)?;
    // The only parts without a state.
    let redirects = gateway["properties"].get_mut("redirectConfigurations").and_then(Value::as_array_mut);
    for properties in redirects.into_iter().flatten().filter_map(|one| one["properties"].as_object_mut()) {
        properties.remove("provisioningState");
    }
    for map in gateway["properties"].get_mut("urlPathMaps").and_then(Value::as_array_mut).into_iter().flatten() {
        let id = map["id"].as_str().unwrap_or_default().to_owned();
        complete_parts(&id, &format!("{KIND}/urlPathMaps"), map, &["pathRules"])?;
    }
    check_references(id, gateway, &REFERENCES)?;
    gateway["properties"]["operationalState"] = "Running".into();
    Ok(())
}

/// A certificate that is written without its private part keeps the one that it has. It has to have one, here or in a vault.
fn keep_secrets(there: Option<&Value>, gateway: &mut Value) -> Result<(), Failure> {
    let old = there.and_then(|there| there["properties"]["sslCertificates"].as_array()).cloned().unwrap_or_default();
    let certificates = gateway["properties"].get_mut("sslCertificates").and_then(Value::as_array_mut);
    for certificate in certificates.into_iter().flatten() {
        let name = certificate["name"].as_str().unwrap_or_default().to_owned();
        let properties = &mut certificate["properties"];
        if properties["data"].is_string() || properties["keyVaultSecretId"].is_string() {
            continue;
        }
        let Some(known) = old.iter().find(|one| is_named(one, &name) && one["properties"]["data"].is_string()) else {
            let message = format!("Data or KeyVaultSecretId must be specified for Certificate {name}.");
            return Err(Failure::new(
                400,
                "ApplicationGatewaySslCertificateDataOrKeyVaultSecretIdMustBeSpecified",
                message,
            ));
        };
        for field in ["data", "password"] {
            if let Some(value) = known["properties"].get(field) {
                properties[field] = value.clone();
            }
        }
    }
    Ok(())
}

/// The private parts of certificates are not told.
fn without_secrets(mut answer: Answer) -> Answer {
    let strip = |gateway: &mut Value| {
        let certificates = gateway.pointer_mut("/properties/sslCertificates").and_then(Value::as_array_mut);
        for properties in certificates.into_iter().flatten().filter_map(|one| one["properties"].as_object_mut()) {
            properties.retain(|field, _| field != "data" && field != "password");
        }
    };
    match answer.body.get_mut("value").and_then(Value::as_array_mut) {
        Some(listed) => listed.iter_mut().for_each(strip),
        None => strip(&mut answer.body),
    }
    answer
}

/// Asks how all backends are: by an operation that has the answer.
fn health(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.find(call.id())?;
    let id = call.id().to_owned();
    let operation = world.operate(call, move |world| {
        // Only what is in use is probed.
        let gateway = requests::balancer(world, &id).map_or_else(|| world.find(&id), Ok)?;
        Ok(Outcome::Done(looked(world, gateway)))
    });
    Ok(world.accepted(call, &operation))
}

/// Asks how the backends of one pool are by some settings, whether a rule leads to it or not. `"Gets the backend health for given
/// combination of backend pool and http setting of the specified application gateway in a resource group."`
/// <https://learn.microsoft.com/rest/api/application-gateway/application-gateways/backend-health-on-demand>
fn on_demand(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    world.find(call.id())?;
    let (id, wanted) = (call.id().to_owned(), call.body.clone());
    let operation = world.operate(call, move |world| {
        let gateway = world.find(&id)?;
        let part = |list: &str, field: &str| {
            let reference = wanted[field]["id"].as_str().unwrap_or_default();
            let mut parts = gateway["properties"][list].as_array().into_iter().flatten();
            let found = parts.find(|part| part["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(reference)));
            found.ok_or_else(|| {
                let message = format!("Resource {reference} referenced by resource {id} was not found.");
                Failure::new(400, "InvalidResourceReference", message)
            })
        };
        let pool = part("backendAddressPools", "backendAddressPool")?;
        let settings = part("backendHttpSettingsCollection", "backendHttpSettings")?;
        Ok(Outcome::Done(json!({
            "backendAddressPool": { "id": pool["id"] },
            "backendHealthHttpSettings": { "backendHttpSettings": { "id": settings["id"] }, "servers": servers(world, pool) },
        })))
    });
    Ok(world.accepted(call, &operation))
}

/// Notes who is probed from now on, or since ever, of those who were not yet.
fn note_probed(world: &mut World, id: &str, since: Option<Duration>) {
    let Some(gateway) = requests::balancer(world, id) else { return };
    let mut probed = Probed::new();
    for (pool, settings) in uses(gateway) {
        let pools = gateway["properties"]["backendAddressPools"].as_array().into_iter().flatten();
        for found in pools.filter(|one| one["id"].as_str().is_some_and(|id| key(id) == pool)) {
            for address in found["properties"]["backendAddresses"].as_array().into_iter().flatten() {
                probed.insert((pool.clone(), settings.clone(), text(address).to_owned()), since);
            }
        }
    }
    let known = world.requests.probed.entry(key(id)).or_default();
    for (one, since) in &mut probed {
        *since = known.get(one).copied().unwrap_or(*since);
    }
    *known = probed;
}

/// Whether the gateway has had the time to probe an address.
fn is_probed(world: &World, gateway: &Value, (pool, settings): (&str, &str), address: &str) -> bool {
    let id = gateway["id"].as_str().unwrap_or_default();
    let one = (pool.to_owned(), settings.to_owned(), address.to_owned());
    let since = world.requests.probed.get(&key(id)).and_then(|probed| *probed.get(&one)?);
    let Some(since) = since.filter(|_| world.options.probes_take_time) else { return true };
    let part = |list: &str, id: &str| {
        let mut all = gateway["properties"][list].as_array().into_iter().flatten();
        all.find(|one| one["id"].as_str().is_some_and(|own| key(own) == key(id)))
    };
    let settings = part("backendHttpSettingsCollection", settings);
    let probe = settings.and_then(|settings| part("probes", settings["properties"]["probe"]["id"].as_str()?));
    let interval = probe.and_then(|probe| probe["properties"]["interval"].as_u64()).unwrap_or(30);
    world.now() >= since + world.options.second * u32::try_from(interval).unwrap_or(u32::MAX)
}

/// How the servers of the pools are that rules lead to, by the settings that the rules use.
fn looked(world: &World, gateway: &Value) -> Value {
    let uses = uses(gateway);
    let mut pools = Vec::new();
    for pool in gateway["properties"]["backendAddressPools"].as_array().into_iter().flatten() {
        let here = uses.iter().filter(|(used, _)| pool["id"].as_str().is_some_and(|id| key(id) == *used));
        let servers = |used: &str, settings: &str| -> Vec<Value> {
            let look = |address| {
                if is_probed(world, gateway, (used, settings), text(address)) {
                    server(world, address)
                } else {
                    json!({ "address": text(address), "health": "Unhealthy" })
                }
            };
            pool["properties"]["backendAddresses"].as_array().into_iter().flatten().map(look).collect()
        };
        let settings: Vec<Value> = here
            .map(|(used, settings)| {
                json!({ "backendHttpSettings": { "id": settings }, "servers": servers(used, settings) })
            })
            .collect();
        if !settings.is_empty() {
            pools
                .push(json!({ "backendAddressPool": { "id": pool["id"] }, "backendHttpSettingsCollection": settings }));
        }
    }
    json!({ "backendAddressPools": pools })
}

/// Which pools rules lead to, and by which settings: the ids of both in small letters.
fn uses(gateway: &Value) -> Vec<(String, String)> {
    let properties = &gateway["properties"];
    let mut uses: Vec<(String, String)> = Vec::new();
    let rules = properties["requestRoutingRules"].as_array().into_iter().flatten();
    let maps = || properties["urlPathMaps"].as_array().into_iter().flatten();
    let by_path = maps().flat_map(|map| map["properties"]["pathRules"].as_array().into_iter().flatten());
    for (part, pool, settings) in rules
        .chain(by_path)
        .map(|rule| (rule, "backendAddressPool", "backendHttpSettings"))
        .chain(maps().map(|map| (map, "defaultBackendAddressPool", "defaultBackendHttpSettings")))
    {
        let id = |field: &str| part["properties"][field]["id"].as_str().map(key);
        if let (Some(pool), Some(settings)) = (id(pool), id(settings))
            && !uses.contains(&(pool.clone(), settings.clone()))
        {
            uses.push((pool, settings));
        }
    }
    uses
}

fn servers(world: &World, pool: &Value) -> Vec<Value> {
    let addresses = pool["properties"]["backendAddresses"].as_array().into_iter().flatten();
    addresses.map(|address| server(world, address)).collect()
}

/// One server. The second generation of gateways uses words that the reference does not list.
fn server(world: &World, address: &Value) -> Value {
    let address = text(address);
    let health = if machines::answers(world, address) { "Healthy" } else { "Unhealthy" };
    json!({ "address": address, "health": health })
}

fn text(address: &Value) -> &str {
    address["ipAddress"].as_str().or(address["fqdn"].as_str()).unwrap_or_default()
}
