//! The disks of builders.

use google_cloud_compute_v1::model::Disk;
use google_cloud_gax::paginator::Paginator as _;
use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ProviderError};
use jiff::Timestamp;

use super::ENSURE;
use super::artifact::PAGE;
use super::builder::{filter, is_expired, last};
use super::record::RECIPE;
use crate::config::Config;
use crate::error::{failed, reached, unseen};
use crate::operation::{Change, Scope, Turn};

/// Deletes the disks that builders have left: those of this recipe, and those of others whose time is over. How many there were.
///
/// A disk goes with its machine. One can be left where the start of a machine has failed, and would be in the way of the next.
pub(super) async fn sweep(
    config: &Config,
    key: &IdempotencyKey,
    service: &ServiceName,
    recipe: &Fingerprint,
    now: Timestamp,
) -> Result<usize, ProviderError> {
    let project = &config.project;
    let request = config.clients.disks.aggregated_list().set_project(project).set_filter(filter(service));
    let (mut pages, mut left) = (request.set_max_results(PAGE).by_page(), Vec::new());
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unseen(ENSURE, error))?;
        reached!(ENSURE, page.items, &page.unreachables)?;
        let is_left = |disk: &Disk| {
            let is_ours = disk.labels.get(RECIPE) == Some(&recipe.short());
            disk.users.is_empty() && (is_ours || is_expired(&disk.labels, now))
        };
        left.extend(page.items.into_values().flat_map(|zone| zone.disks).filter(is_left));
    }
    let mut before = Effect::None;
    for disk in &left {
        let (Some(name), Some(zone)) = (disk.name.as_deref(), disk.zone.as_deref().map(last)) else { continue };
        let (scope, target) = (Scope::Zone(zone.to_owned()), format!("disks/{name}"));
        let change = Change { config, operation: ENSURE, scope: &scope, target, key, step: "delete a disk" };
        let Turn::Send(id) = change.turn().await? else { continue };
        let request = config.clients.disks.delete().set_project(project).set_zone(zone).set_disk(name);
        match request.set_request_id(id).send().await {
            Ok(operation) => drop(change.answered(before, &operation)?),
            Err(error) => {
                let error = failed(ENSURE, before, error);
                if error.kind() != ErrorKind::NotFound {
                    return Err(error);
                }
            }
        }
        before = Effect::Unknown;
    }
    Ok(left.len())
}
