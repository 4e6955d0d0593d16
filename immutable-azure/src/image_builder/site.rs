//! Where images are and where they are built, and what everything there is called.

use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{ErrorKind, ProviderError};
use jiff::Timestamp;

use super::ImageSettings;
use super::resources::{Api, COMPUTE, DISKS, GALLERIES, NETWORK};
use crate::config::Config;
use crate::ownership::PREFIX;

/// The settings that images need, for one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) config: &'a Config,
    pub(super) images: &'a ImageSettings,
    pub(super) operation: &'static str,
    pub(super) now: Timestamp,
}

impl<'a> Site<'a> {
    /// # Errors
    /// `Unsupported` where no gallery is configured: images may come from elsewhere, and a builder that knows none cannot say that one is gone.
    pub(super) fn of(config: &'a Config, operation: &'static str, now: Timestamp) -> Result<Self, ProviderError> {
        let images = config.images.as_ref().ok_or_else(|| {
            let problem = "images: there is no gallery for them: name one with ConfigBuilder::images";
            ProviderError::new(ErrorKind::Unsupported, operation, problem).without_effect()
        })?;
        Ok(Self { config, images, operation, now })
    }

    fn api(&self, version: &'static str) -> Api<'a> {
        Api { clients: &self.config.clients, operation: self.operation, version }
    }

    pub(super) fn compute(&self) -> Api<'a> {
        self.api(COMPUTE)
    }

    pub(super) fn galleries(&self) -> Api<'a> {
        self.api(GALLERIES)
    }

    pub(super) fn disks(&self) -> Api<'a> {
        self.api(DISKS)
    }

    pub(super) fn network(&self) -> Api<'a> {
        self.api(NETWORK)
    }

    /// The id of something in the resource group, named from its type on; or of a folder.
    pub(super) fn id(&self, rest: &str) -> String {
        let Config { subscription, resource_group, .. } = self.config;
        format!("/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/{rest}")
    }

    /// The id of the builder with this name.
    pub(super) fn machine(&self, name: &str) -> String {
        self.id(&format!("Microsoft.Compute/virtualMachines/{name}"))
    }

    /// The id of the definition of the images of a service: one for each architecture and generation, which a definition can only have once.
    pub(super) fn definition(&self, service: &ServiceName) -> String {
        let kind = match (self.images.is_arm, self.images.is_first_generation) {
            (true, _) => "-arm64",
            (_, true) => "-gen1",
            _ => "",
        };
        format!("{}/images/{PREFIX}{service}{kind}", self.images.gallery)
    }

    /// The id of the image of a recipe. A version is there once, so two who build at once make one image.
    pub(super) fn version(&self, service: &ServiceName, recipe: &Fingerprint) -> String {
        format!("{}/versions/{}", self.definition(service), number(recipe))
    }

    /// A refusal without effect.
    pub(super) fn refused(&self, kind: ErrorKind, problem: impl Into<String>) -> ProviderError {
        ProviderError::new(kind, self.operation, problem.into()).without_effect()
    }
}

/// The name of the builder of a recipe. A name is there once in a resource group.
pub(super) fn builder_name(service: &ServiceName, recipe: &Fingerprint) -> String {
    format!("{PREFIX}{service}-{}-b", recipe.short())
}

/// Whether this is the name of a builder of a service.
pub(super) fn is_builder_name(name: &str, service: &ServiceName) -> bool {
    let rest = name.strip_prefix(&format!("{PREFIX}{service}-")).and_then(|rest| rest.strip_suffix("-b"));
    rest.is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The number of the version of a recipe: a version is three numbers of at most 31 bits, and nothing else
/// (<https://learn.microsoft.com/azure/virtual-machines/azure-compute-gallery#image-versions>). Told by the recipe, so that it
/// is the same for all who build it; its order means nothing, and the version in words is a tag.
fn number(recipe: &Fingerprint) -> String {
    let digits = recipe.to_string();
    let parts = [0, 8, 16].map(|from| u32::from_str_radix(digits.get(from..from + 8).unwrap_or_default(), 16));
    parts.map(|part| (part.unwrap_or_default() >> 1).to_string()).join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers_that_the_recipe_tells() {
        for text in ["a", "b", "c"] {
            let number = number(&Fingerprint::of(text));
            let parts: Vec<u32> = number.split('.').map(|part| part.parse().unwrap()).collect();
            assert!(parts.len() == 3 && parts.iter().all(|part| i32::try_from(*part).is_ok()), "{number}");
        }
        assert_ne!(number(&Fingerprint::of("a")), number(&Fingerprint::of("b")));
    }

    #[test]
    fn the_longest_names_are_names_and_are_known_again() {
        let (service, recipe): (ServiceName, _) = ("a".repeat(40).parse().unwrap(), Fingerprint::of("x"));
        let name = builder_name(&service, &recipe);
        assert!(name.len() <= 64 && is_builder_name(&name, &service), "{name}");
        let web = "web".parse().unwrap();
        assert!(is_builder_name("im-web-0123456789ab-b", &web));
        for other in ["im-web-api-0123456789ab-b", "im-web-0123456789ab", "im-web-0123456789-b", "web-0123456789ab-b"] {
            assert!(!is_builder_name(other, &web), "{other}");
        }
    }
}
