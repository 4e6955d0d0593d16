//! The one way to Azure Resource Manager.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential};
use azure_core::time::{Duration as Span, OffsetDateTime};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode, Url, retry};

use super::message::{Answer, Failure, Request};
use crate::ConfigError;

/// How long a connection may take: a request whose connection failed was never sent.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long one attempt may take, whatever the caller allows. Azure Resource Manager itself gives up on a service after
/// [60 seconds](https://github.com/Azure/azure-resource-manager-rpc/blob/master/v1.0/common-api-details.md#client-request-timeout).
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(75);

/// The longest content that is read, in bytes: a page of a list of large machines has less than a tenth of it.
pub(super) const LONGEST: usize = 16 << 20;

/// So long before its end a token is replaced, as the SDK's own credentials do.
const FRESH_FOR: Span = Span::minutes(5);

/// Sends each request once, with a token, and only to Azure Resource Manager.
pub(crate) struct Pipeline {
    endpoint: Url,
    scope: String,
    http: reqwest::Client,
    credential: Arc<dyn TokenCredential>,
    /// Not every credential remembers its token: that of a developer starts a process each time.
    token: Mutex<Option<AccessToken>>,
}

impl Pipeline {
    pub(super) fn new(credential: Arc<dyn TokenCredential>, endpoint: Url) -> Result<Self, ConfigError> {
        let http = http_client(&endpoint, ANSWER_WITHIN)?;
        let scope = format!("{}/.default", endpoint.as_str().trim_end_matches('/'));
        Ok(Self { endpoint, scope, http, credential, token: Mutex::new(None) })
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Sends a request and waits for its answer. One attempt.
    ///
    /// # Errors
    /// Every answer but 2xx is a failure. No redirect is followed.
    ///
    /// # Cancellation
    /// A request that is dropped may have been sent, and may have an effect.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let url = request.url(&self.endpoint)?;
        let mut headers = HeaderMap::new();
        if let Some(etag) = &request.if_match {
            let etag = HeaderValue::from_str(etag).map_err(|_| Failure::Unmade("a version has what none has"))?;
            headers.insert(IF_MATCH, etag);
        }
        if request.if_absent {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        self.exchange(request.method, url, headers, request.body).await
    }

    /// The same for a request that somebody else has made. What it says of who asks does not matter.
    pub(super) async fn exchange(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        if !is_allowed(&self.endpoint, &url) {
            return Err(Failure::Foreign(url.host_str().unwrap_or_default().to_owned()));
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(AUTHORIZATION, self.authorization().await?);
        let request = self.http.request(method, url).headers(headers).body(body.unwrap_or_default());
        let answer = read(request.send().await?).await?;
        if answer.status == StatusCode::UNAUTHORIZED.as_u16() {
            self.remember(None);
        }
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(Failure::Refused(Box::new(answer))) }
    }

    async fn authorization(&self) -> Result<HeaderValue, Failure> {
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_fresh = |token: &AccessToken| token.expires_on - FRESH_FOR > OffsetDateTime::now_utc();
        let token = if let Some(token) = known.filter(is_fresh) {
            token
        } else {
            let token = self.credential.get_token(&[self.scope.as_str()], None).await;
            let token = token.map_err(|error| Failure::NoToken(Box::new(error)))?;
            self.remember(Some(token.clone()));
            token
        };
        let value = HeaderValue::from_str(&format!("Bearer {}", token.token.secret()));
        let mut value = value.map_err(|_| Failure::Unmade("the token has what none has"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn remember(&self, token: Option<AccessToken>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

impl fmt::Debug for Pipeline {
    /// Without the credential and its token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}

/// A client that sends a request once and goes where it was told to go.
///
/// # Errors
/// [`ConfigError`] when the certificates of the machine cannot be read.
pub(super) fn http_client(endpoint: &Url, within: Duration) -> Result<reqwest::Client, ConfigError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("immutable-azure/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_WITHIN)
        .timeout(within)
        .redirect(Policy::none())
        .retry(retry::never());
    // What is on this machine is not asked for through a proxy, which would see the token.
    let builder = if endpoint.scheme() == "http" { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| ConfigError::new("clients", error.without_url().to_string()))
}

/// Whether a token may go there: to the endpoint, or to the part of it in one region, which
/// [links to operations](https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations) may name.
pub(super) fn is_allowed(endpoint: &Url, url: &Url) -> bool {
    let (Some(ours), Some(theirs)) = (endpoint.host_str(), url.host_str()) else { return false };
    let is_region = |region: &str| !region.is_empty() && !region.contains('.');
    let in_one = || {
        let region = theirs.strip_suffix(ours).and_then(|rest| rest.strip_suffix('.'));
        endpoint.scheme() == "https" && region.is_some_and(is_region)
    };
    url.scheme() == endpoint.scheme()
        && url.port_or_known_default() == endpoint.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none()
        && (ours == theirs || in_one())
}

/// The whole answer. A refusal without its content is still a refusal.
async fn read(mut response: Response) -> Result<Answer, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST => body.extend_from_slice(&chunk),
            Ok(Some(_)) if status.is_success() => return Err(Failure::Unreadable),
            Err(error) if status.is_success() => return Err(error.into()),
            Ok(_) | Err(_) => break,
        }
    }
    Ok(Answer { status: status.as_u16(), headers, body: body.freeze() })
}
