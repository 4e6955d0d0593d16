//! The traffic switch under real HTTP requests, against tiny servers on loopback.

#[path = "traffic_switch/support.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode};
use immutable_core::model::{FleetId, MetricName, RouteId};
use immutable_core::provider::{
    Effect, ErrorKind, MemberHealth, MetricKind, MetricSource, MetricValue, SwitchKind, TrafficSwitch, Window,
};
use immutable_local::{
    Clock, Exposure, FleetCounters, FleetDisclosure, LocalMetrics, LocalSwitch, Repeat, SwitchError, SwitchOptions,
};
use jiff::Timestamp;
use support::*;
use tokio::sync::{Mutex, Notify, Semaphore, oneshot};
use tokio::task::JoinSet;

fn counters(switch: &LocalSwitch, fleet: &str) -> FleetCounters {
    switch.counters().remove(fleet).expect("a fleet that was a member")
}

/// A server that says that a request has arrived, and answers it when it is allowed to.
async fn slow() -> (Upstream, Arc<Semaphore>, Arc<Semaphore>) {
    let (arrived, allowed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (arrive, allow) = (Arc::clone(&arrived), Arc::clone(&allowed));
    let upstream = Upstream::http(move |_| {
        let (arrive, allow) = (Arc::clone(&arrive), Arc::clone(&allow));
        async move {
            arrive.add_permits(1);
            allow.acquire().await.expect("open").forget();
            Response::new(Full::from("slow"))
        }
    });
    (upstream.await, arrived, allowed)
}

#[tokio::test]
async fn requests_on_one_connection_are_shared_by_weight() {
    let (a, b) = (Upstream::echo("a").await, Upstream::echo("b").await);
    let switch = bind(SwitchOptions::default());
    apply(&switch, &[("f", 25), ("g", 75)], &[("f/a", a.address), ("g/b", b.address)]).await;
    let mut client = Client::new(&switch).await;
    let mut at_a = 0;
    for _ in 0..400 {
        at_a += u32::from(client.get().await.body == "a");
    }
    assert!((98..=102).contains(&at_a), "{at_a} of 400 at 25 %");
    assert_eq!(u64::from(at_a), counters(&switch, "f").success);
    assert_eq!(counters(&switch, "f").requests + counters(&switch, "g").requests, 400);
    assert_eq!(a.connections() + b.connections(), 2, "connections to members are kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_traffic_to_new_instances_and_ending_the_old_loses_no_request() {
    let mut current = Upstream::echo("").await;
    let switch = bind(SwitchOptions { repeat: Repeat::Never, ..SwitchOptions::default() });
    apply(&switch, &[("f0", 100)], &[("f0/i0", current.address)]).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for client_number in 0..8 {
        let (switch, stop, sent) = (switch.clone(), Arc::clone(&stop), Arc::clone(&sent));
        load.spawn(async move {
            let mut client = Client::new(&switch).await;
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let body = format!("order {number} of client {client_number}");
                let got = client.post(body.clone()).await;
                assert_eq!((got.status, got.body), (StatusCode::OK, body));
                sent.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for turn in 1..=20 {
        let next = Upstream::echo("").await;
        let (old, new) = (format!("f{}", turn - 1), format!("f{turn}"));
        let (old_member, new_member) = (format!("{old}/i{}", turn - 1), format!("{new}/i{turn}"));
        let both = [(&*old_member, current.address), (&*new_member, next.address)];
        for percent in [5, 50, 100] {
            apply(&switch, &[(&old, 100 - percent), (&new, percent)], &both).await;
            let target = sent.load(Ordering::SeqCst) + 40;
            until("the load goes on", async || sent.load(Ordering::SeqCst) >= target || load.is_empty()).await;
        }
        apply(&switch, &[(&new, 100)], &both[1..]).await;
        until("the old one is drained", async || members(&switch).await.len() == 1).await;
        current = next;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(client) = load.join_next().await {
        client.expect("no request was lost");
    }
    let total: u64 = switch.counters().values().map(|fleet| fleet.success).sum();
    assert_eq!(total, sent.load(Ordering::SeqCst) as u64);
}

#[tokio::test]
async fn a_removed_member_finishes_what_is_in_flight_and_gets_nothing_new() {
    let (a, arrived, allowed) = slow().await;
    let b = Upstream::echo("b").await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let mut first = Client::new(&switch).await;
    let waiting = tokio::spawn(async move { first.get().await });
    arrived.acquire().await.expect("open").forget();

    apply(&switch, &[("f", 100)], &[("f/b", b.address)]).await;
    let health = |found: &[immutable_core::provider::Member]| {
        found.iter().map(|member| (member.instance.to_string(), member.health)).collect::<Vec<_>>()
    };
    let draining = [("b".to_owned(), MemberHealth::Untold), ("a".to_owned(), MemberHealth::Draining)];
    assert_eq!(health(&members(&switch).await), draining);
    let mut second = Client::new(&switch).await;
    for _ in 0..20 {
        assert_eq!(second.get().await.body, "b");
    }
    assert_eq!(health(&members(&switch).await), draining);
    allowed.add_permits(1);
    let got = waiting.await.expect("no panic");
    assert_eq!((got.status, &*got.body), (StatusCode::OK, "slow"));
    assert_eq!(health(&members(&switch).await), draining[..1]);
    assert_eq!(arrived.available_permits(), 0, "one request in all reached a");
}

#[tokio::test]
async fn a_change_needs_the_version_that_was_observed() {
    let switch = bind(SwitchOptions::default());
    let fresh = switch.observe(&cx(), &local()).await.expect("observed");
    assert!(fresh.split.is_closed() && fresh.members.is_empty());
    let a = Upstream::echo("a").await;
    let open = assignment(&[("f", 100)], &[("f/a", a.address)]);
    switch.apply(&cx(), &local(), &open, &fresh.version).await.expect("the version is right");
    let opened = switch.observe(&cx(), &local()).await.expect("observed");
    assert_eq!((&opened.split, opened.members.len()), (&open.split, 1));

    let error = switch.apply(&cx(), &local(), &assignment(&[], &[]), &fresh.version).await.expect_err("stale");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None));
    let after = switch.observe(&cx(), &local()).await.expect("observed");
    assert_eq!((after.version, after.split), (opened.version.clone(), opened.split));

    let wrong = assignment(&[("f", 100)], &[("f/a", a.address), ("f/a", a.address)]);
    let error = switch.apply(&cx(), &local(), &wrong, &opened.version).await.expect_err("a is named twice");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None));
}

#[tokio::test]
async fn another_route_is_not_found() {
    let switch = bind(SwitchOptions::default());
    let other = RouteId::new("other").expect("a name");
    let error = switch.observe(&cx(), &other).await.expect_err("no such route");
    assert_eq!(error.to_string(), "not found in observe route: no route other; this switch has the route local");
    let version = switch.observe(&cx(), &local()).await.expect("observed").version;
    let error = switch.apply(&cx(), &other, &assignment(&[], &[]), &version).await.expect_err("no such route");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::NotFound, Effect::None));
}

