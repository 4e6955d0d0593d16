//! A load of requests that counts honestly: it never sends a request twice, and whatever a client would have to notice is a
//! failure.
//!
//! The load comes from a thread of its own, as from another program: what holds up the program under test does not slow
//! the clients down, and what the clients do costs the program under test as little as possible.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::counts::{Counts, Failure, NO_RELEASE};
use super::service::RELEASE;

/// What a client does after it could not connect, so that a closed port does not take a whole core.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(5);

/// How a load is made up.
#[derive(Debug, Clone)]
pub(crate) struct LoadOptions {
    /// How many kept-alive connections; each has at most one request in flight.
    pub(crate) connections: u32,
    /// How many requests a second, over all connections. `None`: each connection sends as soon as it has its answer.
    ///
    /// What could not be sent in time is sent as soon as a connection is free, so that the rate holds on average.
    pub(crate) rate: Option<NonZeroU32>,
    /// The body of each request.
    pub(crate) body: Bytes,
    /// How long a client waits for a whole answer.
    pub(crate) timeout: Duration,
}

impl Default for LoadOptions {
    /// Eight connections, unpaced, a small body, ten seconds of patience.
    fn default() -> Self {
        Self {
            connections: 8,
            rate: None,
            body: Bytes::from_static(b"{\"amount\":1}"),
            timeout: Duration::from_secs(10),
        }
    }
}

impl LoadOptions {
    /// So many requests a second. Zero is unpaced.
    pub(crate) fn per_second(rate: u32) -> Self {
        Self { rate: NonZeroU32::new(rate), ..Self::default() }
    }
}

/// Clients that send POST requests to one address. Dropping it ends them after their current request.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts sending.
    ///
    /// # Panics
    /// When the system has no thread or no runtime to spare.
    pub(crate) fn start(address: SocketAddr, options: LoadOptions) -> Self {
        let shared = Arc::new(Shared {
            address,
            options,
            started: Instant::now(),
            next: AtomicU64::new(0),
            counts: Mutex::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let clients = Arc::clone(&shared);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for the load");
        let thread = std::thread::spawn(move || runtime.block_on(run(clients, stopping)));
        Self { shared, stop, thread }
    }

    /// What was counted so far.
    pub(crate) fn mark(&self) -> Counts {
        let mut counts = self.shared.counts().clone();
        counts.elapsed = self.shared.started.elapsed();
        counts
    }

    /// Lets every request in flight end, and says what was counted in all: each request sent is answered or failed.
    ///
    /// # Panics
    /// When the load itself has panicked: its counts would be worth nothing.
    pub(crate) async fn stop(self) -> Counts {
        let stopped = self.mark().elapsed;
        // Nobody listens any more when the load has panicked; the join tells.
        let _ = self.stop.send(true);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        assert!(matches!(joined, Ok(Ok(()))), "the load has panicked");
        let mut counts = self.shared.counts().clone();
        counts.elapsed = stopped;
        counts
    }
}

/// What all connections of a load share.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    options: LoadOptions,
    started: Instant,
    /// The next request on the schedule. Whichever connection is free takes it, so a slow answer does not hold up the rest.
    next: AtomicU64,
    counts: Mutex<Counts>,
}

async fn run(shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let mut clients = JoinSet::new();
    for _ in 0..shared.options.connections {
        let client = Client { shared: Arc::clone(&shared), stopping: stopping.clone(), open: None };
        clients.spawn(client.run());
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client does not panic");
    }
}

/// When the request with this number is due, counted from the start of the load.
pub(crate) fn due(number: u64, rate: NonZeroU32) -> Duration {
    let rate = u64::from(rate.get());
    Duration::from_secs(number / rate) + Duration::from_nanos(number % rate * 1_000_000_000 / rate)
}

/// One connection, opened again whenever the last one is of no more use.
#[derive(Debug)]
struct Client {
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// The end of one request: which release has answered, and whether well.
type Outcome = (Option<String>, Result<(), Failure>);

impl Client {
    async fn run(mut self) {
        while self.wait_for_turn().await {
            self.shared.counts().sent += 1;
            let begun = Instant::now();
            let shared = Arc::clone(&self.shared);
            let (release, result) = match timeout(shared.options.timeout, self.exchange()).await {
                Ok(outcome) => outcome,
                Err(_) => (None, Err(Failure::TimedOut)),
            };
            shared.counts().record(release.as_deref().unwrap_or(NO_RELEASE), result, begun.elapsed());
            if result == Err(Failure::Connect) {
                sleep(PAUSE_AFTER_REFUSAL).await;
            }
        }
    }

    /// Waits until the next request is due; whether there is to be one.
    async fn wait_for_turn(&mut self) -> bool {
        // An error means that the load was dropped.
        if self.stopping.has_changed().unwrap_or(true) {
            return false;
        }
        let Some(rate) = self.shared.options.rate else { return true };
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let due = self.shared.started + due(number, rate);
        tokio::select! {
            biased;
            _ = self.stopping.changed() => false,
            () = sleep_until(due) => true,
        }
    }

    async fn exchange(&mut self) -> Outcome {
        // A connection is kept only when a whole answer was read from it.
        let (response, connection) = match self.send().await {
            Ok(sent) => sent,
            Err(failure) => return (None, Err(failure)),
        };
        let release = response.headers().get(RELEASE).and_then(|release| release.to_str().ok()).map(str::to_owned);
        let status = response.status();
        match response.into_body().collect().await {
            Err(error) => return (release, Err(Failure::of(&error))),
            Ok(_) => self.open = Some(connection),
        }
        (release, if status.is_success() { Ok(()) } else { Err(Failure::Status(status.as_u16())) })
    }

    /// Sends the request once.
    async fn send(&mut self) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Failure> {
        let mut request = self.request();
        loop {
            let (mut connection, reused) = self.connection().await?;
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    // The connection was closed while it was idle: hyper gives back a request of which nothing was written.
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(Failure::of(&error.into_error())),
                },
            }
        }
    }

    /// The kept connection if it can take a request, else a new one; and whether it is the kept one.
    async fn connection(&mut self) -> Result<(SendRequest<Full<Bytes>>, bool), Failure> {
        if let Some(mut connection) = self.open.take()
            && connection.ready().await.is_ok()
        {
            return Ok((connection, true));
        }
        let stream = TcpStream::connect(self.shared.address).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| Failure::of(&error))?;
        // What the driver ends with, the request in flight ends with too.
        tokio::spawn(async move { drop(driver.await) });
        Ok((connection, false))
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.shared.options.body.clone()));
        *request.method_mut() = hyper::Method::POST;
        let host = self.shared.address.to_string().try_into().expect("invariant: an address is a valid header value");
        request.headers_mut().insert(HOST, host);
        request
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
