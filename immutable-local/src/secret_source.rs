//! Where secrets come from when an instance is launched.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use immutable_core::model::SecretRef;
use immutable_core::provider::{ErrorKind, ProviderError};

/// The value of a secret. `Debug` never prints it.
///
/// ```
/// let secret = immutable_local::Secret::new("hunter2");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert_eq!(secret.expose(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret with a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that hands it to an instance.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Resolves references to secrets, as late as can be: when an instance is launched.
///
/// # Contract
/// No secret is in an error, a log line or a `Debug`. A call is one bounded attempt.
///
/// # Cancellation
/// Dropping the future leaves nothing behind.
#[async_trait]
pub trait SecretSource: fmt::Debug + Send + Sync + 'static {
    /// The secret that a reference stands for.
    ///
    /// # Errors
    /// `NotFound` when there is none; kinds of [`ErrorKind`] otherwise. The error names the reference, never a value.
    async fn resolve(&self, reference: &SecretRef) -> Result<Secret, ProviderError>;
}

/// Secrets from the environment of this process; a reference is the name of a variable.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EnvironmentSecrets {}

impl EnvironmentSecrets {
    /// Secrets from the environment of this process.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl SecretSource for EnvironmentSecrets {
    async fn resolve(&self, reference: &SecretRef) -> Result<Secret, ProviderError> {
        // A name with `=` cannot be a variable; asking for one may panic on some platforms.
        let name = Some(reference.as_str()).filter(|name| !name.contains('='));
        let value = name.and_then(|name| std::env::var(name).ok());
        value.map(Secret::new).ok_or_else(|| absent(reference, "set an environment variable of this name (UTF-8)"))
    }
}

/// Secrets from memory: for tests, and for those who fetch them on their own.
#[derive(Debug, Clone, Default)]
pub struct MapSecrets(BTreeMap<SecretRef, Secret>);

impl MapSecrets {
    /// Secrets by their references.
    pub fn new(secrets: impl IntoIterator<Item = (SecretRef, Secret)>) -> Self {
        Self(secrets.into_iter().collect())
    }
}

#[async_trait]
impl SecretSource for MapSecrets {
    async fn resolve(&self, reference: &SecretRef) -> Result<Secret, ProviderError> {
        self.0.get(reference).cloned().ok_or_else(|| absent(reference, "give it to the secret source"))
    }
}

fn absent(reference: &SecretRef, remedy: &str) -> ProviderError {
    let message = format!("there is no secret {reference}: {remedy}");
    ProviderError::new(ErrorKind::NotFound, "resolve secret", message).without_effect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_never_printed() {
        let reference = SecretRef::new("db/password").unwrap();
        let source = MapSecrets::new([(reference.clone(), Secret::new("hunter2"))]);
        assert!(!format!("{source:?}").contains("hunter2"));
        assert_eq!(source.resolve(&reference).await.unwrap().expose(), "hunter2");
    }

    #[tokio::test]
    async fn a_secret_that_is_not_there_is_named() {
        let reference = SecretRef::new("IMMUTABLE_NO_SUCH_SECRET").unwrap();
        let expected = "not found in resolve secret: there is no secret IMMUTABLE_NO_SUCH_SECRET: \
                        set an environment variable of this name (UTF-8)";
        assert_eq!(EnvironmentSecrets::new().resolve(&reference).await.unwrap_err().to_string(), expected);
        assert!(EnvironmentSecrets::new().resolve(&SecretRef::new("a=b").unwrap()).await.is_err());
        assert!(EnvironmentSecrets::new().resolve(&SecretRef::new("PATH").unwrap()).await.is_ok());
    }
}
