//! Evidence that a release is below some level in itself, whatever its baseline is.

use serde::{Deserialize, Serialize};

use super::bets::{Wealth, mean_of_logs, on_sign};
use crate::provider::MetricValue;

/// The largest share that is told from a smaller one: what is above it is above this, too.
const MOST: f64 = 0.99;

/// What the share may be instead, as a part of the bound, and the weight of each.
const INSTEAD: [(f64, f64); 4] = [(0.0, 0.4), (0.25, 0.3), (0.5, 0.15), (0.75, 0.15)];

/// Evidence against: the share (or level) is at or above a bound.
///
/// For a share, likelihood ratios of all requests: of smaller shares against the bound. It is evidence where each request, given all
/// before it, is an event with at least the probability of the bound. Events that come in clusters are not like that: then it is
/// evidence about how often a cluster begins, so that of `k` events at a time a share of `k` times the bound may pass. For a level,
/// bets on how many intervals are above: it holds as long as each is with a probability of at least one half, given what was before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calm {
    events: u64,
    requests: u64,
    levels: Wealth,
}

impl Calm {
    pub(super) fn count(&mut self, bound: f64, canary: &MetricValue) {
        match canary {
            MetricValue::Ratio { part, whole } => {
                self.events = self.events.saturating_add(*part);
                self.requests = self.requests.saturating_add(*whole);
            }
            MetricValue::Gauge(level) => {
                self.levels.play(on_sign(if *level <= bound { 1.0 } else { -1.0 }));
            }
        }
    }

    /// The natural logarithm of the evidence, where each interval was counted with the same bound.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    pub(super) fn log(&self, bound: f64) -> f64 {
        if self.requests == 0 {
            return self.levels.log();
        }
        let bound = bound.min(MOST);
        let (events, others) = (self.events as f64, self.requests.saturating_sub(self.events) as f64);
        let of_events = |part: f64| if self.events == 0 { 0.0 } else { events * part.ln() };
        let of_others = |part: f64| others * ((-part * bound).ln_1p() - (-bound).ln_1p());
        mean_of_logs(INSTEAD.into_iter().map(|(part, weight)| (of_events(part) + of_others(part), weight)))
    }
}
