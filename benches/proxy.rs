//! What the proxy costs: requests through it against the same requests sent straight to the instance.
//!
//! `cargo bench --bench proxy [rounds]`: five rounds of each unless you say otherwise. The processor time is that of the whole
//! process, clients and upstream included; what is more through the proxy is the proxy's.

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::header::HOST;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use immutable_core::model::{FleetId, Split};
use immutable_core::provider::{Assignment, MemberTarget, OpContext, TrafficSwitch};
use immutable_local::{LocalSwitch, SwitchOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const CONNECTIONS: [u32; 3] = [1, 16, 64];
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    let rounds = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(ROUNDS).max(1);
    tokio::runtime::Runtime::new()?.block_on(run(rounds))
}

async fn run(rounds: usize) -> Result<()> {
    let upstream = upstream().await?;
    let switch = switch(upstream).await?;
    println!(
        "{:>11}  {:>12}  {:>12}  {:>5}  {:>14}  {:>14}  {:>12}",
        "connections", "straight /s", "proxied /s", "ratio", "straight CPU", "proxied CPU", "p50 + p99"
    );
    for connections in CONNECTIONS {
        let (mut straight, mut proxied) = (Vec::new(), Vec::new());
        // In turn, so that what else the machine does meets both alike.
        for _ in 0..rounds {
            straight.push(load(upstream, connections).await?);
            proxied.push(load(switch.address(), connections).await?);
        }
        let (straight, proxied) = (median(&straight), median(&proxied));
        println!(
            "{connections:>11}  {:>12.0}  {:>12.0}  {:>5.2}  {:>11.1} us  {:>11.1} us  {:>+4} {:>+4} us",
            straight.per_second,
            proxied.per_second,
            proxied.per_second / straight.per_second,
            straight.cpu_micros,
            proxied.cpu_micros,
            i64::try_from(proxied.p50.as_micros())? - i64::try_from(straight.p50.as_micros())?,
            i64::try_from(proxied.p99.as_micros())? - i64::try_from(straight.p99.as_micros())?,
        );
    }
    println!("\nmedians of {rounds} rounds; CPU for each request, of clients, proxy and upstream together;");
    println!("the last columns: by how much the proxy makes half, and 99 of 100, of the requests slower");
    Ok(())
}

/// A server that answers every request at once.
async fn upstream() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Without it the answer would wait for the client's acknowledgement; the round shows it.
            let _ = stream.set_nodelay(true);
            let answer = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done\n"))))
            });
            tokio::spawn(server::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(address)
}

/// A proxy in front of one member.
async fn switch(upstream: SocketAddr) -> Result<LocalSwitch> {
    let switch = LocalSwitch::bind(SwitchOptions::default())?;
    let context = OpContext::standalone("bench");
    let version = switch.observe(&context, switch.route()).await?.version;
    let fleet: FleetId = "web-1".parse()?;
    let member = MemberTarget { instance: "i-1".parse()?, fleet: fleet.clone(), endpoint: upstream.into() };
    let assignment = Assignment { split: Split::all_to(fleet), members: vec![member] };
    switch.apply(&context, switch.route(), &assignment, &version).await?;
    Ok(switch)
}

/// What one round came to.
struct Round {
    per_second: f64,
    cpu_micros: f64,
    p50: Duration,
    p99: Duration,
}

/// Each figure's median.
fn median(rounds: &[Round]) -> Round {
    let middle = |mut figures: Vec<f64>| {
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let figure = |of: fn(&Round) -> f64| middle(rounds.iter().map(of).collect());
    Round {
        per_second: figure(|round| round.per_second),
        cpu_micros: figure(|round| round.cpu_micros),
        p50: Duration::from_secs_f64(figure(|round| round.p50.as_secs_f64())),
        p99: Duration::from_secs_f64(figure(|round| round.p99.as_secs_f64())),
    }
}

/// Clients that send the next request as soon as they have their answer, for one round.
async fn load(address: SocketAddr, connections: u32) -> Result<Round> {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(send_requests(address, begun + ROUND));
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client??);
    }
    let (took, cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu));
    latencies.sort_unstable();
    let requests = f64::from(u32::try_from(latencies.len())?);
    Ok(Round {
        per_second: requests / took.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / requests,
        p50: latencies[latencies.len() / 2],
        p99: latencies[latencies.len() * 99 / 100],
    })
}

async fn send_requests(address: SocketAddr, until: Instant) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let request = Request::get("/").header(HOST, "local").body(Full::<Bytes>::default())?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("a request was answered with {}", response.status()).into());
        }
        response.into_body().collect().await?;
        latencies.push(begun.elapsed());
    }
    drop(sender);
    driver.await??;
    Ok(latencies)
}

/// The processor time of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
