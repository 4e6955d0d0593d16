//! What a gateway says when it was asked how members are, read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use immutable_core::provider::ProviderError;
use serde::Deserialize;

use super::super::document::{name, same};
use crate::asked::Answered;

/// The answer of a gateway about all pools that rules lead to.
#[derive(Debug, Deserialize)]
struct All {
    #[serde(rename = "backendAddressPools", default)]
    pools: Vec<OfPool>,
}

#[derive(Debug, Deserialize)]
struct OfPool {
    #[serde(rename = "backendAddressPool")]
    pool: Reference,
    #[serde(rename = "backendHttpSettingsCollection", default)]
    settings: Vec<OfSettings>,
}

/// Its answer about one pool.
#[derive(Debug, Deserialize)]
struct OnDemand {
    #[serde(rename = "backendHealthHttpSettings")]
    settings: Option<OfSettings>,
}

#[derive(Debug, Default, Deserialize)]
struct OfSettings {
    #[serde(default)]
    servers: Vec<Server>,
}

#[derive(Debug, Deserialize)]
struct Server {
    #[serde(default)]
    address: String,
    #[serde(default)]
    health: String,
}

#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(default)]
    id: String,
}

/// What is said of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    Good,
    /// The gateway does not know yet, or not all of it agrees.
    Open,
    Bad,
}

impl Seen {
    /// The meaning of a word: [those of the reference](https://learn.microsoft.com/rest/api/application-gateway/application-gateways/backend-health#applicationgatewaybackendhealthserverhealth),
    /// and [those that gateways use](https://learn.microsoft.com/azure/application-gateway/application-gateway-backend-health#backend-health-report).
    fn of(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "up" | "healthy" => Self::Good,
            "down" | "unhealthy" => Self::Bad,
            _ => Self::Open,
        }
    }
}

/// By address; of several settings the worst.
pub(super) type Looks = BTreeMap<IpAddr, Seen>;

fn looks(settings: &[OfSettings]) -> Looks {
    let mut looks = Looks::new();
    for server in settings.iter().flat_map(|settings| &settings.servers) {
        let Ok(address) = server.address.parse() else { continue };
        let seen = Seen::of(&server.health);
        let worst = looks.entry(address).or_insert(seen);
        *worst = seen.max(*worst);
    }
    looks
}

/// What an answer says of a pool, or of all pools together.
///
/// # Errors
/// `Internal` for what is no answer.
pub(crate) fn pool_looks(
    answered: &Answered,
    operation: &'static str,
    pool: Option<&str>,
) -> Result<BTreeMap<IpAddr, Seen>, ProviderError> {
    let all: All = answered.json(operation)?;
    let asked = all.pools.into_iter().filter(|one| pool.is_none_or(|pool| same(name(&one.pool.id), pool)));
    Ok(looks(&asked.flat_map(|one| one.settings).collect::<Vec<_>>()))
}

/// What an answer on demand says.
pub(super) fn looks_on_demand(answered: &Answered, operation: &'static str) -> Result<Looks, ProviderError> {
    let answer: OnDemand = answered.json(operation)?;
    Ok(looks(answer.settings.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_gateway_has_a_meaning() {
        for (word, seen) in [
            ("Up", Seen::Good),
            ("Healthy", Seen::Good),
            ("healthy", Seen::Good),
            ("Down", Seen::Bad),
            ("Unhealthy", Seen::Bad),
            ("Partial", Seen::Open),
            ("Draining", Seen::Open),
            ("Unknown", Seen::Open),
            ("", Seen::Open),
        ] {
            assert_eq!(Seen::of(word), seen, "{word}");
        }
    }

    #[test]
    fn of_several_settings_the_worst_counts() {
        let of = |address: &str, health: &str| Server { address: address.into(), health: health.into() };
        let settings = [
            OfSettings { servers: vec![of("10.0.0.1", "Up"), of("10.0.0.2", "Up"), of("web.example", "Up")] },
            OfSettings { servers: vec![of("10.0.0.1", "Down"), of("10.0.0.2", "Unknown")] },
        ];
        let expected = [("10.0.0.1", Seen::Bad), ("10.0.0.2", Seen::Open)];
        let expected: Looks = expected.into_iter().map(|(address, seen)| (address.parse().unwrap(), seen)).collect();
        assert_eq!(looks(&settings), expected);
    }
}
