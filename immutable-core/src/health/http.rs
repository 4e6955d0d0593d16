//! A probe that asks over HTTP.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::HealthConfigError;
use super::look::{Finding, Settings, connect, in_words};
use crate::model::Sample;
use crate::provider::{HealthProbe, OpContext, ProbeTarget, ProviderError};

/// How much of a body is searched, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// An instance is good when it answers a GET over HTTP/1.1 as expected. Redirects are not followed.
///
/// A target without an endpoint gets no sample. What this machine itself lacks (file handles, ports, a network, an answer to
/// a name) is an unknown look. The answer comes within nine tenths of the context's timeout; whoever was not reached by then is unknown.
///
/// ```
/// use immutable_core::health::HttpProbe;
/// use std::time::Duration;
///
/// let probe = HttpProbe::get("/health")
///     .expect_status(200..=204)
///     .expect_body_contains("ok")
///     .timeout(Duration::from_millis(500))
///     .build()?;
///
/// let error = HttpProbe::get("health").build().unwrap_err();
/// assert_eq!(error.to_string(), "HTTP probe: path must start with '/'");
/// # Ok::<(), immutable_core::health::HealthConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct HttpProbe {
    settings: Settings,
    path: PathAndQuery,
    host: Option<HeaderValue>,
    status: RangeInclusive<u16>,
    body: Option<String>,
}

/// Builds an [`HttpProbe`].
#[derive(Debug, Clone)]
#[must_use]
pub struct HttpProbeBuilder {
    settings: Settings,
    path: String,
    host: Option<String>,
    status: RangeInclusive<u16>,
    body: Option<String>,
}

impl HttpProbe {
    /// A probe that gets a path, with a query if there is one.
    pub fn get(path: impl Into<String>) -> HttpProbeBuilder {
        let settings = Settings::default();
        HttpProbeBuilder { settings, path: path.into(), host: None, status: 200..=299, body: None }
    }
}

impl HttpProbeBuilder {
    /// The statuses of a good answer; 200 to 299 unless they are set.
    pub fn expect_status(mut self, statuses: RangeInclusive<u16>) -> Self {
        self.status = statuses;
        self
    }

    /// A text that the first 64 KiB of a good answer's body contain.
    pub fn expect_body_contains(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }

    /// How long one look may take; one second unless it is set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How many targets are looked at at once; 64 unless it is set.
    pub fn concurrency(mut self, looks: usize) -> Self {
        self.settings.concurrency = looks;
        self
    }

    /// The port to ask instead of the endpoint's own.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.port = Some(port);
        self
    }

    /// The value of the `Host` header; the host and port that are asked unless it is set.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// The probe.
    ///
    /// # Errors
    /// [`HealthConfigError`] names the setting that cannot work.
    pub fn build(self) -> Result<HttpProbe, HealthConfigError> {
        let error = |field, problem| HealthConfigError::new("HTTP probe", field, problem);
        self.settings.check("HTTP probe")?;
        if !self.path.starts_with('/') {
            return Err(error("path", "must start with '/'"));
        }
        // A fragment is never sent, and the parser would drop it silently.
        if self.path.contains('#') {
            return Err(error("path", "must not have a fragment"));
        }
        let path = PathAndQuery::try_from(self.path)
            .map_err(|_| error("path", "must have only characters that a path or a query may have"))?;
        let host = match self.host {
            Some(host) if host.is_empty() => return Err(error("host", "must not be empty")),
            Some(host) => {
                Some(HeaderValue::try_from(host).map_err(|_| error("host", "must be the value of a header"))?)
            }
            None => None,
        };
        if self.status.is_empty() || *self.status.start() < 100 || *self.status.end() > 999 {
            return Err(error("expect_status", "must be a range from 100 to 999 that is not empty"));
        }
        if self.body.as_ref().is_some_and(|text| text.is_empty() || text.len() > BODY_LIMIT) {
            return Err(error("expect_body_contains", "must have 1 to 65536 bytes"));
        }
        Ok(HttpProbe { settings: self.settings, path, host, status: self.status, body: self.body })
    }
}

#[async_trait]
impl HealthProbe for HttpProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        Ok(self.settings.look_at_all(cx, targets, |host, port| self.look(host, port)).await)
    }
}

impl HttpProbe {
    async fn look(&self, host: &str, port: u16) -> Finding {
        self.ask(host, port).await.unwrap_or_else(|finding| finding)
    }

