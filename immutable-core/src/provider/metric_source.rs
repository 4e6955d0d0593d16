//! Reading what real traffic says about a fleet.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{OpContext, ProviderError};
use crate::model::{FleetId, MetricName};

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricKind {
    /// So many of so many: errors of requests.
    Ratio,
    /// A level.
    Gauge,
}

/// A span of time: from, inclusive, to, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
}

/// One value of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricValue {
    /// So many of so many.
    Ratio {
        /// How many of them.
        part: u64,
        /// Of how many.
        whole: u64,
    },
    /// A level.
    Gauge(f64),
}

impl MetricValue {
    /// What several samples say together: shares are pooled, levels are averaged. `None` when they say nothing.
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer samples than 2^52")]
    pub(crate) fn pooled(samples: &[MetricSample]) -> Option<Self> {
        let (mut part, mut whole, mut sum, mut levels) = (0u64, 0u64, 0.0, 0u64);
        for sample in samples {
            match sample.value {
                Self::Ratio { part: p, whole: w } => {
                    part = part.saturating_add(p);
                    whole = whole.saturating_add(w);
                }
                // A level that is not a number is no data.
                Self::Gauge(level) if level.is_finite() => {
                    sum += level;
                    levels += 1;
                }
                Self::Gauge(_) => {}
            }
        }
        match (whole, levels) {
            (0, 0) => None,
            (0, levels) => Some(Self::Gauge(sum / levels as f64)),
            (whole, _) => Some(Self::Ratio { part, whole }),
        }
    }
}

/// One value of a metric over a part of the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricSample {
    /// The part of the window that it is about.
    pub window: Window,
    /// The value.
    pub value: MetricValue,
}

/// Reads metrics per fleet.
///
/// # Contract
/// * **M1 silence is silence.** No data is an empty answer, never a zero.
/// * **M2 known names only.** `describe` of a metric that the source does not have is `NotFound`; it is asked before a rollout starts.
/// * **M3 inside the window.** No sample is about a moment outside the window, and no moment is counted twice.
///
/// # Cancellation
/// Dropping a future leaves nothing behind.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait MetricSource: std::fmt::Debug + Send + Sync + 'static {
    /// How long after its end a window is known as a whole: what is said of it does not change any more. At once unless a source says
    /// otherwise; a canary is judged that much later.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    /// What a metric is.
    ///
    /// # Errors
    /// `NotFound` for a metric that the source does not have.
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError>;

    /// The values of a metric for one fleet over a window.
    ///
    /// # Errors
    /// Only when it cannot look.
    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError>;
}
