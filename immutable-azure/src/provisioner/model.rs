//! All that the instances of a fleet are, as its scale set is made with.
//!
//! What instances start with is custom data, and not user data: nobody reads it from the API, and cloud-init runs it once, at the first boot.
//! User data can be changed while a machine runs.

use azure_core::base64;
use immutable_core::model::FleetSpec;
use immutable_core::provider::{ErrorKind, ProviderError};
use serde_json::{Value, json};

use super::scale_set::Set;
use super::{ENSURE, tags};
use crate::config::{Boot, Config, Orchestration, Repairs};
use crate::ownership::Record;
use crate::startup;

/// The version of the network that [flexible sets need](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-orchestration-modes#troubleshoot-scale-sets-with-flexible-orchestration).
const NETWORK: &str = "2020-11-01";

/// The longest prefix of the names that machines have for themselves.
const LONGEST_PREFIX: usize = 15;

/// The longest name of a uniform set. Instances have up to fifteen characters more than their set, as in `_99999-0a1b2c3d`, and 65 at most where they are
/// [members of a load balancer](crate::LoadBalancerSwitch), whose names also say since when they are in.
const LONGEST_UNIFORM: usize = 65 - 15;

/// The longest name of a service whose uniform sets have such names: beside it there are the prefix, a dash and twelve digits of the release.
const LONGEST_UNIFORM_SERVICE: usize = 34;

fn refused(problem: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem.into()).without_effect()
}

/// The id of the image: of one version, so that a year later it still is the same.
///
/// # Errors
/// `InvalidRequest` for what is no version of an image, or not one and the same for ever.
pub(super) fn image(spec: &FleetSpec) -> Result<&str, ProviderError> {
    let id = spec.release.image().id.as_str();
    let wrong = || {
        refused(format!(
            "image {id} is no version of an image: give it as \
             /subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.Compute/galleries/<gallery>/images/<image>/versions/1.2.3"
        ))
    };
    let version = crate::config::image_version(id).ok_or_else(wrong)?;
    let mut numbers = version.split('.');
    let is_number = |text: Option<&str>| text.is_some_and(|text| text.parse::<u32>().is_ok());
    let is_version = (0..3).all(|_| is_number(numbers.next())) && numbers.next().is_none();
    if is_version { Ok(id) } else { Err(wrong()) }
}

/// That the set is the one that is asked for: a fleet is bound to its release, and to how it is launched, for ever.
pub(super) fn bound(config: &Config, spec: &FleetSpec, set: &Set) -> Result<(), ProviderError> {
    let (found, fleet) = (&set.record, &spec.id);
    let problem = if found.service != spec.service || found.release != spec.release.id() {
        format!("fleet {fleet} exists with another release: give the new release a fleet of its own")
    } else if found.launch != config.launch.fingerprint() && !grows_as_made(config, spec, set) {
        format!(
            "fleet {fleet} was made with other launch settings (location, zones, size, network, identity, disks): put the settings' \
             label into the release, so that it is a fleet of its own, or use the settings it was made with"
        )
    } else {
        return Ok(());
    };
    Err(ProviderError::new(ErrorKind::Immutable, ENSURE, problem).without_effect())
}

/// Whether the release says itself with which settings it is launched: then its set grows as it was made. A rollout that has brought other settings
/// has to be able to go back to it.
fn grows_as_made(config: &Config, spec: &FleetSpec, set: &Set) -> bool {
    let (key, _) = config.launch_label();
    spec.release.launch().labels.get(&key) == Some(&set.record.launch.short())
}

/// The scale set of a fleet, with so many instances to start.
///
/// # Errors
/// `InvalidRequest` for what no instance could be made of.
pub(super) fn document(config: &Config, name: &str, spec: &FleetSpec) -> Result<Value, ProviderError> {
    let launch = &config.launch;
    let image = image(spec)?;
    let mut tags = Record::of(spec, launch.fingerprint()).tags(ENSURE)?;
    tags[tags::IMAGE_ID] = tags::image(image).into();
    let mut set = json!({
        "location": launch.location,
        "tags": tags,
        "sku": { "name": launch.vm_size, "tier": "Standard", "capacity": spec.size },
        "properties": {
            "singlePlacementGroup": false,
            // Nothing is changed in place.
            "upgradePolicy": { "mode": "Manual" },
            "virtualMachineProfile": {
                "osProfile": system(config, spec)?,
                "storageProfile": { "imageReference": { "id": image }, "osDisk": disk(config) },
                "networkProfile": network(config, name),
            },
        },
    });
    if !launch.zones.is_empty() {
        set["zones"] = json!(launch.zones);
    }
    if launch.zones.len() > 1 {
        // A zone without room must not keep a fleet from growing in the others.
        set["properties"]["zoneBalance"] = false.into();
    }
    if let Some(identity) = &launch.identity {
        set["identity"] = json!({ "type": "UserAssigned", "userAssignedIdentities": { identity.as_str(): {} } });
    }
    let properties = &mut set["properties"];
    match launch.orchestration {
        Orchestration::Flexible => {
            properties["orchestrationMode"] = "Flexible".into();
            // Machines are spread as far as possible, which is all that sets in zones can do.
            properties["platformFaultDomainCount"] = 1.into();
        }
        Orchestration::Uniform => {
            if name.len() > LONGEST_UNIFORM {
                return Err(refused(format!(
                    "{} is too long for a uniform scale set: name the service with at most {LONGEST_UNIFORM_SERVICE} characters",
                    spec.id
                )));
            }
            properties["orchestrationMode"] = "Uniform".into();
            // Never more than asked for, not even for a moment.
            properties["overprovision"] = false.into();
            properties["upgradePolicy"]["automaticOSUpgradePolicy"] = json!({ "enableAutomaticOSUpgrade": false });
        }
    }
    if launch.boot == Boot::Trusted {
        let firmware = json!({ "secureBootEnabled": true, "vTpmEnabled": true });
        properties["virtualMachineProfile"]["securityProfile"] =
            json!({ "securityType": "TrustedLaunch", "uefiSettings": firmware });
    }
    health(config, properties);
    Ok(set)
}

