//! Who still needs an image.

use immutable_core::model::Image;
use immutable_core::provider::ProviderError;
use serde_json::Value;

use super::artifact;
use super::site::Site;

/// The first in the resource group, or in the gallery, that needs an image, in words, if anybody does.
pub(super) async fn find(site: &Site<'_>, image: &Image) -> Result<Option<String>, ProviderError> {
    let is_it = |storage: &Value| {
        let id = storage["imageReference"]["id"].as_str();
        id.is_some_and(|id| id.eq_ignore_ascii_case(image.id.as_str()))
    };
    let name = |found: &Value| found["name"].as_str().unwrap_or_default().to_owned();
    let sets = site.compute().list(&site.id("Microsoft.Compute/virtualMachineScaleSets")).await?;
    let starts_from_it = |set: &&Value| is_it(&set["properties"]["virtualMachineProfile"]["storageProfile"]);
    if let Some(set) = sets.iter().find(starts_from_it) {
        return Ok(Some(format!("scale set {} starts machines from it: remove the fleet first", name(set))));
    }
    let machines = site.compute().list(&site.id("Microsoft.Compute/virtualMachines")).await?;
    if let Some(machine) = machines.iter().find(|machine| is_it(&machine["properties"]["storageProfile"])) {
        return Ok(Some(format!("machine {} was started from it: retire it first", name(machine))));
    }
    let built = artifact::own(site, None).await?;
    let child = built.iter().find(|other| other.image.parents.contains(&image.fingerprint));
    Ok(child.map(|child| format!("image {} is built on it: remove that one first", child.id)))
}
