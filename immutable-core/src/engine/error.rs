//! Why the engine could not do what it was asked to.

use crate::journal::JournalError;
use crate::model::{ApprovalName, ReleaseId, RolloutId, ServiceName};
use crate::plan::PlanError;
use crate::provider::ProviderError;

/// Why a rollout could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The plan cannot work; nothing was touched.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Another rollout of the service is going on.
    #[error("rollout {rollout} of {service} to release {release} is going on: wait for it, or abort it")]
    Live {
        /// The service.
        service: ServiceName,
        /// The rollout that is going on.
        rollout: RolloutId,
        /// Its release.
        release: ReleaseId,
    },
    /// The engine is frozen.
    #[error(
        "rollouts are frozen ({reason}): only a release that was proven may be gone back to; thaw the engine first"
    )]
    Frozen {
        /// Why.
        reason: String,
    },
    /// The journal could not be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The world could not be observed, or the image not be built.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// Why a rollout cannot be followed or steered. The rollout itself can be continued by another driver.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The right to write was lost, or the journal cannot be written.
    #[error("the driver stopped: {0}")]
    Journal(String),
    /// No gate of the plan waits for such an approval.
    #[error("no gate waits for the approval {0}: see the plan for those that are wanted")]
    NoSuchApproval(ApprovalName),
    /// The engine was dropped.
    #[error("the driver stopped: its engine was dropped")]
    Dropped,
}
