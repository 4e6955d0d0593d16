//! What stands on a builder and on an image: tags that say all that is known of them.

use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{ErrorKind, ProviderError};
use serde_json::{Map, Value};

/// The service that an image, its builder and its definition are for. Not the tag by which what belongs to a fleet is known: none of them does.
pub(super) const IMAGE_OF: &str = "immutable-image-of";
/// What it is: [`BUILDER`], [`IMAGE`] or [`IMAGES`].
pub(super) const ROLE: &str = "immutable-role";
/// The role of a machine that an image is built on.
pub(super) const BUILDER: &str = "builder";
/// The role of an image.
pub(super) const IMAGE: &str = "image";
/// The role of the definition of the images of a service.
pub(super) const IMAGES: &str = "images";
/// When a builder is ended by whoever sees it, in seconds since 1970.
pub(super) const EXPIRES_AT: &str = "immutable-expires-at";
/// The SHA-256 of what the build has put into an image. On a builder it says that the build is done.
pub(super) const CONTENT: &str = "immutable-content";
/// The rollout on whose behalf a builder was started.
pub(super) const ROLLOUT: &str = "immutable-rollout";

const RECIPE: &str = "immutable-recipe";
const NONCE: &str = "immutable-nonce";
const VERSION: &str = "immutable-version";
const COMMIT: &str = "immutable-commit";
const PARENTS: &str = "immutable-parents";

/// So many fingerprints of 64 digits are in [one tag](https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations).
const PER_TAG: usize = 4;

/// An image tells so many of those it was built from, nearest first, and always all of them: what has more below it cannot be built on.
pub(super) const MOST_PARENTS: usize = 16;

/// What is known of an image from the start of its builder on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) service: ServiceName,
    /// The fingerprint of the recipe, which is that of the image.
    pub(super) recipe: Fingerprint,
    /// The word by which the output of the builder is known.
    pub(super) nonce: String,
    pub(super) version: String,
    pub(super) commit: Option<String>,
    pub(super) parents: Vec<Fingerprint>,
}

impl Record {
    /// The tags that say this, of a thing with this role.
    pub(super) fn tags(&self, role: &str) -> Map<String, Value> {
        let mut tags = Map::new();
        let mut tag = |key: &str, value: &str| tags.insert(key.to_owned(), value.into());
        tag(IMAGE_OF, self.service.as_str());
        tag(ROLE, role);
        tag(RECIPE, &self.recipe.to_string());
        tag(NONCE, &self.nonce);
        tag(VERSION, &self.version);
        if let Some(commit) = &self.commit {
            tag(COMMIT, commit);
        }
        for (index, parents) in self.parents.chunks(PER_TAG).enumerate() {
            let parents: Vec<String> = parents.iter().map(ToString::to_string).collect();
            tag(&format!("{PARENTS}-{index}"), &parents.concat());
        }
        tags
    }

    /// What the tags of a thing say: nothing if it has another role.
    ///
    /// # Errors
    /// `Internal` for tags that are no record: to leave the thing out would be to say that it is gone.
    pub(super) fn read(
        operation: &'static str,
        thing: &str,
        tags: &Value,
        role: &str,
    ) -> Result<Option<Self>, ProviderError> {
        if tag(tags, ROLE) != Some(role) {
            return Ok(None);
        }
        let problem = |key: &str| {
            let problem = format!("the tag {key} of {thing} is missing or was changed: restore it, or remove {thing}");
            ProviderError::new(ErrorKind::Internal, operation, problem).without_effect()
        };
        let text = |key: &str| tag(tags, key).map(str::to_owned).ok_or_else(|| problem(key));
        let service = text(IMAGE_OF)?.parse().map_err(|_| problem(IMAGE_OF))?;
        let recipe = text(RECIPE)?.parse().map_err(|_| problem(RECIPE))?;
        let mut parents = Vec::new();
        for index in 0..MOST_PARENTS.div_ceil(PER_TAG) {
            let key = format!("{PARENTS}-{index}");
            let Some(some) = tag(tags, &key) else { break };
            let digits: Vec<char> = some.chars().collect();
            for parent in digits.chunks(64) {
                parents.push(parent.iter().collect::<String>().parse().map_err(|_| problem(&key))?);
            }
        }
        let commit = tag(tags, COMMIT).map(str::to_owned);
        Ok(Some(Self { service, recipe, nonce: text(NONCE)?, version: text(VERSION)?, commit, parents }))
    }
}

/// A tag, whatever Azure has done to the case of its name.
pub(super) fn tag<'a>(tags: &'a Value, key: &str) -> Option<&'a str> {
    tags.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?.1.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(parents: usize) -> Record {
        Record {
            service: "a".repeat(40).parse().unwrap(),
            recipe: Fingerprint::of("recipe"),
            nonce: "0".repeat(32),
            version: "1.0.0 \"beta\"".to_owned(),
            commit: Some("c".repeat(128)),
            parents: (0..parents).map(|index| Fingerprint::of(index.to_string())).collect(),
        }
    }

    fn read(tags: impl Into<Value>) -> Result<Option<Record>, String> {
        Record::read("test", "it", &tags.into(), BUILDER).map_err(|error| error.to_string())
    }

    #[test]
    fn a_record_survives_its_tags_within_their_limits() {
        for record in [record(0), record(5), record(MOST_PARENTS), Record { commit: None, ..record(1) }] {
            let tags = record.tags(BUILDER);
            assert!(tags.len() <= 15 && tags.values().all(|value| value.as_str().unwrap().len() <= 256), "{tags:?}");
            assert_eq!(read(tags.clone()), Ok(Some(record.clone())));
            let upper: Map<_, _> = tags.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect();
            assert_eq!(read(upper), Ok(Some(record)));
        }
    }

    #[test]
    fn what_has_another_role_is_none_and_what_was_changed_is_an_error() {
        assert_eq!(read(Value::Null), Ok(None));
        assert_eq!(read(record(1).tags(IMAGE)), Ok(None));
        for (key, value) in
            [(IMAGE_OF, "A b"), (RECIPE, "0"), ("immutable-parents-0", "0123"), (NONCE, ""), (VERSION, "")]
        {
            let mut tags = record(1).tags(BUILDER);
            if value.is_empty() {
                tags.remove(key)
            } else {
                tags.insert(key.to_owned(), value.into())
            };
            assert!(read(tags).unwrap_err().contains(key), "{key}");
        }
    }
}
