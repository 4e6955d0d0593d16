//! Evidence that a release is acceptable in itself, whatever its baseline is.

use serde::{Deserialize, Serialize};

use super::bets::{Wealth, mean_of_logs};
use crate::provider::MetricValue;

/// Wealth against: the share (or level) is above what is acceptable.
///
/// For a share, a likelihood ratio for each request: of no events at all, and of a quarter of what is acceptable, against what is
/// acceptable. It holds as long as no interval's share is expected to be below that, given what was before. For a level, bets on
/// how many intervals are above: it holds as long as half of them are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Calm {
    /// Logarithm for a quarter of what is acceptable.
    quarter: f64,
    /// Events so far, and requests.
    events: u64,
    requests: u64,
    levels: Wealth,
}

impl Calm {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    pub(super) fn count(&mut self, acceptable: f64, canary: &MetricValue) {
        match canary {
            MetricValue::Ratio { part, whole } => {
                self.events += part;
                self.requests += whole;
                let (events, others) = (*part as f64, (whole - part) as f64);
                self.quarter += events * 0.25f64.ln() + others * ((1.0 - acceptable / 4.0) / (1.0 - acceptable)).ln();
            }
            MetricValue::Gauge(level) => self.levels.bet(if *level <= acceptable { 1.0 } else { -1.0 }),
        }
    }

    /// The natural logarithm of the evidence.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    pub(super) fn log(&self, acceptable: f64) -> f64 {
        if self.requests == 0 {
            return self.levels.log();
        }
        let none = if self.events == 0 { -(self.requests as f64) * (-acceptable).ln_1p() } else { f64::NEG_INFINITY };
        mean_of_logs([(none, 1.0), (self.quarter, 1.0)].into_iter())
    }
}
