//! What the crate for Compute needs of its older SDK: a client for HTTP and a credential, both of which lead to the one pipeline.
//!
//! The older SDK never has a token: it writes the headers of each request into its log, that of the token not redacted. So its credential gives it
//! nothing, and the pipeline adds the token to each request whose host may have it.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::time::{Duration, OffsetDateTime};
use azure_core_legacy::auth::{AccessToken, TokenCredential};
use azure_core_legacy::error::ErrorKind;
use azure_core_legacy::headers::Headers;
use azure_core_legacy::{
    Body, BytesStream, Error, HttpClient, Request, Response, RetryOptions, StatusCode, TransportOptions,
};
use azure_mgmt_compute::package_2024_07_01::Client;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::message::{Answer, Failure};
use super::pipeline::Pipeline;
use crate::ConfigError;

/// The headers that requests of the older SDK may set: the pipeline sets the others.
const KEPT: [&str; 2] = ["if-match", "if-none-match"];

/// A client for Compute that sends through the pipeline.
pub(super) fn compute(pipeline: &Arc<Pipeline>) -> Result<Client, ConfigError> {
    let client = Client::builder(Arc::new(NoToken))
        .endpoint(pipeline.endpoint().clone())
        .retry(RetryOptions::none())
        .transport(TransportOptions::new(Arc::new(Transport(pipeline.clone()))));
    client.build().map_err(|error| ConfigError::new("clients", error.to_string()))
}

impl Answer {
    /// What was answered to a request of the crate for Compute, that was sent.
    ///
    /// # Errors
    /// As of a request of ours.
    pub(crate) async fn of(sent: azure_core_legacy::Result<impl Into<Response>>) -> Result<Self, Failure> {
        let (status, headers, body) = sent?.into().deconstruct();
        let headers = headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.as_str()).ok()?))
        });
        let headers = headers.collect();
        Ok(Self { status: status.into(), headers, body: body.collect().await? })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Whatever else goes wrong there goes wrong with an answer: requests are plain data.
        error.into_downcast().unwrap_or(Self::Unreadable)
    }
}

#[derive(Debug)]
struct NoToken;

#[async_trait]
impl TokenCredential for NoToken {
    async fn get_token(&self, _scopes: &[&str]) -> azure_core_legacy::Result<AccessToken> {
        Ok(AccessToken::new("", OffsetDateTime::now_utc() + Duration::hours(1)))
    }

    async fn clear_cache(&self) -> azure_core_legacy::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Transport(Arc<Pipeline>);

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core_legacy::Result<Response> {
        let answer = match translated(request) {
            Ok((method, headers, body)) => self.0.exchange(method, request.url().clone(), headers, body).await,
            Err(failure) => Err(failure),
        };
        let answer = answer.map_err(|failure| Error::new(ErrorKind::Other, failure))?;
        let status =
            StatusCode::try_from(answer.status).map_err(|_| Error::new(ErrorKind::Other, Failure::Unreadable))?;
        let mut headers = Headers::new();
        for name in answer.headers.keys() {
            let values = answer.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            headers.insert(name.as_str().to_owned(), values.collect::<Vec<_>>().join(", "));
        }
        Ok(Response::new(status, headers, Box::pin(BytesStream::new(answer.body))))
    }
}

type Translated = (Method, HeaderMap, Option<bytes::Bytes>);

fn translated(request: &Request) -> Result<Translated, Failure> {
    let method = Method::from_bytes(request.method().as_ref().as_bytes());
    let method = method.map_err(|_| Failure::Unmade("an unknown method"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers().iter() {
        if let Some(kept) = KEPT.into_iter().find(|kept| *kept == name.as_str()) {
            let value = HeaderValue::from_str(value.as_str());
            headers.insert(kept, value.map_err(|_| Failure::Unmade("a header has what none has"))?);
        }
    }
    let body = match request.body() {
        Body::Bytes(bytes) => Some(bytes.clone()).filter(|bytes| !bytes.is_empty()),
        Body::SeekableStream(_) => return Err(Failure::Unmade("its content is a stream")),
    };
    Ok((method, headers, body))
}
