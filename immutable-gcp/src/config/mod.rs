//! What the provider has to know beside the release: where instances run, and how they are reached.

mod env;

use std::sync::Arc;
use std::time::Duration;

use google_cloud_compute_v1::model::Tags;
use immutable_core::health::HttpProbe;
use immutable_core::model::{Fingerprint, LabelKey, RouteId};
use serde::Serialize;

use crate::Clients;
use crate::image_builder::ImageSettings;
use crate::on_route::OnRoute;
use crate::traffic_switch::Turns;

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    field: &'static str,
    problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// The setting.
    pub fn field(&self) -> &str {
        self.field
    }
}

/// Where instances run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Location {
    /// In several zones of a region: a regional group, which goes on when a zone fails.
    Region {
        /// The region, such as `europe-west3`.
        region: String,
        /// The zones, such as `europe-west3-a`. At least one.
        zones: Vec<String>,
    },
    /// In one zone.
    Zone(String),
}

impl Location {
    /// Several zones of a region.
    pub fn region(region: impl Into<String>, zones: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Region { region: region.into(), zones: zones.into_iter().map(Into::into).collect() }
    }

    /// One zone.
    pub fn zone(zone: impl Into<String>) -> Self {
        Self::Zone(zone.into())
    }

    /// The region that instances are in.
    pub(crate) fn region_name(&self) -> &str {
        match self {
            Self::Region { region, .. } => region,
            Self::Zone(zone) => zone.rsplit_once('-').map_or(zone, |(region, _)| region),
        }
    }

    /// The zones that instances can be in.
    pub(crate) fn zones(&self) -> &[String] {
        match self {
            Self::Region { zones, .. } => zones,
            Self::Zone(zone) => std::slice::from_ref(zone),
        }
    }
}

/// The repair of instances that the group finds unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Autohealing {
    pub(crate) health_check: String,
    pub(crate) initial_delay: Duration,
}

/// What is usually not wanted on an instance that is never changed, each asked for by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Exceptions {
    pub(crate) external_address: bool,
    pub(crate) project_ssh_keys: bool,
    pub(crate) unverified_boot: bool,
}

/// What the provider has to know. Checked as it is built; cheap to clone.
///
/// All that makes an instance what it is, beside its release, is in here: its type, its network, its service account. It is written into the
/// fleet as the fleet is made and never changes in it. So a fleet that exists is not grown under other settings. Give the
/// release the label of the settings ([`launch_label`](Self::launch_label)): then other settings are another release, and its group
/// goes on growing as it was made when a rollout goes back to it. A fleet that is gone is made with the settings of today.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) clients: Clients,
    pub(crate) project: String,
    pub(crate) launch: Launch,
    pub(crate) port: u16,
    pub(crate) health_path: Option<String>,
    pub(crate) routes: Vec<RouteId>,
    pub(crate) max_fleet_size: u32,
    pub(crate) list_lag: Duration,
    pub(crate) metric_lag: Duration,
    pub(crate) weight_lag: Duration,
    pub(crate) turns: Arc<Turns>,
    pub(crate) images: ImageSettings,
}

/// What instances are launched with, beside their release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Launch {
    pub(crate) location: Location,
    pub(crate) machine_type: String,
    pub(crate) network: Option<String>,
    pub(crate) subnetwork: Option<String>,
    pub(crate) network_tags: Vec<String>,
    pub(crate) service_account: Option<String>,
    pub(crate) disk_gb: Option<u32>,
    pub(crate) disk_type: Option<String>,
    pub(crate) disk_key: Option<String>,
    pub(crate) named_ports: Vec<(String, u16)>,
    pub(crate) autohealing: Option<Autohealing>,
    pub(crate) exceptions: Exceptions,
}

impl Launch {
    /// The same for the same settings: a fleet is bound to it.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(serde_json::to_vec(self).expect("invariant: plain data always serialises"))
    }

    /// The URL of the network, from the project or from `global/` on.
    pub(crate) fn network(&self) -> String {
        let name = self.network.as_deref().unwrap_or("default");
        if name.contains('/') { name.to_owned() } else { format!("global/networks/{name}") }
    }

    /// The network tags as machines have them. None at all is not the same as an empty list: that would need a permission.
    pub(crate) fn tags(&self) -> Option<Tags> {
        (!self.network_tags.is_empty()).then(|| Tags::new().set_items(&self.network_tags))
    }
}

