//! What is known, as numbers: for dashboards and plots.

use super::bets::mean_of_logs;
use super::evidence::Evidence;
use super::settings::Analysis;

impl Analysis {
    /// The evidence that the release is worse than the old one: how much richer somebody would be by now who had bet on that from
    /// the beginning. It begins at 1, and fails the release from 1 / α on. If the release is no worse it ever gets there with a
    /// probability of at most α.
    pub fn evidence_against(&self, evidence: &Evidence) -> f64 {
        let known = self.metrics.iter().zip(&evidence.metrics);
        let log = mean_of_logs(known.map(|(compared, known)| (known.worse.log(), compared.weight)));
        if log == f64::NEG_INFINITY { 1.0 } else { log.exp() }
    }

    /// The evidence that the release is less bad than is tolerated, of the metric with the least. It begins at 1, and is enough for a
    /// pass from 1 / β on, when the minimum time and the minimum number of requests are reached.
    pub fn evidence_for(&self, evidence: &Evidence) -> f64 {
        let known = self.metrics.iter().zip(&evidence.metrics);
        let least = known.map(|(compared, known)| known.log_good(compared)).reduce(f64::min);
        least.map_or(1.0, f64::exp)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compared, Judgement, Pair};
    use super::*;
    use crate::provider::MetricValue;

    #[test]
    fn the_numbers_are_those_that_the_judge_goes_by() {
        let analysis = Analysis::of([Compared::new("errors".parse().expect("name"))]);
        for (errors, of_canary) in [(50, true), (0, false)] {
            let mut evidence = Evidence::default();
            assert_eq!((analysis.evidence_against(&evidence), analysis.evidence_for(&evidence)), (1.0, 1.0));
            let value = |part| Some(MetricValue::Ratio { part, whole: 500 });
            for interval in 0..200 {
                evidence.count(&analysis, interval, &[Pair { canary: value(errors), baseline: value(5) }]);
                let fails = matches!(analysis.judge(&evidence), Judgement::Fail { .. });
                assert_eq!(fails, analysis.evidence_against(&evidence) >= 100.0, "interval {interval}");
                if matches!(analysis.judge(&evidence), Judgement::Pass { .. }) {
                    assert!(analysis.evidence_for(&evidence) >= 20.0, "interval {interval}");
                }
            }
            assert_eq!(matches!(analysis.judge(&evidence), Judgement::Fail { .. }), of_canary);
            assert_eq!(matches!(analysis.judge(&evidence), Judgement::Pass { .. }), !of_canary);
        }
    }
}
