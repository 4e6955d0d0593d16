//! Evidence that a release is acceptable in itself, whatever its baseline is.

use serde::{Deserialize, Serialize};

use super::bets::{Wealth, mean_of_logs, on_sign};
use crate::provider::MetricValue;

/// The largest share that is told from a smaller one: what is above it is above this, too.
const MOST: f64 = 0.5;

/// Wealth against: the share (or level) is above what is acceptable.
///
/// For a share, a likelihood ratio for each request: of no events at all, and of a quarter of what is acceptable, against what is
/// acceptable. It is evidence where each request, given all before it, is an event with at least the acceptable probability. Events
/// that come in clusters are not like that: then it is evidence about how often a cluster begins, so that of `k` events at a time a
/// share of `k` times what is acceptable may pass. For a level, bets on how many intervals are above: it holds as long as each is
/// with a probability of at least one half, given what was before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
                self.events = self.events.saturating_add(*part);
                self.requests = self.requests.saturating_add(*whole);
                let acceptable = acceptable.min(MOST);
                let (events, others) = (*part as f64, (whole - part) as f64);
                self.quarter += events * 0.25f64.ln() + others * ((1.0 - acceptable / 4.0) / (1.0 - acceptable)).ln();
            }
            MetricValue::Gauge(level) => {
                self.levels.play(on_sign(if *level <= acceptable { 1.0 } else { -1.0 }));
            }
        }
    }

    /// The natural logarithm of the evidence.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    pub(super) fn log(&self, acceptable: f64) -> f64 {
        if self.requests == 0 {
            return self.levels.log();
        }
        let none = if self.events == 0 {
            -(self.requests as f64) * (-acceptable.min(MOST)).ln_1p()
        } else {
            f64::NEG_INFINITY
        };
        mean_of_logs([(none, 1.0), (self.quarter, 1.0)].into_iter())
    }
}
