//! Looking at instances.

use async_trait::async_trait;

use super::{OpContext, ProviderError};
use crate::model::{Endpoint, FleetId, InstanceId, Sample};

/// An instance to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Who.
    pub instance: InstanceId,
    /// Of which fleet.
    pub fleet: FleetId,
    /// Where it answers, once known.
    pub endpoint: Option<Endpoint>,
}

/// Looks at instances once.
///
/// # Contract
/// * **H1 one sample each.** Each target has at most one sample in the answer; a target without one was not looked at.
/// * **H2 bad is not broken.** An instance that does not answer is a [`Bad`](crate::model::Look::Bad) sample;
///   an error, or an [`Unknown`](crate::model::Look::Unknown) sample, means that the probe itself could not look.
/// * **H3 no memory.** A probe judges one look; what several looks mean is the engine's business.
/// * **H4 bounded.** It answers within the context's timeout, however many targets there are.
///
/// # Cancellation
/// Dropping the future ends the looks; nothing is left behind.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait HealthProbe: std::fmt::Debug + Send + Sync + 'static {
    /// Looks at each target once.
    ///
    /// # Errors
    /// Only when it could not look at all.
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError>;
}
