//! How long it takes to replace all instances of a service, as a whole: real processes, real requests, HTTP health gates, and a
//! journal that is synchronised to the disk.
//!
//! `cargo bench --bench replace [replacements]`: nine replacements of each kind unless you say otherwise. It fails when a request fails.

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, reason = "it talks to a person")]

#[path = "../examples/support/mod.rs"]
#[allow(unused_imports, reason = "its tests are not built here")]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use immutable_core::engine::{Engine, Outcome};
use immutable_core::health::{HealthPolicy, HttpProbe};
use immutable_core::journal::{Entry, FileJournal, Journal, JournalError, Lease};
use immutable_core::model::{LaunchSpec, OwnerId, Release, RouteId, ServiceName};
use immutable_core::plan::{Amount, RolloutSpec, Strategy};
use immutable_core::provider::{Pace, Platform};
use immutable_core::testkit::{SimCloud, SimOptions};
use immutable_local::{LocalConfig, LocalProvisioner, LocalSwitch, SwitchOptions};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use support::images;
use support::load::{Load, LoadOptions};
use support::service::{BEHAVIOUR_FILE, Behaviour, SERVE, run_if_asked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// So many instances, and how many of them are replaced at a time.
const SIZES: [(u32, u32); 2] = [(20, 5), (100, 10)];

/// What the clients send meanwhile, in requests a second.
const RATE: u32 = 770;

const REPLACEMENTS: usize = 9;

fn main() -> ExitCode {
    run_if_asked();
    // Cargo adds an argument of its own.
    let replacements = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(REPLACEMENTS).max(1);
    match table(replacements) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("\nPROBLEM: {failed} requests failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nPROBLEM: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; how many requests failed in all.
fn table(replacements: usize) -> Result<u64> {
    let runtime = tokio::runtime::Runtime::new()?;
    println!(
        "{:>9}  {:>9}  {:>8}  {:>8}  {:>8}  {:>8}  {:>7}  {:>7}  {:>6}  {:>8}  {:>6}",
        "instances", "at a time", "median", "min", "boot", "stop", "virtual", "appends", "of it", "requests", "failed"
    );
    let pace = runtime.block_on(async { local_pace() })?;
    let mut failed = 0;
    for (instances, at_a_time) in SIZES {
        let process = runtime.block_on(measure_process(at_a_time))?;
        let virtual_time = virtual_time(instances, at_a_time, process, pace)?;
        let mut took = runtime.block_on(replace(instances, at_a_time, replacements))?;
        took.times.sort_unstable();
        let (median, least) = (took.times[took.times.len() / 2], took.times[0]);
        let runs = u64::try_from(replacements)?;
        println!(
            "{instances:>9}  {at_a_time:>9}  {:>8}  {:>8}  {:>8}  {:>8}  {:>7}  {:>7}  {:>6}  {:>8}  {:>6}",
            millis(median),
            millis(least),
            millis(process.boot),
            millis(process.stop),
            millis(virtual_time),
            took.appends / runs,
            millis(took.appending / u32::try_from(runs)?),
            took.requests,
            took.failed
        );
        failed += took.failed;
    }
    println!(
        "\nall times in ms; boot, stop: of {} processes at once, and of as many as are replaced at a time below;",
        SIZES[0].1
    );
    println!(
        "virtual: the same plan on the simulated cloud, whose instances take that long; appends: to the journal, for one"
    );
    println!("replacement, and the time that they take");
    Ok(failed)
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// What replacements came to.
struct Replacements {
    times: Vec<Duration>,
    appends: u64,
    appending: Duration,
    requests: u64,
    failed: u64,
}

/// Replaces all instances so many times, under load, from the start of the rollout to its end. Images are built before.
async fn replace(instances: u32, at_a_time: u32, replacements: usize) -> Result<Replacements> {
    let directory = tempfile::tempdir()?;
    let service: ServiceName = "web".parse()?;
    let switch = LocalSwitch::bind(SwitchOptions::default())?;
    let config = LocalConfig::new(directory.path());
    let provisioner = LocalProvisioner::new(config.clone());
    let probe = HttpProbe::get("/health").timeout(Duration::from_millis(500)).build()?;
    let platform = immutable_local::platform(config, &switch, probe);
    let journal = Metered::new(FileJournal::open(directory.path().join("journal"))?);
    let meter = Arc::clone(&journal.meter);
    let engine = Engine::builder(platform).journal(journal).build();

    let release = async |version: usize| -> Result<Release> {
        let spec = images::recipe(directory.path(), &service, &Behaviour::of(&version.to_string()))?;
        Ok(Release::new(engine.image(&spec).await?, LaunchSpec::default()))
    };
    let roll = async |release: Release, at_a_time: u32| -> Result<Duration> {
        let spec = rolling(&service, switch.route(), release, instances, at_a_time)?;
        let begun = Instant::now();
        let outcome = engine.start(spec).await?.wait().await?;
        if outcome == Outcome::Promoted { Ok(begun.elapsed()) } else { Err(outcome.to_string().into()) }
    };

    roll(release(0).await?, instances).await?;
    let load = Load::start(switch.address(), LoadOptions::per_second(RATE));
    // Not measured: the first one finds the files of the programs that run on no page yet.
    roll(release(1).await?, at_a_time).await?;
    meter.reset();
    let mut times = Vec::with_capacity(replacements);
    for version in 2..replacements + 2 {
        let release = release(version).await?;
        times.push(roll(release, at_a_time).await?);
    }
    let (appends, appending) = meter.read();
    let counts = load.stop().await;
    drop(engine);
    provisioner.shut_down(&service).await?;
    Ok(Replacements { times, appends, appending, requests: counts.sent, failed: counts.failed() })
}

fn rolling(
    service: &ServiceName,
    route: &RouteId,
    release: Release,
    instances: u32,
    at_a_time: u32,
) -> Result<RolloutSpec> {
    let health = HealthPolicy::builder().good_looks(2).bad_looks(2).build()?;
    let strategy = Strategy::rolling().max_surge(Amount::Count(at_a_time)).max_unavailable(Amount::Count(0));
    Ok(RolloutSpec::new(service.clone(), route.clone(), release, strategy.health(health)).desired(instances))
}

/// How long one process takes, as one of several at once.
#[derive(Clone, Copy)]
struct Process {
    /// From its start until it answers that it is healthy.
    boot: Duration,
    /// From SIGTERM until it is gone.
    stop: Duration,
}

/// The medians over a few batches of processes, without anything else going on.
async fn measure_process(at_once: u32) -> Result<Process> {
    let (mut boots, mut stops) = (Vec::new(), Vec::new());
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join(BEHAVIOUR_FILE), serde_json::to_vec(&Behaviour::default())?)?;
    for _ in 0..9 {
        let ports = free_ports(at_once)?;
        let begun = Instant::now();
        let children = ports.iter().map(|port| start(directory.path(), *port)).collect::<Result<Vec<_>>>()?;
        for port in ports {
            healthy(port).await;
        }
        boots.push(begun.elapsed());
        let begun = Instant::now();
        for child in &children {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("a process without a number")?;
            kill_process(pid, Signal::TERM)?;
        }
        for mut child in children {
            child.wait()?;
        }
        stops.push(begun.elapsed());
    }
    boots.sort_unstable();
    stops.sort_unstable();
    Ok(Process { boot: boots[boots.len() / 2], stop: stops[stops.len() / 2] })
}

/// Ports that differ, because all are held until the last one is picked.
fn free_ports(count: u32) -> Result<Vec<u16>> {
    let bind = |_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = (0..count).map(bind).collect::<std::io::Result<Vec<_>>>()?;
    Ok(held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<std::io::Result<Vec<_>>>()?)
}

fn start(image: &Path, port: u16) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SERVE).env("PORT", port.to_string()).env("IMAGE_DIR", image).stdin(Stdio::null());
    Ok(command.spawn()?)
}

async fn healthy(port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ask = async || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: local\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    while !ask().await.unwrap_or(false) {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// The same replacement where nothing but the instances takes any time.
fn virtual_time(instances: u32, at_a_time: u32, process: Process, pace: Pace) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let cloud = SimCloud::new(SimOptions {
            boot: process.boot,
            ready_after: Duration::ZERO,
            register_after: Duration::ZERO,
            drain_for: Duration::ZERO,
            end_after: process.stop,
            call_latency: Duration::ZERO,
            ..SimOptions::default()
        });
        let platform = Platform { pace, ..cloud.platform() };
        let engine = Engine::builder(platform).clock(cloud.clock()).build();
        let (service, route) = ("web".parse()?, "local".parse()?);
        let mut took = Duration::ZERO;
        for version in ["1", "2"] {
            let begun = tokio::time::Instant::now();
            let spec = rolling(&service, &route, cloud.release(version), instances, at_a_time)?;
            let outcome = engine.start(spec).await?.wait().await?;
            if outcome != Outcome::Promoted {
                return Err(outcome.to_string().into());
            }
            took = begun.elapsed();
        }
        Ok(took)
    })
}

