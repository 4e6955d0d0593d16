//! Releases: an image and how it is launched, named by the fingerprint of both.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ConfigKey, Fingerprint, Image, LabelKey, NameError, SecretRef};

/// How instances of a release are launched: values that are injected, never baked in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Configuration values, given as environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<ConfigKey, String>,
    /// References to secrets; resolved as late as the provider can, never stored by us.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<ConfigKey, SecretRef>,
    /// Labels for people and tools; part of the release's identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<LabelKey, String>,
}

/// The name of a release: the fingerprint of its image and its launch specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(Fingerprint);

impl ReleaseId {
    /// The whole fingerprint; `Display` prints its first twelve digits.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.short())
    }
}

/// From the whole fingerprint, as a provider writes it into a tag and reads it back.
///
/// ```
/// # use immutable_core::model::{Fingerprint, ReleaseId};
/// let tag = Fingerprint::of("a release").to_string();
/// let release: ReleaseId = tag.parse()?;
/// assert_eq!(release.fingerprint().to_string(), tag);
/// # Ok::<(), immutable_core::model::NameError>(())
/// ```
impl FromStr for ReleaseId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self)
    }
}

/// A version of a service: an image and how it is launched. It never changes; another launch value is another release.
///
/// ```
/// # use immutable_core::model::*;
/// # let image = Image {
/// #     id: "image-1".parse()?, fingerprint: Fingerprint::of("one"), parents: vec![],
/// #     labels: ImageLabels { version: "1.0.0".into(), commit: None, built_at: jiff::Timestamp::UNIX_EPOCH },
/// # };
/// let small = Release::new(image.clone(), LaunchSpec::default());
/// let mut launch = LaunchSpec::default();
/// launch.config.insert("CACHE_MB".parse()?, "512".into());
/// let large = Release::new(image, launch);
/// assert_ne!(small.id(), large.id());
/// # Ok::<(), NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReleaseParts", into = "ReleaseParts")]
pub struct Release {
    id: ReleaseId,
    image: Image,
    launch: LaunchSpec,
}

impl Release {
    /// Names a release by its content.
    pub fn new(image: Image, launch: LaunchSpec) -> Self {
        let id = ReleaseId(Fingerprint::of_json(&(image.fingerprint, &launch)));
        Self { id, image, launch }
    }

    /// The release's name.
    pub fn id(&self) -> ReleaseId {
        self.id
    }

    /// What its instances are born from.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// How its instances are launched.
    pub fn launch(&self) -> &LaunchSpec {
        &self.launch
    }
}

/// What is stored: the id is made anew from the content, so a stored release cannot carry another's name.
#[derive(Serialize, Deserialize)]
struct ReleaseParts {
    image: Image,
    #[serde(default)]
    launch: LaunchSpec,
}

impl From<ReleaseParts> for Release {
    fn from(parts: ReleaseParts) -> Self {
        Self::new(parts.image, parts.launch)
    }
}

impl From<Release> for ReleaseParts {
    fn from(release: Release) -> Self {
        Self { image: release.image, launch: release.launch }
    }
}
