//! Settings from environment variables.

use std::env::VarError;
use std::time::Duration;

use immutable_core::model::RouteId;

use super::{Config, ConfigBuilder, ConfigError, Fleets};
use crate::Clients;

impl Config {
    /// Settings from environment variables; credentials, region and endpoint by the SDK's own
    /// [chain](https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html), such as `AWS_PROFILE` and `AWS_REGION`.
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `IMMUTABLE_AWS_SUBNETS` | [`subnets`](ConfigBuilder::subnets), with commas between them |
    /// | `IMMUTABLE_AWS_SECURITY_GROUPS` | [`security_groups`](ConfigBuilder::security_groups), with commas |
    /// | `IMMUTABLE_AWS_INSTANCE_TYPES` | [`instance_types`](ConfigBuilder::instance_types), with commas |
    /// | `IMMUTABLE_AWS_INSTANCE_PROFILE` | [`instance_profile`](ConfigBuilder::instance_profile); optional |
    /// | `IMMUTABLE_AWS_ROUTES` | [`routes`](ConfigBuilder::routes), ARNs with commas; optional |
    /// | `IMMUTABLE_AWS_PORT` | [`port`](ConfigBuilder::port); optional |
    /// | `IMMUTABLE_AWS_HEALTH_PATH` | [`health_path`](ConfigBuilder::health_path); optional |
    /// | `IMMUTABLE_AWS_MAX_FLEET_SIZE` | [`max_fleet_size`](ConfigBuilder::max_fleet_size); optional |
    /// | `IMMUTABLE_AWS_LIST_LAG_SECONDS` | [`list_lag`](ConfigBuilder::list_lag); optional |
    /// | `IMMUTABLE_AWS_FLEETS` | [`fleets`](ConfigBuilder::fleets): `auto-scaling` or `instances`; optional |
    ///
    /// # Errors
    /// [`ConfigError`] names the first variable, or the setting, that cannot work.
    pub async fn from_env() -> Result<Self, ConfigError> {
        read(Self::builder(Clients::from_env().await), |name| std::env::var(name))?.build()
    }
}

/// Reads the settings from variables, wherever these come from.
fn read(
    mut builder: ConfigBuilder,
    variable: impl Fn(&str) -> Result<String, VarError>,
) -> Result<ConfigBuilder, ConfigError> {
    let text = |name: &'static str| match variable(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(ConfigError::new(name, "is not valid UTF-8")),
    };
    let list = |name| -> Result<Vec<String>, ConfigError> {
        let items = text(name)?.unwrap_or_default();
        Ok(items.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
    };
    builder = builder
        .subnets(list("IMMUTABLE_AWS_SUBNETS")?)
        .security_groups(list("IMMUTABLE_AWS_SECURITY_GROUPS")?)
        .instance_types(list("IMMUTABLE_AWS_INSTANCE_TYPES")?)
        .routes(routes("IMMUTABLE_AWS_ROUTES", &list("IMMUTABLE_AWS_ROUTES")?)?);
    if let Some(profile) = text("IMMUTABLE_AWS_INSTANCE_PROFILE")? {
        builder = builder.instance_profile(profile);
    }
    if let Some(port) = number("IMMUTABLE_AWS_PORT", text("IMMUTABLE_AWS_PORT")?)? {
        builder = builder.port(port);
    }
    if let Some(path) = text("IMMUTABLE_AWS_HEALTH_PATH")? {
        builder = builder.health_path(path);
    }
    if let Some(size) = number("IMMUTABLE_AWS_MAX_FLEET_SIZE", text("IMMUTABLE_AWS_MAX_FLEET_SIZE")?)? {
        builder = builder.max_fleet_size(size);
    }
    if let Some(seconds) = number("IMMUTABLE_AWS_LIST_LAG_SECONDS", text("IMMUTABLE_AWS_LIST_LAG_SECONDS")?)? {
        builder = builder.list_lag(Duration::from_secs(seconds));
    }
    match text("IMMUTABLE_AWS_FLEETS")?.as_deref() {
        None | Some("auto-scaling") => Ok(builder),
        Some("instances") => Ok(builder.fleets(Fleets::Instances)),
        Some(_) => Err(ConfigError::new("IMMUTABLE_AWS_FLEETS", "must be auto-scaling or instances")),
    }
}

fn routes(name: &'static str, arns: &[String]) -> Result<Vec<RouteId>, ConfigError> {
    let route = |arn: &String| RouteId::new(arn).map_err(|error| ConfigError::new(name, error.to_string()));
    arns.iter().map(route).collect()
}

fn number<N: std::str::FromStr>(name: &'static str, text: Option<String>) -> Result<Option<N>, ConfigError> {
    let parsed =
        text.map(|text| text.parse().map_err(|_| ConfigError::new(name, format!("{text:?} is no such number"))));
    parsed.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::builder;

    fn read_from(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let found = |name: &str| {
            let variable = variables.iter().find(|(known, _)| *known == name);
            variable.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        };
        read(builder(), found)?.build()
    }

    const LEAST: [(&str, &str); 3] = [
        ("IMMUTABLE_AWS_SUBNETS", "subnet-1, subnet-2"),
        ("IMMUTABLE_AWS_SECURITY_GROUPS", "sg-1"),
        ("IMMUTABLE_AWS_INSTANCE_TYPES", "m7i.large"),
    ];

    #[test]
    fn variables_become_settings() {
        let config = read_from(&LEAST).unwrap();
        assert_eq!(config.launch.subnets, ["subnet-1", "subnet-2"]);
        assert_eq!((config.port, config.fleets, config.list_lag), (80, Fleets::AutoScaling, Duration::from_secs(10)));

        let more = [
            ("IMMUTABLE_AWS_ROUTES", "arn:1,arn:2"),
            ("IMMUTABLE_AWS_PORT", "8080"),
            ("IMMUTABLE_AWS_HEALTH_PATH", "/health"),
            ("IMMUTABLE_AWS_MAX_FLEET_SIZE", "40"),
            ("IMMUTABLE_AWS_LIST_LAG_SECONDS", "3"),
            ("IMMUTABLE_AWS_FLEETS", "instances"),
            ("IMMUTABLE_AWS_INSTANCE_PROFILE", ""),
        ];
        let config = read_from(&[&LEAST[..], &more].concat()).unwrap();
        let routes: Vec<&str> = config.routes.iter().map(RouteId::as_str).collect();
        assert_eq!(routes, ["arn:1", "arn:2"]);
        assert_eq!((config.port, config.health_path.as_deref()), (8080, Some("/health")));
        assert_eq!((config.max_fleet_size, config.list_lag), (40, Duration::from_secs(3)));
        assert_eq!((config.fleets, config.launch.instance_profile.as_deref()), (Fleets::Instances, Some("web")));
    }

    #[test]
    fn a_variable_that_cannot_work_is_named() {
        let check = |name, value, problem: &str| {
            let error = read_from(&[&LEAST[..], &[(name, value)]].concat()).unwrap_err();
            assert_eq!(error.to_string(), problem);
        };
        check("IMMUTABLE_AWS_PORT", "http", "IMMUTABLE_AWS_PORT: \"http\" is no such number");
        check("IMMUTABLE_AWS_PORT", "65536", "IMMUTABLE_AWS_PORT: \"65536\" is no such number");
        check("IMMUTABLE_AWS_FLEETS", "spot", "IMMUTABLE_AWS_FLEETS: must be auto-scaling or instances");
        assert_eq!(read_from(&[]).unwrap_err().field(), "subnets");
    }
}
