//! An image builder that is broken on purpose, around the simulated cloud.

use async_trait::async_trait;
use immutable_core::model::{Fingerprint, Image, ServiceName};
use immutable_core::provider::{ErrorKind, ImageBuilder, ImageSpec, OpContext, Progress, ProviderError};
use immutable_core::testkit::SimCloud;

use crate::broken::Defect;

#[derive(Debug)]
pub(crate) struct BrokenImages {
    pub(crate) cloud: SimCloud,
    pub(crate) defect: Defect,
}

#[async_trait]
impl ImageBuilder for BrokenImages {
    async fn ensure(&self, cx: &OpContext, spec: &ImageSpec) -> Result<Progress<Image>, ProviderError> {
        let mut answer = ImageBuilder::ensure(&self.cloud, cx, spec).await;
        if let (Defect::Relabels, Ok(Progress::Done(image))) = (self.defect, &mut answer) {
            image.labels.version.clone_from(&spec.version);
        }
        answer.map_err(|error| match self.defect {
            Defect::BlamesItself if error.kind() == ErrorKind::InvalidRequest => {
                ProviderError::new(ErrorKind::Internal, "ensure image", "the build failed")
            }
            _ => error,
        })
    }

    async fn find(&self, cx: &OpContext, fingerprint: &Fingerprint) -> Result<Option<Image>, ProviderError> {
        let found = self.cloud.find(cx, fingerprint).await?;
        Ok(found.filter(|_| self.defect != Defect::FindsNothing))
    }

    async fn list(&self, cx: &OpContext, service: &ServiceName) -> Result<Vec<Image>, ProviderError> {
        let mut images = self.cloud.list(cx, service).await?;
        if self.defect == Defect::BuildsTwice {
            images.extend(images.clone());
        }
        Ok(images)
    }

    async fn remove(&self, cx: &OpContext, image: &Image) -> Result<Progress<()>, ProviderError> {
        match ImageBuilder::remove(&self.cloud, cx, image).await {
            Err(_) if self.defect == Defect::RemovesWhatIsUsed => Ok(Progress::Done(())),
            answer => answer,
        }
    }
}