#[test]
fn the_smallest_step_is_one_basis_point() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let capabilities = bind(SwitchOptions::default()).capabilities();
    assert!(matches!(capabilities.kind, SwitchKind::Weighted { step } if step.points() == 1));
    assert_eq!(capabilities.max_fleets, None);
}

#[tokio::test]
async fn a_request_that_could_not_be_sent_goes_to_another_instance() {
    let (_dead, dead) = dead_port();
    let b = Upstream::echo("b:").await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", dead), ("f/b", b.address)]).await;
    let mut client = Client::new(&switch).await;
    for _ in 0..4 {
        let got = client.post("order").await;
        assert_eq!((got.status, &*got.body), (StatusCode::OK, "b:order"));
    }
    let found = counters(&switch, "f");
    assert_eq!((found.requests, found.success, found.upstream_failures), (4, 4, 0));
    assert_eq!(found.connect_failures, 2, "every second request met the dead one first");
}

#[tokio::test]
async fn a_fleet_that_loses_a_request_to_another_fleet_has_failed_it() {
    let ((_dead, dead), (_also, also)) = (dead_port(), dead_port());
    let b = Upstream::echo("b:").await;
    let switch = bind(SwitchOptions::default());
    let members = [("f/a", dead), ("f/c", also), ("g/b", b.address)];
    apply(&switch, &[("f", 99), ("g", 1)], &members).await;
    let mut client = Client::new(&switch).await;
    let got = client.post("order").await;
    assert_eq!((got.status, &*got.body), (StatusCode::OK, "b:order"));
    let (f, g) = (counters(&switch, "f"), counters(&switch, "g"));
    assert_eq!((f.requests, f.upstream_failures, f.connect_failures), (1, 1, 2));
    assert_eq!((g.requests, g.success), (1, 1));
}

