//! What stands on a builder and on an image: labels that lists are filtered by, and a record in the description that says all of it.

use immutable_core::model::{Fingerprint, ServiceName};
use serde::{Deserialize, Serialize};

/// What a machine or a disk is for that belongs to no fleet.
pub(super) const ROLE: &str = "immutable-role";
/// The role of a machine that an image is built on, and of its disk.
pub(super) const BUILDER: &str = "builder";
/// The first digits of the fingerprint of the recipe that a builder works on: a label is too short for all of it.
pub(super) const RECIPE: &str = "immutable-recipe";
/// The same of an image.
pub(super) const IMAGE: &str = "immutable-image";
/// When a builder is ended by whoever sees it, in seconds since 1970.
pub(super) const EXPIRES_AT: &str = "immutable-expires-at";
/// The first 32 digits of the SHA-256 of what the build has put into an image. On a builder it says that the build is done.
pub(super) const CONTENT: &str = "immutable-content";
/// The rollout on whose behalf a builder was started.
pub(super) const ROLLOUT: &str = "immutable-rollout";

/// The longest description of a resource, in bytes: a limit of ours, which leaves room within what Compute Engine takes.
const LONGEST: usize = 2000;

/// An image keeps so many of those it was built from, nearest first; a description has no room for many more.
pub(super) const MOST_PARENTS: usize = 16;

/// What is known of an image from the start of its builder on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Serialize, Deserialize)]
struct Description {
    #[serde(rename = "immutable-image")]
    record: Record,
}

impl Record {
    /// What a description says, if it is one of ours.
    pub(super) fn read(description: Option<&str>) -> Option<Self> {
        serde_json::from_str::<Description>(description?).ok().map(|found| found.record)
    }

    /// The record as a description; nothing when it is too long for one.
    pub(super) fn description(&self) -> Option<String> {
        let text = serde_json::to_string(&Description { record: self.clone() });
        Some(text.expect("invariant: plain texts always serialise")).filter(|text| text.len() <= LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(parents: usize, version: &str) -> Record {
        Record {
            service: "a".repeat(40).parse().unwrap(),
            recipe: Fingerprint::of("recipe"),
            nonce: "0".repeat(32),
            version: version.to_owned(),
            commit: Some("c".repeat(128)),
            parents: (0..parents).map(|index| Fingerprint::of(index.to_string())).collect(),
        }
    }

    #[test]
    fn the_largest_record_survives_its_description() {
        let largest = record(MOST_PARENTS, &"v".repeat(128));
        assert_eq!(Record::read(largest.description().as_deref()), Some(largest));
        assert_eq!(record(MOST_PARENTS, &"\u{1}".repeat(128)).description(), None, "each takes six bytes");
        for nobodys in [None, Some(""), Some("an image"), Some("{}"), Some(r#"{"immutable":{}}"#)] {
            assert_eq!(Record::read(nobodys), None);
        }
    }
}
