//! Whole questions to a server that answers as it was told to.

use std::error::Error as _;
use std::time::Duration;

use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{
    Effect, ErrorKind, MetricKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};
use jiff::Timestamp;

use crate::testing::{Reply, Server, json, series};
use crate::{MetricsBuilder, PrometheusMetrics, Query, Secret};

const PART: &str = r#"sum(increase(errors{fleet="{{fleet}}"}[{{window}}]))"#;
const WHOLE: &str = r#"sum(increase(all{fleet="{{fleet}}"}[{{window}}]))"#;
const LEVEL: &str = r#"avg(avg_over_time(queue{fleet="{{fleet}}"}[{{window}}]))"#;

fn errors() -> MetricName {
    "errors".parse().unwrap()
}

fn queue() -> MetricName {
    "queue".parse().unwrap()
}

fn builder(server: &Server) -> MetricsBuilder {
    let builder = PrometheusMetrics::builder(&server.url);
    builder.metric(errors(), Query::ratio(PART, WHOLE)).metric(queue(), Query::gauge(LEVEL))
}

fn window(from: i64, to: i64) -> Window {
    let moment = |second| Timestamp::from_second(second).unwrap();
    Window { from: moment(from), to: moment(to) }
}

async fn query(
    metrics: &PrometheusMetrics,
    metric: &MetricName,
    window: Window,
) -> Result<Vec<MetricSample>, ProviderError> {
    let fleet: FleetId = "web-1a2b".parse().unwrap();
    metrics.query(&OpContext::standalone("test"), metric, &fleet, window).await
}

/// The samples of a query to a server with these answers, by the second that they begin at.
async fn samples(metric: &MetricName, replies: impl IntoIterator<Item = Reply>) -> Vec<(i64, MetricValue)> {
    let server = Server::start(replies).await;
    let samples = query(&builder(&server).build().unwrap(), metric, window(1_000, 1_040)).await.unwrap();
    for sample in &samples {
        assert_eq!(sample.window.to.duration_since(sample.window.from).as_secs(), 10);
    }
    samples.into_iter().map(|sample| (sample.window.from.as_second(), sample.value)).collect()
}

/// The error of a query of a level to a server with this answer.
async fn refused(reply: Reply) -> ProviderError {
    let server = Server::start([reply]).await;
    let error = query(&builder(&server).build().unwrap(), &queue(), window(1_000, 1_040)).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "it was tried again");
    assert_eq!((error.effect(), error.operation()), (Effect::None, "query metric"));
    error
}