/// How the set knows who is healthy, and replaces who is not:
/// <https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension>.
fn health(config: &Config, properties: &mut Value) {
    let Some(path) = &config.health_path else { return };
    let extension = json!({
        "name": "health",
        "properties": {
            "publisher": "Microsoft.ManagedServices",
            "type": "ApplicationHealthLinux",
            // Healthy is who answers with 200. Later versions want an answer of their own kind.
            "typeHandlerVersion": "1.0",
            "autoUpgradeMinorVersion": true,
            "enableAutomaticUpgrade": false,
            "settings": { "protocol": "http", "port": config.port, "requestPath": path },
        },
    });
    properties["virtualMachineProfile"]["extensionProfile"] = json!({ "extensions": [extension] });
    if let Repairs::After(grace) = config.repairs {
        let minutes = grace.as_secs() / 60;
        properties["automaticRepairsPolicy"] =
            json!({ "enabled": true, "gracePeriod": format!("PT{minutes}M"), "repairAction": "Replace" });
    }
}

fn system(config: &Config, spec: &FleetSpec) -> Result<Value, ProviderError> {
    let script = startup::script(spec.release.launch())?;
    let mut linux = startup::linux(config.launch.ssh_public_key.as_deref());
    // The platform itself installs nothing later.
    linux["patchSettings"] = json!({ "patchMode": "ImageDefault", "assessmentMode": "ImageDefault" });
    let mut prefix: String = format!("im-{}", spec.service).chars().take(LONGEST_PREFIX).collect();
    prefix.truncate(prefix.trim_end_matches('-').len());
    Ok(json!({
        "computerNamePrefix": prefix,
        "adminUsername": startup::ADMIN,
        "customData": base64::encode(script),
        "linuxConfiguration": linux,
    }))
}

/// The disk, which goes when the instance goes.
fn disk(config: &Config) -> Value {
    let (launch, wanted) = (&config.launch, &config.launch.disk);
    let kind = wanted.kind.as_deref().unwrap_or("StandardSSD_LRS");
    let mut disk =
        json!({ "createOption": "FromImage", "caching": "ReadWrite", "managedDisk": { "storageAccountType": kind } });
    if let Some(gigabytes) = wanted.gigabytes {
        disk["diskSizeGB"] = gigabytes.into();
    }
    if launch.orchestration == Orchestration::Flexible {
        // That of a member of a uniform set goes with it in any case.
        disk["deleteOption"] = "Delete".into();
    }
    disk
}

fn network(config: &Config, name: &str) -> Value {
    let launch = &config.launch;
    let is_flexible = launch.orchestration == Orchestration::Flexible;
    let mut address =
        json!({ "primary": true, "privateIPAddressVersion": "IPv4", "subnet": { "id": launch.subnet.as_str() } });
    if launch.exceptions.public_addresses {
        let mut public = json!({ "name": "public", "sku": { "name": "Standard" }, "properties": {} });
        if is_flexible {
            public["properties"]["deleteOption"] = "Delete".into();
        }
        address["publicIPAddressConfiguration"] = public;
    }
    let mut interface = json!({ "primary": true, "ipConfigurations": [{ "name": "primary", "properties": address }] });
    if let Some(group) = &launch.security_group {
        interface["networkSecurityGroup"] = json!({ "id": group });
    }
    if is_flexible {
        interface["deleteOption"] = "Delete".into();
    }
    let mut network = json!({ "networkInterfaceConfigurations": [{ "name": name, "properties": interface }] });
    if is_flexible {
        network["networkApiVersion"] = NETWORK.into();
    }
    network
}
