//! How the provisioner is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::secret_source::{MapSecrets, SecretSource};

/// How a [`LocalProvisioner`](crate::LocalProvisioner) is set up.
///
/// ```
/// # use std::time::Duration;
/// use immutable_local::{EnvironmentSecrets, LocalConfig};
///
/// let config = LocalConfig::new("/var/lib/fleet")
///     .with_stop_grace(Duration::from_secs(30))
///     .with_secrets(EnvironmentSecrets::new());
/// # assert_eq!(config.root(), std::path::Path::new("/var/lib/fleet"));
/// ```
#[derive(Debug, Clone)]
pub struct LocalConfig {
    pub(crate) root: PathBuf,
    pub(crate) stop_grace: Duration,
    pub(crate) max_fleet_size: u32,
    pub(crate) secrets: Arc<dyn SecretSource>,
    pub(crate) clock: Clock,
}

impl LocalConfig {
    /// A set-up over a root directory, which may be shared with an image builder and by several services.
    ///
    /// The defaults: ten seconds between asking an instance to stop and forcing it, at most 256 instances in a fleet,
    /// no secrets, the system's clock. A relative root is taken from the current directory at this moment.
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self {
            root: absolute(root.as_ref()),
            stop_grace: Duration::from_secs(10),
            max_fleet_size: 256,
            secrets: Arc::new(MapSecrets::default()),
            clock: Clock::default(),
        }
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How long an instance has between being asked to stop and being forced to.
    #[must_use]
    pub fn with_stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// The most instances that one fleet may have.
    #[must_use]
    pub fn with_max_fleet_size(mut self, size: u32) -> Self {
        self.max_fleet_size = size;
        self
    }

    /// Where secrets are resolved when an instance is launched.
    #[must_use]
    pub fn with_secrets(mut self, secrets: impl SecretSource) -> Self {
        self.secrets = Arc::new(secrets);
        self
    }

    /// The clock for start times, observations and the end of the stop grace.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(clock);
        self
    }
}

/// A path that keeps its meaning when the current directory changes. An empty path stays as it is and fails when used.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
