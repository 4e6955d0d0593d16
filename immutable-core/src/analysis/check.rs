//! A fixed bound on all that was measured since a stage was reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Judgement;
use crate::model::MetricName;
use crate::provider::{MetricSample, MetricValue};

/// A bound on a metric of the new release: a share such as errors of requests, or a level.
///
/// The whole time since the stage was reached counts as one sample. Nothing is said before there is enough data; no data
/// is never a pass.
///
/// ```
/// use immutable_core::analysis::{Check, Judgement};
/// use immutable_core::provider::{MetricSample, MetricValue, Window};
///
/// let check = Check::at_most("errors".parse()?, 0.01).min_count(100);
/// assert!(matches!(check.judge(&[]), Judgement::NotEnoughData { .. }));
///
/// let window = Window { from: "2026-01-01T00:00Z".parse()?, to: "2026-01-01T00:01Z".parse()? };
/// let sample = |part, whole| [MetricSample { window, value: MetricValue::Ratio { part, whole } }];
/// assert!(matches!(check.judge(&sample(1, 200)), Judgement::Pass { .. }));
/// assert!(matches!(check.judge(&sample(9, 200)), Judgement::Fail { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Check {
    metric: MetricName,
    at_most: f64,
    min_count: u64,
}

impl Check {
    /// The metric must not be above a bound.
    pub fn at_most(metric: MetricName, bound: f64) -> Self {
        Self { metric, at_most: bound, min_count: 100 }
    }

    /// How many requests (for a share) or values (for a level) it takes to say anything; 100 unless it is set.
    pub fn min_count(mut self, count: u64) -> Self {
        self.min_count = count;
        self
    }

    /// The metric that is judged.
    pub fn metric(&self) -> &MetricName {
        &self.metric
    }

    /// What is wrong with the bound, if anything is.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if !self.at_most.is_finite() || self.at_most < 0.0 {
            return Some("the bound must be a number from 0 up");
        }
        (self.min_count == 0).then_some("min_count must be at least 1: no data is never a pass")
    }

    /// Judges what was measured so far.
    pub fn judge(&self, samples: &[MetricSample]) -> Judgement {
        let (value, count) = measured(samples);
        let evidence = format!("{} is {value:.4}, at most {} is allowed ({count} counted)", self.metric, self.at_most);
        if count < self.min_count {
            let evidence = format!("{}: {count} of {} counted", self.metric, self.min_count);
            Judgement::NotEnoughData { evidence }
        } else if value > self.at_most {
            Judgement::Fail { evidence }
        } else {
            Judgement::Pass { evidence }
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at most {} of {} or more", self.metric, self.at_most, self.min_count)
    }
}

/// The share or mean level, and of how many requests or values.
#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
fn measured(samples: &[MetricSample]) -> (f64, u64) {
    match MetricValue::pooled(samples) {
        None => (0.0, 0),
        Some(MetricValue::Ratio { part, whole }) => (part as f64 / whole as f64, whole),
        Some(MetricValue::Gauge(level)) => {
            let is_level =
                |sample: &&MetricSample| matches!(sample.value, MetricValue::Gauge(level) if level.is_finite());
            (level, samples.iter().filter(is_level).count() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Window;

    #[test]
    fn silence_is_never_a_pass() {
        let window = Window { from: jiff::Timestamp::UNIX_EPOCH, to: jiff::Timestamp::UNIX_EPOCH };
        let sample = |value| MetricSample { window, value };
        let check = Check::at_most("errors".parse().expect("name"), 0.05).min_count(10);
        let silent: &[&[MetricSample]] = &[
            &[],
            &[sample(MetricValue::Ratio { part: 0, whole: 0 })],
            &[sample(MetricValue::Ratio { part: 9, whole: 9 })],
            &[sample(MetricValue::Gauge(f64::NAN)); 20],
        ];
        for samples in silent {
            assert!(matches!(check.judge(samples), Judgement::NotEnoughData { .. }), "{samples:?}");
        }
        let pooled =
            [sample(MetricValue::Ratio { part: 0, whole: 8 }), sample(MetricValue::Ratio { part: 1, whole: 8 })];
        let evidence = "errors is 0.0625, at most 0.05 is allowed (16 counted)".to_owned();
        assert_eq!(check.judge(&pooled), Judgement::Fail { evidence });
        assert!(matches!(check.judge(&[sample(MetricValue::Gauge(0.01)); 10]), Judgement::Pass { .. }));
    }
}
