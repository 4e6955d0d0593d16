//! A credential that nobody checks, with a token that nobody may tell.

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration, OffsetDateTime};

/// What requests are authorised with. Whoever finds it in a text has found a leak.
pub(crate) const TOKEN: &str = "hunter2-access-token";

#[derive(Debug)]
pub(crate) struct Fixed;

#[async_trait::async_trait]
impl TokenCredential for Fixed {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(TOKEN, OffsetDateTime::now_utc() + Duration::hours(1)))
    }
}
