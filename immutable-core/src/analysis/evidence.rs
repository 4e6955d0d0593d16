//! What is known so far: a few numbers for each metric, whatever the number of intervals.

use serde::{Deserialize, Serialize};

use super::bets::{Wealth, mean_of_logs, on_above, on_better, on_level_above, on_worse};
use super::calm::Calm;
use super::classic::{self, Classic};
use super::compared::Compared;
use super::settings::Analysis;
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
/// Intervals are numbered, and each is counted once for each metric: counting one that was counted before, or one before it, changes
/// nothing. A metric that cannot be read holds up none of the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
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
    /// The first interval that was not counted.
    next: u64,
    /// Against: the canary is no worse, in that both arms could have had each other's numbers, or the canary has fewer.
    pub(super) worse: Wealth,
    /// Against: it is at least as bad as the tolerance says, see [`on_better`].
    pub(super) good: Wealth,
    /// Against: it is above what is acceptable; or, beside a fixed bound, above what is tolerated.
    pub(super) calm: Calm,
    /// Whether it is a share of requests, and not a level.
    pub(super) is_share: bool,
    /// Intervals with data: of both fleets, where they are compared.
    pub(super) intervals: u64,
    /// Of all these intervals.
    pub(super) canary: Tally,
    pub(super) baseline: Tally,
    /// Events in each, at equal numbers of requests.
    pub(super) events: (f64, f64),
    /// The intervals in sequence, up to the last one with data, in which the canary alone was above the bound of its hard stop.
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
    /// The number of the first interval that was not counted for every metric. Intervals before it are not needed any more.
    pub fn next(&self) -> u64 {
        self.metrics.iter().map(|known| known.next).min().unwrap_or(0)
    }

    /// The number of the first interval that was counted for no metric.
    pub(crate) fn latest(&self) -> u64 {
        self.metrics.iter().map(|known| known.next).max().unwrap_or(0)
    }

    /// The number of the first interval that was not counted for one metric.
    pub(crate) fn next_of(&self, metric: usize) -> u64 {
        self.metrics.get(metric).map_or(0, |known| known.next)
    }

    /// A new stage has to pass by itself: what speaks for the release is forgotten, and what speaks against it is not. Judges of other
    /// tools look at one stage at a time.
    pub(crate) fn begin_stage(&mut self) {
        for known in &mut self.metrics {
            let Known { next, worse, is_share, events, .. } = std::mem::take(known);
            *known = Known { next, worse, is_share, events, ..Known::default() };
        }
        self.classic.clear();
    }

    /// Counts an interval: a pair for each metric of the analysis, in its order. A pair that is missing is no data.
    ///
    /// What the pair was does not matter: an interval that was counted without data is not counted again when the data come late.
    pub fn count(&mut self, analysis: &Analysis, interval: u64, pairs: &[Pair]) {
        for metric in 0..analysis.metrics.len() {
            self.count_one(analysis, metric, interval, &pairs.get(metric).copied().unwrap_or_default());
        }
    }

    /// Counts an interval of one metric, by its place in the analysis.
    pub(crate) fn count_one(&mut self, analysis: &Analysis, metric: usize, interval: u64, pair: &Pair) {
        self.metrics.resize_with(analysis.metrics.len(), Known::default);
        let (known, compared) = (&mut self.metrics[metric], &analysis.metrics[metric]);
        let Some(next) = interval.checked_add(1).filter(|next| *next > known.next) else { return };
        known.next = next;
        known.count(compared, interval, pair);
        classic::count(&mut self.classic, analysis, metric, pair);
    }
}

impl Known {
    fn count(&mut self, compared: &Compared, interval: u64, pair: &Pair) {
        let (canary, baseline) = (pair.canary.and_then(data), pair.baseline.and_then(data));
        if let (Some(stop), Some(value)) = (compared.hard_stop, canary) {
            let is_above = |value: &MetricValue| level(value) > stop.above;
            // What both suffer from is not the fault of one.
            let alone = is_above(&value) && !baseline.as_ref().is_some_and(is_above);
            self.above = if alone { self.above.and(&value) } else { Above::default() };
        }
        match (canary, baseline, compared.at_most) {
            (Some(canary), _, Some(bound)) => self.count_within(compared, bound, &canary),
            (Some(canary), Some(baseline), None) => self.count_beside(compared, interval, canary, baseline),
            _ => {}
        }
    }

