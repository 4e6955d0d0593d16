//! Disks and network interfaces of builders that are left without their machine.

use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{Effect, ProviderError};
use jiff::Timestamp;
use serde_json::Value;

use super::resources::Api;
use super::site::{Site, builder_name, is_builder_name};

/// So long after its making a disk without a machine is nobody's, in seconds: no builder lives for half of it.
const LONGEST: i64 = 48 * 3600;

/// Deletes what builders have left: of this recipe, and disks of others whose time is over. How much there was.
///
/// Both go with their machine. They can be left where the start of a machine has failed, and a disk would be in the way of the next.
pub(super) async fn sweep(
    site: &Site<'_>,
    service: &ServiceName,
    recipe: &Fingerprint,
) -> Result<usize, ProviderError> {
    let own = builder_name(service, recipe);
    let disks = site.disks().list(&site.id("Microsoft.Compute/disks")).await?;
    let is_left = |disk: &&Value| {
        let name = disk["name"].as_str().unwrap_or_default();
        let is_old = || {
            let created = disk["properties"]["timeCreated"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
            created.is_some_and(|created| site.now.as_second().saturating_sub(created.as_second()) > LONGEST)
        };
        disk["managedBy"].is_null() && (name == own || (is_builder_name(name, service) && is_old()))
    };
    let disks = disks.iter().filter(is_left).filter_map(|disk| disk["name"].as_str());
    let disks: Vec<String> = disks.map(|name| site.id(&format!("Microsoft.Compute/disks/{name}"))).collect();
    let before = delete(site.disks(), Effect::None, &disks).await?;

    let interfaces = site.network().list(&site.id("Microsoft.Network/networkInterfaces")).await?;
    let is_left = |interface: &&Value| {
        // Azure adds to the name.
        let name = interface["name"].as_str().unwrap_or_default();
        name.starts_with(&own) && interface["properties"]["virtualMachine"].is_null()
    };
    let interfaces = interfaces.iter().filter(is_left).filter_map(|interface| interface["name"].as_str());
    let folder = "Microsoft.Network/networkInterfaces";
    let interfaces: Vec<String> = interfaces.map(|name| site.id(&format!("{folder}/{name}"))).collect();
    delete(site.network(), before, &interfaces).await?;
    Ok(disks.len() + interfaces.len())
}

async fn delete(api: Api<'_>, mut before: Effect, ids: &[String]) -> Result<Effect, ProviderError> {
    for id in ids {
        match api.delete(before, id).await {
            // An interface is kept for its machine for three minutes after the start of that has failed.
            Err(error) if error.to_string().contains("NicReservedForAnotherVm") => {}
            Err(error) => return Err(error),
            Ok(_) => before = Effect::Unknown,
        }
    }
    Ok(before)
}
