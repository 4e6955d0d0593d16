//! The traffic switch of this machine: an HTTP/1.1 reverse proxy inside this process.
//!
//! There is one route. Each request is weighed between the fleets anew, also on kept-alive connections. Bodies stream both
//! ways. Upgrades (WebSocket) and tunnels are not passed on, and there is no TLS: this is for one machine.

pub(crate) mod counters;
mod exchange;
mod headers;
pub(crate) mod options;
mod pool;
mod proxy;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use immutable_core::model::{FleetId, RouteId, RouteVersion, Weight};
use immutable_core::provider::{
    Assignment, ErrorKind, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities, TrafficState,
    TrafficSwitch, VersionCheck,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use counters::{FleetCounters, LatencyHistogram};
pub use options::{Exposure, FleetDisclosure, Repeat, SwitchError, SwitchOptions};
pub use table::MemberLoad;

use counters::Meters;
use proxy::Proxy;
use table::{ApplyError, Table};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A reverse proxy in this process that shares HTTP/1.1 requests between fleets.
///
/// Clones are handles of the same proxy. Dropping the last one stops listening; requests in flight are finished as long as
/// the runtime lives.
///
/// The route starts closed, and then each request is answered with 503. A member gets requests from the moment `apply`
/// makes it one: this switch judges nobody, so its members' health is [`Untold`](immutable_core::provider::MemberHealth::Untold).
///
/// # Guarantees
/// * Over any 10 000 requests each fleet is chosen exactly as often as its weight in basis points says.
/// * When `apply` has returned, no new request reaches a removed member, and `observe` lists it as draining until the
///   last answer of it was passed on.
/// * A request of which anything was sent to a member is never sent again; see [`Repeat`] for those of which nothing was.
///
/// # Examples
/// ```
/// use immutable_local::{LocalSwitch, SwitchOptions};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # let _guard = runtime.enter();
/// let switch = LocalSwitch::bind(SwitchOptions::default())?;
/// println!("clients go to http://{}", switch.address());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct LocalSwitch {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    proxy: Arc<Proxy>,
    address: SocketAddr,
    route: RouteId,
    accepting: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl LocalSwitch {
    /// Listens, and serves from now on in tasks of the current tokio runtime, which must have I/O and time enabled.
    ///
    /// # Errors
    /// [`SwitchError`] when the address may not or cannot be listened on, or outside a runtime. Nothing is left behind.
    ///
    /// # Panics
    /// When the runtime has no I/O.
    pub fn bind(options: SwitchOptions) -> Result<Self, SwitchError> {
        let runtime = Handle::try_current().map_err(|_| SwitchError::NoRuntime)?;
        let listener = listen(&options)?;
        let listening = |source| SwitchError::Listen { address: options.address, source };
        let address = listener.local_addr().map_err(listening)?;
        let proxy = Arc::new(Proxy {
            table: Table::new(),
            meters: Meters::default(),
            clock: options.clock,
            repeat: options.repeat,
            connect_timeout: options.connect_timeout,
            response_timeout: options.response_timeout,
            fleet_disclosure: options.fleet_disclosure,
        });
        let accepting = runtime.spawn(proxy::accept(Arc::clone(&proxy), listener)).abort_handle();
        Ok(Self { inner: Arc::new(Inner { proxy, address, route: options.route, accepting }) })
    }

    /// The address that it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The name of its one route.
    pub fn route(&self) -> &RouteId {
        &self.inner.route
    }

    /// What each fleet did so far. A fleet that has no members is forgotten after an hour without requests.
    pub fn counters(&self) -> BTreeMap<FleetId, FleetCounters> {
        self.inner.proxy.meters.snapshot()
    }

    /// What each member does now, draining ones included.
    pub fn loads(&self) -> Vec<MemberLoad> {
        self.inner.proxy.table.loads()
    }

    /// How many requests were refused because there was nowhere to send them.
    pub fn unrouted(&self) -> u64 {
        self.inner.proxy.meters.unrouted()
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.inner.proxy.meters
    }

    fn check_route(&self, operation: &'static str, route: &RouteId) -> Result<(), ProviderError> {
        if *route == self.inner.route {
            return Ok(());
        }
        let message = format!("no route {route}; this switch has the route {}", self.inner.route);
        Err(ProviderError::new(ErrorKind::NotFound, operation, message).without_effect())
    }
}

#[async_trait]
impl TrafficSwitch for LocalSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        let step = Weight::basis_points(1).expect("invariant: 1 is at most 10 000");
        TrafficCapabilities {
            kind: SwitchKind::Weighted { step },
            max_fleets: None,
            version_check: VersionCheck::WithTheChange,
        }
    }

    async fn observe(&self, _cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        self.check_route("observe route", route)?;
        // Before the look: no fact is older than this.
        let as_of = self.inner.proxy.clock.now();
        let (version, split, members) = self.inner.proxy.table.observe();
        Ok(TrafficState { as_of, version, split, members })
    }

    async fn apply(
        &self,
        _cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        const OPERATION: &str = "apply to route";
        self.check_route(OPERATION, route)?;
        let proxy = &self.inner.proxy;
        proxy.table.apply(assignment, expected, &proxy.meters).map_err(|error| {
            let (kind, message) = match error {
                ApplyError::Invalid(message) => (ErrorKind::InvalidRequest, message),
                ApplyError::Conflict(found) => {
                    let message = format!("route {route} has version {found}, not {expected}; observe it again");
                    (ErrorKind::Conflict, message)
                }
            };
            ProviderError::new(kind, OPERATION, message).without_effect()
        })?;
        proxy.meters.forget_silent(proxy.clock.now());
        Ok(Progress::Done(()))
    }
}

fn listen(options: &SwitchOptions) -> Result<TcpListener, SwitchError> {
    let address = options.address;
    if options.exposure == Exposure::LoopbackOnly && !address.ip().is_loopback() {
        return Err(SwitchError::NotLoopback { address });
    }
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A port whose last connections are not forgotten by the system yet is free, except on Windows, where this
        // option would allow two listeners on one port.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => SwitchError::Occupied { address },
        _ => SwitchError::Listen { address, source },
    })
}
