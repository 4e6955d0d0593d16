//! Which instance has which address, as the network interfaces say.
//!
//! Machines of flexible scale sets have their interfaces among all others of the resource group, those of uniform ones in their set. The latter tell only the
//! number of a machine. So the members of a uniform set are listed before its interfaces: an address that is found under a number then is none of somebody who
//! had the number before, unless lists lag.

use std::collections::BTreeMap;
use std::net::IpAddr;

use immutable_core::model::InstanceId;
use immutable_core::provider::{ErrorKind, ProviderError};
use reqwest::Method;
use serde_json::Value;

use crate::client::Request;
use crate::config::Config;
use crate::members::{COMPUTE, Numbers, SETS};
use crate::{instance, looks, members, ownership};

/// The version of the API of network interfaces.
const NETWORK: &str = "2024-05-01";

/// The only version that lists the interfaces of a scale set:
/// <https://learn.microsoft.com/rest/api/virtualnetwork/network-interface-in-vm-ss/list-virtual-machine-scale-set-network-interfaces>.
const NETWORK_OF_SETS: &str = "2018-10-01";

/// Which machine has which address, of all in the resource group; [`instance::fleet`] tells whose it is. As old as lists are.
///
/// # Errors
/// Why not all can be seen; `Conflict` when instances of two fleets, or two of one, have the same address, as they have in a list that lags, and in networks that overlap.
pub(crate) async fn all(
    config: &Config,
    operation: &'static str,
) -> Result<BTreeMap<IpAddr, InstanceId>, ProviderError> {
    let mut found = of_flexible(config, operation).await?;
    let request = Request::new(Method::GET, &config.resource(SETS), COMPUTE);
    for set in listed(config, operation, request).await? {
        let Some(name) = set["name"].as_str().filter(|name| name.starts_with(ownership::PREFIX)) else { continue };
        if !members::is_flexible(&set)
            && let Some(members) = members::list(config, operation, name, false).await?
        {
            found.extend(of_set(config, operation, name, &members::numbers(name, &members)).await?);
        }
    }
    unique(operation, found)
}

/// The addresses of the machines of all flexible scale sets, in the order of the list.
pub(crate) async fn of_flexible(
    config: &Config,
    operation: &'static str,
) -> Result<Vec<(IpAddr, InstanceId)>, ProviderError> {
    let request = Request::new(Method::GET, &config.resource("Microsoft.Network/networkInterfaces"), NETWORK);
    let read = |interface: &Value| read(interface, &Numbers::new());
    Ok(listed(config, operation, request).await?.iter().flat_map(read).collect())
}

/// The addresses of these members of a uniform scale set; none, if it is gone.
pub(crate) async fn of_set(
    config: &Config,
    operation: &'static str,
    set: &str,
    members: &Numbers,
) -> Result<Vec<(IpAddr, InstanceId)>, ProviderError> {
    let path = config.resource(&format!("{SETS}/{set}/networkInterfaces"));
    let found = looks::all(&config.clients, operation, Request::new(Method::GET, &path, NETWORK_OF_SETS)).await?;
    Ok(found.unwrap_or_default().iter().flat_map(|interface| read(interface, members)).collect())
}

/// A list that is always there.
async fn listed(config: &Config, operation: &'static str, request: Request) -> Result<Vec<Value>, ProviderError> {
    let found = looks::all(&config.clients, operation, request).await?;
    found.ok_or_else(|| {
        let problem = format!("there is no list in {}: look again", config.resource_group);
        ProviderError::new(ErrorKind::Unavailable, operation, problem).without_effect()
    })
}

/// Who has which address. What is of no fleet gives way: networks of others may overlap with ours.
fn unique(
    operation: &'static str,
    found: Vec<(IpAddr, InstanceId)>,
) -> Result<BTreeMap<IpAddr, InstanceId>, ProviderError> {
    let mut all: BTreeMap<IpAddr, InstanceId> = BTreeMap::new();
    let is_ours = |id: &InstanceId| instance::fleet(id).is_some();
    for (address, instance) in found {
        match all.get(&address) {
            Some(other) if *other == instance || !is_ours(&instance) => {}
            Some(other) if is_ours(other) => {
                let problem = format!(
                    "{other} and {instance} both have the address {address}: look again, or keep apart networks that overlap"
                );
                return Err(ProviderError::new(ErrorKind::Conflict, operation, problem).without_effect());
            }
            _ => drop(all.insert(address, instance)),
        }
    }
    Ok(all)
}

/// The private addresses of an interface, the primary one first; none, if it is of no machine, or of none of the `members` of its uniform set.
fn read(interface: &Value, members: &Numbers) -> Vec<(IpAddr, InstanceId)> {
    let properties = &interface["properties"];
    let machine = properties["virtualMachine"]["id"].as_str();
    let Some(instance) = machine.and_then(|id| of_machine(id, members)) else { return Vec::new() };
    let mut parts: Vec<_> = properties["ipConfigurations"].as_array().into_iter().flatten().collect();
    parts.sort_by_key(|part| part["properties"]["primary"] == false);
    let address = |part: &Value| part["properties"]["privateIPAddress"].as_str()?.parse().ok();
    parts.into_iter().filter_map(address).map(|address| (address, instance.clone())).collect()
}

