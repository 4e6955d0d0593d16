//! What the custom role allows is enough for fleets, and each part of it is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_azure::{ConfigBuilder, Orchestration, RoleUse};
use immutable_azure_fake::Options;
use immutable_core::model::FleetSpec;
use immutable_core::provider::{ErrorKind, OpContext, ProviderError, Provisioner as _};
use serde_json::json;

use crate::stand::{BOTH, Stand};
use crate::support;

/// What the role allows beside what this kind of scale sets needs, as it is for both.
fn others(orchestration: Orchestration) -> &'static [&'static str] {
    if orchestration == Orchestration::Uniform {
        &["Microsoft.Compute/galleries/images/read", "Microsoft.Compute/virtualMachines/read"]
    } else {
        &[
            "Microsoft.Compute/galleries/images/read",
            "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read",
            "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
        ]
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
    stand.fake().kill(&stand.machine(&all[0]));
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

async fn with(orchestration: Orchestration, actions: BTreeSet<String>) -> Result<(), ProviderError> {
    let options = Options { actions: Some(actions), ..Options::default() };
    let stand = Stand::with(options, |builder| settings(builder, orchestration));
    life(&stand, &stand.spec(1)).await
}

#[tokio::test]
async fn the_role_for_fleets_is_enough_and_each_of_it_is_needed() {
    for orchestration in BOTH {
        let mut all = support::actions([RoleUse::Fleets, RoleUse::Identity, RoleUse::SecurityGroup]);
        all.retain(|action| !others(orchestration).contains(&action.as_str()));
        with(orchestration, all.clone()).await.unwrap();
        for missing in &all {
            let error = with(orchestration, support::without(&all, missing)).await.expect_err(missing);
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "without {missing}: {error}");
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
