//! Rollouts that are drawn.

use immutable_core::analysis::{Analysis, Evidence, Judgement, Pair};
use immutable_core::provider::MetricValue;

/// The evidence after each interval: in minutes, against the release, for it.
pub(crate) type Course = Vec<(f64, f64, f64)>;

/// Requests in each interval, to either fleet: 20 per second.
const REQUESTS: u64 = 200;

/// The usual share of errors.
const USUAL: f64 = 0.01;

/// Watches a release with so many times the usual errors until it is judged, or for an hour. The same seed gives the same.
pub(crate) fn watch(analysis: &Analysis, times: f64, seed: u64) -> (Course, Judgement) {
    let (mut random, mut evidence) = (fastrand::Rng::with_seed(seed), Evidence::default());
    let mut course = vec![(0.0, 1.0, 1.0)];
    for interval in 0..360u32 {
        let mut fleet = |share: f64| {
            let part = (0..REQUESTS).filter(|_| random.f64() < share).count() as u64;
            Some(MetricValue::Ratio { part, whole: REQUESTS })
        };
        let pair = Pair { canary: fleet(USUAL * times), baseline: fleet(USUAL) };
        evidence.count(analysis, u64::from(interval), &[pair]);
        let minutes = f64::from(interval + 1) / 6.0;
        course.push((minutes, analysis.evidence_against(&evidence), analysis.evidence_for(&evidence)));
        let judgement = analysis.judge(&evidence);
        if !matches!(judgement, Judgement::NotEnoughData { .. }) {
            return (course, judgement);
        }
    }
    let judgement = analysis.judge(&evidence);
    (course, judgement)
}
