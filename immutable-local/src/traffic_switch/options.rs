//! How a switch is set up, and why it cannot be.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use immutable_core::model::RouteId;

use crate::clock::Clock;

/// How a [`LocalSwitch`](super::LocalSwitch) is set up.
///
/// ```
/// use immutable_local::{Repeat, SwitchOptions};
///
/// let options = SwitchOptions { repeat: Repeat::Never, ..SwitchOptions::default() };
/// assert!(options.address.ip().is_loopback());
/// ```
#[derive(Debug, Clone)]
pub struct SwitchOptions {
    /// Where to listen. Port 0 picks a free port. Default: `127.0.0.1:0`.
    pub address: SocketAddr,
    /// Who may be listened for. Default: this machine only.
    pub exposure: Exposure,
    /// The name of the switch's one route. Default: `local`.
    pub route: RouteId,
    /// What happens to a request that could not be sent to its member. Default: another one is tried.
    pub repeat: Repeat,
    /// How long opening one connection to a member may take. Default: 1 second.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take, from the arrival of the request's head, all tries included.
    /// The body of an answer has no limit. Default: 60 seconds.
    pub response_timeout: Duration,
    /// Whether answers tell which fleet they come from. Default: they do not.
    pub fleet_disclosure: FleetDisclosure,
    /// What time it is, for counts and observations. Default: the machine's clock.
    pub clock: Clock,
}

impl Default for SwitchOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            exposure: Exposure::default(),
            route: RouteId::new("local").expect("invariant: a word is a valid route id"),
            repeat: Repeat::default(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_mins(1),
            fleet_disclosure: FleetDisclosure::default(),
            clock: Clock::default(),
        }
    }
}

/// Who may be listened for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// This machine only: the address must be a loopback address.
    #[default]
    LoopbackOnly,
    /// Whoever can reach the address. There is neither TLS nor any authentication.
    AnyAddress,
}

/// What happens to a request that could not be sent to its member.
///
/// A request of which anything was sent is never sent again, whatever is chosen here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeat {
    /// It goes to another member: of the same fleet first, then of other fleets with traffic. Each is tried at most once.
    #[default]
    ConnectFailures,
    /// It is answered with 502.
    Never,
}

/// Whether answers tell which fleet they come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetDisclosure {
    /// They do not.
    #[default]
    Hidden,
    /// In the header `x-immutable-fleet`.
    ResponseHeader,
}

/// Why a switch could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// The address can be reached from other machines, and nobody allowed that.
    #[error(
        "address {address} is not a loopback address; listen on 127.0.0.1 or [::1], or allow it with Exposure::AnyAddress"
    )]
    NotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// Something listens there already.
    #[error("address {address} is in use; stop what listens there, or choose another port (port 0 picks a free one)")]
    Occupied {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error(
        "cannot listen on {address}; check that it is an address of this machine and that this user may use the port"
    )]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// There is no runtime that could serve.
    #[error("no tokio runtime here; bind the switch inside one")]
    NoRuntime,
}