#[tokio::test]
async fn nobody_left_to_try_is_a_bad_gateway() {
    let ((_dead, dead), (_also, also)) = (dead_port(), dead_port());
    let switch = switch_to(SwitchOptions::default(), &[("f/a", dead), ("f/b", also)]).await;
    let got = Client::new(&switch).await.post("order").await;
    assert_eq!(got.status, StatusCode::BAD_GATEWAY);
    let found = counters(&switch, "f");
    assert_eq!((found.requests, found.upstream_failures, found.connect_failures), (1, 1, 2));
    assert_eq!(in_flight(&switch), 0);
}

#[tokio::test]
async fn nothing_is_repeated_when_the_user_says_never() {
    let (_dead, dead) = dead_port();
    let b = Upstream::echo("b").await;
    let options = SwitchOptions { repeat: Repeat::Never, ..SwitchOptions::default() };
    let switch = switch_to(options, &[("f/a", dead), ("f/b", b.address)]).await;
    let mut client = Client::new(&switch).await;
    assert_eq!(client.post("order").await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(b.connections(), 0);
    assert_eq!(client.post("order").await.status, StatusCode::OK, "the other one's turn");
    let found = counters(&switch, "f");
    assert_eq!((found.requests, found.success, found.upstream_failures), (2, 1, 1));
}

#[tokio::test]
async fn a_request_that_was_sent_and_lost_is_not_sent_again() {
    let a = Upstream::raw(|mut stream| async move { drop(read_head(&mut stream).await) }).await;
    let b = Upstream::echo("b").await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address), ("f/b", b.address)]).await;
    let mut client = Client::new(&switch).await;
    let got = client.get().await;
    assert_eq!(got.status, StatusCode::BAD_GATEWAY);
    assert_eq!((a.connections(), b.connections()), (1, 0));
    assert_eq!(counters(&switch, "f").upstream_failures, 1);
    assert_eq!(client.get().await.body, "b", "the client's connection is still good");
}

#[tokio::test]
async fn a_kept_connection_that_the_instance_closed_is_not_a_failure() {
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (on_close, on_closed) = (Arc::clone(&close), Arc::clone(&closed));
    let a = Upstream::raw(move |mut stream| {
        let (close, closed) = (Arc::clone(&on_close), Arc::clone(&on_closed));
        async move {
            read_head(&mut stream).await;
            write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
            close.notified().await;
            drop(stream);
            closed.notify_one();
        }
    })
    .await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let mut client = Client::new(&switch).await;
    assert_eq!(client.get().await.body, "hi");
    close.notify_one();
    closed.notified().await;
    let got = client.post("order").await;
    assert_eq!((got.status, &*got.body), (StatusCode::OK, "hi"));
    assert_eq!(a.connections(), 2);
    assert_eq!(counters(&switch, "f").upstream_failures, 0);
}

