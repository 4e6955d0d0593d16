//! A test of ranks over all that was measured, with an effect size.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::super::Judgement;
use super::super::compared::Compared;
use super::super::evidence::Pair;
use super::super::settings::Analysis;
use super::ranks::Samples;
use super::{Amount, Measurement};

/// The most intervals that are kept: 16 hours of minutes, and about 20 kB in the journal for each metric.
const KEPT: usize = 1_000;

/// A test of Mann and Whitney with an effect size, as Kayenta judges, the canary analysis of Spinnaker.
///
/// The intervals of the new release are compared with those of the old one: `High`, which fails the release, when the lower end of
/// the two-sided confidence interval of their shift (0.98) is above a quarter of its Hodges–Lehmann estimate, and the mean of the
/// new is at least so many times that of the old as is allowed (1). Without any data it says that there is not enough.
///
/// | Kayenta | here | unless it is set |
/// |---|---|---|
/// | `NetflixACAJudge-v1.0`, `confLevel` | [`confidence`](Self::confidence) | 0.98 |
/// | `NetflixACAJudge-v1.0`, `tolerance` | [`tolerance`](Self::tolerance) | 0.25 |
/// | `effectSize.allowedIncrease`, of `meanRatio` | [`allowed_increase`](Self::allowed_increase) | 1 |
/// | `direction` | `increase`: of every metric, less is better | |
/// | `canaryAnalysisIntervalMins`, the first look | [`Analysis::minimum_time`] and [`Analysis::minimum_requests`] | |
///
/// The rule is that of `MannWhitneyClassifier.scala` and `NetflixACAJudge.scala`. What is different: one metric that is `High` fails
/// the release, without scores and groups; it is asked at every interval; the last 1000 intervals count; no outliers are removed;
/// and the shift is exact, where Kayenta's search for it stops within 0.0001, which for a share of errors may be all of it.
///
/// # False alarms
/// The confidence is for one look. Asked at every minute of a day, the first time after an hour, it called 22 of 200 good releases
/// bad where minutes are independent of each other.
///
/// ```
/// use immutable_core::analysis::{Analysis, Compared, Judge, MannWhitney};
/// use std::time::Duration;
///
/// let analysis = Analysis::of([Compared::new("errors".parse()?)])
///     .interval(Duration::from_mins(1))
///     .minimum_time(Duration::from_hours(1))
///     .judge_by(Judge::MannWhitney(MannWhitney::new()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct MannWhitney {
    confidence: f64,
    tolerance: f64,
    allowed_increase: f64,
}

impl MannWhitney {
    /// The rule with the numbers of Kayenta's judge.
    pub fn new() -> Self {
        Self { confidence: 0.98, tolerance: 0.25, allowed_increase: 1.0 }
    }

    /// How sure the two-sided confidence interval of the shift is, for one look; 0.98 unless it is set.
    pub fn confidence(mut self, probability: f64) -> Self {
        self.confidence = probability;
        self
    }

    /// The share of the estimated shift that the confidence interval has to be above; 0.25 unless it is set.
    pub fn tolerance(mut self, share: f64) -> Self {
        self.tolerance = share;
        self
    }

    /// From how many times the mean of the old release the new one may be called bad; 1 unless it is set.
    pub fn allowed_increase(mut self, times: f64) -> Self {
        self.allowed_increase = times;
        self
    }

    pub(super) fn problem(&self) -> Option<String> {
        let share = |name: &str, value: f64| {
            (!(value > 0.0 && value < 1.0)).then(|| format!("judge: {name}: {value} is not between 0 and 1"))
        };
        let increase = self.allowed_increase;
        let no_increase = !increase.is_finite() || increase < 0.0;
        share("confidence", self.confidence)
            .or_else(|| share("tolerance", self.tolerance))
            .or_else(|| no_increase.then(|| format!("judge: allowed_increase: {increase} is not a number from 0 up")))
    }

    /// Whether the first sample is high beside the second.
    ///
    /// The lower end of the interval is above a bound if a shift by that bound is rejected; to search for the end is not needed.
    fn is_high(&self, samples: &Samples) -> bool {
        let quantile = Normal::standard().inverse_cdf(f64::midpoint(1.0, self.confidence));
        let rejects = |shift: f64| samples.deviations(shift).is_some_and(|deviations| deviations > quantile);
        // The test falls with the shift, so that most samples need no estimate of it.
        let is_above = rejects(0.0) && samples.shift().is_some_and(|shift| rejects(self.tolerance * shift.abs()));
        is_above && samples.ratio_of_means().is_none_or(|ratio| ratio >= self.allowed_increase)
    }
}

impl Default for MannWhitney {
    fn default() -> Self {
        Self::new()
    }
}

/// What was measured of one metric in the last intervals with data of both fleets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Values {
    amount: Amount,
    canary: VecDeque<f64>,
    baseline: VecDeque<f64>,
}

impl Values {
    pub(super) fn count(&mut self, pair: &Pair) {
        let (Some(canary), Some(baseline)) = (Measurement::of(pair.canary), Measurement::of(pair.baseline)) else {
            return;
        };
        self.amount.add(canary);
        for (values, value) in [(&mut self.canary, canary), (&mut self.baseline, baseline)] {
            if values.len() == KEPT {
                values.pop_front();
            }
            values.push_back(value.level);
        }
    }

    pub(super) fn judge(&self, settings: MannWhitney, analysis: &Analysis, compared: &Compared) -> Judgement {
        if let Some(evidence) = self.amount.missing(analysis, compared) {
            return Judgement::NotEnoughData { evidence };
        }
        if self.canary.is_empty() {
            let evidence = format!("{}: no interval was measured in both fleets yet", compared.metric);
            return Judgement::NotEnoughData { evidence };
        }
        let samples = Samples::new(self.canary.iter().copied().collect(), self.baseline.iter().copied().collect());
        let times = samples.ratio_of_means().map_or_else(|| "not comparable with".into(), |r| format!("{r:.2} times"));
        let evidence = format!("{} is {times} the old in {} intervals", compared.metric, self.canary.len());
        if settings.is_high(&samples) {
            Judgement::Fail { evidence: format!("{evidence}: high") }
        } else {
            Judgement::Pass { evidence }
        }
    }
}
