//! What a fake is like.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a fake is like: where it is, how long things take there, what is allowed.
///
/// The times are short, so that tests are; the order of things is that of the real service.
#[derive(Debug, Clone)]
pub struct Options {
    /// The only project there is.
    pub project: String,
    /// The regions and the zones of each.
    pub regions: BTreeMap<String, Vec<String>>,
    /// How long an operation runs. Its effect is there after half of it; zero: the answer is an operation that is done.
    pub operation_time: Duration,
    /// How long a machine takes from its creation until it runs.
    pub boot_time: Duration,
    /// How long a machine takes to stop or to be deleted.
    pub stop_time: Duration,
    /// How long a group takes to see that a machine of it has stopped or is gone.
    pub notice_time: Duration,
    /// How long the script of a builder takes, from when its machine runs until it says how that went.
    pub build_time: Duration,
    /// How long an image takes until it is ready.
    pub image_time: Duration,
    /// How long what runs takes to be found healthy.
    pub health_time: Duration,
    /// How long a second of the API lasts, such as one of a `drainingTimeoutSec`.
    pub second: Duration,
    /// How much later a list shows what is made and what is gone than a `get` does.
    pub list_lag: Duration,
    /// The zones and regions that lists of all of them cannot see now, such as `zones/europe-west1-b`.
    pub unreachable: BTreeSet<String>,
    /// The most entries of one page, whatever `maxResults` says.
    pub page: usize,
    /// The permissions that the caller has; none given: all of them.
    pub permissions: Option<BTreeSet<String>>,
}

impl Default for Options {
    /// Two regions, two entries on a page, fractions of a second, no lag, everything allowed.
    fn default() -> Self {
        let region = |name: &str, zones: &[&str]| {
            (name.to_owned(), zones.iter().map(|zone| format!("{name}-{zone}")).collect::<Vec<_>>())
        };
        Self {
            project: "fake-project".to_owned(),
            regions: BTreeMap::from([
                region("europe-west1", &["b", "c", "d"]),
                region("us-central1", &["a", "b", "c", "f"]),
            ]),
            operation_time: Duration::from_millis(50),
            boot_time: Duration::from_millis(100),
            stop_time: Duration::from_millis(50),
            notice_time: Duration::from_millis(50),
            build_time: Duration::from_millis(50),
            image_time: Duration::from_millis(50),
            health_time: Duration::from_millis(100),
            second: Duration::from_millis(10),
            list_lag: Duration::ZERO,
            unreachable: BTreeSet::new(),
            page: 2,
            permissions: None,
        }
    }
}
