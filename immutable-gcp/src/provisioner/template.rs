//! The instance template of a fleet: all that its instances are, which nobody can change, and the record that the fleet exists.

use google_cloud_compute_v1::model::deprecation_status::State;
use google_cloud_compute_v1::model::{
    AccessConfig, AttachedDisk, AttachedDiskInitializeParams, CustomerEncryptionKey, InstanceProperties,
    InstanceTemplate, Metadata, NetworkInterface, ServiceAccount, ShieldedInstanceConfig, access_config, attached_disk,
    image, metadata,
};
use immutable_core::model::{Fingerprint, FleetSpec};
use immutable_core::provider::{Effect, ErrorKind, OpContext, Progress, ProviderError};

use super::group::{Place, made};
use super::survey::Parts;
use super::{ENSURE, REMOVE};
use crate::changes;
use crate::config::{Config, launch_key};
use crate::error::failed;
use crate::operation::{Change, Scope};
use crate::ownership::{self, Record};
use crate::startup;

/// The whole fingerprint of the release that the fleet is bound to.
pub(super) const RELEASE: &str = "release";
/// The fingerprint of the content of the image.
pub(super) const IMAGE: &str = "image";
/// The image itself.
const IMAGE_ID: &str = "image_id";
/// The fingerprint of the settings that instances are launched with, beside the release.
const LAUNCH: &str = "launch";
/// Where the group is: `regions/...` or `zones/...`.
const LOCATION: &str = "location";

/// All that the instance may do is decided by the roles of its service account:
/// <https://docs.cloud.google.com/compute/docs/access/service-accounts#scopes_best_practice>.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// What a fleet is bound to that is launched with these settings.
pub(super) fn record(config: &Config, spec: &FleetSpec) -> Record {
    let image = spec.release.image();
    Record::of(spec)
        .with(RELEASE, spec.release.id().fingerprint().to_string())
        .with(IMAGE, image.fingerprint.to_string())
        .with(IMAGE_ID, image.id.as_str())
        .with(LAUNCH, config.launch.fingerprint().to_string())
        .with(LOCATION, Place::of(config).to_string())
}

/// Where the group of a fleet is that has this record.
pub(crate) fn place_of(record: &Record) -> Option<Place> {
    Place::read(record.get(LOCATION)?)
}

/// The URL of the template of this name, from the project on.
pub(super) fn url(config: &Config, name: &str) -> String {
    format!("projects/{}/global/instanceTemplates/{name}", config.project)
}

/// That the fleet which exists is the one that is asked for: a fleet is bound to its release, and to how it is launched, for ever.
pub(super) fn bound(config: &Config, spec: &FleetSpec, parts: &Parts) -> Result<(), ProviderError> {
    let fleet = &spec.id;
    let Some(found) = &parts.record else {
        if parts.template.is_none() && parts.manager.is_none() {
            return Ok(());
        }
        let problem = format!("something that is not ours has the name of fleet {fleet}: remove it");
        return Err(ProviderError::new(ErrorKind::Immutable, ENSURE, problem).without_effect());
    };
    let wanted = record(config, spec);
    let same = |key: &str| found.get(key) == wanted.get(key);
    let problem = if found.service != wanted.service || !same(RELEASE) {
        format!("fleet {fleet} exists with another release: give the new release a fleet of its own")
    } else if !same(LAUNCH) && !grows_as_made(config, found, spec, parts) {
        format!(
            "fleet {fleet} was made with other launch settings (location, machine type, network, service account, disks): \
             put the settings' label into the release, so that it is a fleet of its own, or use the settings it was made with"
        )
    } else {
        return Ok(());
    };
    Err(ProviderError::new(ErrorKind::Immutable, ENSURE, problem).without_effect())
}

/// Whether the fleet grows by what is there, its template and the place of its group, and its release says itself with which settings it is launched. A
/// rollout that has brought other settings has to be able to go back to it.
fn grows_as_made(config: &Config, found: &Record, spec: &FleetSpec, parts: &Parts) -> bool {
    let made: Option<Fingerprint> = found.get(LAUNCH).and_then(|made| made.parse().ok());
    let labelled = spec.release.launch().labels.get(&launch_key());
    let has_all = parts.manager.is_some() || parts.template.is_some() && place_of(found) == Some(Place::of(config));
    has_all && labelled.is_some() && labelled == made.map(|made| made.short()).as_ref()
}

/// Makes the template, which shows before that the image can be launched.
pub(super) async fn make(config: &Config, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
    let name = ownership::name(ENSURE, &spec.id)?;
    let image = image(config, spec).await?;
    let body = InstanceTemplate::new()
        .set_name(&name)
        .set_description(record(config, spec).description())
        .set_properties(properties(config, spec, &image)?);
    let change = change(config, cx, ENSURE, &name, "insert");
    let sent = changes::send(&change, |id| async move {
        let request = config.clients.instance_templates.insert().set_project(&config.project);
        request.set_body(body).set_request_id(id).send().await
    });
    sent.await.or_else(made)
}

