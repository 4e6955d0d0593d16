//! Where Prometheus is, who asks, and with which queries.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use immutable_core::model::{FleetId, MetricName};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::client::Server;
use crate::query::Query;
use crate::{PrometheusMetrics, Secret};

/// A setting that cannot work. It never repeats a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    field: String,
    problem: String,
}

impl ConfigError {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The setting: `url`, or `metric errors, part` for the part of a ratio.
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// Who asks.
#[derive(Debug, Clone)]
enum Credential {
    Bearer(Secret),
    Basic { user: String, password: Secret },
}

/// Builds [`PrometheusMetrics`]. `Debug` prints neither the URL, which is not checked yet, nor any credential.
#[derive(Clone)]
#[must_use]
pub struct MetricsBuilder {
    url: String,
    credential: Option<Credential>,
    headers: Vec<(String, Secret)>,
    metrics: Vec<(MetricName, Query)>,
    resolution: Duration,
    lag: Duration,
    timeout: Duration,
    sample_fleet: Option<FleetId>,
}

impl PrometheusMetrics {
    /// Begins the metrics of a server, by its URL up to and without `/api/v1`: `https://prometheus.example.com` or
    /// `https://example.com/prometheus`.
    pub fn builder(url: impl Into<String>) -> MetricsBuilder {
        MetricsBuilder {
            url: url.into(),
            credential: None,
            headers: Vec::new(),
            metrics: Vec::new(),
            resolution: Duration::from_secs(10),
            lag: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            sample_fleet: None,
        }
    }
}

impl MetricsBuilder {
    /// A metric, by the name that rollouts know it by.
    pub fn metric(mut self, name: MetricName, query: Query) -> Self {
        self.metrics.push((name, query));
        self
    }

    /// Asks with a bearer token. The last of this and [`basic_auth`](Self::basic_auth) counts.
    pub fn bearer_token(mut self, token: Secret) -> Self {
        self.credential = Some(Credential::Bearer(token));
        self
    }

    /// Asks with a user's name and password. The last of this and [`bearer_token`](Self::bearer_token) counts.
    pub fn basic_auth(mut self, user: impl Into<String>, password: Secret) -> Self {
        self.credential = Some(Credential::Basic { user: user.into(), password });
        self
    }

    /// A header of every request, such as the `X-Scope-OrgID` of a server for many tenants. Its value is never told.
    pub fn header(mut self, name: impl Into<String>, value: Secret) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// How much time a sample is about, in whole seconds; ten seconds unless said otherwise.
    ///
    /// `increase` and `rate` need two scrapes in it to say anything, and four to say it well: with the usual interval of 15 seconds
    /// between scrapes, a minute is right. With less there is [no data](PrometheusMetrics#no-data), and nothing passes.
    pub fn resolution(mut self, resolution: Duration) -> Self {
        self.resolution = resolution;
        self
    }

    /// How long it takes until the server has all of a moment: five seconds unless said otherwise. What is newer is not looked at.
    ///
    /// It covers the time that a scrape takes and how much the clocks differ. A server that is written to by others needs as much as
    /// those may be late: requests that it knows already, without the errors among them, would look like good ones.
    pub fn lag(mut self, lag: Duration) -> Self {
        self.lag = lag;
        self
    }

    /// How long one request may take, whatever the caller allows; thirty seconds unless said otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A fleet that has data, such as the one that serves now, to try the queries on before a rollout starts: one that comes to several
    /// series, or to no number at all, is an error then. Without a fleet they are tried on one that does not exist, which shows only what
    /// the server refuses.
    pub fn sample_fleet(mut self, fleet: FleetId) -> Self {
        self.sample_fleet = Some(fleet);
        self
    }

