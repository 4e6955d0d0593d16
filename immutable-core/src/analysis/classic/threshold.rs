//! A bound on each interval, and how many may be above it.

use serde::{Deserialize, Serialize};

use super::super::Judgement;
use super::super::compared::Compared;
use super::super::evidence::Pair;
use super::super::settings::Analysis;
use super::{Amount, Measurement};

/// A bound on each interval and a limit on how many may be above it, as Argo Rollouts and Flagger judge.
///
/// Each interval of the new release is a measurement. It succeeds up to what is [`acceptable`](Compared::acceptable) of the metric
/// and fails above it; the old release has no say. More failures than their limit fail the release; it passes after so many
/// measurements without that.
///
/// | Argo Rollouts | Flagger | here | unless it is set |
/// |---|---|---|---|
/// | `successCondition: result <= 0.01` | `thresholdRange: {max: 1}` | [`Compared::acceptable`]`(0.01)` | 0.001 |
/// | `count: 30` | `iterations: 30` | [`Threshold::of`]`(30)` | has to be given |
/// | `failureLimit: 4` | `threshold: 5` | [`failure_limit`](Self::failure_limit)`(4)` | 0 |
/// | `failureCondition: result > 0.02` | | [`fails_above`](Self::fails_above)`(0.02)` | what is acceptable |
/// | `inconclusiveLimit: 2` | | [`inconclusive_limit`](Self::inconclusive_limit)`(2)` | 0 |
/// | `consecutiveErrorLimit: 4` | | [`error_limit`](Self::error_limit)`(4)` | 4 |
///
/// The rule is that of `assessMetricStatus` in Argo Rollouts (`analysis/analysis.go`). What is different: the minimum time, the
/// minimum number of requests and the deadline of the analysis hold, too; and an analysis without `count` is not to be had.
///
/// # False alarms
/// It knows nothing of chance, so it has no rate of its own: all depends on the bound. With a bound half above the usual share
/// (0.5 % of 2,000 requests a minute) and a limit of 4 it called all of 200 good releases bad within a day, half of them within 92
/// minutes. And it takes a disturbance of both releases for the new one's.
///
/// ```
/// use immutable_core::analysis::{Analysis, Compared, Judge, Threshold};
///
/// let errors = Compared::new("errors".parse()?).acceptable(0.01);
/// let analysis = Analysis::of([errors]).judge_by(Judge::Threshold(Threshold::of(30).failure_limit(4)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Threshold {
    count: u32,
    failure_limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fails_above: Option<f64>,
    inconclusive_limit: u32,
    error_limit: u32,
}

impl Threshold {
    /// Passes after so many measurements, none of which may fail. An interval without data is no measurement.
    pub fn of(count: u32) -> Self {
        Self { count, failure_limit: 0, fails_above: None, inconclusive_limit: 0, error_limit: 4 }
    }

    /// How many measurements may fail; none unless it is set.
    pub fn failure_limit(mut self, limit: u32) -> Self {
        self.failure_limit = limit;
        self
    }

    /// Fails above this bound only: what is above the acceptable and not above this is inconclusive.
    pub fn fails_above(mut self, bound: f64) -> Self {
        self.fails_above = Some(bound);
        self
    }

    /// How many measurements may be inconclusive; none unless it is set. With more the release does not pass, and does not fail for
    /// that: it stays until the deadline or somebody decides, as Argo Rollouts pauses.
    pub fn inconclusive_limit(mut self, limit: u32) -> Self {
        self.inconclusive_limit = limit;
        self
    }

    /// How many intervals in sequence may be without data; 4 unless it is set. With more the release fails.
    pub fn error_limit(mut self, limit: u32) -> Self {
        self.error_limit = limit;
        self
    }

    pub(super) fn in_words(&self, compared: &Compared) -> String {
        let bound = self.fails_above.unwrap_or(compared.acceptable);
        format!("{} above {bound} in at most {} of {} intervals", compared.metric, self.failure_limit, self.count)
    }

    pub(super) fn problem(&self) -> Option<String> {
        let no_bound = self.fails_above.filter(|bound| !bound.is_finite() || *bound < 0.0);
        let no_bound = no_bound.map(|bound| format!("judge: fails_above: {bound} is not a number from 0 up"));
        (self.count == 0).then(|| "judge: count: give at least 1".to_owned()).or(no_bound)
    }
}

/// What was measured of one metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Measured {
    amount: Amount,
    failed: u32,
    inconclusive: u32,
    /// Intervals without data, in sequence, up to the last one.
    errors: u32,
}

impl Measured {
    pub(super) fn count(&mut self, settings: Threshold, compared: &Compared, pair: &Pair) {
        let Some(canary) = Measurement::of(pair.canary) else {
            self.errors = self.errors.saturating_add(1);
            return;
        };
        self.errors = 0;
        self.amount.add(canary);
        if canary.level > settings.fails_above.unwrap_or(compared.acceptable) {
            self.failed += 1;
        } else if canary.level > compared.acceptable {
            self.inconclusive += 1;
        }
    }

    pub(super) fn judge(&self, settings: Threshold, analysis: &Analysis, compared: &Compared) -> Judgement {
        let (metric, measured) = (&compared.metric, self.amount.intervals);
        let of = |what: &str, count: u32, limit: u32| {
            format!("{metric}: {count} of {measured} intervals {what}, at most {limit} may be")
        };
        if self.failed > settings.failure_limit {
            let bound = settings.fails_above.unwrap_or(compared.acceptable);
            let evidence = of(&format!("above {bound}"), self.failed, settings.failure_limit);
            return Judgement::Fail { evidence };
        }
        if self.errors > settings.error_limit {
            return Judgement::Fail { evidence: format!("{metric}: no data in {} intervals in sequence", self.errors) };
        }
        if self.inconclusive > settings.inconclusive_limit {
            let evidence = of("inconclusive", self.inconclusive, settings.inconclusive_limit);
            return Judgement::NotEnoughData { evidence };
        }
        if measured < settings.count {
            let evidence = format!("{metric}: {measured} of {} intervals measured", settings.count);
            return Judgement::NotEnoughData { evidence };
        }
        match self.amount.missing(analysis, compared) {
            Some(evidence) => Judgement::NotEnoughData { evidence },
            None => Judgement::Pass {
                evidence: of(&format!("above {}", compared.acceptable), self.failed, settings.failure_limit),
            },
        }
    }
}
