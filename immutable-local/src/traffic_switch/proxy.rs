//! Serving: each request goes to a member, and its answer comes back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::counters::Meters;
use super::exchange::{CountedBody, Exchange};
use super::headers::{append_forwarded_for, strip_hop_by_hop};
use super::options::{FleetDisclosure, Repeat};
use super::pool::Upstream;
use super::table::{Table, TableMember};
use crate::clock::Clock;

const FLEET: HeaderName = HeaderName::from_static("x-immutable-fleet");
/// How long to wait when the system cannot give us a connection, for want of file descriptors most often.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

type Answer = Response<Either<CountedBody, Full<Bytes>>>;

/// What serves requests; shared by the listener, every connection and the handles of the switch.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) table: Table,
    pub(super) meters: Meters,
    pub(super) clock: Clock,
    pub(super) repeat: Repeat,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) fleet_disclosure: FleetDisclosure,
}

/// Accepts connections until it is dropped; then those that are open finish their current request and end.
///
/// This is a server: it has to go on while nobody calls it, so it and its connections are tasks of their own.
pub(super) async fn accept(proxy: Arc<Proxy>, listener: TcpListener) {
    let connections = GracefulShutdown::new();
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let client = HeaderValue::from_str(&client.ip().to_canonical().to_string());
                let client = client.expect("invariant: an address is visible ASCII");
                tokio::spawn(serve(Arc::clone(&proxy), stream, client, connections.watcher()));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                // Without a pause this loop would take a whole core until a descriptor is free.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(proxy: Arc<Proxy>, stream: TcpStream, client: HeaderValue, shutdown: Watcher) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client went away at once");
        return;
    }
    // No limit on idle time: closing an idle connection crosses with requests, and would lose them.
    let service = service_fn(|request| {
        let (proxy, client) = (Arc::clone(&proxy), client.clone());
        async move { Ok::<_, Infallible>(proxy.answer(&client, request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = shutdown.watch(connection).await {
        tracing::debug!(%error, "a connection of a client ended");
    }
}

impl Proxy {
    async fn answer(&self, client: &HeaderValue, mut request: Request<Incoming>) -> Answer {
        let arrived = Instant::now();
        if request.method() == Method::CONNECT {
            self.meters.count_unrouted();
            return text(StatusCode::NOT_IMPLEMENTED, "no tunnels here\n");
        }
        let Some(in_flight) = self.table.pick() else {
            self.meters.count_unrouted();
            return text(StatusCode::SERVICE_UNAVAILABLE, "no traffic is routed here\n");
        };
        let mut exchange = Exchange::begin(in_flight, arrived, self.clock.clone());
        prepare(&mut request, client);
        let deadline = arrived + self.response_timeout;
        match tokio::time::timeout_at(deadline, self.forward(&mut exchange, request)).await {
            Ok(Ok((upstream, response))) => self.pass_on(exchange, upstream, response),
            Ok(Err(Lost::Client)) => text(StatusCode::BAD_REQUEST, "the request ended early\n"),
            Ok(Err(Lost::Member)) => {
                exchange.fail();
                text(StatusCode::BAD_GATEWAY, "the instance did not answer\n")
            }
            Err(_) => {
                exchange.fail();
                text(StatusCode::GATEWAY_TIMEOUT, "the instance did not answer in time\n")
            }
        }
    }

    /// Sends the request to its member, or to another one as long as nothing of it was sent.
    async fn forward(
        &self,
        exchange: &mut Exchange,
        mut request: Request<Incoming>,
    ) -> Result<(Upstream, Response<Incoming>), Lost> {
        let mut tried = Vec::new();
        let mut parked = exchange.member().pool.reuse();
        loop {
            let reused = parked.is_some();
            let upstream = match parked.take() {
                Some(upstream) => Ok(upstream),
                None => exchange.member().pool.connect(self.connect_timeout).await,
            };
            match upstream {
                Ok(mut upstream) => match upstream.try_send_request(request).await {
                    Ok(response) => return Ok((upstream, response)),
                    Err(mut error) => {
                        // hyper gives the request back only when it has not begun to write it.
                        let unsent = error.take_message();
                        let error = error.into_error();
                        tracing::debug!(%error, member = %exchange.member().instance, "a request got no answer");
                        match unsent {
                            Some(unsent) if self.repeat == Repeat::ConnectFailures => request = unsent,
                            _ if error.is_user() => return Err(Lost::Client),
                            _ => return Err(Lost::Member),
                        }
                    }
                },
                Err(error) => {
                    let member = exchange.member();
                    tracing::debug!(%error, member = %member.instance, at = %member.endpoint(), "cannot connect");
                }
            }
            if !reused {
                parked = self.move_on(exchange, &mut tried)?;
            }
        }
    }

    /// Chooses another member for a request that its member could not be sent, and a connection to it if one is open.
    fn move_on(&self, exchange: &mut Exchange, tried: &mut Vec<Arc<TableMember>>) -> Result<Option<Upstream>, Lost> {
        let member = Arc::clone(exchange.member());
        member.meter.count_connect_failure();
        if self.repeat == Repeat::Never {
            return Err(Lost::Member);
        }
        let fleet = member.fleet.clone();
        tried.push(member);
        let next = self.table.pick_another(&fleet, tried).ok_or(Lost::Member)?;
        exchange.hand_on(next);
        Ok(exchange.member().pool.reuse())
    }

    fn pass_on(&self, mut exchange: Exchange, upstream: Upstream, response: Response<Incoming>) -> Answer {
        let (mut head, body) = response.into_parts();
        if head.status.is_informational() {
            // Only 101 gets here, and no upgrade was asked for.
            exchange.fail();
            return text(StatusCode::BAD_GATEWAY, "the instance changed the protocol unasked\n");
        }
        exchange.answer(head.status);
        head.version = Version::HTTP_11;
        strip_hop_by_hop(&mut head.headers);
        if self.fleet_disclosure == FleetDisclosure::ResponseHeader
            && let Some(name) = &exchange.member().fleet_header
        {
            head.headers.insert(FLEET, name.clone());
        }
        Response::from_parts(head, Either::Left(CountedBody::new(body, upstream, exchange)))
    }
}

/// Why there is no answer.
enum Lost {
    /// The client did not finish its request.
    Client,
    /// No member took the request, or the one that took it did not answer.
    Member,
}

/// Makes a client's request the proxy's own.
fn prepare(request: &mut Request<Incoming>, client: &HeaderValue) {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        // The absolute form wins over `Host`, and origins are asked in origin form (RFC 9112, section 3.2.2).
        let host = HeaderValue::from_str(authority.as_str());
        let path = request.uri().path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
        if let Ok(host) = host {
            request.headers_mut().insert(header::HOST, host);
        }
        *request.uri_mut() = path;
    }
    strip_hop_by_hop(request.headers_mut());
    append_forwarded_for(request.headers_mut(), client);
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut response = Response::new(Either::Right(Full::from(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
