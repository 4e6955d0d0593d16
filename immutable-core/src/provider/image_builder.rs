//! Building and keeping images.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{OpContext, Progress, ProviderError};
use crate::model::{Fingerprint, Image, ServiceName};

/// What an image is made of. The same recipe over the same inputs is the same image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The image to start from; its content comes first.
    pub base: Option<Image>,
    /// What is added, in this order; a later layer wins over an earlier one.
    pub layers: Vec<Layer>,
    /// The command that an instance runs: the program, relative to the image's root, and its arguments.
    pub command: Vec<String>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layer {
    /// Files copied into the image.
    Files(Vec<FileCopy>),
    /// A shell script that runs as root in the image, in the order of the layers; a status other than zero fails the build.
    ///
    /// For builders that make images of machines; one that only lays out files refuses it with `InvalidRequest`. It is a part
    /// of the image's identity by its text, so what it fetches has to be pinned by its author. It holds no secrets: the text
    /// stands where the image is built for everybody to read who may look there.
    Script(String),
}

/// One file that is copied into an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCopy {
    /// The file on this machine.
    pub source: PathBuf,
    /// Its path in the image: relative, with forward slashes, without `..`.
    pub target: String,
    /// Whether it can be run.
    pub executable: bool,
}

/// An image that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// The service it is for; becomes an ownership tag.
    pub service: ServiceName,
    /// What it is made of.
    pub recipe: Recipe,
    /// Its version, in the words of those who build it.
    pub version: String,
    /// The commit it is built from.
    pub commit: Option<String>,
}

/// Builds images, and finds and removes them.
///
/// # Contract
/// * **I1 once.** `ensure` of an unchanged specification answers with the existing image and builds nothing.
/// * **I2 whole or not at all.** An image that `find` or `list` shows is complete; a failed or interrupted build leaves none.
/// * **I3 pinned.** An image never changes under its id or its fingerprint.
/// * **I4 refused early.** A recipe that cannot work is `InvalidRequest` before anything is made.
/// * **I5 not in use.** `remove` refuses with `Conflict` while an instance or another image still needs it.
///
/// # Cancellation
/// A dropped `ensure` may leave a build going on; the next `ensure` of the same specification adopts or replaces it.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ImageBuilder: std::fmt::Debug + Send + Sync + 'static {
    /// Builds the image unless it exists.
    ///
    /// # Errors
    /// `InvalidRequest` for a recipe that cannot work; kinds of [`ErrorKind`](super::ErrorKind) otherwise.
    async fn ensure(&self, cx: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError>;

    /// The image with this content, if there is one.
    ///
    /// # Errors
    /// Only when it cannot look.
    async fn find(&self, cx: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError>;

    /// All images of a service.
    ///
    /// # Errors
    /// Only when it cannot look.
    async fn list(&self, cx: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError>;

    /// Removes an image and all it consists of. Removing what is not there is done.
    ///
    /// # Errors
    /// `Conflict` while the image is in use.
    async fn remove(&self, cx: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError>;
}
