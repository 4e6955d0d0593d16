//! What the credentials must be allowed to do, and nothing more.

use std::collections::BTreeSet;

use immutable_azure::RoleUse;

use crate::stand::{Stand, to};
use crate::support;

fn actions() -> BTreeSet<String> {
    support::actions([RoleUse::Gateways])
}

/// Moves traffic in a fake that allows only these actions.
async fn moved(stand: Stand, allowed: BTreeSet<String>) -> Result<(), String> {
    let (old, new) = (stand.fleet("web-1", 1).await, stand.fleet("web-2", 1).await);
    stand.fake.set(|options| options.actions = Some(allowed));
    let cx = crate::stand::cx("look");
    for wanted in [to("web-1", &[&old]), to("web-2", &[&old, &new]), to("web-2", &[&new])] {
        let look = async || stand.switch.observe(&cx, &stand.route).await.map_err(|error| error.to_string());
        let version = look().await?.version;
        let key = format!("{wanted:?}");
        for _ in 0..20 {
            stand.once(&key, &wanted, &version).await.map_err(|error| error.to_string())?;
        }
        look().await?;
        look().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_role_for_gateways_is_enough_for_both_switches_and_each_of_it_is_needed() {
    // Operations are followed only when one of them fails, the fake is asked for no uniform scale set here, and it asks to join what a gateway is written
    // with and not to read it, as the vendor says.
    let elsewhere = [
        "Microsoft.Network/publicIPAddresses/read",
        "Microsoft.Network/virtualNetworks/subnets/read",
        "Microsoft.Network/locations/operations/read",
        "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read",
        "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
    ];
    let mut unneeded = actions();
    unneeded.retain(|action| !elsewhere.contains(&action.as_str()));
    for stand in [Stand::by_members, Stand::by_rule] {
        moved(stand(), actions()).await.unwrap();
        for action in actions() {
            if let Err(error) = moved(stand(), support::without(&actions(), &action)).await {
                assert!(error.to_ascii_lowercase().contains(&action.to_ascii_lowercase()), "{error}");
                unneeded.remove(&action);
            }
        }
    }
    assert_eq!(unneeded, BTreeSet::new());
}