#[tokio::test]
async fn a_route_that_leads_nowhere_says_so() {
    let switch = bind(SwitchOptions::default());
    let mut client = Client::new(&switch).await;
    let got = client.get().await;
    assert_eq!((got.status, &*got.body), (StatusCode::SERVICE_UNAVAILABLE, "no traffic is routed here\n"));
    let a = Upstream::echo("a").await;
    apply(&switch, &[], &[("f/a", a.address)]).await;
    assert_eq!(client.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((switch.unrouted(), counters(&switch, "f").requests), (2, 0));
    apply(&switch, &[("f", 100)], &[("f/a", a.address)]).await;
    assert_eq!(client.get().await.body, "a");
}

#[tokio::test]
async fn headers_of_one_hop_stay_there_and_the_client_is_named() {
    let seen = Arc::new(Mutex::new(None));
    let see = Arc::clone(&seen);
    let a = Upstream::http(move |request| {
        let see = Arc::clone(&see);
        async move {
            *see.lock().await = Some((request.uri().to_string(), request.headers().clone()));
            let response = Response::builder().header("connection", "x-hop").header("x-hop", "1").header("x-end", "2");
            response.body(Full::from("hi")).expect("an answer")
        }
    })
    .await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let mut client = Client::new(&switch).await;
    let request = Request::get("http://example.org/path?query=1").header("host", "ignored.example");
    let request = request.header("connection", "x-secret-hop, keep-alive").header("x-secret-hop", "1");
    let request = request.header("te", "trailers").header("upgrade", "websocket").header("x-end", "2");
    let request = request.header("x-forwarded-for", "10.0.0.1");
    let got = client.whole(request.body(Full::default()).expect("a request")).await;
    assert_eq!(got.headers["x-end"], "2");
    assert!(!got.headers.contains_key("x-hop") && !got.headers.contains_key("connection"));
    assert!(!got.headers.contains_key("x-immutable-fleet"));

    let (uri, headers) = seen.lock().await.take().expect("a request");
    assert_eq!(uri, "/path?query=1");
    let mut names: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
    names.sort();
    assert_eq!(names, ["host: example.org", "x-end: 2", "x-forwarded-for: 10.0.0.1, 127.0.0.1"]);
}

#[tokio::test]
async fn answers_name_their_fleet_when_asked_to() {
    let a = Upstream::echo("a").await;
    let options = SwitchOptions { fleet_disclosure: FleetDisclosure::ResponseHeader, ..SwitchOptions::default() };
    let switch = switch_to(options, &[("f/a", a.address)]).await;
    assert_eq!(Client::new(&switch).await.get().await.headers["x-immutable-fleet"], "f");
}

#[tokio::test]
async fn only_loopback_is_listened_on_unless_the_user_says_otherwise() {
    let address = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = LocalSwitch::bind(SwitchOptions { address, ..SwitchOptions::default() }).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "address 0.0.0.0:0 is not a loopback address; listen on 127.0.0.1 or [::1], or allow it with Exposure::AnyAddress"
    );
    let exposure = Exposure::AnyAddress;
    assert!(LocalSwitch::bind(SwitchOptions { address, exposure, ..SwitchOptions::default() }).is_ok());
}

