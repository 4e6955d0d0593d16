//! What `custom_role` names is enough for rollouts, and what of it rollouts need is needed: the fake checks every request.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use immutable_azure::RoleUse;
use immutable_azure_fake::Options;
use immutable_core::engine::Outcome;
use immutable_core::plan::Strategy;

use super::stand::Stand;
use super::support::{self, Traffic, actions};

/// So many rollouts at a time.
const AT_ONCE: usize = 8;

/// Without progress for so long, a rollout that lacks a permission ends; a look that is not permitted may be permitted soon, so it ends nothing at once.
const PATIENCE: Duration = Duration::from_secs(6);

/// What rollouts are to be allowed with traffic by these.
fn uses(traffic: Traffic) -> Vec<RoleUse> {
    let by = match traffic {
        Traffic::LoadBalancer => RoleUse::LoadBalancers,
        Traffic::GatewayPool | Traffic::RoutingRule => RoleUse::Gateways,
        Traffic::Profile => RoleUse::TrafficManager,
    };
    vec![RoleUse::Fleets, RoleUse::Health, by]
}

/// What of that is for what does not happen here: nothing is left behind by instances, no change fails, and members are of one kind of scale set.
const ELSEWHERE: [&str; 3] = [
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/locations/operations/read",
    "Microsoft.Network/networkInterfaces/delete",
];
const UNIFORM: [&str; 2] = [
    "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read",
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
];
const FLEXIBLE: [&str; 1] = ["Microsoft.Compute/virtualMachines/read"];

/// Nobody looks for images that are not ours.
const FROM_GALLERIES: [&str; 1] = ["Microsoft.Compute/galleries/images/read"];

/// No change of a gateway fails; and what the vendor names for one, and the fake does not ask for.
const OF_GATEWAYS: [&str; 3] = [
    "Microsoft.Network/locations/operations/read",
    "Microsoft.Network/publicIPAddresses/read",
    "Microsoft.Network/virtualNetworks/subnets/read",
];

/// Rules lead to the only pool.
const ON_DEMAND: [&str; 1] = ["Microsoft.Network/applicationGateways/getBackendHealthOnDemand/action"];

fn not_needed(traffic: Traffic) -> BTreeSet<&'static str> {
    let parts: &[&[&str]] = match traffic {
        Traffic::LoadBalancer => &[&ELSEWHERE, &FLEXIBLE, &FROM_GALLERIES],
        Traffic::GatewayPool => &[&ELSEWHERE, &UNIFORM, &OF_GATEWAYS, &ON_DEMAND],
        Traffic::RoutingRule => &[&ELSEWHERE, &UNIFORM, &OF_GATEWAYS],
        Traffic::Profile => &[&ELSEWHERE, &UNIFORM],
    };
    parts.concat().into_iter().collect()
}

pub(super) async fn the_actions_are_enough_and_each_is_needed(traffic: Traffic) {
    let stand = Stand::new(traffic, Options::default());
    let all = actions(uses(traffic));
    stand.group.fake.set(|options| options.actions = Some(all.clone()));
    for number in [0, 1] {
        assert_eq!(stand.roll_out(number, Strategy::blue_green(), 1).await, Outcome::Promoted);
    }
    stand.assert_only(1, 1);

    let told = futures_util::stream::iter(&all).map(async |missing| (missing, without(traffic, missing).await));
    let told: Vec<_> = told.buffer_unordered(AT_ONCE).collect().await;
    let silent: BTreeSet<_> = told
        .iter()
        .filter(|(missing, told)| !told.contains(missing.as_str()))
        .map(|(missing, _)| missing.as_str())
        .collect();
    assert_eq!(silent, not_needed(traffic), "what a rollout got on without or did not name; {told:#?}");
}

/// How a release takes the place of another without one action.
async fn without(traffic: Traffic, missing: &str) -> String {
    let stand = Stand::new(traffic, Options::default());
    assert_eq!(stand.roll_out(0, Strategy::blue_green(), 1).await, Outcome::Promoted);
    let rest = support::without(&actions(uses(traffic)), missing);
    stand.group.fake.set(|options| options.actions = Some(rest));
    let strategy = Strategy::blue_green().progress_deadline(PATIENCE);
    match stand.engine().start(stand.spec(1, strategy, 1)).await {
        Ok(rollout) => stand.end(&rollout).await.to_string(),
        Err(error) => error.to_string(),
    }
}