/// Removes the template, the last of a fleet.
pub(super) async fn remove(config: &Config, cx: &OpContext, name: &str) -> Result<Progress<()>, ProviderError> {
    let change = change(config, cx, REMOVE, name, "delete");
    let sent = changes::send(&change, |id| async move {
        let request = config.clients.instance_templates.delete().set_project(&config.project);
        request.set_instance_template(name).set_request_id(id).send().await
    });
    sent.await.or_else(changes::gone)
}

fn change<'a>(config: &'a Config, cx: &'a OpContext, operation: &'static str, name: &str, step: &'a str) -> Change<'a> {
    let target = format!("instanceTemplates/{name}");
    Change { config, operation, scope: &Scope::Global, target, key: &cx.key, step }
}

/// The URL of the image, from the project on. It names one image: a family is another image tomorrow.
async fn image(config: &Config, spec: &FleetSpec) -> Result<String, ProviderError> {
    let id = &spec.release.image().id;
    let refused = |problem: &str| {
        let problem = format!("image {id} {problem}");
        ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem).without_effect()
    };
    let path = id.as_str().split_once("projects/").map(|(_, path)| path);
    let parts = path.map(|path| path.split('/').collect::<Vec<_>>());
    let Some([project, "global", "images", name]) = parts.as_deref() else {
        return Err(refused("is no image: give it as projects/<project>/global/images/<name>, not as a family"));
    };
    let found = config.clients.images.get().set_project(*project).set_image(*name).send().await;
    let found = match found {
        Err(error) if error.http_status_code() == Some(404) => {
            return Err(refused("does not exist: build it, or let this project use it"));
        }
        found => found.map_err(|error| failed(ENSURE, Effect::None, error))?,
    };
    if found.status == Some(image::Status::Failed) {
        return Err(refused("could not be made and is not whole: build it again"));
    }
    // "An error message is returned if you try to use this image in a request":
    // https://docs.cloud.google.com/compute/docs/images/deprecate-custom
    let state = found.deprecated.as_ref().and_then(|deprecated| deprecated.state.as_ref());
    if state.is_some_and(|state| [State::Obsolete, State::Deleted].contains(state)) {
        return Err(refused("is obsolete, and no instance can be made of it: build it again"));
    }
    Ok(format!("projects/{project}/global/images/{name}"))
}

fn properties(config: &Config, spec: &FleetSpec, image: &str) -> Result<InstanceProperties, ProviderError> {
    let (launch, labels) = (&config.launch, labels(spec));
    let properties = InstanceProperties::new()
        .set_machine_type(&launch.machine_type)
        .set_disks([disk(config, spec, image)])
        .set_network_interfaces([interface(config)])
        .set_or_clear_tags(config.launch.tags())
        .set_shielded_instance_config(
            ShieldedInstanceConfig::new()
                .set_enable_secure_boot(!launch.exceptions.unverified_boot)
                .set_enable_vtpm(true)
                .set_enable_integrity_monitoring(true),
        )
        .set_metadata(Metadata::new().set_items(metadata(config, spec)?))
        .set_labels(labels);
    let account = |email: &String| ServiceAccount::new().set_email(email).set_scopes([SCOPE]);
    Ok(properties.set_service_accounts(launch.service_account.iter().map(account)))
}

fn labels(spec: &FleetSpec) -> [(&'static str, String); 3] {
    [
        (ownership::SERVICE, ownership::label(spec.service.as_str())),
        (ownership::FLEET, ownership::label(spec.id.as_str())),
        ("immutable-rollout", ownership::label(spec.rollout.as_str())),
    ]
}

/// The boot disk, which goes when the instance goes.
fn disk(config: &Config, spec: &FleetSpec, image: &str) -> AttachedDisk {
    let launch = &config.launch;
    let parameters = AttachedDiskInitializeParams::new()
        .set_source_image(image)
        .set_labels(labels(spec))
        .set_or_clear_disk_size_gb(launch.disk_gb.map(i64::from))
        .set_or_clear_disk_type(launch.disk_type.as_ref());
    let key = launch.disk_key.as_ref().map(|key| CustomerEncryptionKey::new().set_kms_key_name(key));
    AttachedDisk::new()
        .set_boot(true)
        .set_auto_delete(true)
        .set_type(attached_disk::Type::Persistent)
        .set_initialize_params(parameters)
        .set_or_clear_disk_encryption_key(key)
}

fn interface(config: &Config) -> NetworkInterface {
    let launch = &config.launch;
    let external = AccessConfig::new().set_name("External NAT").set_type(access_config::Type::OneToOneNat);
    NetworkInterface::new()
        .set_network(launch.network())
        .set_or_clear_subnetwork(launch.subnetwork.as_ref())
        .set_access_configs(launch.exceptions.external_address.then_some(external))
}

/// What the instance is told: the script of its first boot, and that nobody logs in.
fn metadata(config: &Config, spec: &FleetSpec) -> Result<Vec<metadata::Items>, ProviderError> {
    let blocked = if config.launch.exceptions.project_ssh_keys { "FALSE" } else { "TRUE" };
    let items = [
        ("block-project-ssh-keys", blocked.to_owned()),
        ("enable-oslogin", "FALSE".to_owned()),
        ("serial-port-enable", "FALSE".to_owned()),
        ("startup-script", startup::script(spec.release.launch())?),
    ];
    Ok(items.into_iter().map(|(key, value)| metadata::Items::new().set_key(key).set_value(value)).collect())
}
