//! Requests that clients of a balancer send, and who answers them.
//!
//! A change of a gateway or of a load balancer is in use when its operation has ended, and not before.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::machines;
use super::network::interfaces;
use crate::Fake;
use crate::world::{World, key};

/// So many clients ask the name servers, each for itself.
const CLIENTS: u64 = 8;

/// What balancers and their clients remember.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    count: u64,
    held: Option<Held>,
    /// What is still in use of balancers that are being changed.
    in_use: BTreeMap<String, Value>,
    /// Since when gateways probe whom: by the gateway, of each pool, settings and address; nothing for since ever.
    pub(super) probed: BTreeMap<String, Probed>,
    /// Which endpoint of a profile each client was told, and until when it believes that.
    told: BTreeMap<(String, u64), (Duration, String)>,
}

/// Since when a gateway probes whom: pool, settings and address.
pub(super) type Probed = BTreeMap<(String, String, String), Option<Duration>>;

/// A request in flight.
#[derive(Debug)]
struct Held {
    machine: String,
    serial: Value,
    pool: String,
    address: String,
}

impl Fake {
    /// Sends a request to a pool, a rule or a path map of an application gateway, to a pool of a load balancer, or to the name of a Traffic
    /// Manager profile, by its id as in [`Fake::id`]. Tells the id of the machine that answered it, or why nobody did.
    ///
    /// # Errors
    /// What the client got instead of an answer.
    pub fn request(&self, route: &str) -> Result<String, String> {
        self.world(|world| answer(world, route)).map(|held| held.machine)
    }

    /// Sends a request that is in flight until [`Fake::finish_request`], and tells which machine has it.
    ///
    /// # Errors
    /// What the client got instead.
    pub fn begin_request(&self, route: &str) -> Result<String, String> {
        self.world(|world| {
            let held = answer(world, route)?;
            let machine = held.machine.clone();
            world.requests.held = Some(held);
            Ok(machine)
        })
    }

    /// Lets the request that was begun be answered. A load balancer ends the connections of whom it does not have at all any more; a gateway lets
    /// them go on.
    ///
    /// # Errors
    /// Why the client did not get the whole answer.
    pub fn finish_request(&self) -> Result<(), String> {
        self.world(|world| {
            let Held { machine, serial, pool, address } = world.requests.held.take().ok_or("no request was begun")?;
            if machines::power(world, &machine) != Some("running") || machines::serial(world, &machine) != serial {
                return Err(format!("{machine} stopped"));
            }
            if is_of_load_balancer(&pool) && !addresses(world, &pool).iter().any(|(known, _)| *known == address) {
                return Err(format!("the balancer closed the connection to {machine}"));
            }
            Ok(())
        })
    }
}

/// Keeps what is in use of a balancer while a change of it is on its way.
pub(super) fn keep(world: &mut World, id: &str, before: &Value) {
    // What was kept for an earlier change is of no use any more when that has ended.
    if !world.is_busy(id) {
        world.requests.in_use.remove(&key(id));
    }
    world.requests.in_use.entry(key(id)).or_insert_with(|| before.clone());
}

/// The balancer as it is in use.
pub(super) fn balancer<'a>(world: &'a World, id: &str) -> Option<&'a Value> {
    let kept = world.requests.in_use.get(&key(id)).filter(|_| world.is_busy(id));
    kept.or_else(|| world.get(id))
}

/// Who answers a request. Shares are met as exactly as they can be, by taking turns.
fn answer(world: &mut World, route: &str) -> Result<Held, String> {
    world.requests.count += 1;
    let settled: Vec<String> = world.requests.in_use.keys().filter(|id| !world.is_busy(id)).cloned().collect();
    for id in settled {
        world.requests.in_use.remove(&id);
    }
    let count = world.requests.count;
    let id = world.id_of(route);
    let pool = match kind(&id) {
        "trafficmanagerprofiles" => resolve(world, &id, count)?,
        "requestroutingrules" | "urlpathmaps" => led_to(world, &id)?,
        _ => id,
    };
    let (balancer, _) = split(&pool);
    let open: Vec<String> =
        addresses(world, &pool).into_iter().filter(|(_, is_open)| *is_open).map(|(address, _)| address).collect();
    let turn = usize::try_from(count).unwrap_or_default().checked_rem(open.len());
    let address = turn.map(|turn| open[turn].clone()).ok_or(format!("{balancer} has nobody in {pool} to answer"))?;
    let machine = interfaces::machine_at(world, &address).ok_or(format!("nobody has the address {address}"))?;
    if machines::power(world, &machine) != Some("running") {
        return Err(format!("{machine} does not run"));
    }
    Ok(Held { serial: machines::serial(world, &machine), machine, pool, address })
}

/// The type of the last part of an id, in small letters.
fn kind(id: &str) -> &'static str {
    const KINDS: [&str; 3] = ["trafficmanagerprofiles", "requestroutingrules", "urlpathmaps"];
    let id = key(id);
    let last = id.rsplit('/').nth(1).unwrap_or_default();
    KINDS.into_iter().find(|known| *known == last).unwrap_or_default()
}

fn is_of_load_balancer(pool: &str) -> bool {
    key(pool).contains("/loadbalancers/")
}

/// The balancer that a part belongs to, and the part's name in small letters.
fn split(part: &str) -> (&str, String) {
    let name = part.rsplit('/').next().unwrap_or_default();
    let end = part.rmatch_indices('/').nth(1).map_or(0, |(end, _)| end);
    (&part[..end], key(name))
}

