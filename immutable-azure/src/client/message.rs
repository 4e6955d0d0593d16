//! What is sent to Azure Resource Manager, what comes back, and why nothing may come back.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use azure_core::error::ErrorKind;
use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest time that a platform is believed to need before it can be asked again.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// One request about a resource, or to a link that the platform gave.
#[derive(Clone)]
pub(crate) struct Request {
    pub(super) method: Method,
    target: String,
    is_link: bool,
    query: Vec<(String, String)>,
    pub(super) if_match: Option<String>,
    pub(super) if_absent: bool,
    pub(super) body: Option<Bytes>,
}

impl Request {
    /// A request about a resource, named from `/subscriptions/` on, in a version of the API such as `2024-05-01`.
    pub(crate) fn new(method: Method, resource: &str, api_version: &str) -> Self {
        let query = vec![("api-version".to_owned(), api_version.to_owned())];
        Self {
            method,
            target: resource.to_owned(),
            is_link: false,
            query,
            if_match: None,
            if_absent: false,
            body: None,
        }
    }

    /// A look at where the platform said to look: the next page of a list, or the state of an operation. The version of the API is part of it.
    pub(crate) fn link(url: &str) -> Self {
        let (method, target) = (Method::GET, url.to_owned());
        Self { method, target, is_link: true, query: vec![], if_match: None, if_absent: false, body: None }
    }

    /// A further parameter. One more at each call.
    pub(crate) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Only if the thing still has this version: otherwise the platform refuses, and nothing is changed.
    pub(crate) fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.if_match = Some(etag.into());
        self
    }

    /// Only if there is no such thing yet: otherwise the platform refuses, and nothing is changed.
    pub(crate) fn if_absent(mut self) -> Self {
        self.if_absent = true;
        self
    }

    /// What the thing should be.
    ///
    /// # Errors
    /// `Unmade` for what is no JSON.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, Failure> {
        let body = serde_json::to_vec(body).map_err(|_| Failure::Unmade("its content is no JSON"))?;
        self.body = Some(body.into());
        Ok(self)
    }

    pub(super) fn url(&self, endpoint: &Url) -> Result<Url, Failure> {
        if self.is_link {
            return endpoint.join(&self.target).map_err(|_| Failure::Unmade("a link of the platform is no URL"));
        }
        // What is no name would be another resource: `..` leads out of the one that was meant.
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '%']);
        let is_path = self.target.strip_prefix('/').is_some_and(|path| path.split('/').all(is_name));
        if !is_path {
            return Err(Failure::Unmade("a name of a resource has what no name has"));
        }
        let mut url = endpoint.clone();
        url.set_path(&self.target);
        url.query_pairs_mut().extend_pairs(&self.query);
        // Not every service takes a plus sign for a space, and a filter has some.
        let query = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(query.as_deref());
        Ok(url)
    }
}

impl fmt::Debug for Request {
    /// Without the content, which may hold what instances start with, and without the signature of a link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.split('?').next().unwrap_or_default();
        f.debug_struct("Request").field("method", &self.method).field("target", &target).finish_non_exhaustive()
    }
}

/// What the platform answered.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When to ask again, if the platform says so: in seconds, at most an hour. Azure Resource Manager does not use the form with a date.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header(RETRY_AFTER.as_str())?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
    }

    /// The content.
    ///
    /// # Errors
    /// `Unreadable` for what is not what was expected.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::Unreadable)
    }
}