#[tokio::test]
async fn a_window_is_one_request_for_each_query() {
    let server = Server::start([series(&[&[(1_010, "4")]]), series(&[])]).await;
    query(&builder(&server).build().unwrap(), &errors(), window(995, 1_049)).await.unwrap();
    let seen = server.seen();
    let asked: Vec<_> = seen.iter().map(|one| one.value("query")).collect();
    let expected = |name| format!(r#"sum(increase({name}{{fleet="web-1a2b"}}[10s]))"#);
    // The whole first: an error that comes in between is one too many, and not one that is missing.
    assert_eq!(asked, [expected("all"), expected("errors")]);
    for one in &seen {
        assert_eq!(one.line, "POST /api/v1/query_range");
        let values = ["start", "end", "step", "timeout", "partial_response"].map(|name| one.value(name));
        assert_eq!(values, ["1010", "1040", "10", "30000ms", "false"]);
    }
}

#[tokio::test]
async fn a_long_window_is_asked_for_in_parts_that_are_put_together() {
    let server = Server::start([series(&[&[(10, "1")]]), series(&[&[(110_010, "2")]]), series(&[])]).await;
    let metrics = builder(&server).build().unwrap();
    let samples = query(&metrics, &queue(), window(0, 300_000)).await.unwrap();
    let spans: Vec<_> =
        server.seen().iter().map(|one| (one.value("start").to_owned(), one.value("end").to_owned())).collect();
    let expected = [("10", "110000"), ("110010", "220000"), ("220010", "300000")];
    assert_eq!(spans, expected.map(|(start, end)| (start.to_owned(), end.to_owned())));
    let starts: Vec<_> = samples.iter().map(|sample| sample.window.from.as_second()).collect();
    assert_eq!(starts, [0, 110_000]);
}

#[tokio::test]
async fn a_path_and_credentials_are_in_every_request() {
    let server = Server::start(std::iter::repeat_n(series(&[]), 3)).await;
    for url in [format!("{}/a/b", server.url), format!("{}/a/b/", server.url)] {
        let builder = PrometheusMetrics::builder(url).metric(queue(), Query::gauge(LEVEL));
        let builder = builder.bearer_token(Secret::new("hunter2")).header("X-Scope-OrgID", Secret::new("tenant"));
        query(&builder.build().unwrap(), &queue(), window(0, 10)).await.unwrap();
    }
    let basic = builder(&server).basic_auth("me", Secret::new("hunter2")).build().unwrap();
    query(&basic, &queue(), window(0, 10)).await.unwrap();
    let seen = server.seen();
    for one in &seen[..2] {
        assert_eq!(one.line, "POST /a/b/api/v1/query_range");
        assert_eq!(one.headers["authorization"], "Bearer hunter2");
        assert_eq!(one.headers["x-scope-orgid"], "tenant");
    }
    // The example of RFC 7617, with another name and password.
    assert_eq!(seen[2].headers["authorization"], "Basic bWU6aHVudGVyMg==");
}

#[tokio::test]
async fn what_never_happened_is_zero_and_what_is_not_seen_is_silence() {
    let ratio = |part, whole| MetricValue::Ratio { part, whole };
    let whole = || series(&[&[(1_010, "10.4"), (1_020, "20"), (1_040, "0")]]);
    assert_eq!(samples(&errors(), [whole(), series(&[])]).await, [(1_000, ratio(0, 10)), (1_010, ratio(0, 20))]);
    let part = series(&[&[(1_020, "1.6"), (1_030, "7")]]);
    assert_eq!(samples(&errors(), [whole(), part]).await, [(1_000, ratio(0, 10)), (1_010, ratio(2, 20))]);
    assert_eq!(samples(&errors(), [series(&[]), series(&[&[(1_010, "3")]])]).await, []);
    assert_eq!(samples(&queue(), [series(&[])]).await, []);
}

#[tokio::test]
async fn what_cannot_be_is_no_data() {
    let whole = series(&[&[(1_010, "10"), (1_020, "10"), (1_030, "-3"), (1_040, "NaN")]]);
    let part = series(&[&[(1_010, "NaN"), (1_020, "12"), (1_030, "0"), (1_040, "0")]]);
    assert_eq!(samples(&errors(), [whole, part]).await, []);
    let levels = series(&[&[(1_010, "NaN"), (1_020, "+Inf"), (1_030, "-2.5"), (1_040, "1e300")]]);
    let expected = [(1_020, MetricValue::Gauge(-2.5)), (1_030, MetricValue::Gauge(1e300))];
    assert_eq!(samples(&queue(), [levels]).await, expected);
}

#[tokio::test]
async fn no_sample_is_about_what_was_not_asked_for() {
    let levels = series(&[&[(1_000, "1"), (1_010, "2"), (1_015, "3"), (1_040, "4"), (1_050, "5")]]);
    let expected = [(1_000, MetricValue::Gauge(2.0)), (1_030, MetricValue::Gauge(4.0))];
    assert_eq!(samples(&queue(), [levels]).await, expected);
}

#[tokio::test]
async fn what_is_newer_than_the_lag_or_shorter_than_a_sample_is_not_asked_for() {
    let server = Server::start([]).await;
    let now = Timestamp::now();
    let recent = Window { from: now.checked_sub(Duration::from_hours(1)).unwrap(), to: now };
    let metrics = builder(&server).lag(Duration::from_hours(2)).build().unwrap();
    assert_eq!(query(&metrics, &errors(), recent).await.unwrap(), []);
    assert_eq!(query(&metrics, &errors(), window(1_001, 1_019)).await.unwrap(), []);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn several_series_are_refused_also_when_they_come_one_after_the_other() {
    let several = "invalid request in query metric: metric queue, query: comes to several series: aggregate with sum()";
    assert_eq!(refused(series(&[&[(1_010, "1")], &[(1_010, "2")]])).await.to_string(), several);
    let other = series(&[&[], &[(110_010, "1")]]);
    let server = Server::start([series(&[&[(10, "1")]]), other]).await;
    let error = query(&builder(&server).build().unwrap(), &queue(), window(0, 120_000)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidRequest, several));
    let part = [series(&[&[(1_010, "9")]]), series(&[&[(1_010, "1")], &[(1_020, "2")]])];
    let server = Server::start(part).await;
    let error = query(&builder(&server).build().unwrap(), &errors(), window(1_000, 1_040)).await.unwrap_err();
    assert!(error.to_string().contains("metric errors, part: comes to several series"), "{error}");
}

#[tokio::test]
async fn every_query_is_tried_before_anything_is_touched() {
    let cx = OpContext::standalone("test");
    let server = Server::start([series(&[]), series(&[]), series(&[])]).await;
    let metrics = builder(&server).build().unwrap();
    assert_eq!(metrics.describe(&cx, &errors()).await.unwrap(), MetricKind::Ratio);
    assert_eq!(metrics.describe(&cx, &queue()).await.unwrap(), MetricKind::Gauge);
    let seen = server.seen();
    assert!(seen[0].value("query").starts_with("sum(increase(errors{fleet=\"immutable-nobody\"}"));
    assert!(seen[1].value("query").starts_with("sum(increase(all{fleet=\"immutable-nobody\"}"));
    let now = Timestamp::now().as_second();
    for one in &seen {
        let [start, end] = ["start", "end"].map(|name| one.value(name).parse::<i64>().unwrap());
        assert!(end - start >= 280 && (now - 20..now).contains(&end), "{start} to {end} at {now}");
    }

    let bad = json(400, r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected \"(\""}"#);
    let server = Server::start([series(&[]), bad, series(&[&[], &[]])]).await;
    let metrics = builder(&server).build().unwrap();
    let error = metrics.describe(&cx, &errors()).await.unwrap_err();
    let expected = "invalid request in describe metric: metric errors, whole: \
                    the server refuses the query: 1:5: parse error: unexpected \"(\"";
    assert_eq!(error.to_string(), expected);
    let error = metrics.describe(&cx, &queue()).await.unwrap_err();
    assert!(error.to_string().contains("comes to several series"), "{error}");

    let error = metrics.describe(&cx, &"latency".parse().unwrap()).await.unwrap_err();
    let expected = "not found in describe metric: no metric latency; this source has errors, queue";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, expected));
}

