//! Starting the machine that an image is built on.

use std::time::Duration;

use azure_core::base64;
use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ImageSpec, OpContext, Progress, ProviderError};
use immutable_guest::{Attempt, Build};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::base::Base;
use super::builder::TO_BOOT_AND_TO_BE_HEARD;
use super::record::{BUILDER, EXPIRES_AT, ROLLOUT, Record};
use super::resources::COMPUTE;
use super::site::{Site, builder_name};
use super::{BUILDS, artifact, builder, pending};
use crate::client::Request;
use crate::startup::{ADMIN, LIMIT, linux};

/// The version of the API for networks by which the interface of a machine is made with it.
const NETWORK: &str = "2022-11-01";

/// How long a builder is left alone, beside the time that it may take: what is made of it is copied to all regions before it ends.
const TO_BE_COPIED: Duration = Duration::from_hours(6);

/// What a builder is started for.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) cx: &'a OpContext,
    pub(super) spec: &'a ImageSpec,
    pub(super) build: &'a Build,
}

/// The whole of the builder of a recipe, if it can be one. Nothing is changed.
pub(super) async fn plan(site: &Site<'_>, order: &Order<'_>) -> Result<Value, ProviderError> {
    let parents = artifact::parents(site, order.build.base()).await?;
    machine(site, order, &builder_name(&order.spec.service, &order.build.fingerprint()), parents)
}

/// Starts the builder of a recipe, which is [planned](plan). Its name makes it one, however often and by whomever it is asked for: what is there is never
/// changed by this.
pub(super) async fn start(site: &Site<'_>, order: &Order<'_>, body: &Value) -> Result<Progress<Image>, ProviderError> {
    let name = builder_name(&order.spec.service, &order.build.fingerprint());
    let request = Request::new(Method::PUT, &site.machine(&name), COMPUTE).if_absent().json(body);
    match site.compute().change(Effect::None, &format!("builder {name}"), request).await {
        Ok(_) => Ok(pending(format!("builder {name} to start"))),
        // Somebody else has started it, or something else is in the way.
        Err(error) if error.kind() == ErrorKind::Conflict => {
            builder::of_recipe(site, &order.spec.service, &order.build.fingerprint()).await?.ok_or(error)?;
            Ok(pending(format!("builder {name}, which is there")))
        }
        Err(error) if error.kind() == ErrorKind::NotFound && error.effect() == Effect::None => {
            let problem = format!("builder {name} needs what is not there, its base perhaps: {error}");
            Err(site.refused(ErrorKind::InvalidRequest, problem).with_source(error))
        }
        Err(error) => Err(error),
    }
}

/// The whole of a builder. What will be known of the image stands on it, so that whoever comes later can go on with it.
fn machine(site: &Site<'_>, order: &Order<'_>, name: &str, parents: Vec<Fingerprint>) -> Result<Value, ProviderError> {
    let (images, launch, spec) = (site.images, &site.config.launch, order.spec);
    let refused = |problem: String| site.refused(ErrorKind::InvalidRequest, problem);
    let base = Base::read(order.build.base().id.as_str())
        .ok_or_else(|| refused(format!("base: {} is no image of Azure", order.build.base().id)))?;
    let expires = expires_at(images.deadline, site.now).to_string();
    let nonce =
        IdempotencyKey::of(&["builder", order.cx.key.as_str(), name, &site.now.to_string()]).as_str().to_owned();
    let script = order.build.script(&Attempt { nonce: nonce.clone(), deadline: images.deadline });
    if script.len() > LIMIT {
        return Err(refused(format!("the recipe makes {} bytes: {}", script.len(), BUILDS.too_large)));
    }
    let (service, recipe) = (spec.service.clone(), order.build.fingerprint());
    let (version, commit) = (spec.version.clone(), spec.commit.clone());
    let mut tags = Record { service, recipe, nonce, version, commit, parents }.tags(BUILDER);
    tags.insert(EXPIRES_AT.to_owned(), expires.into());
    if let Some(rollout) = &order.cx.rollout {
        tags.insert(ROLLOUT.to_owned(), rollout.as_str().chars().take(128).collect::<String>().into());
    }
    let mut machine = json!({
        "location": launch.location,
        "tags": tags,
        "properties": {
            "hardwareProfile": { "vmSize": images.vm_size.as_ref().unwrap_or(&launch.vm_size) },
            "storageProfile": {
                "imageReference": base.reference(),
                // Named, so that it is known again should it ever be left.
                "osDisk": { "name": name, "createOption": "FromImage", "caching": "ReadWrite", "deleteOption": "Delete" },
            },
            "osProfile": {
                "computerName": name,
                "adminUsername": ADMIN,
                "linuxConfiguration": linux(None),
                "customData": base64::encode(script),
            },
            "networkProfile": {
                "networkApiVersion": NETWORK,
                "networkInterfaceConfigurations": [{
                    "name": name,
                    "properties": {
                        "primary": true,
                        "deleteOption": "Delete",
                        "ipConfigurations": [{
                            "name": "main",
                            "properties": {
                                "primary": true,
                                "subnet": { "id": images.subnet.as_ref().unwrap_or(&launch.subnet) },
                            },
                        }],
                    },
                }],
            },
        },
    });
    if let Some(identity) = &images.identity {
        let mut identities = json!({});
        identities[identity] = json!({});
        machine["identity"] = json!({ "type": "UserAssigned", "userAssignedIdentities": identities });
    }
    Ok(machine)
}

/// When nobody needs a builder any more, in seconds since 1970.
fn expires_at(deadline: Duration, now: Timestamp) -> i64 {
    let time = deadline + TO_BOOT_AND_TO_BE_HEARD + BUILDS.stays_on + TO_BE_COPIED;
    now.as_second().saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
