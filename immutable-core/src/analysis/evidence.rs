//! What is known so far: a few numbers for each metric, whatever the number of intervals.

use serde::{Deserialize, Serialize};

use super::bets::{Wealth, lead, mean_of_logs, steep_lead};
use super::calm::Calm;
use super::classic::{self, Classic};
use super::settings::{Analysis, Compared};
use super::thin::comparable;
use crate::provider::MetricValue;

/// What levels are cut to, so that the sum of all is a number.
const LARGEST: f64 = 1e100;

/// What was measured of one metric in one interval, in either fleet. `None` where there is no data.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pair {
    /// The new release.
    pub canary: Option<MetricValue>,
    /// What it is compared with.
    pub baseline: Option<MetricValue>,
}

/// What is known so far. It is made by [`Evidence::count`] alone, and goes into the journal as it is.
///
/// Intervals are numbered, and each is counted once: counting one that was counted before, or one before it, changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The first interval that was not counted.
    next: u64,
    /// For each metric, in the order of the analysis.
    pub(super) metrics: Vec<Known>,
    /// The same for a judge of another tool, if one was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) classic: Vec<Classic>,
}

/// What is known of one metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// Against: the canary is no worse.
    pub(super) worse: Wealth,
    /// Against: it is at least as bad as the tolerance says.
    pub(super) good: Wealth,
    /// Against: it is above what is acceptable.
    pub(super) acceptable: Calm,
    /// Whether it is a share of requests, and not a level.
    pub(super) is_share: bool,
    /// Intervals with data of both fleets.
    pub(super) intervals: u64,
    /// Of all intervals with data of both fleets.
    pub(super) canary: Tally,
    pub(super) baseline: Tally,
    /// Events in each, at equal numbers of requests.
    pub(super) events: (f64, f64),
    /// The intervals in sequence, up to the last one with data, in which the canary was above the bound of its hard stop.
    pub(super) above: Above,
}

/// Sums over intervals: events and requests; or levels and how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tally {
    pub(super) part: f64,
    pub(super) whole: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Above {
    pub(super) intervals: u32,
    pub(super) requests: u64,
}

impl Evidence {
    /// The number of the first interval that was not counted. Intervals before it are not needed any more.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// A new stage has to pass by itself: what speaks for the release is forgotten, and what speaks against it is not. Judges of other
    /// tools look at one stage at a time.
    pub(crate) fn begin_stage(&mut self) {
        for known in &mut self.metrics {
            let Known { worse, is_share, events, above, .. } = std::mem::take(known);
            *known = Known { worse, is_share, events, above, ..Known::default() };
        }
        self.classic.clear();
    }

    /// Counts an interval: a pair for each metric of the analysis, in its order. A pair that is missing is no data.
    ///
    /// What the pair was does not matter: an interval that was counted without data is not counted again when the data come late.
    pub fn count(&mut self, analysis: &Analysis, interval: u64, pairs: &[Pair]) {
        let Some(next) = interval.checked_add(1).filter(|next| *next > self.next) else { return };
        self.next = next;
        self.metrics.resize_with(analysis.metrics.len(), Known::default);
        for ((known, compared), pair) in self.metrics.iter_mut().zip(&analysis.metrics).zip(pairs) {
            known.count(compared, interval, pair);
        }
        classic::count(&mut self.classic, analysis, pairs);
    }
}

impl Known {
    fn count(&mut self, compared: &Compared, interval: u64, pair: &Pair) {
        let canary = pair.canary.and_then(data);
        if let (Some(stop), Some(value)) = (compared.hard_stop, canary) {
            self.above = if level(&value) > stop.above { self.above.and(&value) } else { Above::default() };
        }
        let (Some(canary), Some(baseline)) = (canary, pair.baseline.and_then(data)) else { return };
        let Some((c, b)) = comparable(&compared.metric, interval, canary, baseline) else { return };
        self.intervals = self.intervals.saturating_add(1);
        self.canary.add(&canary);
        self.baseline.add(&baseline);
        self.is_share = matches!(canary, MetricValue::Ratio { .. });
        if self.is_share {
            self.events = (self.events.0 + c, self.events.1 + b);
        }
        let one_event = if self.is_share { 1.0 } else { 0.0 };
        let (allowed, tolerated) = ((1.0 + compared.margin) * b + compared.floor, compared.tolerance * b);
        self.worse.bet(lead(c, allowed), steep_lead(c, allowed, one_event));
        self.good.bet(lead(tolerated, c), lead(tolerated, c));
        self.acceptable.count(compared.acceptable, &canary);
    }
}

impl Above {
    fn and(self, value: &MetricValue) -> Self {
        let requests = match value {
            MetricValue::Ratio { whole, .. } => *whole,
            // A level is not made of requests: it alone is enough.
            MetricValue::Gauge(_) => u64::MAX,
        };
        Self { intervals: self.intervals.saturating_add(1), requests: self.requests.saturating_add(requests) }
    }
}

impl Known {
    /// The natural logarithm of the evidence that it is less bad than the tolerance says, or than what is acceptable.
    ///
    /// It is worse than tolerated only if both hypotheses hold; then the mean of the wealths against either is a wealth.
    pub(super) fn log_good(&self, compared: &Compared) -> f64 {
        let acceptable = self.acceptable.log(compared.acceptable);
        mean_of_logs([(self.good.log(), 1.0), (acceptable, 1.0)].into_iter())
    }
}

impl Tally {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    fn add(&mut self, value: &MetricValue) {
        match value {
            MetricValue::Ratio { part, whole } => {
                (self.part, self.whole) = (self.part + *part as f64, self.whole.saturating_add(*whole));
            }
            MetricValue::Gauge(level) => (self.part, self.whole) = (self.part + level, self.whole.saturating_add(1)),
        }
    }

    /// The share of all requests, or the mean level.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    pub(super) fn mean(&self) -> f64 {
        if self.whole == 0 { 0.0 } else { self.part / self.whole as f64 }
    }
}

/// What a value says, if it says anything: a share of no requests, and a level that is no number from 0 up, do not. Nor does a share
/// above 1: a counter was reset between its parts.
fn data(value: MetricValue) -> Option<MetricValue> {
    match value {
        MetricValue::Ratio { part, whole } => (whole > 0 && part <= whole).then_some(value),
        MetricValue::Gauge(level) if level.is_finite() && level >= 0.0 => Some(MetricValue::Gauge(level.min(LARGEST))),
        MetricValue::Gauge(_) => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
fn level(value: &MetricValue) -> f64 {
    match value {
        MetricValue::Ratio { part, whole } => *part as f64 / *whole as f64,
        MetricValue::Gauge(level) => *level,
    }
}
