//! A configuration from the environment.

use std::env::VarError;

use immutable_core::model::RouteId;

use super::{Config, ConfigBuilder, ConfigError, Location};
use crate::Clients;

impl Config {
    /// A configuration from variables of the environment, with Application Default Credentials.
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `IMMUTABLE_GCP_PROJECT` | the id of the project |
    /// | `IMMUTABLE_GCP_ZONES` | the zones, with commas between them: one for zonal groups, several of one region for regional ones |
    /// | `IMMUTABLE_GCP_MACHINE_TYPE` | the machine type |
    /// | `IMMUTABLE_GCP_NETWORK` | [`network`](ConfigBuilder::network); optional |
    /// | `IMMUTABLE_GCP_SUBNETWORK` | [`subnetwork`](ConfigBuilder::subnetwork); optional |
    /// | `IMMUTABLE_GCP_NETWORK_TAGS` | [`network_tags`](ConfigBuilder::network_tags), with commas; optional |
    /// | `IMMUTABLE_GCP_SERVICE_ACCOUNT` | [`service_account`](ConfigBuilder::service_account); optional |
    /// | `IMMUTABLE_GCP_ROUTES` | [`routes`](ConfigBuilder::routes), with commas; optional |
    /// | `IMMUTABLE_GCP_PORT` | [`port`](ConfigBuilder::port); optional |
    /// | `IMMUTABLE_GCP_HEALTH_PATH` | [`health_path`](ConfigBuilder::health_path); optional |
    ///
    /// # Errors
    /// [`ConfigError`] names the first variable, or the setting, that cannot work.
    pub async fn from_env() -> Result<Self, ConfigError> {
        read(Clients::from_env().await?, |name| std::env::var(name))?.build()
    }
}

const ZONES: &str = "IMMUTABLE_GCP_ZONES";

/// Reads the settings from variables, wherever these come from.
fn read(clients: Clients, variable: impl Fn(&str) -> Result<String, VarError>) -> Result<ConfigBuilder, ConfigError> {
    let text = |name: &'static str| match variable(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(ConfigError::new(name, "is not valid UTF-8")),
    };
    let needed = |name| text(name)?.ok_or_else(|| ConfigError::new(name, "is not set"));
    let list = |name| -> Result<Vec<String>, ConfigError> {
        let items = text(name)?.unwrap_or_default();
        Ok(items.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
    };
    needed(ZONES)?;
    let location = match list(ZONES)?.as_slice() {
        [zone] => Location::zone(zone),
        zones => {
            let region = zones.first().and_then(|zone| zone.rsplit_once('-')).map(|(region, _)| region);
            Location::region(region.ok_or_else(|| ConfigError::new(ZONES, "name zones such as europe-west3-a"))?, zones)
        }
    };
    let (project, machine) = (needed("IMMUTABLE_GCP_PROJECT")?, needed("IMMUTABLE_GCP_MACHINE_TYPE")?);
    let mut builder = Config::builder(clients, project, location, machine)
        .network_tags(list("IMMUTABLE_GCP_NETWORK_TAGS")?)
        .routes(routes("IMMUTABLE_GCP_ROUTES", &list("IMMUTABLE_GCP_ROUTES")?)?);
    if let Some(network) = text("IMMUTABLE_GCP_NETWORK")? {
        builder = builder.network(network);
    }
    if let Some(subnetwork) = text("IMMUTABLE_GCP_SUBNETWORK")? {
        builder = builder.subnetwork(subnetwork);
    }
    if let Some(email) = text("IMMUTABLE_GCP_SERVICE_ACCOUNT")? {
        builder = builder.service_account(email);
    }
    if let Some(port) = text("IMMUTABLE_GCP_PORT")? {
        let wrong = |_| ConfigError::new("IMMUTABLE_GCP_PORT", format!("{port:?} is no port"));
        builder = builder.port(port.parse().map_err(wrong)?);
    }
    match text("IMMUTABLE_GCP_HEALTH_PATH")? {
        Some(path) => Ok(builder.health_path(path)),
        None => Ok(builder),
    }
}

fn routes(name: &'static str, routes: &[String]) -> Result<Vec<RouteId>, ConfigError> {
    let route = |text: &String| RouteId::new(text).map_err(|error| ConfigError::new(name, error.to_string()));
    routes.iter().map(route).collect()
}

#[cfg(test)]
mod tests {
    use google_cloud_auth::credentials::anonymous;

    use super::*;

    async fn read_from(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let found = |name: &str| {
            let variable = variables.iter().rev().find(|(known, _)| *known == name);
            variable.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        };
        let clients = Clients::new(anonymous::Builder::new().build(), Some("http://127.0.0.1:9")).await.unwrap();
        read(clients, found)?.build()
    }

    const LEAST: [(&str, &str); 3] = [
        ("IMMUTABLE_GCP_PROJECT", "web-production"),
        ("IMMUTABLE_GCP_ZONES", "europe-west3-a, europe-west3-b"),
        ("IMMUTABLE_GCP_MACHINE_TYPE", "e2-small"),
    ];

    #[tokio::test]
    async fn variables_become_settings() {
        let config = read_from(&LEAST).await.unwrap();
        let location = Location::region("europe-west3", ["europe-west3-a", "europe-west3-b"]);
        assert_eq!((&config.launch.location, config.port), (&location, 80));
        let more = [
            ("IMMUTABLE_GCP_ZONES", "us-east1-b"),
            ("IMMUTABLE_GCP_NETWORK", "private"),
            ("IMMUTABLE_GCP_SUBNETWORK", "regions/us-east1/subnetworks/web"),
            ("IMMUTABLE_GCP_NETWORK_TAGS", "web,behind-balancer"),
            ("IMMUTABLE_GCP_SERVICE_ACCOUNT", "web@web-production.iam.gserviceaccount.com"),
            ("IMMUTABLE_GCP_ROUTES", "global/urlMaps/web,global/urlMaps/api"),
            ("IMMUTABLE_GCP_PORT", "8080"),
            ("IMMUTABLE_GCP_HEALTH_PATH", "/health"),
        ];
        let config = read_from(&[&LEAST[..], &more].concat()).await.unwrap();
        assert_eq!((config.launch.location, config.port), (Location::zone("us-east1-b"), 8080));
        assert_eq!(config.launch.network_tags, ["web", "behind-balancer"]);
        let routes: Vec<&str> = config.routes.iter().map(RouteId::as_str).collect();
        assert_eq!(routes, ["global/urlMaps/web", "global/urlMaps/api"]);
        assert_eq!(config.health_path.as_deref(), Some("/health"));
    }

    #[tokio::test]
    async fn a_variable_that_cannot_work_is_named() {
        assert_eq!(read_from(&[]).await.unwrap_err().to_string(), "IMMUTABLE_GCP_ZONES: is not set");
        let with =
            async |name, value| read_from(&[&LEAST[..], &[(name, value)]].concat()).await.unwrap_err().to_string();
        assert_eq!(with("IMMUTABLE_GCP_PORT", "http").await, "IMMUTABLE_GCP_PORT: \"http\" is no port");
        assert_eq!(with("IMMUTABLE_GCP_PROJECT", "").await, "IMMUTABLE_GCP_PROJECT: is not set");
        assert_eq!(with("IMMUTABLE_GCP_ZONES", "a,b").await, "IMMUTABLE_GCP_ZONES: name zones such as europe-west3-a");
    }
}
