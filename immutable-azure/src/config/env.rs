//! A configuration from the environment.

use std::env::VarError;

use immutable_core::model::RouteId;

use super::{Config, ConfigBuilder, ConfigError, Orchestration};
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
    /// | `IMMUTABLE_AZURE_ORCHESTRATION` | [`orchestration`](ConfigBuilder::orchestration), `flexible` or `uniform`; optional |
    /// | `IMMUTABLE_AZURE_IDENTITY` | [`identity`](ConfigBuilder::identity); optional |
    /// | `IMMUTABLE_AZURE_SECURITY_GROUP` | [`security_group`](ConfigBuilder::security_group); optional |
    /// | `IMMUTABLE_AZURE_SSH_PUBLIC_KEY` | [`ssh_public_key`](ConfigBuilder::ssh_public_key); optional |
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

const ORCHESTRATION: &str = "IMMUTABLE_AZURE_ORCHESTRATION";

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
    let builder = Config::builder(clients, subscription, group, needed("IMMUTABLE_AZURE_LOCATION")?)
        .vm_size(needed("IMMUTABLE_AZURE_VM_SIZE")?)
        .subnet(needed("IMMUTABLE_AZURE_SUBNET")?)
        .zones(list("IMMUTABLE_AZURE_ZONES")?)
        .routes(routes("IMMUTABLE_AZURE_ROUTES", &list("IMMUTABLE_AZURE_ROUTES")?)?);
    let mut builder = optional_texts(builder, text)?;
    if let Some(orchestration) = text(ORCHESTRATION)? {
        builder = builder.orchestration(self::orchestration(&orchestration)?);
    }
    match text("IMMUTABLE_AZURE_PORT")? {
        Some(port) => {
            let wrong = |_| ConfigError::new("IMMUTABLE_AZURE_PORT", format!("{port:?} is no port"));
            Ok(builder.port(port.parse().map_err(wrong)?))
        }
        None => Ok(builder),
    }
}

type Set = fn(ConfigBuilder, String) -> ConfigBuilder;

/// The settings that are texts, as far as their variables are set.
fn optional_texts(
    mut builder: ConfigBuilder,
    text: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<ConfigBuilder, ConfigError> {
    let settings: [(&'static str, Set); 5] = [
        ("IMMUTABLE_AZURE_IDENTITY", ConfigBuilder::identity),
        ("IMMUTABLE_AZURE_SECURITY_GROUP", ConfigBuilder::security_group),
        ("IMMUTABLE_AZURE_SSH_PUBLIC_KEY", ConfigBuilder::ssh_public_key),
        ("IMMUTABLE_AZURE_GALLERY", |builder, gallery| builder.images(ImageSettings::new(gallery))),
        ("IMMUTABLE_AZURE_HEALTH_PATH", ConfigBuilder::health_path),
    ];
    for (name, set) in settings {
        if let Some(value) = text(name)? {
            builder = set(builder, value);
        }
    }
    Ok(builder)
}

fn orchestration(text: &str) -> Result<Orchestration, ConfigError> {
    match text {
        "flexible" => Ok(Orchestration::Flexible),
        "uniform" => Ok(Orchestration::Uniform),
        _ => Err(ConfigError::new(ORCHESTRATION, format!("{text:?} is neither \"flexible\" nor \"uniform\""))),
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
    const SECURITY_GROUP: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/net/providers/Microsoft.Network/networkSecurityGroups/web";
    const GALLERY: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/images/providers/Microsoft.Compute/galleries/golden";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA deployer";
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
        assert_eq!(config.launch.orchestration, Orchestration::Flexible);
        assert!(config.images.is_none() && config.launch.identity.is_none());
        let flexible = read_from(&[&LEAST[..], &[("IMMUTABLE_AZURE_ORCHESTRATION", "flexible")]].concat());
        assert_eq!(flexible.unwrap().launch.orchestration, Orchestration::Flexible);
        let more = [
            ("IMMUTABLE_AZURE_ZONES", "1, 2"),
            ("IMMUTABLE_AZURE_IDENTITY", IDENTITY),
            ("IMMUTABLE_AZURE_ORCHESTRATION", "uniform"),
            ("IMMUTABLE_AZURE_SECURITY_GROUP", SECURITY_GROUP),
            ("IMMUTABLE_AZURE_SSH_PUBLIC_KEY", KEY),
            ("IMMUTABLE_AZURE_GALLERY", GALLERY),
            ("IMMUTABLE_AZURE_ROUTES", ROUTES),
            ("IMMUTABLE_AZURE_PORT", "8080"),
            ("IMMUTABLE_AZURE_HEALTH_PATH", "/health"),
        ];
        let config = read_from(&[&LEAST[..], &more].concat()).unwrap();
        assert_eq!((config.launch.zones, config.port), (vec!["1".to_owned(), "2".to_owned()], 8080));
        assert_eq!(config.launch.identity.as_deref(), Some(IDENTITY));
        assert_eq!(config.launch.orchestration, Orchestration::Uniform);
        assert_eq!(config.launch.security_group.as_deref(), Some(SECURITY_GROUP));
        assert_eq!(config.launch.ssh_public_key.as_deref(), Some(KEY));
        assert_eq!(config.images.map(|images| images.gallery).as_deref(), Some(GALLERY));
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
        let neither = "IMMUTABLE_AZURE_ORCHESTRATION: \"Both\" is neither \"flexible\" nor \"uniform\"";
        assert_eq!(with("IMMUTABLE_AZURE_ORCHESTRATION", "Both"), neither);
        assert!(with("IMMUTABLE_AZURE_GALLERY", "golden").starts_with("images.gallery: "));
        assert_eq!(with("IMMUTABLE_AZURE_LOCATION", ""), "IMMUTABLE_AZURE_LOCATION: is not set");
        assert_eq!(with("IMMUTABLE_AZURE_ZONES", "a"), "zones: a zone is a number, such as \"1\"");
    }
}
