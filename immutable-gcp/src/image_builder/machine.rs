//! Starting the machine that an image is built on.

use std::collections::HashMap;
use std::time::Duration;

use google_cloud_compute_v1::model::{self, metadata, scheduling};
use immutable_core::model::{Fingerprint, Image, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ImageSpec, OpContext, Progress, ProviderError};
use immutable_guest::{Attempt, Build};
use jiff::Timestamp;

use super::builder::TO_BOOT_AND_TO_BE_HEARD;
use super::record::{BUILDER, EXPIRES_AT, RECIPE, ROLE, ROLLOUT, Record};
use super::{BUILDS, ENSURE, artifact, pending, waiting};
use crate::config::Config;
use crate::error::failed;
use crate::operation::{Change, Scope, Turn};
use crate::ownership::{SERVICE, label};
use crate::startup::LIMIT;

/// What a builder is started for.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) cx: &'a OpContext,
    pub(super) spec: &'a ImageSpec,
    pub(super) build: &'a Build,
    pub(super) now: Timestamp,
}

/// Starts the builder of a recipe. Its name makes it one in its zone, however often and by whomever it is asked for.
pub(super) async fn start(config: &Config, order: &Order<'_>) -> Result<Progress<Image>, ProviderError> {
    let (images, project) = (&config.images, &config.project);
    let zone = images.zone.as_ref().or(config.launch.location.zones().first()).cloned().unwrap_or_default();
    let (scope, name) = (Scope::Zone(zone.clone()), name(&order.spec.service, &order.build.fingerprint()));
    let expires = expires_at(images.deadline, order.now).as_second();
    let (target, step) = (format!("instances/{name}"), step(config, order, expires));
    let change = Change { config, operation: ENSURE, scope: &scope, target, key: &order.cx.key, step: &step };
    let id = match change.turn().await? {
        Turn::Wait(progress) => return Ok(waiting(progress)),
        Turn::Send(id) => id,
    };
    let parents = artifact::parents(config, order.build.base()).await?;
    let body = machine(config, order, &name, &zone, &id, expires, parents)?;
    let request = config.clients.instances.insert().set_project(project).set_zone(zone).set_request_id(id);
    match request.set_body(body).send().await {
        Ok(operation) => change.answered(Effect::None, &operation).map(|_| pending(format!("builder {name} to start"))),
        Err(error) => match failed(ENSURE, Effect::None, error) {
            error if error.kind() == ErrorKind::Conflict => Ok(pending(format!("builder {name}, which is there"))),
            error => Err(error),
        },
    }
}

/// What has the same id has to say the same: another end, other labels and other settings make another request of the same intent.
fn step(config: &Config, order: &Order<'_>, expires: i64) -> String {
    let said = (&order.spec.version, &order.spec.commit, &order.cx.rollout, &config.images);
    let said = Fingerprint::of(format!("{said:?} {}", config.launch.fingerprint()));
    format!("start a builder until {expires} {said}")
}

fn name(service: &ServiceName, recipe: &Fingerprint) -> String {
    format!("{}-b", artifact::name(service, recipe))
}

/// The full hour after the deadline and an hour more: the same for all who start the same builder within an hour.
fn expires_at(deadline: Duration, now: Timestamp) -> Timestamp {
    const HOUR: i64 = 3600;
    let end = now.as_second().saturating_add(i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX));
    let hour = end.div_euclid(HOUR).saturating_add(2).saturating_mul(HOUR);
    Timestamp::from_second(hour).unwrap_or(Timestamp::MAX)
}

/// The whole of a builder. What will be known of the image stands on it, so that whoever comes later can go on with it.
fn machine(
    config: &Config,
    order: &Order<'_>,
    name: &str,
    zone: &str,
    request: &str,
    expires: i64,
    parents: Vec<Fingerprint>,
) -> Result<model::Instance, ProviderError> {
    let (images, launch, spec) = (&config.images, &config.launch, order.spec);
    let refused = |problem: String| ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem).without_effect();
    let nonce = IdempotencyKey::of(&["builder", request]).as_str().to_owned();
    let attempt = Attempt { nonce: nonce.clone(), deadline: images.deadline };
    let script = order.build.script(&attempt);
    if script.len() > LIMIT {
        return Err(refused(format!("the recipe makes {} bytes: {}", script.len(), BUILDS.too_large)));
    }
    let (service, recipe) = (spec.service.clone(), order.build.fingerprint());
    let (version, commit) = (spec.version.clone(), spec.commit.clone());
    let record = Record { service, recipe, nonce, version, commit, parents };
    let description = record.description();
    let description = description.ok_or_else(|| {
        refused("version: it has no room beside all the images below: shorten it, and the commit".to_owned())
    })?;
    let labels = labels(order, &recipe, expires);
    let exceptions = &launch.exceptions;
    let shielded = model::ShieldedInstanceConfig::new()
        .set_enable_secure_boot(!exceptions.unverified_boot)
        .set_enable_vtpm(true)
        .set_enable_integrity_monitoring(true);
    let machine_type = images.machine_type.as_ref().unwrap_or(&launch.machine_type);
    let account = images.service_account.as_ref().map(|email| {
        model::ServiceAccount::new().set_email(email).set_scopes(["https://www.googleapis.com/auth/cloud-platform"])
    });
    Ok(model::Instance::new()
        .set_name(name)
        .set_description(description)
        .set_machine_type(format!("zones/{zone}/machineTypes/{machine_type}"))
        .set_disks([disk(config, order.build.base(), zone, &labels)])
        .set_labels(labels)
        .set_metadata(model::Metadata::new().set_items(metadata(&script)))
        .set_network_interfaces([interface(config)])
        .set_or_clear_tags(launch.tags())
        .set_shielded_instance_config(shielded)
        .set_service_accounts(account)
        .set_scheduling(scheduling(images.deadline)))
}