impl Config {
    /// Begins a configuration with the SDK's clients: where instances run, and of which machine type, such as `e2-standard-2`.
    pub fn builder(
        clients: Clients,
        project: impl Into<String>,
        location: Location,
        machine_type: impl Into<String>,
    ) -> ConfigBuilder {
        let launch = Launch {
            location,
            machine_type: machine_type.into(),
            network: None,
            subnetwork: None,
            network_tags: Vec::new(),
            service_account: None,
            disk_gb: None,
            disk_type: None,
            disk_key: None,
            named_ports: Vec::new(),
            autohealing: None,
            exceptions: Exceptions::default(),
        };
        ConfigBuilder(Self {
            clients,
            project: project.into(),
            launch,
            port: 80,
            health_path: None,
            routes: Vec::new(),
            max_fleet_size: 1000,
            list_lag: Duration::from_secs(10),
            metric_lag: Duration::from_mins(4),
            weight_lag: Duration::from_mins(1),
            turns: Arc::default(),
            images: ImageSettings::default(),
        })
    }

    /// The URL maps and backend services that rollouts move traffic on.
    pub fn routes(&self) -> &[RouteId] {
        &self.routes
    }

    /// A label for the releases that are launched with these settings: with other settings, such as another machine type, the same
    /// image is another release, in a fleet of its own.
    pub fn launch_label(&self) -> (LabelKey, String) {
        (launch_key(), self.launch.fingerprint().short())
    }
}

/// Builds a [`Config`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ConfigBuilder(Config);

impl ConfigBuilder {
    /// The VPC network that instances are in; `default` unless said otherwise, or that of the [subnetwork](Self::subnetwork). Its name, or its URL
    /// from `projects/` on.
    pub fn network(mut self, network: impl Into<String>) -> Self {
        self.0.launch.network = Some(network.into());
        self
    }

    /// The subnetwork that instances are in; needed in a network with custom subnets, which has to be named as well. Its URL from `projects/` or
    /// `regions/` on.
    pub fn subnetwork(mut self, subnetwork: impl Into<String>) -> Self {
        self.0.launch.subnetwork = Some(subnetwork.into());
        self
    }

    /// The network tags of the instances, which firewall rules go by.
    pub fn network_tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.launch.network_tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// The e-mail address of the service account that instances run as; with it they read their secrets. None unless said otherwise.
    pub fn service_account(mut self, email: impl Into<String>) -> Self {
        self.0.launch.service_account = Some(email.into());
        self
    }

    /// The size of the boot disk in GB (of 2^30 bytes); that of the image unless said otherwise.
    pub fn disk_gb(mut self, size: u32) -> Self {
        self.0.launch.disk_gb = Some(size);
        self
    }

    /// The type of the boot disk, such as `pd-balanced`.
    pub fn disk_type(mut self, kind: impl Into<String>) -> Self {
        self.0.launch.disk_type = Some(kind.into());
        self
    }

    /// The Cloud KMS key that boot disks are encrypted with, `projects/.../cryptoKeys/...`; a key of Google's unless said otherwise.
    pub fn disk_key(mut self, key: impl Into<String>) -> Self {
        self.0.launch.disk_key = Some(key.into());
        self
    }

    /// A name for a port of the instances, for load balancers that go by it. One more at each call.
    pub fn named_port(mut self, name: impl Into<String>, port: u16) -> Self {
        self.0.launch.named_ports.push((name.into(), port));
        self
    }

    /// Lets groups replace instances that fail this health check (`projects/.../healthChecks/...`), from this time after their start on. Without,
    /// groups replace only machines that stop or are lost.
    pub fn autohealing(mut self, health_check: impl Into<String>, initial_delay: Duration) -> Self {
        self.0.launch.autohealing = Some(Autohealing { health_check: health_check.into(), initial_delay });
        self
    }

