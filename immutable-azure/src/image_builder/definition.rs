//! The definition that the images of a service are versions of. It is made with the first of them, and stays: it costs nothing.

use immutable_core::model::ServiceName;
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use reqwest::Method;
use serde_json::{Value, json};

use super::record::{IMAGE_OF, IMAGES, ROLE, tag};
use super::resources::{GALLERIES, last};
use super::site::Site;
use crate::client::Request;
use crate::operation::Standing;

/// The definitions of ours in the gallery, of a service if one is given, by their ids.
pub(super) async fn own(site: &Site<'_>, service: Option<&ServiceName>) -> Result<Vec<String>, ProviderError> {
    let gallery = &site.images.gallery;
    let found = site.galleries().list(&format!("{gallery}/images")).await.map_err(|error| missing(site, error))?;
    let is_own = |definition: &&Value| {
        let tags = &definition["tags"];
        tag(tags, ROLE) == Some(IMAGES) && service.is_none_or(|service| tag(tags, IMAGE_OF) == Some(service.as_str()))
    };
    let names = found.iter().filter(is_own).filter_map(|definition| definition["name"].as_str());
    Ok(names.map(|name| format!("{gallery}/images/{name}")).collect())
}

/// Makes the definition of the images of a service, if it is not there. Done when it is.
///
/// # Errors
/// `Conflict` for one that is somebody's, or for other machines. `InvalidRequest` when there is no gallery.
pub(super) async fn ensure(site: &Site<'_>, service: &ServiceName) -> Result<Progress<()>, ProviderError> {
    let (id, api) = (site.definition(service), site.galleries());
    let wanted = wanted(site, service, last(&id));
    let Some(found) = api.get(&id, None).await? else {
        let request = Request::new(Method::PUT, &id, GALLERIES).json(&wanted);
        let made = api.change(Effect::None, &format!("definition {}", last(&id)), request).await;
        return made.map_err(|error| missing(site, error));
    };
    let is_ours = tag(&found["tags"], ROLE) == Some(IMAGES) && tag(&found["tags"], IMAGE_OF) == Some(service.as_str());
    let same = |field: &str| {
        let (found, wanted) = (&found["properties"][field], &wanted["properties"][field]);
        found.is_null() || found == wanted
    };
    if !is_ours || !["osType", "osState", "hyperVGeneration", "architecture"].into_iter().all(same) {
        let problem = format!("definition {id} is there and is another one: remove it, or name another gallery");
        return Err(site.refused(ErrorKind::Conflict, problem));
    }
    match Standing::of(found["properties"]["provisioningState"].as_str()) {
        Standing::Settled => Ok(Progress::Done(())),
        Standing::Busy => Ok(super::pending(format!("definition {} to be made", last(&id)))),
        Standing::Failed => {
            let request = Request::new(Method::PUT, &id, GALLERIES).json(&wanted);
            api.change(Effect::None, &format!("definition {}", last(&id)), request).await
        }
    }
}

fn wanted(site: &Site<'_>, service: &ServiceName, name: &str) -> Value {
    let images = site.images;
    let (generation, architecture) =
        (if images.is_first_generation { "V1" } else { "V2" }, if images.is_arm { "Arm64" } else { "x64" });
    let mut definition = json!({
        "location": site.config.launch.location,
        "tags": { ROLE: IMAGES, IMAGE_OF: service.as_str() },
        "properties": {
            "osType": "Linux",
            "osState": "Generalized",
            "hyperVGeneration": generation,
            "architecture": architecture,
            "identifier": { "publisher": "immutable", "offer": service.as_str(), "sku": name },
        },
    });
    if !images.is_arm && !images.is_first_generation {
        // Machines may have a trusted launch, and need not.
        definition["properties"]["features"] = json!([{ "name": "SecurityType", "value": "TrustedLaunchSupported" }]);
    }
    definition
}

fn missing(site: &Site<'_>, error: ProviderError) -> ProviderError {
    if error.kind() == ErrorKind::NotFound {
        let problem = format!("images.gallery: {} is not there: make it first", site.images.gallery);
        return site.refused(ErrorKind::InvalidRequest, problem).with_source(error);
    }
    error
}
