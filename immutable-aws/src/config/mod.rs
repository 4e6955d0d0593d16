//! What the provider has to know beside the release: where instances run, and how they are reached.

mod env;

use std::time::Duration;

use immutable_core::health::HttpProbe;
use immutable_core::model::{Fingerprint, LabelKey, RouteId};
use serde::Serialize;

use crate::Clients;
use crate::image_builder::ImageSettings;

/// How the instances of a fleet are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fleets {
    /// One Auto Scaling group for each fleet, which replaces instances that fail.
    #[default]
    AutoScaling,
    /// Plain instances, without a group.
    Instances,
}

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

/// A hook of an Auto Scaling group: time for an instance to warm up before it counts as running, or to finish before it is ended.
///
/// The instance itself ends the wait (`complete-lifecycle-action`); until then it is listed as starting, or as ending. When the time is over, a
/// launching instance is given up and replaced, and a terminating one is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum LifecycleHook {
    /// Before an instance counts as running; at most so long.
    Launching(Duration),
    /// Before an instance is ended, also when AWS ends it; at most so long.
    Terminating(Duration),
}

/// What is usually not wanted on an instance that is never changed, each asked for by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Exceptions {
    pub(crate) key_pair: Option<String>,
    pub(crate) public_address: bool,
    pub(crate) optional_imdsv2: bool,
    pub(crate) unencrypted_root_volume: bool,
}

/// What the provider has to know. Checked as it is built; cheap to clone.
///
/// All that makes an instance what it is, beside its release, is in here: its type, its network, its role. It is written into the
/// fleet as the fleet is made and never changes in it. So a fleet that exists is not grown under other settings. Give the
/// release the label of the settings ([`launch_label`](Self::launch_label)): then other settings are another release, and its group
/// goes on growing as it was made when a rollout goes back to it. A fleet that is gone is made with the settings of today.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) clients: Clients,
    pub(crate) fleets: Fleets,
    pub(crate) launch: Launch,
    pub(crate) port: u16,
    pub(crate) health_path: Option<String>,
    pub(crate) routes: Vec<RouteId>,
    pub(crate) max_fleet_size: u32,
    pub(crate) list_lag: Duration,
    pub(crate) metric_lag: Duration,
    pub(crate) images: ImageSettings,
}

/// What instances are launched with, beside their release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Launch {
    pub(crate) subnets: Vec<String>,
    pub(crate) security_groups: Vec<String>,
    pub(crate) instance_types: Vec<String>,
    pub(crate) instance_profile: Option<String>,
    pub(crate) lifecycle_hooks: Vec<LifecycleHook>,
    pub(crate) volume_key: Option<String>,
    pub(crate) exceptions: Exceptions,
}

impl Launch {
    /// The same for the same settings: a fleet is bound to it.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(serde_json::to_vec(self).expect("invariant: plain data always serialises"))
    }
}

impl Config {
    /// Begins a configuration with the SDK's clients.
    pub fn builder(clients: Clients) -> ConfigBuilder {
        ConfigBuilder(Self {
            clients,
            fleets: Fleets::default(),
            launch: Launch::default(),
            port: 80,
            health_path: None,
            routes: Vec::new(),
            max_fleet_size: 500,
            list_lag: Duration::from_secs(10),
            metric_lag: Duration::from_mins(2),
            images: ImageSettings::default(),
        })
    }

    /// The listeners and rules that rollouts move traffic on.
    pub fn routes(&self) -> &[RouteId] {
        &self.routes
    }

    /// A label for the releases that are launched with these settings: with other settings, such as another instance type, the same
    /// image is another release, in a fleet of its own.
    pub fn launch_label(&self) -> (LabelKey, String) {
        (launch_key(), self.launch.fingerprint().short())
    }
}

/// The key of the label by which releases that are launched with other settings are others.
pub(crate) fn launch_key() -> LabelKey {
    LabelKey::new("aws/launch").expect("invariant: letters and a slash are a label key")
}

/// Builds a [`Config`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ConfigBuilder(Config);

impl ConfigBuilder {
    /// How the instances are kept; Auto Scaling groups unless said otherwise.
    pub fn fleets(mut self, fleets: Fleets) -> Self {
        self.0.fleets = fleets;
        self
    }

    /// The subnets that instances are started in, in as many zones as there should be. At least one, and of plain instances one for each zone:
    /// `CreateFleet` refuses two choices that differ in nothing but the subnet.
    pub fn subnets(mut self, ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.launch.subnets = texts(ids);
        self
    }

