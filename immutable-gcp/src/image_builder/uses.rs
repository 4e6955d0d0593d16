//! Who still needs an image.

use google_cloud_compute_v1::model::{Disk, InstanceTemplate};
use google_cloud_gax::paginator::Paginator as _;
use immutable_core::model::Image;
use immutable_core::provider::ProviderError;

use super::artifact::{self, PAGE};
use super::builder::last;
use super::record::IMAGE;
use super::{Named, REMOVE};
use crate::config::Config;
use crate::error::{reached, unseen};

/// The first that needs an image, in words, if anybody does.
pub(super) async fn find(config: &Config, image: &Image, named: &Named<'_>) -> Result<Option<String>, ProviderError> {
    if let Some(instance) = instance(config, named).await? {
        return Ok(Some(format!("instance {instance} was started from it: retire it first")));
    }
    if let Some(template) = template(config, named).await? {
        return Ok(Some(format!("instance template {template} names it: remove the fleet or the template first")));
    }
    let built = artifact::own(config, REMOVE, format!("labels.{IMAGE}:*")).await?;
    let mut built = built.iter().filter_map(|artifact| artifact.image.as_ref());
    let child = built.find(|other| other.parents.contains(&image.fingerprint));
    Ok(child.map(|child| format!("image {} is built on it: remove that one first", child.id)))
}

/// An instance says nothing of its image; its disk does.
async fn instance(config: &Config, named: &Named<'_>) -> Result<Option<String>, ProviderError> {
    let filter = format!("sourceImage eq .*/projects/{}/global/images/{}", named.project, named.name);
    let request = config.clients.disks.aggregated_list().set_project(&config.project).set_filter(filter);
    let mut pages = request.set_max_results(PAGE).by_page();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unseen(REMOVE, error))?;
        reached!(REMOVE, page.items, &page.unreachables)?;
        let disks = page.items.values().flat_map(|zone| &zone.disks);
        let mut users = disks.flat_map(|disk: &Disk| &disk.users);
        if let Some(user) = users.next() {
            return Ok(Some(last(user).to_owned()));
        }
    }
    Ok(None)
}

/// Templates of fleets, and those that are not ours.
async fn template(config: &Config, named: &Named<'_>) -> Result<Option<String>, ProviderError> {
    let request = config.clients.instance_templates.aggregated_list().set_project(&config.project);
    let mut pages = request.set_max_results(PAGE).by_page();
    let names_it = |template: &&InstanceTemplate| {
        let disks = template.properties.iter().flat_map(|properties| &properties.disks);
        let mut images = disks.filter_map(|disk| disk.initialize_params.as_ref()?.source_image.as_deref());
        images.any(|image| named.is(&config.project, image))
    };
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unseen(REMOVE, error))?;
        reached!(REMOVE, page.items, &[])?;
        if let Some(template) = page.items.values().flat_map(|scope| &scope.instance_templates).find(names_it) {
            return Ok(Some(template.name.clone().unwrap_or_default()));
        }
    }
    Ok(None)
}
