//! The wire: HTTP/1.1 on the loopback.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::{Request, Response, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::dispatch;
use crate::world::World;

/// The world, shared by the connections and the tests.
pub(crate) type Shared = Arc<Mutex<World>>;

/// The world. A test that panicked while it looked at it must not hide why.
pub(crate) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until `stop` is sent or dropped. Blocks its thread, which a fake has for itself: a client of any runtime, or of
/// none, finds it served.
pub(crate) fn run(listener: TcpListener, world: &Shared, stop: oneshot::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            _ = stop => Ok(()),
            failed = accept(listener, world) => failed,
        }
    })
}

async fn accept(listener: tokio::net::TcpListener, world: &Shared) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let world = Arc::clone(world);
        let serve = service_fn(move |request| respond(Arc::clone(&world), request));
        // An error is a client that is gone, or one that is to hear nothing.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
    }
}

async fn respond(world: Shared, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let Some(answer) = dispatch::answer(&mut lock(&world), &parts, &body) else {
        return Err(io::Error::other("this answer is lost"));
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    let text = if answer.body.is_null() {
        String::new()
    } else {
        response = response.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        answer.body.to_string()
    };
    response.body(Full::new(text.into())).map_err(io::Error::other)
}
