//! Rollouts that are tried.

use std::time::Duration;

use immutable_core::analysis::{Analysis, Evidence, Judgement, Pair};
use immutable_core::provider::MetricValue;

/// The evidence after each interval: in minutes, against the release, for it.
pub(crate) type Course = Vec<(f64, f64, f64)>;

/// Requests in ten seconds, to either fleet.
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

/// Whether a release is failed, or passes, within an hour, that has thirty times the usual errors in one of ten stretches of ten
/// seconds, and none in the others: three times as many in all.
pub(crate) fn burst(analysis: &Analysis, interval: Duration, seed: u64) -> Judgement {
    let (mut random, mut evidence) = (fastrand::Rng::with_seed(seed), Evidence::default());
    let stretches = interval.as_secs() / 10;
    for number in 0..360 / stretches {
        let (mut canary, mut baseline) = (0, 0);
        for _ in 0..stretches {
            let share = if random.f64() < 0.1 { 30.0 * USUAL } else { 0.0 };
            let mut events = |share: f64| (0..REQUESTS).filter(|_| random.f64() < share).count() as u64;
            (canary, baseline) = (canary + events(share), baseline + events(USUAL));
        }
        let value = |part| Some(MetricValue::Ratio { part, whole: REQUESTS * stretches });
        evidence.count(analysis, number, &[Pair { canary: value(canary), baseline: value(baseline) }]);
        let judgement = analysis.judge(&evidence);
        if !matches!(judgement, Judgement::NotEnoughData { .. }) {
            return judgement;
        }
    }
    analysis.judge(&evidence)
}
