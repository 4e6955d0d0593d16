//! A configuration from the environment.

use std::env::VarError;

use immutable_core::model::RouteId;

use super::{Config, ConfigBuilder, ConfigError};
use crate::Clients;
use crate::image_builder::ImageSettings;

impl Config {
    /// A configuration from variables of the environment, with [the credentials that it names](Clients::from_env).
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `IMMUTABLE_AZURE_SUBSCRIPTION` | the id of the subscription |
    /// | `IMMUTABLE_AZURE_RESOURCE_GROUP` | the resource group |
    /// | `IMMUTABLE_AZURE_LOCATION` | the location |
    /// | `IMMUTABLE_AZURE_VM_SIZE` | [`vm_size`](ConfigBuilder::vm_size) |
    /// | `IMMUTABLE_AZURE_SUBNET` | [`subnet`](ConfigBuilder::subnet) |
    /// | `IMMUTABLE_AZURE_ZONES` | [`zones`](ConfigBuilder::zones), with commas; optional |
    /// | `IMMUTABLE_AZURE_IDENTITY` | [`identity`](ConfigBuilder::identity); optional |
    /// | `IMMUTABLE_AZURE_ROUTES` | [`routes`](ConfigBuilder::routes), with commas; optional |
    /// | `IMMUTABLE_AZURE_GALLERY` | the gallery of [`images`](ConfigBuilder::images); optional |
    /// | `IMMUTABLE_AZURE_PORT` | [`port`](ConfigBuilder::port); optional |
    /// | `IMMUTABLE_AZURE_HEALTH_PATH` | [`health_path`](ConfigBuilder::health_path); optional |
    ///
    /// # Errors
    /// [`ConfigError`] names the first variable, or the setting, that cannot work.
    pub fn from_env() -> Result<Self, ConfigError> {
        read(Clients::from_env()?, |name| std::env::var(name))?.build()
    }
}

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
    let (subscription, group) = (needed("IMMUTABLE_AZURE_SUBSCRIPTION")?, needed("IMMUTABLE_AZURE_RESOURCE_GROUP")?);
    let mut builder = Config::builder(clients, subscription, group, needed("IMMUTABLE_AZURE_LOCATION")?)
        .vm_size(needed("IMMUTABLE_AZURE_VM_SIZE")?)
        .subnet(needed("IMMUTABLE_AZURE_SUBNET")?)
        .zones(list("IMMUTABLE_AZURE_ZONES")?)
        .routes(routes("IMMUTABLE_AZURE_ROUTES", &list("IMMUTABLE_AZURE_ROUTES")?)?);
    if let Some(identity) = text("IMMUTABLE_AZURE_IDENTITY")? {
        builder = builder.identity(identity);
    }
    if let Some(gallery) = text("IMMUTABLE_AZURE_GALLERY")? {
        builder = builder.images(ImageSettings::new(gallery));
    }
    if let Some(port) = text("IMMUTABLE_AZURE_PORT")? {
        let wrong = |_| ConfigError::new("IMMUTABLE_AZURE_PORT", format!("{port:?} is no port"));
        builder = builder.port(port.parse().map_err(wrong)?);
    }
    match text("IMMUTABLE_AZURE_HEALTH_PATH")? {
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
    use std::sync::Arc;

    use super::*;
    use crate::testing::Known;

    const SUBNET: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/web/subnets/default";
    const IDENTITY: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web";
    const ROUTES: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/g/providers/Microsoft.Network/loadBalancers/a, /subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/g/providers/Microsoft.Network/loadBalancers/b";

    const LEAST: [(&str, &str); 5] = [
        ("IMMUTABLE_AZURE_SUBSCRIPTION", "01234567-89ab-cdef-0123-456789abcdef"),
        ("IMMUTABLE_AZURE_RESOURCE_GROUP", "web-production"),
        ("IMMUTABLE_AZURE_LOCATION", "westeurope"),
        ("IMMUTABLE_AZURE_VM_SIZE", "Standard_D2s_v5"),
        ("IMMUTABLE_AZURE_SUBNET", SUBNET),
    ];

    fn read_from(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let found = |name: &str| {
            let variable = variables.iter().rev().find(|(known, _)| *known == name);
            variable.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        };
        let clients = Clients::new(Arc::new(Known::default()), Some("http://127.0.0.1:9")).unwrap();
        read(clients, found)?.build()
    }

    #[test]
    fn variables_become_settings() {
        let config = read_from(&LEAST).unwrap();
        assert_eq!((config.launch.location.as_str(), config.port), ("westeurope", 80));
        assert_eq!((config.launch.zones.len(), config.routes.len()), (0, 0));
        let more = [
            ("IMMUTABLE_AZURE_ZONES", "1, 2"),
            ("IMMUTABLE_AZURE_IDENTITY", IDENTITY),
            ("IMMUTABLE_AZURE_ROUTES", ROUTES),
            ("IMMUTABLE_AZURE_PORT", "8080"),
            ("IMMUTABLE_AZURE_HEALTH_PATH", "/health"),
        ];
        let config = read_from(&[&LEAST[..], &more].concat()).unwrap();
        assert_eq!((config.launch.zones, config.port), (vec!["1".to_owned(), "2".to_owned()], 8080));
        assert_eq!(config.launch.identity.as_deref(), Some(IDENTITY));
        assert_eq!(config.routes.len(), 2);
        assert_eq!(config.health_path.as_deref(), Some("/health"));
    }

    #[test]
    fn a_variable_that_cannot_work_is_named() {
        for (name, _) in LEAST {
            let without: Vec<_> = LEAST.into_iter().filter(|(other, _)| *other != name).collect();
            assert_eq!(read_from(&without).unwrap_err().to_string(), format!("{name}: is not set"));
        }
        let with = |name, value| read_from(&[&LEAST[..], &[(name, value)]].concat()).unwrap_err().to_string();
        assert_eq!(with("IMMUTABLE_AZURE_PORT", "http"), "IMMUTABLE_AZURE_PORT: \"http\" is no port");
        assert_eq!(with("IMMUTABLE_AZURE_LOCATION", ""), "IMMUTABLE_AZURE_LOCATION: is not set");
        assert_eq!(with("IMMUTABLE_AZURE_ZONES", "a"), "zones: a zone is a number, such as \"1\"");
    }
}
