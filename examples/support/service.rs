//! A small HTTP service, and how a release of it behaves.
//!
//! An example is its own service: its executable is the first layer of every image, and an instance runs it with the
//! argument `serve`. How a release behaves is in the file `release.json` of its image.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The header that tells which release has answered.
pub(crate) const RELEASE: HeaderName = HeaderName::from_static("x-release");

/// The file of an image that holds its [`Behaviour`].
pub(crate) const BEHAVIOUR_FILE: &str = "release.json";

/// The argument that makes an example its own service.
pub(crate) const SERVE: &str = "serve";

/// How a release behaves. `Behaviour { healthy: false, ..Behaviour::of("5") }` is a release 5 that never becomes healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Behaviour {
    /// What it calls itself in the header `x-release`.
    pub(crate) version: String,
    /// How many of a hundred requests it answers with 500.
    pub(crate) error_percent: u8,
    /// Whether `/health` answers with 200, or with 503.
    pub(crate) healthy: bool,
    /// How long it takes until it listens.
    pub(crate) start_delay_ms: u64,
    /// How long it works on each request.
    pub(crate) work_ms: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::of("1")
    }
}

impl Behaviour {
    /// A good release: healthy, quick and without errors.
    pub(crate) fn of(version: &str) -> Self {
        Self { version: version.to_owned(), error_percent: 0, healthy: true, start_delay_ms: 0, work_ms: 0 }
    }

    /// Whether the request with this number, counted from zero, is answered with an error.
    ///
    /// Any hundred requests in a row have exactly so many errors as the percentage says, as evenly spread as can be.
    pub(crate) fn fails(&self, number: u64) -> bool {
        let percent = u64::from(self.error_percent.min(100));
        let position = number % 100;
        (position + 1) * percent / 100 > position * percent / 100
    }
}

/// Runs the service and ends this process, when its first argument is `serve`; comes back at once otherwise.
///
/// Call it first in `main`: an instance of an example is the example itself.
pub(crate) fn run_if_asked() {
    if std::env::args().nth(1).as_deref() != Some(SERVE) {
        return;
    }
    // On a thread of its own, so that it also works where `main` is in a runtime already.
    let served = std::thread::spawn(|| run().map_err(|error| error.to_string())).join();
    let problem = match served {
        Ok(Ok(())) => exit(0),
        Ok(Err(problem)) => problem,
        Err(_) => "it panicked".to_owned(),
    };
    // When even this cannot be written, the exit code is all that is left.
    let _ = writeln!(std::io::stderr(), "the service ended: {problem}");
    exit(1)
}

fn run() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_err(|_| "PORT is not set: a provisioner sets it")?.parse()?;
    let image = std::env::var_os("IMAGE_DIR").ok_or("IMAGE_DIR is not set: a provisioner sets it")?;
    let behaviour = serde_json::from_slice(&std::fs::read(Path::new(&image).join(BEHAVIOUR_FILE))?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(port, behaviour))
}

/// Serves until SIGTERM.
async fn serve(port: u16, behaviour: Behaviour) -> Result<(), Box<dyn Error>> {
    let mut asked_to_stop = signal(SignalKind::terminate())?;
    let start = async {
        tokio::time::sleep(Duration::from_millis(behaviour.start_delay_ms)).await;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
    };
    let listener = tokio::select! {
        biased;
        _ = asked_to_stop.recv() => return Ok(()),
        listener = start => listener?,
    };
    serve_until(listener, behaviour, async move {
        asked_to_stop.recv().await;
    })
    .await;
    Ok(())
}

/// Serves until it is asked to stop, then finishes the requests in flight.
async fn serve_until(listener: TcpListener, behaviour: Behaviour, stop: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    tokio::select! {
        biased;
        () = stop => {}
        () = accept(listener, Service::new(behaviour), &connections) => {}
    }
    // The listener is gone by now; idle connections are closed, the others after their current answer.
    connections.shutdown().await;
}

async fn accept(listener: TcpListener, service: Service, connections: &GracefulShutdown) {
    let service = Arc::new(service);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The system is short of something, file descriptors most often; asking again at once would not help.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // A client that is gone already is no reason to end.
        if stream.set_nodelay(true).is_ok() {
            let connection = Arc::clone(&service).connection(stream);
            tokio::spawn(connections.watch(connection));
        }
    }
}

static STARTED: AtomicU64 = AtomicU64::new(1);

/// The service as a task of this process. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct ServiceTask {
    /// No other task of this process ever has it.
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ServiceTask {
    /// Starts to serve at a free port.
    pub(crate) fn start(behaviour: Behaviour) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let (stop, mut asked) = watch::channel(false);
        // An error means that it was dropped.
        let asked = async move { drop(asked.wait_for(|asked| *asked).await) };
        let task = tokio::spawn(serve_until(TcpListener::from_std(listener)?, behaviour, asked));
        Ok(Self { number, address, stop, task })
    }

    /// Asks it to stop. It finishes the requests in flight first.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether it was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Whether it has ended, asked or not.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

#[derive(Debug)]
struct Service {
    behaviour: Behaviour,
    release: HeaderValue,
    requests: AtomicU64,
}

impl Service {
    fn new(behaviour: Behaviour) -> Self {
        let release = HeaderValue::from_str(&behaviour.version).unwrap_or(HeaderValue::from_static("unprintable"));
        Self { behaviour, release, requests: AtomicU64::new(0) }
    }

    fn connection(
        self: Arc<Self>,
        stream: TcpStream,
    ) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send {
        let service = service_fn(move |request| {
            let this = Arc::clone(&self);
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        http1::Builder::new().serve_connection(TokioIo::new(stream), service)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/health" {
            return if self.behaviour.healthy {
                self.response(StatusCode::OK, "ok\n")
            } else {
                self.response(StatusCode::SERVICE_UNAVAILABLE, "not healthy\n")
            };
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if request.into_body().collect().await.is_err() {
            return self.response(StatusCode::BAD_REQUEST, "the request ended early\n");
        }
        if self.behaviour.work_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.behaviour.work_ms)).await;
        }
        if self.behaviour.fails(number) {
            self.response(StatusCode::INTERNAL_SERVER_ERROR, "this release has a defect\n")
        } else {
            self.response(StatusCode::OK, "done\n")
        }
    }

    fn response(&self, status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(Bytes::from_static(body.as_bytes())));
        *response.status_mut() = status;
        response.headers_mut().insert(RELEASE, self.release.clone());
        response
    }
}
