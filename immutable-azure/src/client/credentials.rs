//! Credentials from the environment.
//!
//! What is set decides which they are, never what happens to work: a controller whose own identity is late must not act as somebody else.

use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};

use crate::ConfigError;

type Credential = Arc<dyn TokenCredential>;

const SELECTION: &str = "AZURE_TOKEN_CREDENTIALS";

/// Which credentials the environment names.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Workload,
    Secret { tenant: String, client: String, secret: Secret },
    Developer,
    Managed(Option<String>),
}

/// The credentials that the environment names, without retries where the SDK leaves the choice.
pub(super) fn from_env(http: reqwest::Client) -> Result<Credential, ConfigError> {
    let retry = RetryOptions::none();
    let client_options =
        ClientOptions { retry, transport: Some(Transport::new(Arc::new(http))), ..ClientOptions::default() };
    let source = source(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))?;
    let credential: azure_core::Result<Credential> = match source {
        Source::Workload => {
            let credential_options = ClientAssertionCredentialOptions { client_options };
            let options = WorkloadIdentityCredentialOptions { credential_options, ..Default::default() };
            WorkloadIdentityCredential::new(Some(options)).map(|credential| credential as Credential)
        }
        Source::Secret { tenant, client, secret } => {
            let options = ClientSecretCredentialOptions { client_options };
            ClientSecretCredential::new(&tenant, client, secret, Some(options))
                .map(|credential| credential as Credential)
        }
        Source::Developer => DeveloperToolsCredential::new(None).map(|credential| credential as Credential),
        Source::Managed(client) => {
            let user_assigned_id = client.map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            ManagedIdentityCredential::new(Some(options)).map(|credential| credential as Credential)
        }
    };
    credential.map_err(|error| ConfigError::new("credentials", error.to_string()))
}

fn source(variable: impl Fn(&str) -> Option<String>) -> Result<Source, ConfigError> {
    match variable(SELECTION).as_deref() {
        Some("dev") => return Ok(Source::Developer),
        None | Some("prod") => {}
        Some(_) => return Err(ConfigError::new(SELECTION, "must be \"dev\", \"prod\" or nothing")),
    }
    if variable("AZURE_FEDERATED_TOKEN_FILE").is_some() {
        return Ok(Source::Workload);
    }
    let client = variable("AZURE_CLIENT_ID");
    let Some(secret) = variable("AZURE_CLIENT_SECRET").map(Secret::new) else { return Ok(Source::Managed(client)) };
    let needed = |name: &'static str| variable(name).ok_or_else(|| ConfigError::new(name, "is not set"));
    Ok(Source::Secret { tenant: needed("AZURE_TENANT_ID")?, client: needed("AZURE_CLIENT_ID")?, secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Source, String> {
        let found =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        source(found).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_names_one_kind_of_credentials() {
        let (tenant, client) = (("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"));
        let (secret, file) = (("AZURE_CLIENT_SECRET", "s"), ("AZURE_FEDERATED_TOKEN_FILE", "f"));
        let with_secret = || Source::Secret { tenant: "t".into(), client: "c".into(), secret: Secret::new("s") };
        assert_eq!(of(&[]), Ok(Source::Managed(None)));
        assert_eq!(of(&[client]), Ok(Source::Managed(Some("c".into()))));
        assert_eq!(of(&[client, tenant, secret]), Ok(with_secret()));
        assert_eq!(of(&[client, tenant, secret, file]), Ok(Source::Workload));
        assert_eq!(of(&[(SELECTION, "dev"), client, tenant, secret]), Ok(Source::Developer));
        assert_eq!(of(&[(SELECTION, "prod"), client, tenant, secret]), Ok(with_secret()));
        assert_eq!(of(&[secret]), Err("AZURE_TENANT_ID: is not set".to_owned()));
        assert_eq!(of(&[tenant, secret]), Err("AZURE_CLIENT_ID: is not set".to_owned()));
        assert!(of(&[(SELECTION, "az")]).unwrap_err().starts_with("AZURE_TOKEN_CREDENTIALS: must be"));
        assert!(!format!("{:?}", of(&[client, tenant, ("AZURE_CLIENT_SECRET", "hunter2")])).contains("hunter2"));
    }
}