    /// The port that instances answer on; 80 unless said otherwise.
    pub fn port(mut self, port: u16) -> Self {
        self.0.port = port;
        self
    }

    /// The path that answers with 2xx on an instance that can serve. Without it, what the group and the balancer find is all that is looked at.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.0.health_path = Some(path.into());
        self
    }

    /// The routes that rollouts move traffic on: where metrics and health are looked for. [`UrlMapSwitch`](crate::UrlMapSwitch) and
    /// [`BackendServiceSwitch`](crate::BackendServiceSwitch) say how they are named.
    pub fn routes(mut self, routes: impl IntoIterator<Item = RouteId>) -> Self {
        self.0.routes = routes.into_iter().collect();
        self
    }

    /// The largest size of a fleet; 1000 unless said otherwise, which is the most that a zonal group can have; a regional one can have
    /// [2000](https://docs.cloud.google.com/compute/docs/instance-groups#limitations).
    pub fn max_fleet_size(mut self, instances: u32) -> Self {
        self.0.max_fleet_size = instances;
        self
    }

    /// How far lists may lag behind; ten seconds unless said otherwise, at most five minutes. Google gives no figure.
    pub fn list_lag(mut self, lag: Duration) -> Self {
        self.0.list_lag = lag;
        self
    }

    /// How long it takes until Cloud Monitoring has all of a minute; four minutes unless said otherwise, at most an hour. What is newer is not looked at.
    ///
    /// Metrics of load balancers are sampled every 60 seconds and can be
    /// [up to 210 seconds](https://docs.cloud.google.com/monitoring/api/metrics_gcp_i_o) late.
    pub fn metric_lag(mut self, lag: Duration) -> Self {
        self.0.metric_lag = lag;
        self
    }

    /// How long it takes until new weights are in use at every proxy; one minute unless said otherwise, at most ten. So long after the last change
    /// of the weights no member leaves, by the clock here and the time that Google says the change ended. Google gives no figure: changes of a
    /// global balancer usually take less.
    pub fn weight_lag(mut self, lag: Duration) -> Self {
        self.0.weight_lag = lag;
        self
    }

    /// Gives the instances external addresses.
    pub fn with_external_addresses(mut self) -> Self {
        self.0.launch.exceptions.external_address = true;
        self
    }

    /// Lets people log in with the SSH keys of the project. What they change is drift that nobody sees.
    pub fn with_project_ssh_keys(mut self) -> Self {
        self.0.launch.exceptions.project_ssh_keys = true;
        self
    }

    /// Lets machines boot what nobody has signed: no Secure Boot. For images with drivers of their own.
    pub fn with_unverified_boot(mut self) -> Self {
        self.0.launch.exceptions.unverified_boot = true;
        self
    }

    /// How images are built.
    pub fn images(mut self, images: ImageSettings) -> Self {
        self.0.images = images;
        self
    }

    /// The configuration, if it can work.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot work, and what to do.
    pub fn build(self) -> Result<Config, ConfigError> {
        let config = self.0;
        let launch = &config.launch;
        let project = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:".contains(c);
        let is_project = !config.project.is_empty() && config.project.chars().all(project);
        hold("project", is_project, "must be the id of a project, such as \"web-production\"")?;
        location(&launch.location)?;
        hold("machine_type", is_name(&launch.machine_type), "must be a machine type, such as \"e2-standard-2\"")?;
        if let Some(subnetwork) = &launch.subnetwork {
            let is_url = subnetwork.starts_with("projects/") || subnetwork.starts_with("regions/");
            let is_url =
                is_url && subnetwork.contains(&format!("regions/{}/subnetworks/", launch.location.region_name()));
            hold("subnetwork", is_url, "must be one of the region, \"regions/<region>/subnetworks/<name>\"")?;
            // Endpoint groups are told both, and would be made in the network `default`.
            hold("network", launch.network.is_some(), "name the network of the subnetwork as well")?;
        }
        let network = launch.network.as_deref().unwrap_or("default");
        let is_network =
            is_name(network) || (network.starts_with("projects/") && network.contains("/global/networks/"));
        hold("network", is_network, "must be a name, or \"projects/<project>/global/networks/<name>\"")?;
        hold("disk_gb", launch.disk_gb != Some(0), "must be at least 1")?;
        hold("disk_type", launch.disk_type.as_deref().is_none_or(is_name), "must be a type, such as \"pd-balanced\"")?;
        let key = launch.disk_key.as_deref();
        let is_key = key.is_none_or(|key| key.starts_with("projects/") && key.contains("/cryptoKeys/"));
        hold("disk_key", is_key, "must be a key, \"projects/.../cryptoKeys/...\"")?;
        for route in &config.routes {
            let is_route = OnRoute::is_route(route);
            hold("routes", is_route, "must look like \"global/urlMaps/web\" or \"global/backendServices/web\"")?;
        }
        for tag in &launch.network_tags {
            hold("network_tags", is_name(tag), "must have only lower-case letters, digits and hyphens")?;
        }
        let email = launch.service_account.as_deref();
        hold("service_account", email.is_none_or(|email| email.contains('@')), "must be an e-mail address")?;
        for (name, port) in &launch.named_ports {
            hold("named_port", is_name(name) && *port != 0, "must have a name of lower-case letters, and a port")?;
        }
        if let Some(autohealing) = &launch.autohealing {
            let is_check = autohealing.health_check.starts_with("projects/");
            let is_check = is_check && autohealing.health_check.contains("/healthChecks/");
            hold("autohealing", is_check, "must be the URL of a health check, \"projects/.../healthChecks/...\"")?;
            // https://docs.cloud.google.com/compute/docs/instance-groups/autohealing-instances-in-migs
            let hour = Duration::from_hours(1);
            hold("autohealing", autohealing.initial_delay <= hour, "must begin within an hour")?;
        }
        hold("port", config.port != 0, "must be from 1 to 65535")?;
        hold("max_fleet_size", config.max_fleet_size > 0, "must be at least 1")?;
        hold("list_lag", config.list_lag <= Duration::from_mins(5), "must be at most 5 minutes")?;
        hold("metric_lag", config.metric_lag <= Duration::from_hours(1), "must be at most an hour")?;
        hold("weight_lag", config.weight_lag <= Duration::from_mins(10), "must be at most 10 minutes")?;
        let path = config.health_path.as_deref().unwrap_or("/");
        hold("health_path", path.starts_with('/'), "must start with a slash")?;
        HttpProbe::get(path).build().map_err(|error| ConfigError::new("health_path", error.to_string()))?;
        config.images.check(launch)?;
        Ok(config)
    }
}