    /// Checks all of it. The server is not asked.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, and of a metric the query.
    pub fn build(self) -> Result<PrometheusMetrics, ConfigError> {
        let url = server_url(&self.url)?;
        let (headers, secrets) = self.headers()?;
        if !secrets.is_empty() && url.scheme() == "http" && !is_here(&url) {
            let problem = "must begin with \"https://\": without encryption others would see the credentials";
            return Err(ConfigError::new("url", problem));
        }
        let resolution = i64::try_from(self.resolution.as_secs()).unwrap_or(i64::MAX);
        if self.resolution.subsec_nanos() > 0 || !(1..=86_400).contains(&resolution) {
            return Err(ConfigError::new("resolution", "must be whole seconds, from one to those of a day"));
        }
        if self.timeout.is_zero() {
            return Err(ConfigError::new("timeout", "must not be zero"));
        }
        if self.metrics.is_empty() {
            return Err(ConfigError::new("metric", "there must be one"));
        }
        let mut metrics = BTreeMap::new();
        for (name, query) in &self.metrics {
            let wrong = |(field, problem): (&str, String)| ConfigError::new(format!("metric {name}, {field}"), problem);
            if metrics.insert(name.clone(), query.parse().map_err(wrong)?).is_some() {
                return Err(ConfigError::new(format!("metric {name}"), "must be there once"));
            }
        }
        let server = Server::new(&url, is_here(&url), headers, secrets, self.timeout)
            .map_err(|problem| ConfigError::new("url", problem))?;
        Ok(PrometheusMetrics { server, metrics, resolution, lag: self.lag, sample_fleet: self.sample_fleet })
    }

    /// The headers of every request, and all that no error may repeat.
    fn headers(&self) -> Result<(HeaderMap, Vec<String>), ConfigError> {
        let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
        for (name, value) in &self.headers {
            let wrong = |problem| ConfigError::new("header", problem);
            let name = HeaderName::try_from(name).map_err(|_| wrong("its name has what no name of a header has"))?;
            if name == AUTHORIZATION {
                return Err(wrong("must not be Authorization: that is bearer_token or basic_auth"));
            }
            headers.append(name, header_value("header", value.expose())?);
            secrets.push(value.expose().to_owned());
        }
        let value = match &self.credential {
            None => return Ok((headers, secrets)),
            Some(Credential::Bearer(token)) => {
                secrets.push(token.expose().to_owned());
                header_value("bearer_token", token.expose())?;
                header_value("bearer_token", &format!("Bearer {}", token.expose()))?
            }
            Some(Credential::Basic { user, .. }) if user.is_empty() || user.contains(':') => {
                return Err(ConfigError::new("basic_auth", "the user's name must not be empty and has no colon"));
            }
            Some(Credential::Basic { user, password }) => {
                header_value("basic_auth", password.expose())?;
                let encoded = STANDARD.encode(format!("{user}:{}", password.expose()));
                let value = header_value("basic_auth", &format!("Basic {encoded}"))?;
                secrets.extend([password.expose().to_owned(), encoded]);
                value
            }
        };
        headers.insert(AUTHORIZATION, value);
        Ok((headers, secrets))
    }
}

impl fmt::Debug for MetricsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.metrics.iter().map(|(name, _)| name).collect();
        f.debug_struct("MetricsBuilder").field("metrics", &names).finish_non_exhaustive()
    }
}

fn header_value(field: &str, text: &str) -> Result<HeaderValue, ConfigError> {
    if text.is_empty() {
        return Err(ConfigError::new(field, "must not be empty"));
    }
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| ConfigError::new(field, "has what no header has, such as the end of a line"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The URL of a server, which has no credentials in it.
fn server_url(text: &str) -> Result<Url, ConfigError> {
    let wrong = |problem| ConfigError::new("url", problem);
    let url = Url::parse(text).map_err(|_| wrong("must be a URL, such as \"https://prometheus.example.com\""))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("must begin with \"https://\" or \"http://\""));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must have no name and no password in it: those are for basic_auth"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must end with its path: no \"?\" and no \"#\""));
    }
    Ok(url)
}

