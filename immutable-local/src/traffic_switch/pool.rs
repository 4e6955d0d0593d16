//! Kept-alive connections to one member.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use immutable_core::model::Endpoint;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection that has been idle longer is not used again. Servers close idle connections after a time of their own, and
/// a request that crosses with the close is lost; the shortest default among common servers is two seconds (gunicorn).
const MAX_IDLE: Duration = Duration::from_secs(1);
/// More idle connections than this are closed.
const MAX_PARKED: usize = 1024;

/// An open connection to a member, ready for one request at a time.
pub(super) type Upstream = SendRequest<Incoming>;

/// The connections to one member that wait for their next request.
#[derive(Debug)]
pub(super) struct Pool {
    endpoint: Endpoint,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// A closed pool keeps nothing: its member is on its way out and may be waiting for its connections to end.
    closed: bool,
    parked: VecDeque<Parked>,
}

#[derive(Debug)]
struct Parked {
    upstream: Upstream,
    since: Instant,
}

impl Pool {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::default() }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// An idle connection that can take a request now, if there is one.
    ///
    /// The one that waited longest comes first: the one that was parked last may still be finishing its last exchange.
    pub(super) fn reuse(&self) -> Option<Upstream> {
        let now = Instant::now();
        let mut idle = self.lock();
        for _ in 0..idle.parked.len() {
            let candidate = idle.parked.pop_front()?;
            if candidate.upstream.is_closed() || now.duration_since(candidate.since) > MAX_IDLE {
                continue;
            }
            if candidate.upstream.is_ready() {
                return Some(candidate.upstream);
            }
            idle.parked.push_back(candidate);
        }
        None
    }

    /// A new connection.
    pub(super) async fn connect(&self, timeout: Duration) -> io::Result<Upstream> {
        let target = (self.endpoint.host(), self.endpoint.port());
        let stream = tokio::time::timeout(timeout, TcpStream::connect(target)).await??;
        stream.set_nodelay(true)?;
        let (upstream, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // A connection outlives the request that opened it, so it cannot be driven by that request's task.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a member ended");
            }
        });
        Ok(upstream)
    }

    /// Keeps a connection whose exchange is over for the next request.
    pub(super) fn park(&self, upstream: Upstream) {
        let mut idle = self.lock();
        if !idle.closed && idle.parked.len() < MAX_PARKED && !upstream.is_closed() {
            idle.parked.push_back(Parked { upstream, since: Instant::now() });
        }
    }

    /// Closes the idle connections, and those in use when their exchange is over.
    pub(super) fn close(&self) {
        let mut idle = self.lock();
        idle.closed = true;
        idle.parked.clear();
    }

    /// Lets the pool keep connections again.
    pub(super) fn open(&self) {
        self.lock().closed = false;
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
