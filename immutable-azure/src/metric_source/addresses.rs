//! Which addresses are of a fleet, and since when.

use std::collections::BTreeMap;
use std::net::IpAddr;

use immutable_core::model::{FleetId, InstanceId};
use immutable_core::provider::ProviderError;
use jiff::Timestamp;

use super::OPERATION;
use crate::members::ScaleSet;
use crate::{Config, addresses, members};

/// The addresses of instances, each with the moment in seconds since 1970 from which on it has been theirs.
pub(super) type Addresses = BTreeMap<String, i64>;

/// The addresses of the instances of a fleet. Of an instance whose age is not known, none: its address may be one that somebody else had.
pub(super) async fn of_fleet(config: &Config, fleet: &FleetId) -> Result<Addresses, ProviderError> {
    let Some(set) = ScaleSet::of(config, OPERATION, fleet).await? else { return Ok(Addresses::new()) };
    let members = set.members(OPERATION).await?;
    let born = members.iter().filter_map(|member| {
        let at: Timestamp = member["properties"]["timeCreated"].as_str()?.parse().ok()?;
        Some((set.instance(member)?, at.as_second() + i64::from(at.subsec_nanosecond() > 0)))
    });
    let born: BTreeMap<InstanceId, i64> = born.collect();
    let owners = if set.is_flexible() {
        addresses::of_flexible(config, OPERATION).await?
    } else {
        addresses::of_set(config, OPERATION, set.name(), &members::numbers(set.name(), &members)).await?
    };
    let known = |(address, owner): (IpAddr, InstanceId)| Some((address.to_string(), *born.get(&owner)?));
    Ok(owners.into_iter().filter_map(known).collect())
}

/// The address of a server, which may be told with its port.
pub(super) fn host(server: &str) -> &str {
    match server.rsplit_once(':') {
        // Of an address of version 6 without brackets, the last part is no port.
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host.trim_matches(['[', ']']),
        _ => server.trim_matches(['[', ']']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_address() {
        for (server, expected) in [
            ("10.0.0.4:8080", "10.0.0.4"),
            ("10.0.0.4", "10.0.0.4"),
            ("[fd00::4]:8080", "fd00::4"),
            ("[fd00::4]", "fd00::4"),
            ("fd00::4", "fd00::4"),
            ("web.example.com:443", "web.example.com"),
        ] {
            assert_eq!(host(server), expected);
        }
    }
}