/// How often the local platform is looked at. To be called in a runtime.
fn local_pace() -> Result<Pace> {
    let switch = LocalSwitch::bind(SwitchOptions::default())?;
    Ok(immutable_local::platform(LocalConfig::new("unused"), &switch, HttpProbe::get("/").build()?).pace)
}

/// A journal that counts what is appended and how long that takes.
#[derive(Debug)]
struct Metered {
    journal: FileJournal,
    meter: Arc<Meter>,
}

#[derive(Debug, Default)]
struct Meter {
    appends: AtomicU64,
    micros: AtomicU64,
}

impl Metered {
    fn new(journal: FileJournal) -> Self {
        Self { journal, meter: Arc::default() }
    }
}

impl Meter {
    fn reset(&self) {
        self.appends.store(0, Ordering::Relaxed);
        self.micros.store(0, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, Duration) {
        (self.appends.load(Ordering::Relaxed), Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }
}

#[async_trait]
impl Journal for Metered {
    async fn take_over(
        &self,
        service: &ServiceName,
        owner: &OwnerId,
    ) -> std::result::Result<(Lease, Vec<Entry>), JournalError> {
        self.journal.take_over(service, owner).await
    }

    async fn append(
        &self,
        lease: &Lease,
        seq: u64,
        at: Timestamp,
        body: &serde_json::Value,
    ) -> std::result::Result<Entry, JournalError> {
        let begun = Instant::now();
        let entry = self.journal.append(lease, seq, at, body).await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.meter.appends.fetch_add(1, Ordering::Relaxed);
        self.meter.micros.fetch_add(micros, Ordering::Relaxed);
        entry
    }

    async fn check(&self, lease: &Lease) -> std::result::Result<(), JournalError> {
        self.journal.check(lease).await
    }

    async fn list(&self, service: &ServiceName) -> std::result::Result<Vec<Entry>, JournalError> {
        self.journal.list(service).await
    }

    async fn release(&self, lease: Lease) -> std::result::Result<(), JournalError> {
        self.journal.release(lease).await
    }
}
