//! What `role_permissions` names is enough for rollouts, and what of it rollouts need is needed: the fake checks every request.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use immutable_core::engine::Outcome;
use immutable_core::plan::Strategy;
use immutable_gcp::role_permissions;
use immutable_gcp_fake::Options;

use super::stand::{Kind, Stand};

/// So many rollouts at a time.
const AT_ONCE: usize = 8;

/// Without progress for so long, a rollout that lacks a permission ends; a look that is not permitted may be permitted soon, so it ends nothing at once.
const PATIENCE: Duration = Duration::from_secs(6);

/// What builds of images need and rollouts do not; `tests/images` takes these away. Metrics are read by canaries alone.
const NOT_FOR_ROLLOUTS: [&str; 13] = [
    "compute.disks.delete",
    "compute.disks.list",
    "compute.disks.useReadOnly",
    "compute.images.create",
    "compute.images.delete",
    "compute.images.deprecate",
    "compute.images.setLabels",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getGuestAttributes",
    "compute.instances.getSerialPortOutput",
    "compute.instances.stop",
    "monitoring.timeSeries.list",
];

fn granted(stand: &Stand) -> BTreeSet<String> {
    role_permissions(&stand.config()).into_iter().map(str::to_owned).collect()
}

pub(super) async fn the_permissions_are_enough_and_each_is_needed(kind: Kind) {
    let stand = Stand::new(kind, Options::default()).await;
    let all = granted(&stand);
    stand.project.fake.change(|options| options.permissions = Some(all.clone()));
    for number in [0, 1] {
        assert_eq!(stand.roll_out(number, Strategy::blue_green(), 1).await, Outcome::Promoted);
    }
    stand.assert_only(1, 1);

    let told = futures_util::stream::iter(&all).map(async |missing| (missing, without(kind, missing).await));
    let told: Vec<_> = told.buffer_unordered(AT_ONCE).collect().await;
    let silent: BTreeSet<_> = told
        .iter()
        .filter(|(missing, told)| !told.contains(missing.as_str()))
        .map(|(missing, _)| missing.as_str())
        .collect();
    let mut expected = BTreeSet::from(NOT_FOR_ROLLOUTS);
    if kind == Kind::Weights {
        // The backend service that those of fleets are made like has no policy.
        expected.extend(["compute.backendServices.setSecurityPolicy", "compute.securityPolicies.use"]);
    }
    assert_eq!(silent, expected, "what a rollout got on without or did not name; {told:#?}");
}

/// How a release takes the place of another without one permission.
async fn without(kind: Kind, missing: &str) -> String {
    let stand = Stand::new(kind, Options::default()).await;
    assert_eq!(stand.roll_out(0, Strategy::blue_green(), 1).await, Outcome::Promoted);
    let mut rest = granted(&stand);
    rest.remove(missing);
    stand.project.fake.change(|options| options.permissions = Some(rest));
    let strategy = Strategy::blue_green().progress_deadline(PATIENCE);
    match stand.engine().start(stand.spec(1, strategy, 1)).await {
        Ok(rollout) => stand.end(&rollout).await.to_string(),
        Err(error) => error.to_string(),
    }
}