/// A part of a balancer as it is in use.
fn part<'a>(world: &'a World, id: &str) -> Option<&'a Value> {
    let (owner, name) = split(id);
    let list = key(id.rsplit('/').nth(1)?);
    let lists = balancer(world, owner)?["properties"].as_object()?;
    let parts = lists.iter().find(|(name, _)| key(name) == list)?.1.as_array()?;
    parts.iter().find(|part| part["name"].as_str().is_some_and(|own| key(own) == name))
}

/// The addresses of a pool, and whether they get new connections.
fn addresses(world: &World, pool: &str) -> Vec<(String, bool)> {
    let Some(found) = part(world, pool) else { return Vec::new() };
    let list = if is_of_load_balancer(pool) { "loadBalancerBackendAddresses" } else { "backendAddresses" };
    let is_probed = !is_of_load_balancer(pool) || has_probe(world, pool);
    let members = found["properties"][list].as_array().into_iter().flatten();
    let told = members.filter_map(|member| {
        let said = if is_of_load_balancer(pool) { &member["properties"] } else { member };
        let address = said["ipAddress"].as_str()?;
        let is_open = match said["adminState"].as_str() {
            Some("Up") => true,
            Some("Down") => false,
            _ => !is_probed || machines::answers(world, address),
        };
        Some((address.to_owned(), is_open))
    });
    told.collect()
}

/// Whether a rule that leads to a pool of a load balancer has a probe.
fn has_probe(world: &World, pool: &str) -> bool {
    let (owner, _) = split(pool);
    let Some(balancer) = balancer(world, owner) else { return false };
    let rules = balancer["properties"]["loadBalancingRules"].as_array().into_iter().flatten();
    let leads = |rule: &&Value| {
        let several = rule["properties"]["backendAddressPools"].as_array().into_iter().flatten();
        let mut all = several.chain([&rule["properties"]["backendAddressPool"]]);
        all.any(|one| one["id"].as_str().is_some_and(|id| key(id) == key(pool)))
    };
    rules.filter(leads).any(|rule| rule["properties"]["probe"]["id"].is_string())
}

/// The pool that a rule or a path map of a gateway leads to.
fn led_to(world: &World, id: &str) -> Result<String, String> {
    let properties = &part(world, id).ok_or(format!("there is no {id}"))?["properties"];
    let pools = ["backendAddressPool", "defaultBackendAddressPool"].map(|field| properties[field]["id"].as_str());
    pools.into_iter().flatten().next().map(str::to_owned).ok_or(format!("{id} leads nowhere"))
}

/// The pool behind the endpoint that a client of a profile was told: it asks again when the time to live is over.
fn resolve(world: &mut World, profile: &str, count: u64) -> Result<String, String> {
    let client = (key(profile), count % CLIENTS);
    let now = world.now();
    let known = world.requests.told.get(&client).filter(|(until, _)| now < *until).map(|(_, pool)| pool.clone());
    if let Some(pool) = known {
        return Ok(pool);
    }
    let found = &world.get(profile).ok_or(format!("there is no {profile}"))?["properties"];
    let ttl = u32::try_from(found["dnsConfig"]["ttl"].as_u64().unwrap_or(60)).unwrap_or(u32::MAX);
    let endpoints: Vec<&Value> = found["endpoints"].as_array().into_iter().flatten().collect();
    let weights: Vec<u64> =
        endpoints
            .iter()
            .map(|one| {
                if one["properties"]["endpointStatus"] == "Enabled" {
                    one["properties"]["weight"].as_u64()
                } else {
                    None
                }
            })
            .map(Option::unwrap_or_default)
            .collect();
    let sum: u64 = weights.iter().sum();
    if sum == 0 {
        return Err(format!("{profile} leads nowhere"));
    }
    // Multiples of the golden ratio are spread evenly.
    let mut point = (count.wrapping_mul(618_033_989) % 1_000_000_000) * sum / 1_000_000_000;
    let mut chosen = endpoints[0];
    for (endpoint, weight) in endpoints.iter().zip(weights) {
        chosen = endpoint;
        if point < weight {
            break;
        }
        point -= weight;
    }
    let address = chosen["properties"]["targetResourceId"].as_str().unwrap_or_default();
    let pool = behind(world, address).ok_or(format!("nothing is behind the endpoint {}", chosen["name"]))?;
    let until = now + world.options.second * ttl;
    world.requests.told.insert(client, (until, pool.clone()));
    Ok(pool)
}

/// The pool of a load balancer that the rules of the front end with this public address lead to.
fn behind(world: &World, address: &str) -> Option<String> {
    let balancers = world.all_of("Microsoft.Network/loadBalancers");
    balancers.iter().find_map(|id| {
        let properties = &balancer(world, id)?["properties"];
        let fronts = properties["frontendIPConfigurations"].as_array()?;
        let is_here = |front: &&Value| {
            let public = front["properties"]["publicIPAddress"]["id"].as_str();
            public.is_some_and(|public| key(public) == key(address))
        };
        let front = key(fronts.iter().find(is_here)?["id"].as_str()?);
        let rules = properties["loadBalancingRules"].as_array()?;
        let leads = |rule: &&Value| {
            rule["properties"]["frontendIPConfiguration"]["id"].as_str().is_some_and(|id| key(id) == front)
        };
        rules.iter().find(leads)?["properties"]["backendAddressPool"]["id"].as_str().map(str::to_owned)
    })
}
