//! Credentials that nobody checks, with a token that nobody may tell.

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap, HeaderValue};

/// What requests are authorised with. Whoever finds it in a text has found a leak.
pub(crate) const TOKEN: &str = "hunter2-access-token";

#[derive(Debug)]
struct Fixed;

impl CredentialsProvider for Fixed {
    async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let value = HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap();
        let data = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        Ok(CacheableResource::New { entity_tag: EntityTag::default(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

pub(crate) fn credentials() -> Credentials {
    Credentials::from(Fixed)
}
