//! One question to the server, and why it may have no answer.

use std::fmt;
use std::time::Duration;

use immutable_core::provider::{ErrorKind, ProviderError};
use prometheus_http_query::response::{PromqlResult, RangeVector};
use prometheus_http_query::{Client, Error};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url, retry};
use serde::Deserialize;

use crate::steps::Steps;

/// The longest answer that is read, in bytes: as much as a hundred series have.
const LONGEST: usize = 64 << 20;

/// The longest message of the server that is repeated, in characters.
const MESSAGE: usize = 400;

/// The longest time that a server is believed to need before it can be asked again.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// A server of Prometheus, or of what speaks its API. Each question is one request, which is sent once.
pub(crate) struct Server {
    client: Client,
    timeout: Duration,
    /// What no error may repeat.
    secrets: Vec<String>,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) operation: &'static str,
    /// Which query of which metric, for people.
    pub(crate) name: &'a str,
    pub(crate) query: &'a str,
    pub(crate) steps: Steps,
    /// How long the caller waits.
    pub(crate) timeout: Duration,
}

/// What the API answers: <https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview>.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success {
        data: PromqlResult,
        #[serde(default)]
        warnings: Vec<String>,
    },
    Error(Refusal),
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(rename = "errorType")]
    kind: String,
    error: String,
}

impl Server {
    /// # Errors
    /// What is wrong, in words without credentials.
    pub(crate) fn new(
        url: &Url,
        is_here: bool,
        headers: HeaderMap,
        secrets: Vec<String>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("immutable-prometheus/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .timeout(timeout)
            // Headers of the user would go wherever a redirect leads.
            .redirect(Policy::none())
            .retry(retry::never());
        // What is on this machine is not asked for through a proxy.
        let builder = if is_here { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| error.without_url().to_string())?;
        let client = Client::from(http, url.as_str().trim_end_matches('/')).map_err(|error| error.to_string())?;
        Ok(Self { client, timeout, secrets })
    }

    /// All series of the answer.
    ///
    /// # Errors
    /// Every answer but a whole one.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<Vec<RangeVector>, ProviderError> {
        let Steps { first, last, step } = question.steps;
        #[expect(clippy::cast_precision_loss, reason = "a day has few enough seconds")]
        let request = self.client.query_range(question.query, first, last, step as f64);
        // Nobody waits for it longer, so the server need not work longer.
        let limit = question.timeout.min(self.timeout).as_millis().max(1);
        let request = request.timeout(i64::try_from(limit).unwrap_or(i64::MAX));
        // Thanos would leave out what it does not reach, and Prometheus knows no such parameter.
        let request = request.query("partial_response", false);
        let answer = request.post_raw().await.map_err(|error| {
            let cause = if let Error::Client(client) = &error { client.inner() } else { None };
            self.unanswered(question, cause).with_source(error)
        })?;
        let (status, retry_after) = (answer.status(), retry_after(answer.headers()));
        let body = read(answer).await.map_err(|error| match error {
            None => question.error(ErrorKind::InvalidRequest, "the answer is too long: aggregate with sum()"),
            Some(error) => self.unanswered(question, Some(&error)).with_source(error),
        })?;
        let refusal = match serde_json::from_slice(&body) {
            Ok(Answer::Success { data, warnings }) if status.is_success() => {
                return self.series(question, data, &warnings);
            }
            Ok(Answer::Error(refusal)) => Some(refusal),
            _ => None,
        };
        let (kind, problem) = self.refusal(status, refusal.as_ref());
        let error = question.error(kind, problem);
        Err(match retry_after {
            Some(delay) if kind.is_transient() => error.with_retry_after(delay),
            _ => error,
        })
    }

    fn series(
        &self,
        question: Question<'_>,
        data: PromqlResult,
        warnings: &[String],
    ) -> Result<Vec<RangeVector>, ProviderError> {
        if let Some(warning) = warnings.first() {
            // Such as: a part of the servers behind this one did not answer. What they have may be the errors.
            let problem = format!("the answer may not be whole, as the server warns: {}", self.told(warning));
            return Err(question.error(ErrorKind::Unavailable, problem));
        }
        let matrix = data.into_inner().0.into_matrix();
        matrix.map_err(|_| question.error(ErrorKind::Internal, "the server does not answer with series"))
    }

    /// Why there is no answer.
    fn unanswered(&self, question: Question<'_>, cause: Option<&reqwest::Error>) -> ProviderError {
        let url = self.client.base_url();
        let (kind, problem) = match cause {
            Some(cause) if cause.is_timeout() => (ErrorKind::Timeout, format!("no answer of {url} in time")),
            Some(cause) if cause.is_connect() => (ErrorKind::Unavailable, format!("no connection to {url}")),
            _ => (ErrorKind::Unavailable, format!("the connection to {url} was lost")),
        };
        question.error(kind, problem)
    }

    /// What an answer without series means.
    fn refusal(&self, status: StatusCode, said: Option<&Refusal>) -> (ErrorKind, String) {
        let message = said.map_or(String::new(), |said| format!(": {}", self.told(&said.error)));
        match (status.as_u16(), said.map(|said| said.kind.as_str())) {
            (401 | 403, _) => (ErrorKind::PermissionDenied, format!("the server refuses the credentials ({status})")),
            (429, _) => (ErrorKind::Throttled, format!("the server has too many requests{message}")),
            (_, Some("timeout")) => (ErrorKind::Timeout, format!("the query takes too long{message}")),
            // The server could not read all that the query needs: not the query's fault.
            (_, Some("execution")) if message.contains("expanding series") => {
                (ErrorKind::Unavailable, format!("the server cannot read its data{message}"))
            }
            (_, Some("bad_data" | "execution")) => {
                (ErrorKind::InvalidRequest, format!("the server refuses the query{message}"))
            }
            (408 | 504, _) => (ErrorKind::Timeout, format!("the server has no answer in time ({status}){message}")),
            (500.., _) | (_, Some("canceled" | "internal" | "unavailable")) => {
                (ErrorKind::Unavailable, format!("the server does not work ({status}){message}"))
            }
            (200..=299, None) => {
                (ErrorKind::Internal, "the answer is not of the API of Prometheus: is the URL right?".to_owned())
            }
            (300..=399, _) => (
                ErrorKind::InvalidRequest,
                format!("the URL leads elsewhere ({status}): say where to, no redirect is followed"),
            ),
            _ => (ErrorKind::InvalidRequest, format!("there is no API of Prometheus at this URL ({status}){message}")),
        }
    }

    /// What the server said, as far as it may be repeated.
    fn told(&self, message: &str) -> String {
        if self.secrets.iter().any(|secret| message.contains(secret)) {
            return "(not repeated, as there is a credential in it)".to_owned();
        }
        message.chars().take(MESSAGE).collect()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.client.base_url().as_str()).finish_non_exhaustive()
    }
}

impl Question<'_> {
    /// Asking changes nothing, however it ends.
    pub(crate) fn error(&self, kind: ErrorKind, problem: impl fmt::Display) -> ProviderError {
        ProviderError::new(kind, self.operation, format!("{}: {problem}", self.name)).without_effect()
    }
}

/// The whole body; no error where it is too long.
async fn read(mut answer: Response) -> Result<Vec<u8>, Option<reqwest::Error>> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(None),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Some(error)),
        }
    }
}

/// When to ask again, if the server says so, in seconds; at most an hour.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