/// The instance that the machine of this id is: by its name, or by its number in a uniform set.
fn of_machine(id: &str, members: &Numbers) -> Option<InstanceId> {
    let id = id.to_ascii_lowercase();
    let (before, own) = id.rsplit_once("/virtualmachines/")?;
    if before.contains("/virtualmachinescalesets/") { members.get(own).cloned() } else { instance::id(own).ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Server, reply};

    const GROUP: &str = "/subscriptions/s/resourceGroups/g/providers";

    fn interface(machine: &str, addresses: &[(&str, bool)]) -> Value {
        let part = |(address, primary): &(&str, bool)| json!({ "properties": { "privateIPAddress": address, "primary": primary } });
        let parts: Vec<_> = addresses.iter().map(part).collect();
        json!({ "properties": { "virtualMachine": { "id": format!("{GROUP}/{machine}") }, "ipConfigurations": parts } })
    }

    fn text(found: &[(IpAddr, InstanceId)]) -> String {
        found.iter().map(|(address, instance)| format!("{address} {instance}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn an_interface_says_which_instance_has_its_addresses() {
        let machines = "Microsoft.Compute/virtualMachines";
        let sets = "Microsoft.Compute/virtualMachineScaleSets";
        let members = Numbers::from([("3".to_owned(), "im-web-1_3-0a1b2c3d".parse().unwrap())]);
        for (machine, addresses, expected) in [
            (format!("{machines}/im-web-1_0A1b2c3d"), vec![("10.0.0.1", true)], "10.0.0.1 im-web-1_0a1b2c3d"),
            (format!("{sets}/im-web-1/virtualMachines/3"), vec![("10.0.0.1", true)], "10.0.0.1 im-web-1_3-0a1b2c3d"),
            (format!("{sets}/im-web-1/virtualMachines/4"), vec![("10.0.0.1", true)], ""),
            (
                format!("{machines}/im-web-1_a"),
                vec![("fd00::1", false), ("10.0.0.1", true)],
                "10.0.0.1 im-web-1_a, fd00::1 im-web-1_a",
            ),
            (format!("{machines}/put-in-by-hand"), vec![("10.0.0.1", true)], "10.0.0.1 put-in-by-hand"),
            (format!("{machines}/im-web-1_a"), vec![], ""),
            (format!("{machines}/im-web-1_a"), vec![("no address", true)], ""),
        ] {
            assert_eq!(text(&read(&interface(&machine, &addresses), &members)), expected, "{machine}");
        }
        assert!(read(&json!({ "properties": { "ipConfigurations": [] } }), &members).is_empty());
    }

    #[tokio::test]
    async fn the_addresses_of_machines_of_both_kinds_are_found() {
        let list = |entries: Vec<Value>| reply(200, &[], &json!({ "value": entries }).to_string());
        let set = |name: &str, mode: &str| json!({ "name": name, "properties": { "orchestrationMode": mode } });
        let numbered = "Microsoft.Compute/virtualMachineScaleSets/im-web-2/virtualMachines/0";
        let server = Server::start([
            list(vec![interface("Microsoft.Compute/virtualMachines/im-web-1_a", &[("10.0.0.1", true)])]),
            list(vec![set("im-web-1", "Flexible"), set("im-web-2", "Uniform"), set("other", "Uniform")]),
            list(vec![json!({ "instanceId": "0", "properties": { "vmId": "0a1b2c3d-0000-4000-8000-000000000000" } })]),
            list(vec![interface(numbered, &[("10.0.0.2", true)])]),
        ])
        .await;
        let subnet = format!("{GROUP}/Microsoft.Network/virtualNetworks/v/subnets/s")
            .replace("/s/", "/01234567-89ab-cdef-0123-456789abcdef/");
        let config = Config::builder(server.clients(), "01234567-89ab-cdef-0123-456789abcdef", "g", "westeurope");
        let config = config.vm_size("Standard_D2s_v5").subnet(subnet).build().unwrap();
        let found: Vec<_> = all(&config, "test").await.unwrap().into_iter().collect();
        assert_eq!(text(&found), "10.0.0.1 im-web-1_a, 10.0.0.2 im-web-2_0-0a1b2c3d");
        let looked = &server.seen()[3].line;
        assert!(
            looked.contains("/virtualMachineScaleSets/im-web-2/networkInterfaces?api-version=2018-10-01"),
            "{looked}"
        );
    }

    #[test]
    fn an_address_of_two_instances_is_an_error_and_that_of_a_stranger_is_not() {
        let pair = |address: &str, id: &str| (address.parse().unwrap(), id.parse().unwrap());
        let found = unique("test", vec![pair("10.0.0.1", "im-web_a"), pair("10.0.0.1", "im-web_a")]).unwrap();
        assert_eq!(found.len(), 1);
        let (ours, theirs) = (pair("10.0.0.1", "im-web_a"), pair("10.0.0.1", "stranger"));
        for found in [vec![ours.clone(), theirs.clone()], vec![theirs, ours]] {
            let found = unique("test", found).unwrap();
            assert_eq!(found.into_values().collect::<Vec<_>>(), ["im-web_a".parse().unwrap()]);
        }
        let error = unique("test", vec![pair("10.0.0.1", "im-web_a"), pair("10.0.0.1", "im-web_b")]).unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("10.0.0.1"), "{error}");
    }
}
