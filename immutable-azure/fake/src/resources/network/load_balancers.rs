//! Load balancers with backend pools by address.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{check_references, complete_parts, is_named, store};
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::resources::{machines, shown, unknown};
use crate::route::{What, name_of};
use crate::world::{Outcome, World};

const KIND: &str = "Microsoft.Network/loadBalancers";

/// The lists of parts that a load balancer has.
const PARTS: [&str; 6] = [
    "backendAddressPools",
    "frontendIPConfigurations",
    "inboundNatRules",
    "loadBalancingRules",
    "outboundRules",
    "probes",
];

/// Which of the parts refer to which others.
const REFERENCES: [(&str, &str); 6] = [
    ("loadBalancingRules", "backendAddressPool"),
    ("loadBalancingRules", "backendAddressPools"),
    ("loadBalancingRules", "frontendIPConfiguration"),
    ("loadBalancingRules", "probe"),
    ("outboundRules", "backendAddressPool"),
    ("outboundRules", "frontendIPConfigurations"),
];

pub(in crate::resources) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    super::handle(world, call, complete)
}

/// One backend pool: a part that can be written by itself.
pub(in crate::resources) fn handle_pools(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let (id, _) = call.id().split_once("/backendAddressPools").unwrap_or((call.id(), ""));
    let mut balancer = world.find(id)?.clone();
    let name = name_of(call.id());
    let pools = balancer["properties"]["backendAddressPools"].as_array().cloned().unwrap_or_default();
    let there = pools.iter().position(|pool| is_named(pool, name));
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::List) => {
            let rows = pools.iter().map(|pool| (pool["name"].to_string(), shown(pool))).collect();
            return Ok(world.page(call, rows));
        }
        ("GET", What::Resource) => {
            let pool = there.map(|index| &pools[index]).ok_or_else(|| Failure::not_found(call.kind(), call.id()))?;
            return Ok(Answer::ok(shown(pool)));
        }
        ("PUT", What::Resource) => {
            let mut pool = call.body.clone();
            pool["name"] = name.into();
            if balancer["properties"]["backendAddressPools"].is_null() {
                balancer["properties"]["backendAddressPools"] = json!([]);
            }
            if let Some(pools) = balancer["properties"]["backendAddressPools"].as_array_mut() {
                match there {
                    Some(index) => pools[index] = pool,
                    None => pools.push(pool),
                }
            }
        }
        ("DELETE", What::Resource) => {
            let Some(index) = there else { return Ok(Answer::nothing()) };
            let pools = balancer["properties"]["backendAddressPools"].as_array_mut();
            if let Some(pools) = pools {
                pools.remove(index);
            }
        }
        _ => return unknown(world, call),
    }
    let operation = store(world, call, id, balancer, complete)?;
    let pools = world.find(id)?["properties"]["backendAddressPools"].as_array();
    let Some(pool) = pools.into_iter().flatten().find(|pool| is_named(pool, name)) else {
        return Ok(world.accepted(call, &operation));
    };
    let answer = Answer::new(if there.is_some() { 200 } else { 201 }, shown(pool));
    Ok(world.follow(call, &operation, answer))
}

/// One rule: asks how the members are that it leads to, by an operation that has the answer.
/// <https://learn.microsoft.com/azure/load-balancer/load-balancer-manage-health-status>
pub(in crate::resources) fn handle_rules(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    let is_health = matches!(&call.route.what, What::Action(action) if action.eq_ignore_ascii_case("health"));
    if call.verb != "POST" || !is_health {
        return unknown(world, call);
    }
    let (balancer, name) = call.id().split_once("/loadBalancingRules/").unwrap_or((call.id(), ""));
    let (balancer, name) = (balancer.to_owned(), name.to_owned());
    let missing = Failure::not_found(call.kind(), call.id());
    let look = move |world: &World| {
        let properties = &world.find(&balancer)?["properties"];
        let rules = properties["loadBalancingRules"].as_array();
        let rule = rules.into_iter().flatten().find(|rule| is_named(rule, &name)).ok_or_else(|| missing.clone())?;
        Ok(health(world, properties, rule))
    };
    look(world)?;
    let operation = world.operate(call, move |world| look(world).map(Outcome::Done));
    Ok(world.accepted(call, &operation))
}

