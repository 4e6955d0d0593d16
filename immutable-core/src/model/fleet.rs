//! Fleets and instances: what is asked for and what is observed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Fingerprint, FleetId, InstanceId, NameError, Release, ReleaseId, RolloutId, ServiceName};

/// A fleet as it is asked for. The release is bound to the fleet for ever; only the size may grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSpec {
    /// The fleet's name.
    pub id: FleetId,
    /// The service it belongs to.
    pub service: ServiceName,
    /// What its instances are.
    pub release: Release,
    /// How many instances that are not ending it should have, at least.
    pub size: u32,
    /// The rollout that asks; becomes an ownership tag.
    pub rollout: RolloutId,
}

/// Where an instance answers: `host:port`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// An endpoint from a host name or address and a port.
    ///
    /// # Errors
    /// [`NameError`] when the host is empty or has characters that no host has.
    pub fn new(host: &str, port: u16) -> Result<Self, NameError> {
        format!("{host}:{port}").parse()
    }

    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new("endpoint", text, "must be host:port, with a port from 0 to 65535");
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if host.is_empty() || !host.chars().all(valid) {
            return Err(error());
        }
        let port = port.parse().map_err(|_| error())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an instance stands in its life, as the provider sees it. Health is another matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lifecycle {
    /// Asked for, not running yet.
    Starting,
    /// Running.
    Running,
    /// Stopped by itself or lost; what is left of it still has to be ended.
    Dead,
    /// Being ended, not gone yet; still counted and still paid for.
    Ending,
}

/// One instance, as observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedInstance {
    /// The provider's name of it.
    pub id: InstanceId,
    /// Where it stands in its life.
    pub lifecycle: Lifecycle,
    /// The content it really runs. `None`: the provider cannot tell, and drift cannot be seen.
    pub image: Option<Fingerprint>,
    /// Where it answers, once known.
    pub endpoint: Option<Endpoint>,
    /// When it was started.
    pub started_at: Timestamp,
}

/// One fleet, as observed: everything the provider made for it, half-made things included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedFleet {
    /// The fleet's name.
    pub id: FleetId,
    /// The release it is bound to.
    pub release: ReleaseId,
    /// Its instances; an instance that is gone for good is not listed.
    pub instances: Vec<ObservedInstance>,
    /// The size that the platform itself keeps it at, by starting and ending instances, where it does such a thing. `ensure` raises
    /// it and `retire` lowers it; when anything else changes it, such as an autoscaler, the rollout follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_survives_its_text() {
        for text in ["127.0.0.1:80", "[::1]:8080", "web-1.internal:65535"] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), text);
        }
        for text in ["", "host", ":80", "host:65536", "host:-1", "a b:80", "host/x:80"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }
}
