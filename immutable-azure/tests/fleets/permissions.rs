//! Which actions fleets need: all of these, and no other.

use std::time::Duration;

use immutable_azure::{ConfigBuilder, Orchestration};
use immutable_azure_fake::Options;
use immutable_core::model::FleetSpec;
use immutable_core::provider::{ErrorKind, OpContext, ProviderError, Provisioner as _};
use serde_json::json;

use crate::stand::{BOTH, Stand};

/// With either kind of scale sets.
const ACTIONS: [&str; 14] = [
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/disks/read",
    "Microsoft.Compute/galleries/images/versions/read",
    "Microsoft.Compute/locations/operations/read",
    "Microsoft.Compute/virtualMachineScaleSets/delete",
    "Microsoft.Compute/virtualMachineScaleSets/delete/action",
    "Microsoft.Compute/virtualMachineScaleSets/read",
    "Microsoft.Compute/virtualMachineScaleSets/write",
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
    // Only with uniform ones.
    "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read",
];

/// Where machines are, by the kind of their set.
fn machines(orchestration: Orchestration) -> &'static str {
    if orchestration == Orchestration::Uniform {
        "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read"
    } else {
        "Microsoft.Compute/virtualMachines/read"
    }
}

/// A fleet for which there is no room first, that is made, looked at, replaces who died, and goes with what it left behind.
async fn life(stand: &Stand, spec: &FleetSpec) -> Result<(), ProviderError> {
    stand.short(true);
    let error = stand.ensure(spec).await.unwrap_err();
    if error.kind() != ErrorKind::Capacity {
        return Err(error);
    }
    stand.short(false);
    stand.ensure(spec).await?;
    let look = async || {
        stand.fake().skip(Duration::from_secs(1));
        let seen = stand.fleets.observe(&OpContext::standalone("look"), &spec.service).await?;
        Ok(seen.fleets.into_iter().flat_map(|fleet| fleet.instances).map(|one| one.id).collect::<Vec<_>>())
    };
    let all = look().await?;
    stand.fake().kill(&stand.machine(spec, &all[0]));
    stand.ensure(spec).await?;
    stand.retire(spec, &look().await?).await?;
    stand.fake().skip(Duration::from_secs(1));
    let set = format!("im-{}", spec.id);
    stand.fake().put(&format!("Microsoft.Compute/disks/{set}_0a1b2c3d_OsDisk_1"), json!({}));
    stand.fake().put(&format!("Microsoft.Network/networkInterfaces/{set}-0a1b2c3d"), json!({}));
    stand.remove(spec).await
}

fn settings(builder: ConfigBuilder, orchestration: Orchestration) -> ConfigBuilder {
    let group = "/subscriptions/00000000-0000-0000-0000-00000000fa4e/resourceGroups/net/providers";
    builder
        .orchestration(orchestration)
        .identity(format!("{group}/Microsoft.ManagedIdentity/userAssignedIdentities/web"))
        .security_group(format!("{group}/Microsoft.Network/networkSecurityGroups/web"))
}

async fn with(orchestration: Orchestration, actions: &[&str]) -> Result<(), ProviderError> {
    let actions = actions.iter().map(|action| (*action).to_owned()).collect();
    let options = Options { actions: Some(actions), ..Options::default() };
    let stand = Stand::with(options, |builder| settings(builder, orchestration));
    life(&stand, &stand.spec(1)).await
}

#[tokio::test]
async fn exactly_these_actions_are_needed() {
    for orchestration in BOTH {
        let mut all = ACTIONS.to_vec();
        all.push(machines(orchestration));
        if orchestration != Orchestration::Uniform {
            all.retain(|action| !action.ends_with("ScaleSets/networkInterfaces/read"));
        }
        with(orchestration, &all).await.unwrap();
        for missing in &all {
            let others: Vec<_> = all.iter().copied().filter(|action| action != missing).collect();
            let error = with(orchestration, &others).await.expect_err(missing);
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "without {missing}: {error}");
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