/// How the members are that a rule leads to.
fn health(world: &World, balancer: &Value, rule: &Value) -> Value {
    let pools = balancer["backendAddressPools"].as_array().into_iter().flatten().filter(|pool| uses(rule, pool));
    let addresses = pools.flat_map(|pool| {
        pool["properties"]["loadBalancerBackendAddresses"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["properties"])
    });
    let looks: Vec<Value> = addresses
        .map(|address| {
            let ip = address["ipAddress"].as_str().unwrap_or_default();
            let (state, reason) = match address["adminState"].as_str() {
                Some("Up") => ("Up", "Up_Admin"),
                Some("Down") => ("Down", "Down_Admin"),
                _ if machines::answers(world, ip) => ("Up", "Up_Probe_Success"),
                _ => ("Down", "Down_Probe_TcpProbeTimeout"),
            };
            json!({ "ipAddress": ip, "state": state, "reason": reason })
        })
        .collect();
    let count = |state: &str| looks.iter().filter(|look| look["state"] == state).count();
    json!({ "up": count("Up"), "down": count("Down"), "loadBalancerBackendAddresses": looks })
}

pub(in crate::resources) fn complete(id: &str, balancer: &mut Value) -> Result<(), Failure> {
    complete_parts(id, KIND, balancer, &PARTS)?;
    check_references(id, balancer, &REFERENCES)?;
    let rules = balancer["properties"]["loadBalancingRules"].as_array().cloned().unwrap_or_default();
    for pool in
        balancer["properties"].get_mut("backendAddressPools").and_then(Value::as_array_mut).into_iter().flatten()
    {
        check_addresses(pool)?;
        let users: Vec<Value> =
            rules.iter().filter(|rule| uses(rule, pool)).map(|rule| json!({ "id": rule["id"] })).collect();
        match pool["properties"].as_object_mut() {
            Some(properties) if users.is_empty() => drop(properties.remove("loadBalancingRules")),
            _ => pool["properties"]["loadBalancingRules"] = users.into(),
        }
    }
    Ok(())
}

/// Whether a rule leads to a pool.
fn uses(rule: &Value, pool: &Value) -> bool {
    let several = rule["properties"]["backendAddressPools"].as_array().into_iter().flatten();
    let mut all = several.chain([&rule["properties"]["backendAddressPool"]]);
    let id = pool["id"].as_str().unwrap_or_default();
    all.any(|reference| reference["id"].as_str().is_some_and(|wanted| wanted.eq_ignore_ascii_case(id)))
}

/// Refuses a pool with addresses that cannot be.
fn check_addresses(pool: &Value) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    let mut ips = BTreeSet::new();
    let properties = &pool["properties"];
    for address in properties["loadBalancerBackendAddresses"].as_array().into_iter().flatten() {
        let refuse = |why: &str| {
            let message = format!("Cannot parse the request: the backend address {}: {why}.", address["name"]);
            Err(Failure::new(400, "InvalidRequestFormat", message))
        };
        let said = &address["properties"];
        if !address["name"].as_str().is_some_and(|name| names.insert(name)) {
            return refuse("it has no name of its own");
        }
        let ip = said["ipAddress"].as_str();
        if !ip.is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok() && ips.insert(ip)) {
            return refuse("it has no IP address of its own");
        }
        if [said, properties].iter().all(|one| one["virtualNetwork"]["id"].is_null() && one["subnet"]["id"].is_null()) {
            return refuse("it is in no virtual network");
        }
        if said.get("adminState").is_some_and(|state| !["None", "Up", "Down"].iter().any(|known| state == known)) {
            return refuse("its adminState is unknown");
        }
    }
    Ok(())
}