/// Whether a server is on this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERRORS: &str = r#"sum(increase(x{fleet="{{fleet}}",code="500"}[{{window}}]))"#;
    const ALL: &str = r#"sum(increase(x{fleet="{{fleet}}"}[{{window}}]))"#;

    fn builder(url: &str) -> MetricsBuilder {
        PrometheusMetrics::builder(url).metric("errors".parse().unwrap(), Query::ratio(ERRORS, ALL))
    }

    fn refused(builder: MetricsBuilder) -> String {
        let shown = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        for text in [shown, error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        error.to_string()
    }

    #[test]
    fn a_query_that_cannot_be_asked_is_named_by_its_metric_and_field() {
        let refused_query = |query| refused(builder("http://localhost").metric("latency".parse().unwrap(), query));
        let error = refused_query(Query::ratio(ERRORS, r#"x{f="{{flet}}"}[{{window}}]"#));
        assert!(error.starts_with("metric latency, whole: has {{flet}}, and there are only"), "{error}");
        let error = refused_query(Query::ratio(r#"x{f="{{fleet"#, ALL));
        assert_eq!(error, "metric latency, part: has a \"{{\" without a \"}}\" after it");
        let error = refused_query(Query::gauge(r#"x{f="{{fleet}}"}"#));
        assert!(error.starts_with("metric latency, query: has no {{window}}"), "{error}");
        let error = refused_query(Query::gauge(r#"avg_over_time(x{s="{{service}}"}[{{window}}])"#));
        assert!(error.starts_with("metric latency, query: has no {{fleet}}"), "{error}");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let here = || builder("http://127.0.0.1:9090");
        let secret = || Secret::new("hunter2");
        let whole = "resolution: must be whole seconds, from one to those of a day";
        let cases = [
            (builder("prometheus:9090"), "url: must begin with \"https://\" or \"http://\""),
            (builder("not a url"), "url: must be a URL, such as \"https://prometheus.example.com\""),
            (
                builder("https://me:hunter2@example.com"),
                "url: must have no name and no password in it: those are for basic_auth",
            ),
            (
                builder("https://hunter2@example.com"),
                "url: must have no name and no password in it: those are for basic_auth",
            ),
            (builder("https://example.com/?token=hunter2"), "url: must end with its path: no \"?\" and no \"#\""),
            (
                builder("http://example.com").bearer_token(secret()),
                "url: must begin with \"https://\": without encryption others would see the credentials",
            ),
            (here().resolution(Duration::from_millis(1500)), whole),
            (here().resolution(Duration::ZERO), whole),
            (here().resolution(Duration::from_secs(86_401)), whole),
            (here().timeout(Duration::ZERO), "timeout: must not be zero"),
            (here().metric("errors".parse().unwrap(), Query::ratio(ERRORS, ALL)), "metric errors: must be there once"),
            (PrometheusMetrics::builder("http://127.0.0.1"), "metric: there must be one"),
            (here().bearer_token(Secret::new("")), "bearer_token: must not be empty"),
            (
                here().bearer_token(Secret::new("hunter2\n")),
                "bearer_token: has what no header has, such as the end of a line",
            ),
            (here().basic_auth("a:b", secret()), "basic_auth: the user's name must not be empty and has no colon"),
            (here().header("a b", secret()), "header: its name has what no name of a header has"),
            (
                here().header("authorization", secret()),
                "header: must not be Authorization: that is bearer_token or basic_auth",
            ),
        ];
        for (builder, expected) in cases {
            assert_eq!(refused(builder), expected);
        }
    }

    #[test]
    fn no_credential_is_shown() {
        let secret = || Secret::new("hunter2");
        for builder in [
            builder("https://example.com/prometheus").bearer_token(secret()).header("X-Scope-OrgID", secret()),
            builder("http://[::1]:9090").basic_auth("me", secret()),
        ] {
            let (shown, built) = (format!("{builder:?}"), format!("{:?}", builder.build().unwrap()));
            for text in [&shown, &built] {
                assert!(!text.contains("hunter2") && !text.contains(&STANDARD.encode("me:hunter2")), "{text}");
            }
            assert!(built.contains("errors"), "{built}");
        }
    }
}