#[tokio::test]
async fn an_occupied_port_is_told_in_one_line() {
    let first = bind(SwitchOptions::default());
    let address = first.address();
    let error = LocalSwitch::bind(SwitchOptions { address, ..SwitchOptions::default() }).expect_err("occupied");
    assert!(matches!(error, SwitchError::Occupied { .. }));
    let expected = format!(
        "address {address} is in use; stop what listens there, or choose another port (port 0 picks a free one)"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn outside_a_runtime_nothing_can_be_served() {
    let error = LocalSwitch::bind(SwitchOptions::default()).expect_err("no runtime");
    assert_eq!(error.to_string(), "no tokio runtime here; bind the switch inside one");
}

#[tokio::test]
async fn dropping_the_last_handle_stops_listening_and_finishes_what_is_in_flight() {
    let (a, arrived, allowed) = slow().await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let address = switch.address();
    let mut client = Client::new(&switch).await;
    let waiting = tokio::spawn(async move { client.get().await });
    arrived.acquire().await.expect("open").forget();
    let other = switch.clone();
    drop(switch);
    assert!(tokio::net::TcpStream::connect(address).await.is_ok(), "a handle is left");
    drop(other);
    until("it stops listening", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    allowed.add_permits(1);
    assert_eq!(waiting.await.expect("no panic").body, "slow");
}

#[tokio::test]
async fn an_answer_in_two_parts_is_in_flight_until_the_second() {
    let (go, gone) = oneshot::channel::<()>();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let a = Upstream::raw(move |mut stream| {
        let gone = Arc::clone(&gone);
        async move {
            read_head(&mut stream).await;
            write(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
            gone.lock().await.take().expect("one request").await.expect("released");
            write(&mut stream, "3\r\ntwo\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let mut client = Client::new(&switch).await;
    let request = Request::get("/").body(Full::default()).expect("a request");
    let mut body = client.send(request).await.expect("an answer").into_body();
    let part = body.frame().await.expect("a part").expect("no error").into_data().expect("data");
    assert_eq!(part, Bytes::from("one"));
    assert_eq!((in_flight(&switch), counters(&switch, "f").requests), (1, 0));
    go.send(()).expect("waiting");
    assert_eq!(body.collect().await.expect("the rest").to_bytes(), Bytes::from("two"));
    assert_eq!((in_flight(&switch), counters(&switch, "f").requests), (0, 1));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure_of_the_fleet() {
    let a = Upstream::raw(|mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    })
    .await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let mut client = Client::new(&switch).await;
    let request = Request::get("/").body(Full::default()).expect("a request");
    let response = client.send(request).await.expect("a head");
    response.into_body().collect().await.expect_err("no end");
    let found = counters(&switch, "f");
    assert_eq!((found.requests, found.success, found.upstream_failures), (1, 0, 1));
}

#[tokio::test]
async fn an_instance_that_does_not_answer_in_time_is_given_up() {
    let (a, _arrived, _allowed) = slow().await;
    let options = SwitchOptions { response_timeout: Duration::from_millis(50), ..SwitchOptions::default() };
    let switch = switch_to(options, &[("f/a", a.address)]).await;
    assert_eq!(Client::new(&switch).await.get().await.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((in_flight(&switch), counters(&switch, "f").upstream_failures), (0, 1));
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let (a, arrived, _allowed) = slow().await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let mut client = Client::new(&switch).await;
    let waiting = tokio::spawn(async move { client.get().await });
    arrived.acquire().await.expect("open").forget();
    assert_eq!(in_flight(&switch), 1);
    waiting.abort();
    until("the request ends", async || in_flight(&switch) == 0).await;
    let found = counters(&switch, "f");
    assert_eq!((found.requests, found.abandoned, found.upstream_failures), (1, 1, 0));
}

#[tokio::test]
async fn an_answer_without_a_body_keeps_its_headers() {
    let a = Upstream::raw(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
        }
    })
    .await;
    let switch = switch_to(SwitchOptions::default(), &[("f/a", a.address)]).await;
    let mut client = Client::new(&switch).await;
    for _ in 0..3 {
        let request = Request::head("/").body(Full::default()).expect("a request");
        let got = client.whole(request).await;
        assert_eq!((&*got.body, &got.headers["content-length"]), ("", &"10".parse().expect("a value")));
    }
    assert_eq!(a.connections(), 1);
}

#[tokio::test]
async fn metrics_tell_what_ended_inside_the_window() {
    let now = Arc::new(AtomicI64::new(10_000));
    let read = Arc::clone(&now);
    let at = |millis| Timestamp::from_millisecond(millis).expect("within range");
    let clock = Clock::new(move || at(read.load(Ordering::SeqCst)));
    let a = Upstream::http(|request| async move {
        let status = request.uri().path()[1..].parse().expect("a number");
        Response::builder()
            .status(StatusCode::from_u16(status).expect("a status"))
            .body(Full::default())
            .expect("an answer")
    })
    .await;
    let switch = switch_to(SwitchOptions { clock, ..SwitchOptions::default() }, &[("f/a", a.address)]).await;
    assert_eq!(switch.observe(&cx(), &local()).await.expect("observed").as_of, at(10_000));
    let mut client = Client::new(&switch).await;
    for (millis, status) in [(10_000, 200), (10_050, 500), (10_100, 404), (10_999, 503)] {
        now.store(millis, Ordering::SeqCst);
        client.whole(Request::get(format!("/{status}")).body(Full::default()).expect("a request")).await;
    }

    let metrics = LocalMetrics::new(switch);
    let query = async |metric: &str, fleet: &str, from, to| {
        let (metric, fleet) = (MetricName::new(metric).expect("a name"), FleetId::new(fleet).expect("a name"));
        let window = Window { from: at(from), to: at(to) };
        let samples = metrics.query(&cx(), &metric, &fleet, window).await.expect("a known metric");
        let tell = |sample: &immutable_core::provider::MetricSample| match sample.value {
            MetricValue::Ratio { part, whole } => (sample.window.from.as_millisecond(), part, whole),
            _ => panic!("a ratio"),
        };
        samples.iter().map(tell).collect::<Vec<_>>()
    };
    assert_eq!(query("errors", "f", 10_000, 11_000).await, [(10_000, 1, 2), (10_100, 0, 1), (10_900, 1, 1)]);
    assert_eq!(query("errors", "f", 10_100, 10_900).await, [(10_100, 0, 1)]);
    assert_eq!(query("errors", "f", 11_000, 12_000).await, []);
    assert_eq!(query("errors", "g", 10_000, 11_000).await, []);
    for metric in ["latency_over_100ms", "latency_over_1s"] {
        assert_eq!(query(metric, "f", 10_100, 10_200).await, [(10_100, 0, 1)]);
        let known = metrics.describe(&cx(), &MetricName::new(metric).expect("a name")).await;
        assert_eq!(known.expect("a known metric"), MetricKind::Ratio);
    }
}

#[tokio::test]
async fn slow_answers_are_told_by_their_heads() {
    let (a, arrived, allowed) = slow().await;
    let at = Timestamp::UNIX_EPOCH;
    let clock = Clock::new(move || at);
    let switch = switch_to(SwitchOptions { clock, ..SwitchOptions::default() }, &[("f/a", a.address)]).await;
    let mut client = Client::new(&switch).await;
    let waiting = tokio::spawn(async move { client.get().await });
    arrived.acquire().await.expect("open").forget();
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(500)).await;
    tokio::time::resume();
    allowed.add_permits(1);
    waiting.await.expect("no panic");
    let metrics = LocalMetrics::new(switch.clone());
    let window = Window { from: at, to: at + Duration::from_millis(100) };
    for (metric, part) in [("latency_over_100ms", 1), ("latency_over_1s", 0)] {
        let metric = MetricName::new(metric).expect("a name");
        let samples = metrics.query(&cx(), &metric, &FleetId::new("f").expect("a name"), window).await.expect("known");
        assert_eq!(samples[0].value, MetricValue::Ratio { part, whole: 1 });
    }
    let buckets: Vec<_> = counters(&switch, "f").latency.buckets().collect();
    assert!(matches!(buckets[..], [(Some(limit), 1)] if limit > Duration::from_millis(500)));
}

#[tokio::test]
async fn an_unknown_metric_is_refused_with_the_known_ones() {
    let metrics = LocalMetrics::new(bind(SwitchOptions::default()));
    let cpu = MetricName::new("cpu").expect("a name");
    let error = metrics.describe(&cx(), &cpu).await.expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "not found in describe metric: no metric cpu; this source has errors, latency_over_100ms, latency_over_1s"
    );
    let window = Window { from: Timestamp::UNIX_EPOCH, to: Timestamp::MAX };
    let error = metrics.query(&cx(), &cpu, &FleetId::new("f").expect("a name"), window).await.expect_err("unknown");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::NotFound, Effect::None));
}
