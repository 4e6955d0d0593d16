//! Requests that clients of a balancer send, and who answers them.

use serde_json::Value;

use super::{endpoint_groups, machines, url_maps};
use crate::Fake;
use crate::world::World;

/// What the balancers remember.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    count: u64,
    held: Option<(String, Value)>,
}

impl Fake {
    /// Sends a request to the default route of a URL map (`global/urlMaps/web`, perhaps with `/pathMatchers/m` behind), or to
    /// a backend service, and tells the path of the machine that answered it, or why nobody did.
    ///
    /// # Errors
    /// What the client got instead of an answer.
    pub fn request(&self, route: &str) -> Result<String, String> {
        self.world(|world| answer(world, route)).map(|(machine, _)| machine)
    }

    /// Sends a request that is in flight until [`Fake::finish_request`], and tells which machine has it.
    ///
    /// # Errors
    /// What the client got instead.
    pub fn begin_request(&self, route: &str) -> Result<String, String> {
        self.world(|world| {
            let (machine, id) = answer(world, route)?;
            world.traffic.held = Some((machine.clone(), id));
            Ok(machine)
        })
    }

    /// Lets the request that was begun be answered.
    ///
    /// # Errors
    /// Why the client did not get the whole answer.
    pub fn finish_request(&self) -> Result<(), String> {
        self.world(|world| {
            let (machine, id) = world.traffic.held.take().ok_or("no request was begun")?;
            if machines::status(world, &machine) != Some("RUNNING") {
                return Err(format!("{machine} stopped"));
            }
            if !endpoint_groups::is_known(world, &machine, &id) {
                return Err(format!("the balancer closed the connection to {machine}"));
            }
            Ok(())
        })
    }
}

/// Who answers a request. Shares are met as exactly as they can be, by taking turns.
fn answer(world: &mut World, route: &str) -> Result<(String, Value), String> {
    world.traffic.count += 1;
    let count = world.traffic.count;
    let (path, matcher) = match route.split_once("/pathMatchers/") {
        Some((map, matcher)) => (world.path_of(map), Some(matcher)),
        None => (world.path_of(route), None),
    };
    let is_service = path.contains("/backendServices/");
    let services = if is_service { vec![(path, 1)] } else { url_maps::leads_to(world, &path, matcher) };
    let sum: u64 = services.iter().map(|(_, weight)| weight).sum();
    if sum == 0 {
        return Err(format!("{route} leads nowhere"));
    }
    // Multiples of the golden ratio are spread evenly.
    let mut point = (count.wrapping_mul(618_033_989) % 1_000_000_000) * sum / 1_000_000_000;
    let mut service = &services[0].0;
    for (candidate, weight) in &services {
        service = candidate;
        if point < *weight {
            break;
        }
        point -= weight;
    }
    let endpoints = endpoint_groups::in_use(world, service);
    let index = usize::try_from(count).unwrap_or_default().checked_rem(endpoints.len());
    let endpoint = index.map(|index| &endpoints[index]).ok_or(format!("{service} has nobody to answer"))?;
    if machines::status(world, &endpoint.machine) != Some("RUNNING") {
        return Err(format!("{} does not run", endpoint.machine));
    }
    Ok((endpoint.machine.clone(), endpoint.id.clone()))
}