    /// One exchange. `Err` is what cut it short, so that `?` can.
    async fn ask(&self, host: &str, port: u16) -> Result<Finding, Finding> {
        let start = Instant::now();
        let request = self.request(host, port)?;
        let stream = connect(host, port).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            self.judge(response, start).await
        };
        // The connection is driven beside the exchange, so that both end with this look. It may end first, with the whole answer read.
        match select(pin!(exchange), pin!(connection)).await {
            Either::Left((finding, _)) => finding,
            Either::Right((_, exchange)) => exchange.await,
        }
    }

    fn request(&self, host: &str, port: u16) -> Result<Request<Empty<Bytes>>, Finding> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None if host.contains(':') => header(format!("[{host}]:{port}"))?,
            None => header(format!("{host}:{port}"))?,
        };
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::from(self.path.clone());
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, HeaderValue::from_static("immutable-health-probe"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }

    async fn judge(&self, response: Response<Incoming>, start: Instant) -> Result<Finding, Finding> {
        let status = response.status().as_u16();
        if !self.status.contains(&status) {
            return Ok(Finding::bad(format!("{status} in {}", in_words(start.elapsed()))));
        }
        if let Some(text) = &self.body
            && !contains(response.into_body(), text).await?
        {
            let text: String = text.chars().take(80).collect();
            return Ok(Finding::bad(format!("body does not contain {text:?}")));
        }
        Ok(Finding::good(format!("{status} in {}", in_words(start.elapsed()))))
    }
}

/// Whether the beginning of a body contains a text; reads no further than it has to.
async fn contains(mut body: Incoming, text: &str) -> Result<bool, Finding> {
    let (mut read, text) = (Vec::new(), text.as_bytes());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        // What was searched before is searched again only where the text may lie across the seam.
        let from = read.len().saturating_sub(text.len() - 1);
        read.extend_from_slice(&data[..data.len().min(BODY_LIMIT - read.len())]);
        if read[from..].windows(text.len()).any(|window| window == text) {
            return Ok(true);
        }
        if read.len() == BODY_LIMIT {
            break;
        }
    }
    Ok(false)
}

fn header(text: String) -> Result<HeaderValue, Finding> {
    HeaderValue::try_from(text).map_err(|_| Finding::unknown("its endpoint makes no header"))
}

