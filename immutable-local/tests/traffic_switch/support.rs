//! Tiny servers and clients on loopback.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::header::HeaderMap;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use immutable_core::model::{Endpoint, RouteId, Split, Weight};
use immutable_core::provider::{Assignment, Member, MemberTarget, OpContext, TrafficSwitch};
use immutable_local::{LocalSwitch, SwitchOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinSet, yield_now};

/// A server that plays an instance. Dropping it ends it and all its connections.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Upstream {
    /// Hands each connection to a function.
    pub(crate) async fn raw<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(stream));
            }
        });
        Self { address, connections, _serving: serving }
    }

    /// Answers each request with what a function makes of it.
    pub(crate) async fn http<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        Self::raw(move |stream| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let served = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                drop(served);
            }
        })
        .await
    }

    /// Answers each request with its name, and the request's body after it.
    pub(crate) async fn echo(name: &'static str) -> Self {
        Self::http(move |request| async move {
            let body = request.into_body().collect().await.expect("a whole body").to_bytes();
            Response::new(Full::from([name.as_bytes(), &body].concat()))
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A port that nobody listens on and nobody else can get.
pub(crate) fn dead_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

/// Reads the head of a request, which has no body.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("text")
}

pub(crate) async fn write(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
}

/// One kept-alive connection of a client.
pub(crate) struct Client {
    sender: client::SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn new(switch: &LocalSwitch) -> Self {
        Self::to(switch.address()).await
    }

    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await.expect("ready");
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Self { sender, _driver: driver }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    pub(crate) async fn get(&mut self) -> Got {
        self.whole(Request::get("/").header("host", "test").body(Full::default()).expect("a request")).await
    }

    pub(crate) async fn post(&mut self, body: impl Into<Bytes>) -> Got {
        let body = Full::new(body.into());
        self.whole(Request::post("/").header("host", "test").body(body).expect("a request")).await
    }

    pub(crate) async fn whole(&mut self, request: Request<Full<Bytes>>) -> Got {
        let (head, body) = self.send(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let body = String::from_utf8(body.to_vec()).expect("text");
        Got { status: head.status, headers: head.headers, body }
    }
}

pub(crate) fn cx() -> OpContext {
    OpContext::standalone("test")
}

pub(crate) fn local() -> RouteId {
    RouteId::new("local").expect("a name")
}

pub(crate) fn bind(options: SwitchOptions) -> LocalSwitch {
    LocalSwitch::bind(options).expect("a switch on a free port")
}

/// A member `web-1/a` is the instance `a` of the fleet `web-1`.
pub(crate) fn assignment(weights: &[(&str, u16)], members: &[(&str, SocketAddr)]) -> Assignment {
    let weight = |(fleet, percent): &(&str, u16)| {
        (fleet.parse().expect("a name"), Weight::percent(*percent).expect("at most 100"))
    };
    let member = |(name, address): &(&str, SocketAddr)| {
        let (fleet, instance) = name.split_once('/').expect("fleet/instance");
        MemberTarget {
            instance: instance.parse().expect("a name"),
            fleet: fleet.parse().expect("a name"),
            endpoint: Endpoint::from(*address),
        }
    };
    Assignment {
        split: Split::new(weights.iter().map(weight)).expect("100 in sum"),
        members: members.iter().map(member).collect(),
    }
}

pub(crate) async fn apply(switch: &LocalSwitch, weights: &[(&str, u16)], members: &[(&str, SocketAddr)]) {
    let version = switch.observe(&cx(), &local()).await.expect("observed").version;
    let done = switch.apply(&cx(), &local(), &assignment(weights, members), &version).await;
    done.expect("applied").done().expect("at once");
}

/// A switch with all traffic to the fleet `f`.
pub(crate) async fn switch_to(options: SwitchOptions, members: &[(&str, SocketAddr)]) -> LocalSwitch {
    let switch = bind(options);
    apply(&switch, &[("f", 100)], members).await;
    switch
}

pub(crate) async fn members(switch: &LocalSwitch) -> Vec<Member> {
    switch.observe(&cx(), &local()).await.expect("observed").members
}

pub(crate) fn in_flight(switch: &LocalSwitch) -> u64 {
    switch.loads().iter().map(|load| load.in_flight).sum()
}

/// Lets other tasks run until something holds, which it does unless there is a defect.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds().await {
        assert!(start.elapsed().as_secs() < 10, "never: {what}");
        yield_now().await;
    }
}
