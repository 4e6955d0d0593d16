//! What the judge does with data that is strange, late, or not there.

use std::time::Duration;

use immutable_core::analysis::{Analysis, Evidence, Judgement, Pair};
use immutable_core::provider::MetricValue;

use crate::runs::{End, analysis, errors, gauge, share, until_sure};

fn constant(canary: Option<MetricValue>, baseline: Option<MetricValue>) -> impl FnMut(u64) -> Pair {
    move |_| Pair { canary, baseline }
}

pub(crate) fn counted(judge: &Analysis, pairs: impl IntoIterator<Item = (u64, Pair)>) -> Evidence {
    let mut evidence = Evidence::default();
    pairs.into_iter().for_each(|(interval, pair)| evidence.count(judge, interval, &[pair]));
    evidence
}

#[test]
fn constant_levels_are_judged_within_minutes() {
    let judge = analysis(errors(), 10);
    let end = |canary, baseline| until_sure(&judge, 2_000, constant(gauge(canary), gauge(baseline)));
    let within = |end, most| matches!(end, End::Pass(at) | End::Fail(at) if at <= most);
    assert!(end(0.2, 0.2).passed() && within(end(0.2, 0.2), 60), "{:?}", end(0.2, 0.2));
    assert!(end(0.4, 0.2).failed() && within(end(0.4, 0.2), 30), "{:?}", end(0.4, 0.2));
    assert!(within(end(0.3, 0.2), 60), "the same each time is no chance: {:?}", end(0.3, 0.2));
    assert!(end(0.0, 0.0).passed(), "below what is acceptable");
    // Its unit does not matter: the same in milliseconds.
    assert_eq!(end(400.0, 200.0), end(0.4, 0.2));
}

#[test]
fn silence_is_never_a_verdict() {
    let judge = analysis(errors(), 10);
    let ok = share(3, 100);
    for (canary, baseline) in [
        (None, None),
        (ok, None),
        (None, ok),
        (share(0, 0), share(0, 0)),
        (ok, share(0, 0)),
        (gauge(f64::NAN), gauge(f64::NAN)),
        (gauge(f64::INFINITY), gauge(1.0)),
        (gauge(-1.0), gauge(1.0)),
        (ok, gauge(0.1)),
    ] {
        assert_eq!(until_sure(&judge, 5_000, constant(canary, baseline)), End::Open, "{canary:?} {baseline:?}");
    }
    assert!(matches!(judge.judge(&Evidence::default()), Judgement::NotEnoughData { .. }));
    let mut evidence = Evidence::default();
    (0..500).for_each(|interval| evidence.count(&judge, interval, &[]));
    assert!(matches!(judge.judge(&evidence), Judgement::NotEnoughData { .. }));
}

#[test]
fn evidence_of_fewer_metrics_does_not_pass() {
    let one = analysis(errors(), 10);
    let good = counted(&one, (0..200).map(|at| (at, constant(gauge(0.2), gauge(0.2))(at))));
    assert!(matches!(one.judge(&good), Judgement::Pass { .. }));
    let latency = immutable_core::analysis::Compared::new("latency".parse().unwrap());
    let two = Analysis::of([errors(), latency]).minimum_time(Duration::ZERO).interval(Duration::from_secs(10));
    assert!(matches!(two.judge(&good), Judgement::NotEnoughData { .. }));
}

#[test]
fn tiny_samples_say_nothing() {
    let judge = analysis(errors(), 10);
    for (canary, baseline) in [(share(1, 1), share(0, 1)), (share(2, 2), share(0, 2)), (share(0, 1), share(0, 1))] {
        let evidence = counted(&judge, (0..2).map(|at| (at, Pair { canary, baseline })));
        assert!(matches!(judge.judge(&evidence), Judgement::NotEnoughData { .. }), "{canary:?} {baseline:?}");
    }
}

/// Of ten points, seven are bad: whatever their order, it is found.
#[test]
fn seven_of_ten_bad_points_are_found() {
    let judge = analysis(errors(), 10);
    for offset in 0..10 {
        let bad = |at: u64| (at * 3 + offset) % 10 < 7;
        let next = |at| Pair { canary: share(if bad(at) { 20 } else { 4 }, 1_000), baseline: share(5, 1_000) };
        let end = until_sure(&judge, 360, next);
        assert!(matches!(end, End::Fail(at) if at <= 60), "{end:?}");
    }
}