impl fmt::Debug for Answer {
    /// Without the content, which is not ours to vouch for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, body, .. } = self;
        f.debug_struct("Answer").field("status", status).field("bytes", &body.len()).finish_non_exhaustive()
    }
}

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The platform answered with another status than 2xx.
    #[error("status {}", .0.status)]
    Refused(Box<Answer>),
    /// There was no token, so nothing was sent.
    #[error("no token")]
    NoToken(#[source] Box<azure_core::Error>),
    /// The request is not for Azure Resource Manager, so nothing was sent.
    #[error("{0:?} is not Azure Resource Manager")]
    Foreign(String),
    /// There is no such request, so nothing was sent.
    #[error("no request could be made: {0}")]
    Unmade(&'static str),
    /// There was no connection, so nothing was sent.
    #[error("no connection")]
    Unreached(#[source] Box<reqwest::Error>),
    /// There was no answer in time. The request may have had an effect.
    #[error("no answer in time")]
    Late(#[source] Box<reqwest::Error>),
    /// The connection ended without an answer. The request may have had an effect.
    #[error("no answer")]
    Lost(#[source] Box<reqwest::Error>),
    /// The platform agreed, in words that cannot be read.
    #[error("an answer that cannot be read")]
    Unreadable,
}

impl Failure {
    /// Whether there was no token for a reason that may pass by itself.
    pub(crate) fn is_passing(&self) -> bool {
        let Self::NoToken(error) = self else { return false };
        let first: &(dyn Error + 'static) = error.as_ref();
        let causes = std::iter::successors(Some(first), |&error| error.source());
        causes.filter_map(|cause| cause.downcast_ref::<azure_core::Error>()).any(|cause| match cause.kind() {
            ErrorKind::Connection | ErrorKind::Io => true,
            ErrorKind::HttpResponse { status, .. } => matches!(**status, 408 | 429 | 500..=599),
            _ => false,
        })
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // Links to operations are signed.
        let error = error.without_url();
        if error.is_builder() {
            Self::Unmade("a header or the content has what none has")
        } else if error.is_connect() {
            Self::Unreached(Box::new(error))
        } else if error.is_timeout() {
            Self::Late(Box::new(error))
        } else {
            Self::Lost(Box::new(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_no_request() {
        let endpoint = Url::parse("https://management.azure.com/").unwrap();
        let url = |resource: &str| Request::new(Method::GET, resource, "2024-05-01").url(&endpoint);
        let good = url("/subscriptions/s/resourceGroups/r g/providers/Microsoft.Network/loadBalancers/a?b#c").unwrap();
        assert_eq!(
            good.as_str(),
            "https://management.azure.com/subscriptions/s/resourceGroups/r%20g/providers/Microsoft.Network/loadBalancers/a%3Fb%23c?api-version=2024-05-01"
        );
        for wrong in
            ["", "/", "subscriptions/s", "//evil.example/s", "/a/../b", "/a/./b", "/a//b", "/a/%2e%2e/b", "/a\\b"]
        {
            assert!(matches!(url(wrong), Err(Failure::Unmade(_))), "{wrong}");
        }
    }

    #[test]
    fn the_time_to_wait_is_in_seconds_and_has_a_limit() {
        for (text, seconds) in
            [("17", Some(17)), (" 0 ", Some(0)), ("999999", Some(3600)), ("-1", None), ("soon", None)]
        {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            let answer = Answer { status: 202, headers, body: Bytes::new() };
            assert_eq!(answer.retry_after(), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn nothing_prints_what_a_message_contains() {
        let request = Request::link("https://management.azure.com/operations/1?s=hunter2");
        let request = request.json(&"hunter2").unwrap().if_match("hunter2").query("k", "hunter2");
        let answer = Answer { status: 400, headers: HeaderMap::new(), body: Bytes::from_static(b"hunter2") };
        let failure = Failure::Refused(Box::new(answer.clone()));
        for text in [format!("{request:?}"), format!("{answer:?}"), format!("{failure:?}"), failure.to_string()] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(format!("{request:?}").contains("/operations/1"));
    }

    #[test]
    fn a_token_that_cannot_be_had_for_a_moment_is_told_from_one_that_never_can() {
        let of = |kind| Failure::NoToken(Box::new(azure_core::Error::with_message(kind, "no answer")));
        let status =
            |status: u16| ErrorKind::HttpResponse { status: status.into(), error_code: None, raw_response: None };
        for (kind, is_passing) in [
            (ErrorKind::Io, true),
            (ErrorKind::Connection, true),
            (status(503), true),
            (status(429), true),
            (status(401), false),
            (ErrorKind::Credential, false),
        ] {
            let wrapped = azure_core::Error::with_error(
                ErrorKind::Credential,
                azure_core::Error::with_message(kind.clone(), ""),
                "",
            );
            assert_eq!(Failure::NoToken(Box::new(wrapped)).is_passing(), is_passing, "{kind:?}");
            assert_eq!(of(kind.clone()).is_passing(), is_passing, "{kind:?}");
        }
    }
}
