//! Real instances behind the real proxy under the load of the examples, without any engine: done in the right order nothing
//! is lost, done in the wrong order the load shows it, and the load itself counts exactly what happened.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "processes/mod.rs"]
mod processes;
#[path = "../examples/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use immutable_core::decide::{FleetView, InstanceView, Phase, RetireProof, World};
use immutable_core::health::HttpProbe;
use immutable_core::model::{
    FleetId, FleetSpec, InstanceId, LaunchSpec, Look, ObservedFleet, Release, ServiceName, Split, Weight,
};
use immutable_core::provider::{
    Assignment, HealthProbe, MemberHealth, MemberTarget, OpContext, Platform, ProbeTarget, Progress, TrafficSwitch,
};
use immutable_local::{LocalConfig, LocalSwitch, Repeat, SwitchOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use processes::{Directory, example};
use support::counts::{Counts, Failure, NO_RELEASE, ReleaseCounts};
use support::images::recipe_with;
use support::load::{Load, LoadOptions, due};
use support::report::{Row, table};
use support::service::Behaviour;
use support::watch::Watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_weights_move_and_a_drained_member_ends() {
    let setup = Setup::new(SwitchOptions::default());
    let old = setup.start(&Behaviour::of("1"), 1).await;
    let new = setup.start(&Behaviour::of("2"), 1).await;
    let members = [setup.members(&old).await, setup.members(&new).await].concat();
    setup.apply(&[(&old, 100)], &members).await;
    let watch = Watch::start(setup.platform.clone(), setup.switch.clone(), service());
    let load = Load::start(setup.switch.address(), LoadOptions::default());

    for flip in 0..20 {
        let share = [0, 100, 50, 1, 99][flip % 5];
        setup.apply(&[(&old, 100 - share), (&new, share)], &members).await;
        more(&load, 50).await;
    }
    setup.apply(&[(&old, 50), (&new, 50)], &members).await;
    watch.reset().await;
    assert_eq!((watch.least_serving(), watch.peak_instances()), (2, 2));
    setup.apply(&[(&new, 100)], &members).await;
    setup.apply(&[(&new, 100)], &setup.members(&new).await).await;
    until("the old member is drained", async || setup.traffic().await.members.len() == 1).await;
    setup.retire(&old).await;
    // The stop grace is an hour: it ends only because it was asked to.
    until("the old instance is gone", async || setup.fleet(&old).await.instances.is_empty()).await;
    let drained = load.mark();
    more(&load, 50).await;

    let counts = load.stop().await;
    assert_eq!((counts.failed(), &counts.failures), (0, &BTreeMap::new()), "{counts:?}");
    assert_eq!(counts.sent, counts.ok);
    assert!(counts.release("1").ok > 0 && counts.release("2").ok > 0, "{counts:?}");
    let since = counts.since(&drained);
    assert_eq!(since.releases.keys().collect::<Vec<_>>(), ["2"], "the old one is gone");
    assert_eq!((watch.least_serving(), watch.peak_instances()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_shows_that_a_serving_instance_was_killed() {
    let setup = Setup::new(SwitchOptions { repeat: Repeat::Never, ..SwitchOptions::default() });
    let fleet = setup.start(&Behaviour { work_ms: 5, ..Behaviour::of("1") }, 2).await;
    let members = setup.members(&fleet).await;
    setup.apply(&[(&fleet, 100)], &members).await;
    let load = Load::start(setup.switch.address(), LoadOptions { connections: 16, ..LoadOptions::default() });
    more(&load, 100).await;
    let before = load.mark();
    assert_eq!(before.failed(), 0, "{before:?}");

    setup.kill(&members[0].instance);
    until("the load has failures", async || load.mark().failed() > 0).await;
    setup.apply(&[(&fleet, 100)], &members[1..]).await;
    until("the failures end with the repair", async || {
        let before = load.mark();
        more(&load, 100).await;
        load.mark().since(&before).failed() == 0
    })
    .await;

    let counts = load.stop().await;
    assert_eq!(counts.failures.keys().collect::<Vec<_>>(), [&Failure::Status(502)], "{counts:?}");
    assert_eq!(counts.sent, counts.ok + counts.failed());
    assert_eq!(counts.release(NO_RELEASE), ReleaseCounts { ok: 0, failed: counts.failed() }, "the proxy's own answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_of_a_release_is_counted_at_that_release() {
    let setup = Setup::new(SwitchOptions::default());
    let fleet = setup.start(&Behaviour { error_percent: 30, ..Behaviour::of("3") }, 1).await;
    setup.apply(&[(&fleet, 100)], &setup.members(&fleet).await).await;
    let load = Load::start(setup.switch.address(), LoadOptions::default());
    more(&load, 400).await;
    let counts = load.stop().await;
    // Exactly, over whole hundreds; of the last, unfinished hundred at most 30.
    let (hundreds, rest) = (counts.sent / 100, counts.sent % 100);
    let failed = counts.failed();
    assert!((hundreds * 30..=hundreds * 30 + rest.min(30)).contains(&failed), "{counts:?}");
    assert_eq!(counts.release("3"), ReleaseCounts { ok: counts.ok, failed });
    assert_eq!(counts.failures, BTreeMap::from([(Failure::Status(500), failed)]));
}

#[test]
fn any_hundred_requests_have_exactly_the_errors_of_the_release() {
    for percent in 0..=100 {
        let behaviour = Behaviour { error_percent: percent, ..Behaviour::of("1") };
        for first in [0, 1, 37, 99, 1_000_050] {
            let failed = (first..first + 100).filter(|number| behaviour.fails(*number)).count();
            assert_eq!(failed, usize::from(percent), "from {first}");
        }
    }
}

#[tokio::test]
async fn the_load_counts_exactly_what_an_upstream_does() {
    let whole = "HTTP/1.1 200 OK\r\nx-release: 7\r\ncontent-length: 2\r\n\r\nok";
    let check = async |every: u64, answer: &'static str, close: bool, expected: Option<Failure>| {
        let upstream = Upstream::start(move |number| match number % every {
            0 => Reply { answer, close },
            _ => Reply { answer: whole, close: false },
        })
        .await;
        let load = Load::start(upstream.address, LoadOptions::default());
        more(&load, 300).await;
        let counts = load.stop().await;

        let requests = upstream.requests.load(Ordering::SeqCst);
        let failed = expected.map_or(0, |_| requests / every);
        assert_eq!(counts.sent, requests, "each request is sent once: {counts:?}");
        assert_eq!((counts.ok, counts.failed()), (requests - failed, failed), "{counts:?}");
        assert_eq!(counts.failures, expected.map(|failure| (failure, failed)).into_iter().collect(), "{counts:?}");
        counts
    };
    // Closed after the request was read, without an answer, in the head of one, and in the body of one.
    check(7, "", true, Some(Failure::Closed)).await;
    check(10, "HTTP/1.1 200 OK\r\nx-re", true, Some(Failure::Closed)).await;
    let counts =
        check(3, "HTTP/1.1 200 OK\r\nx-release: 8\r\ncontent-length: 9\r\n\r\nok", true, Some(Failure::Closed)).await;
    assert_eq!(counts.release("8"), ReleaseCounts { ok: 0, failed: counts.failed() });
    // Each one closed.
    check(1, "", true, Some(Failure::Closed)).await;
    // Bad statuses on connections that stay open.
    check(4, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", false, Some(Failure::Status(503))).await;
    check(5, "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", false, Some(Failure::Status(302))).await;
    // Not HTTP.
    check(6, "SSH-2.0-x\r\n\r\n", true, Some(Failure::Protocol)).await;
    // A connection that is closed after a whole answer is opened again, and nothing has failed.
    let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    check(2, closing, true, None).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_while_idle_is_opened_again_without_a_failure() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::start(move |_| Reply { answer, close: true }).await;
    // A tenth of a second passes between an answer and the next request: time enough to see that the connection is closed.
    let load = Load::start(upstream.address, LoadOptions { connections: 1, ..LoadOptions::per_second(10) });
    more(&load, 5).await;
    let counts = load.stop().await;
    assert_eq!((counts.failed(), counts.ok), (0, upstream.requests.load(Ordering::SeqCst)), "{counts:?}");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_a_failure_and_so_is_silence() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let load = Load::start(closed, LoadOptions::default());
    until("failures", async || load.mark().failed() >= 10).await;
    let counts = load.stop().await;
    assert_eq!((counts.ok, counts.failures.get(&Failure::Connect)), (0, Some(&counts.sent)), "{counts:?}");

    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let patience = Duration::from_millis(20);
    let load = Load::start(silent.local_addr().unwrap(), LoadOptions { timeout: patience, ..LoadOptions::default() });
    until("failures", async || load.mark().failed() >= 10).await;
    let counts = load.stop().await;
    assert_eq!((counts.ok, counts.failures.get(&Failure::TimedOut)), (0, Some(&counts.sent)), "{counts:?}");
}

#[test]
fn the_schedule_keeps_its_rate_for_ever() {
    let rate = |rate| NonZeroU32::new(rate).unwrap();
    assert_eq!(due(0, rate(770)), Duration::ZERO);
    assert_eq!(due(770 * 3600, rate(770)), Duration::from_hours(1));
    assert_eq!(due(1, rate(3)), Duration::from_nanos(333_333_333));
    assert_eq!(due(5, rate(2)), Duration::from_millis(2500));
    assert!(due(u64::MAX, rate(1)) > due(u64::MAX, rate(2)));
}

#[test]
fn a_table_is_aligned_and_says_what_failed() {
    let mut counts = Counts { sent: 12, ok: 10, ..Counts::default() };
    counts.failures.insert(Failure::Status(502), 2);
    counts.releases.insert("4".to_owned(), ReleaseCounts { ok: 10, failed: 0 });
    counts.releases.insert(NO_RELEASE.to_owned(), ReleaseCounts { ok: 0, failed: 2 });
    let row = |name: &str, counts: &Counts| Row {
        name: name.to_owned(),
        outcome: "promoted".to_owned(),
        duration: Duration::from_millis(1234),
        counts: counts.clone(),
        least_serving: 3,
        peak_instances: 11,
    };
    let expected = [
        "rollout     outcome     time  requests  failed     p50     p99  least serving  peak  answered by",
        "rolling     promoted  1.23 s        12       2  0.0 ms  0.0 ms              3    11  4: 10, none: 2",
        "blue-green  promoted  1.23 s         0       0  0.0 ms  0.0 ms              3    11",
        "rolling: 2 failed: status 502",
    ];
    let printed = table(&[row("rolling", &counts), row("blue-green", &Counts::default())]);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "\n{printed}");
}

/// Images, instances and a switch under a directory of their own.
struct Setup {
    platform: Platform,
    switch: LocalSwitch,
    health: HttpProbe,
    directory: Directory,
}

impl Setup {
    fn new(options: SwitchOptions) -> Self {
        let directory = Directory::new();
        let config = LocalConfig::new(directory.root()).with_stop_grace(Duration::from_hours(1));
        let switch = LocalSwitch::bind(options).unwrap();
        let health = HttpProbe::get("/health").build().unwrap();
        let platform = immutable_local::platform(config, &switch, health.clone());
        Self { platform, switch, health, directory }
    }

    /// A fleet of a release, all healthy.
    async fn start(&self, behaviour: &Behaviour, size: u32) -> FleetId {
        let image = recipe_with(&example("service"), self.directory.path(), &service(), behaviour).unwrap();
        let image = done(self.platform.images.ensure(&cx(), &image).await.unwrap());
        let release = Release::new(image, LaunchSpec::default());
        let id = FleetId::of(&service(), &release.id());
        let rollout = "r-1".parse().unwrap();
        let spec = FleetSpec { id: id.clone(), service: service(), release, size, rollout };
        done(self.platform.fleets.ensure(&cx(), &spec).await.unwrap());
        let observed = self.fleet(&id).await.instances;
        assert_eq!(observed.len(), size as usize);
        let targets: Vec<_> = observed
            .into_iter()
            .map(|one| ProbeTarget { instance: one.id, fleet: id.clone(), endpoint: one.endpoint })
            .collect();
        until("healthy", async || {
            let samples = self.health.sample(&cx(), &targets).await.unwrap();
            samples.len() == targets.len() && samples.iter().all(|sample| sample.look == Look::Good)
        })
        .await;
        id
    }

    async fn fleet(&self, id: &FleetId) -> ObservedFleet {
        let state = self.platform.fleets.observe(&cx(), &service()).await.unwrap();
        state.fleets.into_iter().find(|fleet| fleet.id == *id).unwrap()
    }

    async fn members(&self, fleet: &FleetId) -> Vec<MemberTarget> {
        let target = |one: immutable_core::model::ObservedInstance| MemberTarget {
            instance: one.id,
            fleet: fleet.clone(),
            endpoint: one.endpoint.unwrap(),
        };
        self.fleet(fleet).await.instances.into_iter().map(target).collect()
    }

    async fn traffic(&self) -> immutable_core::provider::TrafficState {
        self.switch.observe(&cx(), self.switch.route()).await.unwrap()
    }

    async fn apply(&self, percents: &[(&FleetId, u16)], members: &[MemberTarget]) {
        let weights = percents.iter().map(|(fleet, percent)| ((*fleet).clone(), Weight::percent(*percent).unwrap()));
        let assignment = Assignment { split: Split::new(weights).unwrap(), members: members.to_vec() };
        let version = self.traffic().await.version;
        done(self.switch.apply(&cx(), self.switch.route(), &assignment, &version).await.unwrap());
    }

    /// Asks all instances of a fleet to stop, with a proof from what is observed now.
    async fn retire(&self, fleet: &FleetId) {
        let traffic = self.traffic().await;
        let phase = |id: &InstanceId| match traffic.members.iter().find(|member| member.instance == *id) {
            None => Phase::Drained,
            Some(member) if member.health == MemberHealth::Draining => Phase::Draining,
            Some(_) => Phase::Serving,
        };
        let observed = self.fleet(fleet).await.instances;
        let ids: Vec<_> = observed.iter().map(|one| one.id.clone()).collect();
        let view = |id: &InstanceId| InstanceView {
            id: id.clone(),
            phase: phase(id),
            replace: false,
            dead: false,
            endpoint: None,
        };
        let instances = ids.iter().map(view).collect();
        let world = World {
            as_of: traffic.as_of,
            fleets: vec![FleetView { id: fleet.clone(), instances, hold_growth: false }],
            split: traffic.split,
            version: traffic.version,
        };
        let proof = RetireProof::new(&world, fleet, &ids, world.as_of, Duration::ZERO).unwrap();
        done(self.platform.fleets.retire(&cx(), &proof).await.unwrap());
    }

    fn kill(&self, id: &InstanceId) {
        self.directory.kill(id).unwrap();
    }
}

/// What a hand-made upstream does about a request.
struct Reply {
    answer: &'static str,
    close: bool,
}

/// An upstream that does what it is told for each request, counted from one. Dropping it ends it.
struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    _serving: JoinSet<()>,
}

impl Upstream {
    async fn start(reply: impl Fn(u64) -> Reply + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&requests);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, count) = (reply.clone(), Arc::clone(&count));
                open.spawn(async move {
                    let mut stream = BufStream::new(stream);
                    while read_request(&mut stream).await {
                        let Reply { answer, close } = reply(count.fetch_add(1, Ordering::SeqCst) + 1);
                        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() || close
                        {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, requests, _serving: serving }
    }
}

/// Reads a whole request; whether there was one.
async fn read_request(stream: &mut BufStream<TcpStream>) -> bool {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return false;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).await.is_ok()
}

fn cx() -> OpContext {
    OpContext::standalone("test")
}

fn service() -> ServiceName {
    "web".parse().unwrap()
}

fn done<T>(progress: Progress<T>) -> T {
    progress.done().expect("nobody else is at work")
}

/// Waits until so many more requests have ended.
async fn more(load: &Load, requests: u64) {
    let before = load.mark();
    until("requests end", async || {
        let since = load.mark().since(&before);
        since.ok + since.failed() >= requests
    })
    .await;
}

/// Looks until something holds, which it does unless there is a defect.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
