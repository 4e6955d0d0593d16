//! Images: what instances are born from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Fingerprint, ImageId};

/// A built artifact: the provider's id, and the fingerprint of its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What the provider calls it.
    pub id: ImageId,
    /// The fingerprint of its content (or of the recipe, where a provider cannot fingerprint content).
    pub fingerprint: Fingerprint,
    /// The images it was built from, nearest first.
    pub parents: Vec<Fingerprint>,
    /// What people want to know about it.
    pub labels: ImageLabels,
}

/// What people want to know about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLabels {
    /// The version in the words of those who built it.
    pub version: String,
    /// The commit it was built from.
    pub commit: Option<String>,
    /// When it was built.
    pub built_at: Timestamp,
}