/// The key of the label by which releases that are launched with other settings are others.
pub(crate) fn launch_key() -> LabelKey {
    LabelKey::new("gcp/launch").expect("invariant: letters and a slash are a label key")
}

fn location(location: &Location) -> Result<(), ConfigError> {
    let zones = location.zones();
    hold("location", !zones.is_empty(), "name at least one zone")?;
    for (index, zone) in zones.iter().enumerate() {
        hold("location", is_zone(zone), "a zone looks like \"europe-west3-a\"")?;
        hold("location", !zones[..index].contains(zone), "name each zone once")?;
        if let Location::Region { region, .. } = location {
            let is_inside = zone.rsplit_once('-').is_some_and(|(of, _)| of == region);
            hold("location", is_inside, "every zone must be one of the region")?;
        }
    }
    Ok(())
}

/// Whether this can be the name of a zone: that of its region, and a letter.
pub(crate) fn is_zone(text: &str) -> bool {
    let parts = text.rsplit_once('-');
    is_name(text) && parts.is_some_and(|(region, letter)| !region.is_empty() && letter.len() == 1)
}

/// Whether this can be a name of Compute Engine's: <https://docs.cloud.google.com/compute/docs/naming-resources>.
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.ends_with('-')
}

fn hold(field: &'static str, holds: bool, problem: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(field, problem)) }
}

#[cfg(test)]
pub(crate) mod tests;
