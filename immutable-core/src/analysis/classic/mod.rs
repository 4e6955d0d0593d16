//! Judges as other tools have them, for those who come from there.
//!
//! They are for compatibility: either is valid for one look at the end, and both are asked again and again. How often they call a
//! release worse that is not is said at each, and is checked by their tests; the default judge, [`Judge::Betting`], has a bound on
//! that which holds however often one looks. Hard stops, the minimum time, the minimum number of requests and the deadline hold for
//! all of them.

mod mann_whitney;
mod ranks;
mod threshold;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use mann_whitney::MannWhitney;
pub use threshold::Threshold;

use super::Judgement;
use super::compared::Compared;
use super::evidence::Pair;
use super::settings::Analysis;
use crate::provider::MetricValue;

/// What decides on a release from what was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Judge {
    /// Bets against the baseline. Its false alarms are bounded by α, and its wrong passes by β, however often one looks.
    #[default]
    Betting,
    /// A bound on each interval and a limit on how many may be above it, as in Argo Rollouts and Flagger.
    Threshold(Threshold),
    /// A test of ranks and an effect size, as in Kayenta, the judge of Spinnaker.
    MannWhitney(MannWhitney),
}

impl Judge {
    pub(super) fn is_default(&self) -> bool {
        matches!(self, Self::Betting)
    }

    /// What a metric has to be, in words.
    pub(super) fn in_words(&self, compared: &Compared) -> String {
        match self {
            Self::Betting => compared.to_string(),
            Self::Threshold(threshold) => threshold.in_words(compared),
            Self::MannWhitney(_) => format!("{} by rank not high beside the old", compared.metric),
        }
    }

    /// What is wrong with the settings, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Betting => None,
            Self::Threshold(threshold) => threshold.problem(),
            Self::MannWhitney(test) => test.problem(),
        }
    }
}

/// What a judge of another tool knows of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Classic {
    Threshold(threshold::Measured),
    MannWhitney(mann_whitney::Values),
}

/// Counts an interval of a metric for the judge that was chosen, if it is one of these.
pub(super) fn count(known: &mut Vec<Classic>, analysis: &Analysis, metric: usize, pair: &Pair) {
    let empty = match analysis.judge {
        Judge::Betting => return,
        Judge::Threshold(_) => Classic::Threshold(threshold::Measured::default()),
        Judge::MannWhitney(_) => Classic::MannWhitney(mann_whitney::Values::default()),
    };
    known.resize(analysis.metrics.len(), empty);
    match (&mut known[metric], analysis.judge) {
        (Classic::Threshold(measured), Judge::Threshold(settings)) => {
            measured.count(settings, &analysis.metrics[metric], pair);
        }
        (Classic::MannWhitney(values), Judge::MannWhitney(_)) => values.count(pair),
        _ => {}
    }
}

/// What the judge that was chosen says, if it is one of these: each metric has to pass, and one that fails is enough.
pub(super) fn judge(known: &[Classic], analysis: &Analysis) -> Option<Judgement> {
    if analysis.judge.is_default() {
        return None;
    }
    let said = analysis.metrics.iter().zip(known).map(|(compared, known)| known.judge(analysis, compared));
    let (mut passes, mut missing) = (Vec::new(), Vec::new());
    for judgement in said {
        match judgement {
            Judgement::Fail { .. } => return Some(judgement),
            Judgement::Pass { evidence } => passes.push(evidence),
            Judgement::NotEnoughData { evidence } => missing.push(evidence),
        }
    }
    Some(match (passes.is_empty(), missing.is_empty()) {
        (false, true) => Judgement::Pass { evidence: passes.join("; ") },
        (_, false) => Judgement::NotEnoughData { evidence: missing.join("; ") },
        (true, true) => Judgement::NotEnoughData { evidence: "no interval was measured yet".into() },
    })
}

impl Classic {
    fn judge(&self, analysis: &Analysis, compared: &Compared) -> Judgement {
        match (self, analysis.judge) {
            (Self::Threshold(measured), Judge::Threshold(settings)) => measured.judge(settings, analysis, compared),
            (Self::MannWhitney(values), Judge::MannWhitney(settings)) => values.judge(settings, analysis, compared),
            _ => Judgement::NotEnoughData { evidence: format!("{}: was measured for another judge", compared.metric) },
        }
    }
}

/// How much was measured: what the minimums of an analysis are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Amount {
    intervals: u32,
    /// To the canary. A level has none.
    requests: Option<u64>,
}

/// One value that says something: a share of some requests, or a level that is a number from 0 up.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    level: f64,
    requests: Option<u64>,
}

impl Measurement {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    fn of(value: Option<MetricValue>) -> Option<Self> {
        match value? {
            MetricValue::Ratio { part, whole } if whole > 0 && part <= whole => {
                Some(Self { level: part as f64 / whole as f64, requests: Some(whole) })
            }
            MetricValue::Gauge(level) if level.is_finite() && level >= 0.0 => Some(Self { level, requests: None }),
            _ => None,
        }
    }
}

impl Amount {
    fn add(&mut self, canary: Measurement) {
        self.intervals = self.intervals.saturating_add(1);
        if let Some(requests) = canary.requests {
            self.requests = Some(self.requests.unwrap_or_default().saturating_add(requests));
        }
    }

    /// What is missing of the minimums, in words.
    fn missing(self, analysis: &Analysis, compared: &Compared) -> Option<String> {
        let (metric, measured) = (&compared.metric, analysis.interval.saturating_mul(self.intervals));
        if measured < analysis.minimum_time {
            return Some(format!("{metric}: {measured:?} of {:?} measured", analysis.minimum_time));
        }
        let requests = self.requests.filter(|requests| *requests < analysis.minimum_requests)?;
        Some(format!("{metric}: {requests} of {} requests", analysis.minimum_requests))
    }
}