/// What an exchange that failed shows.
fn broken(error: &hyper::Error) -> Finding {
    Finding::bad(if error.is_parse() {
        "answer is not HTTP/1"
    } else {
        "connection closed before the answer was whole"
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;
    use crate::model::Look;

    fn target(port: u16) -> ProbeTarget {
        ProbeTarget {
            instance: format!("i-{port}").parse().unwrap(),
            fleet: "web-1".parse().unwrap(),
            endpoint: Some(format!("127.0.0.1:{port}").parse().unwrap()),
        }
    }

    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Accepts one connection and reads the head of its request.
    async fn accept(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap())
    }

    /// One look at a server that answers with these bytes and closes. Also gives the head of the request.
    async fn ask(probe: HttpProbeBuilder, answer: &[u8]) -> (Sample, String) {
        let (listener, port) = listen().await;
        let serve = async {
            let (mut stream, head) = accept(&listener).await;
            // Whoever has seen enough may have gone already.
            let _ = stream.write_all(answer).await;
            head
        };
        let (probe, cx, targets) = (probe.build().unwrap(), OpContext::standalone("test"), [target(port)]);
        let (samples, head) = tokio::join!(probe.sample(&cx, &targets), serve);
        (samples.unwrap().remove(0), head)
    }

    /// The evidence has `#` where a number of milliseconds stands.
    async fn check(probe: HttpProbeBuilder, answer: impl AsRef<[u8]>, look: Look, evidence: &str) {
        let (sample, _) = ask(probe.timeout(Duration::from_secs(20)), answer.as_ref()).await;
        let found = match sample.evidence.split_once(" in ") {
            Some((status, time)) if time.ends_with(" ms") => format!("{status} in # ms"),
            _ => sample.evidence,
        };
        assert_eq!((sample.look, found.as_str()), (look, evidence));
    }

    fn body(text: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
    }

    #[tokio::test]
    async fn the_status_decides() {
        let probe = || HttpProbe::get("/health");
        check(probe(), "HTTP/1.1 200 OK\r\n\r\n", Look::Good, "200 in # ms").await;
        check(probe(), "HTTP/1.1 299 Odd\r\ncontent-length: 5\r\n\r\n", Look::Good, "299 in # ms").await;
        check(probe(), "HTTP/1.1 503 No\r\n\r\n", Look::Bad, "503 in # ms").await;
        check(probe(), "HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", Look::Bad, "302 in # ms").await;
        check(probe().expect_status(401..=401), "HTTP/1.1 401 No\r\n\r\n", Look::Good, "401 in # ms").await;
        check(probe().expect_status(401..=401), "HTTP/1.1 200 OK\r\n\r\n", Look::Bad, "200 in # ms").await;
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_bad() {
        let probe = || HttpProbe::get("/health");
        check(probe(), "SSH-2.0-OpenSSH_9.6\r\n", Look::Bad, "answer is not HTTP/1").await;
        check(probe(), "", Look::Bad, "connection closed before the answer was whole").await;
        check(probe(), "HTTP/1.1 200", Look::Bad, "connection closed before the answer was whole").await;
    }

    #[tokio::test]
    async fn the_body_must_contain_the_text_near_its_beginning() {
        let probe = || HttpProbe::get("/health").expect_body_contains("\"ok\"");
        let missing = r#"body does not contain "\"ok\"""#;
        check(probe(), body(r#"{"status":"ok"}"#), Look::Good, "200 in # ms").await;
        check(probe(), body(r#"{"status":"no"}"#), Look::Bad, missing).await;
        check(probe(), body(""), Look::Bad, missing).await;
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n\"o\r\n2\r\nk\"\r\n0\r\n\r\n";
        check(probe(), chunked, Look::Good, "200 in # ms").await;
        let text_after = |bytes| body(&format!("{}\"ok\"", "x".repeat(bytes)));
        check(probe(), text_after(BODY_LIMIT - 4), Look::Good, "200 in # ms").await;
        check(probe(), text_after(BODY_LIMIT - 3), Look::Bad, missing).await;
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx";
        check(probe(), cut, Look::Bad, "connection closed before the answer was whole").await;
    }

    #[tokio::test]
    async fn an_endless_body_is_not_read_for_ever() {
        let (listener, port) = listen().await;
        let serve = async {
            let (mut stream, _) = accept(&listener).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            // Until the probe hangs up.
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        };
        let probe = HttpProbe::get("/").expect_body_contains("ok").timeout(Duration::from_secs(20)).build().unwrap();
        let (cx, targets) = (OpContext::standalone("test"), [target(port)]);
        let (samples, ()) = tokio::join!(probe.sample(&cx, &targets), serve);
        let sample = samples.unwrap().remove(0);
        assert_eq!((sample.look, sample.evidence.as_str()), (Look::Bad, "body does not contain \"ok\""));
    }

    #[tokio::test]
    async fn a_wrong_status_comes_before_a_wrong_body() {
        let probe = HttpProbe::get("/").expect_body_contains("ok");
        check(probe, "HTTP/1.1 500 No\r\n\r\n", Look::Bad, "500 in # ms").await;
    }

    #[tokio::test]
    async fn the_request_is_a_plain_get_on_a_connection_of_its_own() {
        let (sample, head) = ask(HttpProbe::get("/health?deep=1"), b"HTTP/1.1 200 OK\r\n\r\n").await;
        let port = sample.instance.as_str().trim_start_matches("i-");
        let expected = format!(
            "GET /health?deep=1 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\
             user-agent: immutable-health-probe\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(head, expected);

        let (_, head) = ask(HttpProbe::get("/").host("shop.example"), b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(head.contains("\r\nhost: shop.example\r\n"), "{head}");
    }

    #[tokio::test]
    async fn who_does_not_listen_is_bad_and_harms_no_other() {
        // Bound, so that nobody else gets the port, and not listening.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = closed.local_addr().unwrap().port();
        let (listener, other) = listen().await;
        let probe = HttpProbe::get("/").build().unwrap();
        let (cx, targets) = (OpContext::standalone("test"), [target(port), target(other)]);
        let serve = async { accept(&listener).await.0.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap() };
        let (samples, ()) = tokio::join!(probe.sample(&cx, &targets), serve);
        let samples = samples.unwrap();
        assert_eq!((samples[0].look, samples[0].evidence.as_str()), (Look::Bad, "connection refused"));
        assert_eq!(samples[1].look, Look::Good);
    }

    #[tokio::test(start_paused = true)]
    async fn who_accepts_and_says_nothing_is_bad() {
        // The connection waits in the backlog for ever.
        let (_listener, port) = listen().await;
        let probe = HttpProbe::get("/").build().unwrap();
        let samples = probe.sample(&OpContext::standalone("test"), &[target(port)]).await.unwrap();
        assert_eq!((samples[0].look, samples[0].evidence.as_str()), (Look::Bad, "no answer within 1 s"));
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let check = |probe: HttpProbeBuilder, field: &str| {
            assert_eq!(probe.build().unwrap_err().field(), field);
        };
        for path in ["", "health", "http://host/health", "/a b", "/a\r\nx: y", "/a#b"] {
            check(HttpProbe::get(path), "path");
        }
        let probe = || HttpProbe::get("/");
        check(probe().timeout(Duration::ZERO), "timeout");
        check(probe().concurrency(0), "concurrency");
        check(probe().port(0), "port");
        check(probe().host(""), "host");
        check(probe().host("a\nb"), "host");
        check(probe().expect_status(99..=200), "expect_status");
        check(probe().expect_status(200..=1000), "expect_status");
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        check(probe().expect_status(300..=200), "expect_status");
        check(probe().expect_body_contains(""), "expect_body_contains");
    }
}
