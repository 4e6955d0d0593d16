//! What the judges of other tools say, and how often they are wrong.

use std::time::Duration;

use super::super::poisson::poisson;
use super::super::{Analysis, Compared, Evidence, Judge, Judgement, MannWhitney, Pair, Threshold};
use crate::provider::MetricValue;

const MINUTE: Duration = Duration::from_mins(1);

fn errors() -> Compared {
    Compared::new("errors".parse().expect("name")).acceptable(0.01)
}

fn analysis(judge: Judge) -> Analysis {
    Analysis::of([errors()]).interval(MINUTE).minimum_time(MINUTE * 5).minimum_requests(500).judge_by(judge)
}

fn share(part: u64, whole: u64) -> MetricValue {
    MetricValue::Ratio { part, whole }
}

/// Counts so many errors of a hundred requests in each interval, of either release.
fn evidence(analysis: &Analysis, intervals: impl IntoIterator<Item = (Option<u64>, Option<u64>)>) -> Evidence {
    let mut evidence = Evidence::default();
    for (interval, (canary, baseline)) in intervals.into_iter().enumerate() {
        let pair =
            Pair { canary: canary.map(|part| share(part, 100)), baseline: baseline.map(|part| share(part, 100)) };
        evidence.count(analysis, interval as u64, &[pair]);
    }
    evidence
}

/// The judgement in a word, and what it rests on.
fn said(judgement: &Judgement) -> (&'static str, &str) {
    match judgement {
        Judgement::Pass { evidence } => ("pass", evidence),
        Judgement::Fail { evidence } => ("fail", evidence),
        Judgement::NotEnoughData { evidence } => ("not enough", evidence),
    }
}

#[test]
fn a_threshold_counts_failures_errors_and_what_is_neither() {
    let of = Threshold::of(5);
    let both = of.failure_limit(1).fails_above(0.03).inconclusive_limit(1);
    // For each interval: errors of a hundred requests, of which one is acceptable; -1 for no data.
    let cases: &[(Threshold, &[i64], (&str, &str))] = &[
        (of, &[], ("not enough", "no interval was measured yet")),
        (of, &[0, 1, 0, 1], ("not enough", "errors: 4 of 5 intervals measured")),
        (of, &[0, 1, 0, 1, 1], ("pass", "errors: 0 of 5 intervals above 0.01, at most 0 may be")),
        (of, &[0, 2], ("fail", "errors: 1 of 2 intervals above 0.01, at most 0 may be")),
        (of.failure_limit(2), &[9, 9, 0, 0, 0], ("pass", "errors: 2 of 5 intervals above 0.01, at most 2 may be")),
        (of.failure_limit(2), &[9, 0, 9, 0, 9], ("fail", "errors: 3 of 5 intervals above 0.01, at most 2 may be")),
        (both, &[2, 4, 0, 0, 0], ("pass", "errors: 1 of 5 intervals above 0.01, at most 1 may be")),
        (both, &[4, 4], ("fail", "errors: 2 of 2 intervals above 0.03, at most 1 may be")),
        (both, &[2, 3, 0, 0, 0], ("not enough", "errors: 2 of 5 intervals inconclusive, at most 1 may be")),
        (of, &[0, -1, -1, -1, -1], ("not enough", "errors: 1 of 5 intervals measured")),
        (of, &[0, -1, -1, -1, -1, -1], ("fail", "errors: no data in 5 intervals in sequence")),
        (of, &[-1, -1, 0, -1, -1, -1, 0, 0, 0], ("not enough", "errors: 4 of 5 intervals measured")),
        (Threshold::of(1), &[0], ("not enough", "errors: 60s of 300s measured")),
    ];
    for (threshold, parts, expected) in cases {
        let analysis = analysis(Judge::Threshold(*threshold));
        let evidence = evidence(&analysis, parts.iter().map(|part| (u64::try_from(*part).ok(), None)));
        assert_eq!(said(&analysis.judge(&evidence)), *expected, "{parts:?}");
    }
}

/// A rule, the errors of either release in each interval, and what is said.
type Case<'a> = (MannWhitney, &'a [(u64, u64)], (&'a str, &'a str));

#[test]
fn a_test_of_ranks_tells_what_is_high() {
    let rule = MannWhitney::new();
    let alike = [(3, 2), (2, 3), (4, 3), (3, 4), (2, 2), (5, 5), (1, 2), (2, 1)];
    let worse = alike.map(|(canary, baseline)| (canary + 4, baseline));
    let better = alike.map(|(canary, baseline)| (canary, baseline + 4));
    // As often as not above, but never by much.
    let slightly = [(2, 1), (3, 2), (4, 3), (2, 1), (3, 2), (4, 3), (5, 4), (3, 2)];
    let cases: &[Case<'_>] = &[
        (rule, &[], ("not enough", "no interval was measured yet")),
        (rule, &worse[..3], ("not enough", "errors: 180s of 300s measured")),
        (rule, &alike, ("pass", "errors is 1.00 times the old in 8 intervals")),
        (rule, &worse, ("fail", "errors is 2.45 times the old in 8 intervals: high")),
        (rule.allowed_increase(2.5), &worse, ("pass", "errors is 2.45 times the old in 8 intervals")),
        (rule.tolerance(0.9), &worse, ("pass", "errors is 2.45 times the old in 8 intervals")),
        (rule, &better, ("pass", "errors is 0.41 times the old in 8 intervals")),
        (rule, &slightly, ("pass", "errors is 1.44 times the old in 8 intervals")),
        (rule, &[(0, 0); 8], ("pass", "errors is not comparable with the old in 8 intervals")),
        (rule, &[(9, 0); 8], ("fail", "errors is not comparable with the old in 8 intervals: high")),
    ];
    for (rule, parts, expected) in cases {
        let analysis = analysis(Judge::MannWhitney(*rule));
        let evidence = evidence(&analysis, parts.iter().map(|(canary, baseline)| (Some(*canary), Some(*baseline))));
        assert_eq!(said(&analysis.judge(&evidence)), *expected, "{parts:?}");
    }
}