#[tokio::test]
async fn a_fleet_that_should_have_data_has_a_number() {
    let cx = OpContext::standalone("test");
    let at = (Timestamp::now().as_second() - 60).div_euclid(10) * 10;
    let answer = |values: &[(i64, &str)]| series(&[values]);
    let none = "for fleet web-1a2b, which should have some: is there such a series?";
    let cases = [
        (errors(), vec![series(&[]), answer(&[(at, "0")])], None),
        (errors(), vec![answer(&[(at, "1")]), series(&[])], Some("metric errors, whole: comes to no number")),
        (errors(), vec![series(&[]), answer(&[(at, "NaN")])], Some("metric errors, whole: comes to no number")),
        (queue(), vec![answer(&[(at - 10, "NaN"), (at, "1.5")])], None),
        (queue(), vec![answer(&[(at - 10, "NaN"), (at, "+Inf")])], Some("metric queue, query: comes to no number")),
        (queue(), vec![series(&[])], Some("metric queue, query: comes to no number")),
    ];
    for (metric, replies, problem) in cases {
        let server = Server::start(replies).await;
        let metrics = builder(&server).sample_fleet("web-1a2b".parse().unwrap()).build().unwrap();
        let error = metrics.describe(&cx, &metric).await.err();
        assert!(server.seen().iter().all(|one| one.value("query").contains("web-1a2b")));
        let expected = problem.map(|problem| format!("invalid request in describe metric: {problem} {none}"));
        assert_eq!(error.map(|error| error.to_string()), expected);
    }
}