fn labels(order: &Order<'_>, recipe: &Fingerprint, expires: i64) -> HashMap<String, String> {
    let rollout = order.cx.rollout.as_ref().map(|rollout| (ROLLOUT, label(rollout.as_str())));
    let labels = [
        (SERVICE, label(order.spec.service.as_str())),
        (ROLE, BUILDER.to_owned()),
        (RECIPE, recipe.short()),
        (EXPIRES_AT, expires.to_string()),
    ];
    labels.into_iter().chain(rollout).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The disk goes with the builder, and becomes the image before that.
fn disk(config: &Config, base: &Image, zone: &str, labels: &HashMap<String, String>) -> model::AttachedDisk {
    let launch = &config.launch;
    let kind = launch.disk_type.as_ref().map(|kind| format!("zones/{zone}/diskTypes/{kind}"));
    let size = launch.disk_gb.map(i64::from);
    let initial = model::AttachedDiskInitializeParams::new()
        .set_source_image(base.id.as_str())
        .set_labels(labels.clone())
        .set_or_clear_disk_type(kind)
        .set_or_clear_disk_size_gb(size);
    let key = launch.disk_key.as_ref().map(|key| model::CustomerEncryptionKey::new().set_kms_key_name(key));
    model::AttachedDisk::new()
        .set_boot(true)
        .set_auto_delete(true)
        .set_initialize_params(initial)
        .set_or_clear_disk_encryption_key(key)
}

fn metadata(script: &str) -> [metadata::Items; 5] {
    [
        ("enable-guest-attributes", "TRUE"),
        ("enable-oslogin", "FALSE"),
        ("block-project-ssh-keys", "TRUE"),
        ("serial-port-enable", "FALSE"),
        ("startup-script", script),
    ]
    .map(|(key, value)| metadata::Items::new().set_key(key).set_value(value))
}

fn interface(config: &Config) -> model::NetworkInterface {
    let (launch, images) = (&config.launch, &config.images);
    let subnetwork = images.subnetwork.as_ref().or(launch.subnetwork.as_ref());
    // A subnetwork of its own may be in another network, which it says itself.
    let network = images.subnetwork.is_none().then(|| launch.network());
    let external =
        model::AccessConfig::new().set_name("External NAT").set_type(model::access_config::Type::OneToOneNat);
    model::NetworkInterface::new()
        .set_or_clear_network(network)
        .set_or_clear_subnetwork(subnetwork.cloned())
        .set_access_configs(launch.exceptions.external_address.then_some(external))
}

/// A builder that nobody comes back to is deleted by Compute Engine itself, as long as it has not switched itself off. It is not started again
/// when its host fails, because its script would begin again.
fn scheduling(deadline: Duration) -> model::Scheduling {
    let time = deadline + TO_BOOT_AND_TO_BE_HEARD + BUILDS.stays_on + Duration::from_hours(1);
    let most = model::Duration::new().set_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    model::Scheduling::new()
        .set_automatic_restart(false)
        .set_max_run_duration(most)
        .set_instance_termination_action(scheduling::InstanceTerminationAction::Delete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_starts_a_builder_within_the_hour_gives_it_the_same_end() {
        let at = |time: &str| expires_at(Duration::from_mins(30), time.parse().unwrap()).to_string();
        assert_eq!(at("2026-01-02T03:00:00Z"), "2026-01-02T05:00:00Z");
        assert_eq!(at("2026-01-02T03:29:59Z"), "2026-01-02T05:00:00Z");
        assert_eq!(at("2026-01-02T03:30:00Z"), "2026-01-02T06:00:00Z");
    }
}
