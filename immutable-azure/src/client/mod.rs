//! The connection to Azure Resource Manager. Every request goes through one pipeline, whoever makes it.
//!
//! # Flow
//! Changes of scale sets and machines that the crate for Compute can say are made by it and [sent](Answer::of), never awaited: its futures would send a change again
//! and again while they wait for it. All other requests are [made here](Request). Both go to the same [pipeline](pipeline::Pipeline).
//!
//! # Guarantees
//! * **One attempt.** A request is sent once, or not at all. A new connection takes the place of an idle one that has ended before anything was
//!   written to it; nothing else is tried again. No redirect is followed.
//! * **One host.** Lists and operations name where to look next. A token goes only to the endpoint and to its parts in regions.
//! * **No secrets.** No token, no content of a message and no signature of a link is in a `Debug` or an error.
//!
//! # Assumptions
//! Credentials remember their tokens or are quick. That of a machine's managed identity tries again by itself for up to 72 seconds, whatever it is
//! told, when the machine gives no token; asking for a token changes nothing.

mod credentials;
mod legacy;
mod message;
mod pipeline;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_mgmt_compute::package_2024_07_01 as compute;
use reqwest::Url;

pub(crate) use message::{Answer, Failure, Request};

use crate::ConfigError;
use pipeline::Pipeline;

/// Azure Resource Manager of the public cloud.
const ENDPOINT: &str = "https://management.azure.com";

/// How Azure Resource Manager is reached, and with which credentials. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    pipeline: Arc<Pipeline>,
    compute: compute::Client,
}

impl Clients {
    /// Clients with the credentials that the environment names, by the variables that the SDKs of Azure share:
    ///
    /// | variables | credentials |
    /// |---|---|
    /// | `AZURE_TOKEN_CREDENTIALS=dev` | of who has signed in with `az login` or `azd auth login` |
    /// | `AZURE_FEDERATED_TOKEN_FILE`, `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` | a workload identity |
    /// | `AZURE_CLIENT_SECRET`, `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` | a service principal with a secret |
    /// | `AZURE_CLIENT_ID` | this managed identity of the machine |
    /// | none of these | the machine's own managed identity |
    ///
    /// # Errors
    /// [`ConfigError`] names what is missing.
    pub fn from_env() -> Result<Self, ConfigError> {
        let http = pipeline::http_client(&endpoint(ENDPOINT)?, pipeline::ANSWER_WITHIN)?;
        Self::new(credentials::from_env(http)?, None)
    }

    /// Clients with these credentials. With an endpoint, such as `https://management.usgovcloudapi.net` or a fake at `http://127.0.0.1:8080`, they
    /// talk to that and not to Azure's public cloud.
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint is no URL, or would see the token without encryption.
    pub fn new(credential: Arc<dyn TokenCredential>, endpoint: Option<&str>) -> Result<Self, ConfigError> {
        let endpoint = self::endpoint(endpoint.unwrap_or(ENDPOINT))?;
        let pipeline = Arc::new(Pipeline::new(credential, endpoint)?);
        Ok(Self { compute: legacy::compute(&pipeline)?, pipeline })
    }

    /// Requests about machines and images. To be sent, and the answer read with [`Answer::of`].
    pub(crate) fn compute(&self) -> &compute::Client {
        &self.compute
    }

    /// Sends a request once and waits for its answer.
    ///
    /// # Errors
    /// Every answer but 2xx is a failure.
    ///
    /// # Cancellation
    /// A request that is dropped may have been sent, and may have an effect.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, Failure> {
        self.pipeline.send(request).await
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("pipeline", &self.pipeline).finish_non_exhaustive()
    }
}

/// An endpoint that a token can be sent to: over TLS, or on this machine.
fn endpoint(text: &str) -> Result<Url, ConfigError> {
    let wrong = |problem| ConfigError::new("endpoint", problem);
    let url = Url::parse(text).map_err(|_| wrong("must be a URL, such as \"https://management.azure.com\""))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
        return Err(wrong("must begin with \"https://\": without encryption others would see the token"));
    }
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must be only a scheme, a host and perhaps a port"));
    }
    Ok(url)
}