#[tokio::test]
async fn a_fleet_of_another_form_is_no_question() {
    let server = Server::start([]).await;
    let level = Query::gauge(r#"avg_over_time(x{release="{{release}}"}[{{window}}])"#);
    let metrics = PrometheusMetrics::builder(&server.url).metric(queue(), level).build().unwrap();
    let (cx, fleet) = (OpContext::standalone("test"), "web".parse().unwrap());
    let error = metrics.query(&cx, &queue(), &fleet, window(0, 10)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_refusal_says_what_kind_it_is() {
    let error = |status, kind: &str, message: &str| {
        json(status, &format!(r#"{{"status":"error","errorType":"{kind}","error":"{message}"}}"#))
    };
    let plain = |status| Reply::Answer { status, headers: vec![], body: "<html>".to_owned() };
    let to_nobody = vec![("location", "http://127.0.0.1:1/")];
    let elsewhere = Reply::Answer { status: 302, headers: to_nobody, body: String::new() };
    let html = "the answer is not of the API of Prometheus: is the URL right?";
    let cases = [
        (
            error(422, "execution", "many-to-many"),
            ErrorKind::InvalidRequest,
            "the server refuses the query: many-to-many",
        ),
        (
            error(422, "execution", "expanding series: no store"),
            ErrorKind::Unavailable,
            "the server cannot read its data: expanding series: no store",
        ),
        (error(503, "timeout", "too slow"), ErrorKind::Timeout, "the query takes too long: too slow"),
        (error(503, "unavailable", "starting"), ErrorKind::Unavailable, "503 Service Unavailable): starting"),
        (error(500, "internal", "disk"), ErrorKind::Unavailable, "500 Internal Server Error): disk"),
        (error(200, "bad_data", "no"), ErrorKind::InvalidRequest, "the server refuses the query: no"),
        (
            error(404, "not_found", "gone"),
            ErrorKind::InvalidRequest,
            "no API of Prometheus at this URL (404 Not Found): gone",
        ),
        (error(401, "bad_data", "no"), ErrorKind::PermissionDenied, "refuses the credentials (401 Unauthorized)"),
        (plain(403), ErrorKind::PermissionDenied, "refuses the credentials (403 Forbidden)"),
        (plain(404), ErrorKind::InvalidRequest, "no API of Prometheus at this URL (404 Not Found)"),
        (elsewhere, ErrorKind::InvalidRequest, "the URL leads elsewhere (302 Found)"),
        (plain(429), ErrorKind::Throttled, "the server has too many requests"),
        (plain(502), ErrorKind::Unavailable, "the server does not work (502 Bad Gateway)"),
        (plain(504), ErrorKind::Timeout, "the server has no answer in time (504 Gateway Timeout)"),
        (plain(200), ErrorKind::Internal, html),
        (
            json(200, r#"{"status":"success","data":{"resultType":"string","result":[1,"a"]}}"#),
            ErrorKind::Internal,
            html,
        ),
        (
            json(200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#),
            ErrorKind::Internal,
            "the server does not answer with series",
        ),
        (
            json(200, r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["one is down"]}"#),
            ErrorKind::Unavailable,
            "the answer may not be whole, as the server warns: one is down",
        ),
        (Reply::HangUp, ErrorKind::Unavailable, "the connection to http://127.0.0.1:"),
    ];
    for (reply, kind, words) in cases {
        let error = refused(reply.clone()).await;
        assert_eq!(error.kind(), kind, "{reply:?}: {error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let error = refused(json(200, &" ".repeat((64 << 20) + 1))).await;
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().ends_with("the answer is too long: aggregate with sum()"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_when_to_ask_again_is_believed_within_reason() {
    let reply = |value| Reply::Answer { status: 429, headers: vec![("retry-after", value)], body: String::new() };
    for (value, expected) in [
        ("7", Some(Duration::from_secs(7))),
        ("999999", Some(Duration::from_hours(1))),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ] {
        assert_eq!(refused(reply(value)).await.retry_after(), expected);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = Server::start([Reply::Silence]).await;
    let metrics = builder(&server).timeout(Duration::from_millis(50)).build().unwrap();
    let error = query(&metrics, &queue(), window(0, 10)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::None));
    // The server is told not to work for longer than anybody waits.
    assert_eq!(server.seen()[0].value("timeout"), "50ms");

    let closed = PrometheusMetrics::builder("http://127.0.0.1:1").metric(queue(), Query::gauge(LEVEL));
    let error = query(&closed.build().unwrap(), &queue(), window(0, 10)).await.unwrap_err();
    let expected = "unavailable in query metric: metric queue, query: no connection to http://127.0.0.1:1/";
    assert_eq!((error.to_string().as_str(), error.effect()), (expected, Effect::None));
}

#[tokio::test]
async fn no_credential_is_in_an_error_whatever_the_server_says() {
    let said = r#"{"status":"error","errorType":"bad_data","error":"bad header SAID, says the gateway"}"#;
    let warned = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["SAID"]}"#;
    for secret in ["hunter2", "bWU6aHVudGVyMg==", "tenant"] {
        for (status, body) in [(400, said), (200, warned)] {
            let server = Server::start([json(status, &body.replace("SAID", secret))]).await;
            let builder = builder(&server).basic_auth("me", Secret::new("hunter2"));
            let metrics = builder.header("X-Scope-OrgID", Secret::new("tenant")).build().unwrap();
            let error = query(&metrics, &queue(), window(0, 10)).await.unwrap_err();
            let source = error.source().map(|source| format!("{source} {source:?}")).unwrap_or_default();
            for text in [error.to_string(), format!("{error:?}"), source] {
                assert!(!text.contains(secret), "{text}");
            }
            assert!(error.to_string().contains("not repeated"), "{error}");
        }
    }
}