    /// The security groups of the instances. At least one.
    pub fn security_groups(mut self, ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.launch.security_groups = texts(ids);
        self
    }

    /// The instance types that will do, the best first. With several, an instance is of the first that AWS has room for.
    pub fn instance_types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.launch.instance_types = texts(types);
        self
    }

    /// The name of the instance profile whose role the instances have; with it they read their secrets.
    pub fn instance_profile(mut self, name: impl Into<String>) -> Self {
        self.0.launch.instance_profile = Some(name.into());
        self
    }

    /// The port that instances answer on; 80 unless said otherwise.
    pub fn port(mut self, port: u16) -> Self {
        self.0.port = port;
        self
    }

    /// The path that answers with 2xx on an instance that can serve. Without it, the status checks of EC2 are all that is looked at.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.0.health_path = Some(path.into());
        self
    }

    /// The listeners and rules, by their ARNs, that rollouts move traffic on: where metrics and target health are looked for, and all
    /// that `iam_policy` allows to be changed.
    pub fn routes(mut self, arns: impl IntoIterator<Item = RouteId>) -> Self {
        self.0.routes = arns.into_iter().collect();
        self
    }

    /// The largest size of a fleet; 500 unless said otherwise, which is what an account has by default as the sum over a group.
    pub fn max_fleet_size(mut self, instances: u32) -> Self {
        self.0.max_fleet_size = instances;
        self
    }

    /// How far the lists of EC2 may lag behind; ten seconds unless said otherwise, at most five minutes.
    ///
    /// AWS gives no figure, only that a change
    /// [might not be immediately visible](https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
    pub fn list_lag(mut self, lag: Duration) -> Self {
        self.0.list_lag = lag;
        self
    }

    /// How long it takes until `CloudWatch` has all of a minute; two minutes unless said otherwise. What is newer is not looked at.
    pub fn metric_lag(mut self, lag: Duration) -> Self {
        self.0.metric_lag = lag;
        self
    }

    /// A lifecycle hook of the groups. Plain instances have none.
    pub fn lifecycle_hook(mut self, hook: LifecycleHook) -> Self {
        self.0.launch.lifecycle_hooks.push(hook);
        self
    }

    /// The ARN of the KMS key that root volumes are encrypted with; the account's default key unless said otherwise.
    ///
    /// The policy of a key of your own has to let it be used by whoever the provider runs as, and for groups by the service-linked role of Auto
    /// Scaling as well: <https://docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html>.
    pub fn volume_key(mut self, arn: impl Into<String>) -> Self {
        self.0.launch.volume_key = Some(arn.into());
        self
    }

    /// Lets people log in with this key pair. What they change is drift that nobody sees.
    pub fn with_key_pair(mut self, name: impl Into<String>) -> Self {
        self.0.launch.exceptions.key_pair = Some(name.into());
        self
    }

    /// Gives the instances public addresses.
    pub fn with_public_addresses(mut self) -> Self {
        self.0.launch.exceptions.public_address = true;
        self
    }

    /// Lets instances ask for their metadata without a session token (`IMDSv1`), so that a request that a
    /// server was tricked into can read the role's credentials.
    pub fn with_optional_imdsv2(mut self) -> Self {
        self.0.launch.exceptions.optional_imdsv2 = true;
        self
    }

    /// Leaves the root volume as the image has it, encrypted or not.
    pub fn with_unencrypted_root_volume(mut self) -> Self {
        self.0.launch.exceptions.unencrypted_root_volume = true;
        self
    }

    /// How images are built, copied and shared.
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
        ids("subnets", &launch.subnets, "subnet-")?;
        ids("security_groups", &launch.security_groups, "sg-")?;
        ids("instance_types", &launch.instance_types, "")?;
        hold("port", config.port != 0, "must be from 1 to 65535")?;
        hold("max_fleet_size", config.max_fleet_size > 0, "must be at least 1")?;
        hold("list_lag", config.list_lag <= Duration::from_mins(5), "must be at most 5 minutes")?;
        let path = config.health_path.as_deref().unwrap_or("/");
        hold("health_path", path.starts_with('/'), "must start with a slash")?;
        HttpProbe::get(path).build().map_err(|error| ConfigError::new("health_path", error.to_string()))?;
        for hook in &launch.lifecycle_hooks {
            let (LifecycleHook::Launching(time) | LifecycleHook::Terminating(time)) = hook;
            // https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LifecycleHookSpecification.html
            hold("lifecycle_hook", (30..=7200).contains(&time.as_secs()), "must be from 30 to 7200 seconds")?;
        }
        hold("volume_key", launch.volume_key.as_deref().is_none_or(is_key), NO_KEY)?;
        let region = config.clients.ec2.config().region().map(AsRef::as_ref);
        config.images.check(launch, region)?;
        Ok(config)
    }
}

fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

/// What to give instead of something that is not the ARN of a key.
pub(crate) const NO_KEY: &str = "give the ARN of a key, \"arn:...:key/...\", and not an id or an alias";

/// Whether this is the ARN of a key: what is allowed for a key cannot be said of an alias.
pub(crate) fn is_key(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    matches!(parts[..], ["arn", _, "kms", _, _, key] if key.strip_prefix("key/").is_some_and(|id| !id.is_empty()))
}

fn hold(field: &'static str, holds: bool, problem: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(field, problem)) }
}

/// At least one, each with this start and nothing in it that no id has.
fn ids(field: &'static str, ids: &[String], start: &str) -> Result<(), ConfigError> {
    hold(field, !ids.is_empty(), "name at least one")?;
    let twice = ids.iter().enumerate().find(|(index, id)| ids[..*index].contains(id));
    if let Some((_, id)) = twice {
        return Err(ConfigError::new(field, format!("{id:?} is named twice")));
    }
    let usual = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let wrong = ids.iter().find(|id| !id.starts_with(start) || id.len() == start.len() || !id.chars().all(usual));
    match wrong {
        Some(id) => Err(ConfigError::new(field, format!("{id:?} is not one: it should look like {start:?}..."))),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_config::{BehaviorVersion, SdkConfig};

    use super::*;

    /// Settings that can be built, with clients that reach nobody.
    pub(crate) fn builder() -> ConfigBuilder {
        let sdk = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
        Config::builder(Clients::new(&sdk))
            .subnets(["subnet-1"])
            .security_groups(["sg-1"])
            .instance_types(["m7i.large"])
            .instance_profile("web")
    }

    pub(crate) fn config() -> Config {
        builder().build().unwrap()
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let hook = |seconds| LifecycleHook::Launching(Duration::from_secs(seconds));
        let none: [&str; 0] = [];
        let key_problem = format!("volume_key: {NO_KEY}");
        let cases = [
            (builder().subnets(none), "subnets: name at least one"),
            (builder().subnets(["vpc-1"]), "subnets: \"vpc-1\" is not one: it should look like \"subnet-\"..."),
            (builder().security_groups(["sg-"]), "security_groups: \"sg-\" is not one: it should look like \"sg-\"..."),
            (builder().instance_types(none), "instance_types: name at least one"),
            (builder().instance_types(["m7i.large", "m7i.large"]), "instance_types: \"m7i.large\" is named twice"),
            (builder().port(0), "port: must be from 1 to 65535"),
            (builder().max_fleet_size(0), "max_fleet_size: must be at least 1"),
            (builder().list_lag(Duration::from_mins(6)), "list_lag: must be at most 5 minutes"),
            (builder().health_path("health"), "health_path: must start with a slash"),
            (builder().volume_key("alias/web"), &key_problem),
            (builder().volume_key("arn:aws:kms:eu-west-1:1:alias/web"), &key_problem),
            (builder().lifecycle_hook(hook(29)), "lifecycle_hook: must be from 30 to 7200 seconds"),
        ];
        for (builder, problem) in cases {
            assert_eq!(builder.build().unwrap_err().to_string(), problem);
        }
        assert!(builder().lifecycle_hook(hook(30)).build().is_ok());
        assert!(builder().volume_key("arn:aws:kms:eu-west-1:1:key/2").build().is_ok());
    }

    #[test]
    fn other_launch_settings_are_another_label_and_other_settings_are_not() {
        let label = |builder: ConfigBuilder| builder.build().unwrap().launch_label();
        assert_ne!(label(builder()), label(builder().instance_types(["m7i.xlarge"])));
        assert_ne!(label(builder()), label(builder().with_public_addresses()));
        assert_eq!(label(builder()), label(builder().max_fleet_size(7).health_path("/health")));
    }
}
