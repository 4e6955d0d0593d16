//! Disks and network interfaces of builders that are left without their machine.
//!
//! What a machine is being made with does not always say yet whose it is. So each is deleted only when its machine was looked for right before, and is
//! not there: a machine is there from the answer to its start on, before what is made with it.

use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{Effect, ProviderError};
use jiff::Timestamp;
use serde_json::Value;

use super::resources::Api;
use super::site::{Site, builder_name, is_builder_name};

/// So long after its making a disk without a machine is nobody's, in seconds: no builder lives for half of it.
const LONGEST: i64 = 48 * 3600;

/// Deletes what builders of a service have left: of this recipe, and of others interfaces, and disks whose time is over. How much there was of this recipe.
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
    let disks: Vec<Left> =
        disks.map(|name| Left::of(name, site.id(&format!("Microsoft.Compute/disks/{name}")))).collect();
    let before = delete(site, site.disks(), Effect::None, &disks).await?;

    let interfaces = site.network().list(&site.id("Microsoft.Network/networkInterfaces")).await?;
    let is_left = |interface: &&Value| interface["properties"]["virtualMachine"].is_null();
    let interfaces = interfaces.iter().filter(is_left).filter_map(|interface| interface["name"].as_str());
    // Azure adds to the name; those of all builders of a service are of one length.
    let left = |name: &str| {
        let builder = name.get(..own.len()).filter(|builder| is_builder_name(builder, service))?;
        Some(Left::of(builder, site.id(&format!("Microsoft.Network/networkInterfaces/{name}"))))
    };
    let interfaces: Vec<Left> = interfaces.filter_map(left).collect();
    delete(site, site.network(), before, &interfaces).await?;
    // Those of others are in nobody's way.
    Ok(disks.iter().chain(&interfaces).filter(|left| left.builder == own).count())
}

/// Something that seems to be left.
struct Left {
    id: String,
    builder: String,
}

impl Left {
    fn of(builder: &str, id: String) -> Self {
        Self { id, builder: builder.to_owned() }
    }
}

async fn delete(site: &Site<'_>, api: Api<'_>, mut before: Effect, all: &[Left]) -> Result<Effect, ProviderError> {
    for Left { id, builder } in all {
        if site.compute().get(&site.machine(builder), None).await?.is_some() {
            continue;
        }
        // An interface is kept for its machine for three minutes after the start of that has failed: it is looked at again.
        api.delete(before, id).await?;
        before = Effect::Unknown;
    }
    Ok(before)
}