    fn count_beside(&mut self, compared: &Compared, interval: u64, canary: MetricValue, baseline: MetricValue) {
        let Some((c, b)) = comparable(&compared.metric, interval, canary, baseline) else { return };
        self.add(&canary);
        self.baseline.add(&baseline);
        if self.is_share {
            self.events = (self.events.0 + c, self.events.1 + b);
        }
        let one_event = if self.is_share { 1.0 } else { 0.0 };
        let (allowed, tolerated) = ((1.0 + compared.margin) * b + compared.floor, compared.tolerance * b);
        self.worse.play(on_worse(c, allowed, one_event));
        self.good.play(on_better(tolerated, c, one_event));
        self.calm.count(compared.acceptable, &canary);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    fn count_within(&mut self, compared: &Compared, bound: f64, canary: &MetricValue) {
        self.add(canary);
        let allowed = |whole: f64| (1.0 + compared.margin) * bound * whole + compared.floor;
        self.worse.play(match canary {
            MetricValue::Ratio { part, whole } => on_above(*part as f64, allowed(*whole as f64)),
            MetricValue::Gauge(level) => on_level_above(*level, allowed(1.0)),
        });
        self.calm.count(compared.tolerance * bound, canary);
    }

    fn add(&mut self, canary: &MetricValue) {
        self.intervals = self.intervals.saturating_add(1);
        self.canary.add(canary);
        self.is_share = matches!(canary, MetricValue::Ratio { .. });
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
    /// Beside another fleet it is worse than tolerated only if both hypotheses hold; then the mean of the wealths against either is a
    /// wealth.
    pub(super) fn log_good(&self, compared: &Compared) -> f64 {
        if let Some(bound) = compared.at_most {
            return self.calm.log(compared.tolerance * bound);
        }
        let acceptable = self.calm.log(compared.acceptable);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Option<MetricValue>> {
        let counts = vec![0, 1, 7, 1_000, 20_000, u64::MAX];
        let count = || prop_oneof![0..50u64, prop::sample::select(counts.clone())];
        let absurd = vec![0.0, -0.0, 1e-308, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -1.0];
        let ratio = (count(), count()).prop_map(|(part, whole)| Some(MetricValue::Ratio { part, whole }));
        let gauge = prop_oneof![0.0..10.0f64, prop::sample::select(absurd)].prop_map(|at| Some(MetricValue::Gauge(at)));
        prop_oneof![Just(None), ratio, gauge]
    }

    fn any_analysis() -> impl Strategy<Value = Analysis> {
        let number = || prop_oneof![0.0..3.0f64, prop::sample::select(vec![0.0, 1.0, 1e-308, 1e300, f64::MAX])];
        (number(), number(), number(), number(), any::<bool>()).prop_map(
            |(margin, floor, tolerance, bound, is_fixed)| {
                let compared = Compared::new("errors".parse().expect("name")).margin(margin).floor(floor);
                let compared = compared.tolerance(tolerance).hard_stop(0.5, std::time::Duration::from_secs(30));
                Analysis::of([if is_fixed { compared.at_most(bound) } else { compared.acceptable(bound) }])
            },
        )
    }

    proptest! {
        /// A number that is none is `null` in JSON, and cannot be read.
        #[test]
        fn whatever_is_measured_evidence_stays_numbers_and_is_counted_once(
            analysis in any_analysis(),
            looks in prop::collection::vec((any_value(), any_value(), prop_oneof![0..20u64, Just(u64::MAX), Just(u64::MAX - 1)]), 1..30),
        ) {
            let mut evidence = Evidence::default();
            for (canary, baseline, interval) in looks {
                evidence.count(&analysis, interval, &[Pair { canary, baseline }]);
                let again = Pair { canary: Some(MetricValue::Ratio { part: 9, whole: 9 }), baseline };
                let before = evidence.clone();
                evidence.count(&analysis, interval, &[again]);
                prop_assert_eq!(&evidence, &before);
                let json = serde_json::to_string(&evidence).expect("json");
                prop_assert_eq!(&serde_json::from_str::<Evidence>(&json).expect("evidence"), &evidence);
                let _ = analysis.judge(&evidence);
            }
        }
    }

    #[test]
    fn damaged_evidence_is_an_error() {
        let analysis = Analysis::of([Compared::new("errors".parse().expect("name"))]);
        let value = Some(MetricValue::Ratio { part: 1, whole: 9 });
        let mut evidence = Evidence::default();
        evidence.count(&analysis, 0, &[Pair { canary: value, baseline: value }]);
        let json = serde_json::to_string(&evidence).expect("json");
        assert_eq!(serde_json::from_str::<Evidence>(&json).expect("evidence"), evidence);
        for (from, to) in [("\"next\"", "\"text\""), ("\"log\":", "\"log\":null,\"l\":"), ("}", "")] {
            let damaged = json.replacen(from, to, 1);
            assert!(damaged != json && serde_json::from_str::<Evidence>(&damaged).is_err(), "{damaged}");
        }
        assert!((0..json.len()).all(|end| serde_json::from_str::<Evidence>(&json[..end]).is_err()));
    }
}