#[test]
fn a_reset_counter_is_no_data() {
    let judge = analysis(errors(), 10);
    let look = |at: u64| Pair { canary: share(at % 7, 1_000), baseline: share(at % 5, 1_000) };
    let reset = |at: u64| if at % 10 == 3 { Pair { canary: share(12, 3), ..look(at) } } else { look(at) };
    let missing = |at: u64| if at % 10 == 3 { Pair { canary: None, ..look(at) } } else { look(at) };
    let of = |next: &dyn Fn(u64) -> Pair| counted(&judge, (0..100).map(|at| (at, next(at))));
    assert_eq!(of(&reset), of(&missing));
    assert_ne!(of(&look), of(&missing));
}

#[test]
fn missing_intervals_are_as_if_they_had_not_been() {
    let judge = analysis(errors(), 10);
    let look = |at: u64| Pair { canary: share(at % 7, 1_000), baseline: share(at % 5, 1_000) };
    let silent = counted(&judge, (0..99).map(|at| (at, if at % 3 == 0 { Pair::default() } else { look(at) })));
    let skipped = counted(&judge, (0..99).filter(|at| at % 3 > 0).map(|at| (at, look(at))));
    assert_eq!(judge.judge(&silent), judge.judge(&skipped));
    assert_eq!(silent, skipped);
}

#[test]
fn what_comes_late_is_not_counted() {
    let judge = analysis(errors(), 10);
    let bad = Pair { canary: share(50, 100), baseline: share(0, 100) };
    let mut evidence = counted(&judge, [(0, bad), (1, Pair::default()), (2, bad)]);
    let before = evidence.clone();
    (0..3).for_each(|interval| evidence.count(&judge, interval, &[bad]));
    assert_eq!(evidence, before);
    assert_eq!(evidence.next(), 3);
}

#[test]
fn a_hard_stop_asks_for_its_time_and_nothing_else() {
    let judge = analysis(errors().hard_stop(0.3, Duration::from_secs(30)), 10);
    let stops = |canary: fn(u64) -> Option<MetricValue>| match until_sure(&judge, 50, |at| Pair {
        canary: canary(at),
        baseline: None,
    }) {
        End::Fail(at) => Some(at),
        _ => None,
    };
    assert_eq!(stops(|_| share(4, 10)), Some(3));
    assert_eq!(stops(|_| gauge(0.4)), Some(3), "a level is not made of requests");
    assert_eq!(stops(|_| share(1, 2)), Some(10), "twenty requests at least");
    assert_eq!(stops(|_| share(3, 10)), None, "not above");
    assert_eq!(stops(|at| share(if at % 3 == 2 { 0 } else { 9 }, 10)), None, "not in sequence");
    assert_eq!(
        stops(|at| if at % 2 == 0 { share(9, 10) } else { None }),
        Some(5),
        "silence neither breaks nor makes it"
    );
    let both = |_| Pair { canary: share(9, 10), baseline: share(8, 10) };
    assert!(!matches!(until_sure(&judge, 50, both), End::Fail(_)), "what both suffer from");
}

/// A hundred errors in one interval are suspicious; they are one event for all that is known, and not a proof.
#[test]
fn a_suspicion_keeps_from_passing_and_never_fails() {
    let judge = analysis(errors().acceptable(0.0), 10);
    let burst = |at: u64| Pair { canary: share(if at == 0 { 100 } else { 2 }, 1_000), baseline: share(2, 1_000) };
    let evidence = counted(&judge, (0..150).map(|at| (at, burst(at))));
    let Judgement::NotEnoughData { evidence } = judge.judge(&evidence) else { panic!("{:?}", judge.judge(&evidence)) };
    assert!(evidence.contains("looks worse"), "{evidence}");
    let calm = counted(&judge, (1..150).map(|at| (at, burst(at))));
    assert!(matches!(judge.judge(&calm), Judgement::Pass { .. }));
}

/// A few errors at the beginning of a service that has none.
#[test]
fn what_is_acceptable_passes_whatever_it_looks_like_beside_the_baseline() {
    let blip = |at: u64| Pair { canary: share(if at == 0 { 12 } else { 0 }, 1_000), baseline: share(0, 1_000) };
    let judged = |acceptable, intervals| {
        let judge = analysis(errors().acceptable(acceptable), 10);
        judge.judge(&counted(&judge, (0..intervals).map(|at| (at, blip(at)))))
    };
    assert!(matches!(judged(0.001, 10), Judgement::NotEnoughData { .. }));
    assert!(matches!(judged(0.001, 60), Judgement::Pass { .. }), "{:?}", judged(0.001, 60));
    assert!(matches!(judged(0.0001, 60), Judgement::NotEnoughData { .. }), "that may be more than is acceptable");
}