#[test]
fn ranks_need_both_releases() {
    let analysis = analysis(Judge::MannWhitney(MannWhitney::new()));
    for pair in [(Some(9), None), (None, Some(9)), (None, None)] {
        let evidence = evidence(&analysis, [pair; 30]);
        assert_eq!(said(&analysis.judge(&evidence)), ("not enough", "errors: 0ns of 300s measured"));
    }
}

#[test]
fn what_is_known_goes_through_a_journal_and_has_an_end() {
    for judge in [Judge::MannWhitney(MannWhitney::new()), Judge::Threshold(Threshold::of(5).fails_above(0.1))] {
        let analysis = analysis(judge);
        let read: Analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
        assert_eq!(read, analysis);
        let evidence = evidence(&analysis, (0..3_000u64).map(|i| (Some(i % 7), Some(i % 5))));
        let written = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&written).unwrap(), evidence);
        assert!(written.len() < 20_000, "{} bytes", written.len());
    }
    // As it was before there was a choice.
    let default = Analysis::of([errors()]);
    let written = serde_json::to_string(&default).unwrap();
    assert!(!written.contains("judge"), "{written}");
    assert_eq!(serde_json::from_str::<Analysis>(&written).unwrap(), default);
    assert!(!serde_json::to_string(&evidence(&default, [(Some(1), Some(1))])).unwrap().contains("classic"));
}

#[test]
fn a_hard_stop_holds_for_every_judge() {
    for judge in [Judge::MannWhitney(MannWhitney::new()), Judge::Threshold(Threshold::of(5).failure_limit(9))] {
        let analysis = Analysis::of([errors().hard_stop(0.5, MINUTE * 2)]).interval(MINUTE).judge_by(judge);
        let judgement = analysis.judge(&evidence(&analysis, [(Some(60), None), (Some(70), None)]));
        assert_eq!(said(&judgement), ("fail", "errors above 0.5 for 120s: hard stop"));
    }
}

#[test]
fn settings_without_sense_are_refused() {
    let cases = [
        (Judge::Threshold(Threshold::of(0)), "judge: count: give at least 1"),
        (Judge::Threshold(Threshold::of(1).fails_above(f64::NAN)), "judge: fails_above: NaN is not a number from 0 up"),
        (Judge::MannWhitney(MannWhitney::new().confidence(98.0)), "judge: confidence: 98 is not between 0 and 1"),
        (Judge::MannWhitney(MannWhitney::new().tolerance(0.0)), "judge: tolerance: 0 is not between 0 and 1"),
        (
            Judge::MannWhitney(MannWhitney::new().allowed_increase(-1.0)),
            "judge: allowed_increase: -1 is not a number from 0 up",
        ),
    ];
    for (judge, expected) in cases {
        assert_eq!(analysis(judge).problem().as_deref(), Some(expected));
    }
    assert_eq!(analysis(Judge::MannWhitney(MannWhitney::new())).problem(), None);
}

#[test]
fn a_plan_can_say_what_each_judge_looks_at() {
    let cases = [
        (Judge::Betting, "errors less than 1.5 times the old, or below 0.01"),
        (Judge::Threshold(Threshold::of(30).failure_limit(4)), "errors above 0.01 in at most 4 of 30 intervals"),
        (Judge::MannWhitney(MannWhitney::new()), "errors by rank not high beside the old"),
    ];
    for (judge, expected) in cases {
        assert_eq!(analysis(judge).to_string(), expected);
    }
}

/// How many of 200 releases that are no worse a judge calls bad in a day with a look each minute, and after how many minutes half
/// of those. 2,000 requests a minute to either, of which half a percent fail, independently of each other.
fn false_alarms(analysis: &Analysis) -> (usize, Option<u32>) {
    let mut alarms: Vec<u32> = (0..200).filter_map(|seed| first_alarm(analysis, seed)).collect();
    alarms.sort_unstable();
    (alarms.len(), alarms.get(alarms.len() / 2).copied())
}

fn first_alarm(analysis: &Analysis, seed: u64) -> Option<u32> {
    let (mut random, mut evidence) = (fastrand::Rng::with_seed(seed), Evidence::default());
    (0..1_440).find(|minute| {
        let mut events = || Some(share(poisson(&mut random, 10.0), 2_000));
        evidence.count(analysis, u64::from(*minute), &[Pair { canary: events(), baseline: events() }]);
        matches!(analysis.judge(&evidence), Judgement::Fail { .. })
    })
}

#[test]
fn false_alarms_of_a_day_are_as_documented() {
    // A bound half above what is usual.
    let errors = || errors().acceptable(0.0075);
    let threshold = Judge::Threshold(Threshold::of(60).failure_limit(4));
    let ranks = Judge::MannWhitney(MannWhitney::new());
    let of = |judge| Analysis::of([errors()]).interval(MINUTE).minimum_time(MINUTE * 60).judge_by(judge);
    let alarms = [threshold, ranks, Judge::Betting].map(|judge| false_alarms(&of(judge)));
    assert_eq!(alarms, [(200, Some(91)), (22, Some(835)), (0, None)]);
}
