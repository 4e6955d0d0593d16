//! A release beside a fixed bound: how often it is wrong, and how soon it is right.

use fastrand::Rng;
use immutable_core::analysis::{Analysis, Judgement, Pair};

use crate::data::counted;
use crate::runs::{DAY, End, all, analysis, at_most, errors, ever_fails, gauge, quantile, rate, share, until_sure};
use crate::traffic::{clusters, normal, poisson};

const RUNS: u64 = 400;
const REQUESTS: u64 = 1_000;
const BOUND: f64 = 0.005;

fn judge() -> Analysis {
    analysis(errors().at_most(BOUND), 60)
}

/// So many times what the bound allows, in clusters of such a size.
fn release(effect: f64, size: f64) -> impl Fn(u64) -> Box<dyn FnMut(u64) -> Pair> + Sync {
    move |seed| {
        let mut random = Rng::with_seed(seed);
        Box::new(move |_| {
            let errors = clusters(&mut random, effect * BOUND * REQUESTS as f64, size).min(REQUESTS);
            Pair { canary: share(errors, REQUESTS), baseline: None }
        })
    }
}

/// The promise of α reaches to the margin, whatever the clusters.
#[test]
fn what_is_within_its_bound_is_seldom_failed_in_whatever_clusters() {
    for size in [1.0, 4.0, 30.0] {
        let failed = rate(&all(RUNS, |seed| ever_fails(&judge(), DAY, release(1.1, size)(seed))), |failed| *failed);
        println!("at the margin, in clusters of {size}: false alarms {:.1}%", 100.0 * failed);
        assert!(failed <= at_most(0.01, RUNS as usize), "{size}: {failed}");
    }
    let levels = |seed| {
        let mut random = Rng::with_seed(seed);
        // A mean of 1, and a heavy tail.
        move |_| Pair { canary: gauge((1.5 * normal(&mut random) - 1.125).exp()), baseline: None }
    };
    let judge = analysis(errors().at_most(1.0 / 1.1), 60);
    let failed = rate(&all(RUNS, |seed| ever_fails(&judge, DAY, levels(seed))), |failed| *failed);
    println!("levels with a heavy tail: false alarms {:.1}%", 100.0 * failed);
    assert!(failed <= at_most(0.01, RUNS as usize), "{failed}");
}

#[test]
fn what_is_above_its_bound_is_found() {
    for (effect, within) in [(1.5, 120.0), (2.0, 40.0), (5.0, 16.0), (20.0, 10.0)] {
        let found = |seed| match until_sure(&judge(), DAY, release(effect, 1.0)(seed)) {
            End::Fail(at) => at as f64,
            _ => f64::INFINITY,
        };
        let half = quantile(&all(RUNS, found), 0.5);
        println!("x{effect} of the bound: half found after {half} intervals of {} allowed", BOUND * REQUESTS as f64);
        assert!(half <= within, "x{effect}: {half}");
    }
}

#[test]
fn what_is_as_bad_as_the_tolerance_seldom_passes_and_what_is_better_does() {
    let passed =
        |effect| rate(&all(RUNS, |seed| until_sure(&judge(), DAY, release(effect, 1.0)(seed))), |end| end.passed());
    let (bad, good) = (passed(1.5), passed(0.9));
    println!("x1.5 of the bound passes in {:.1}%, x0.9 in {:.1}%", 100.0 * bad, 100.0 * good);
    assert!(bad <= at_most(0.05, RUNS as usize), "{bad}");
    assert!(good >= 0.95, "{good}");
}

/// How many requests come in an interval does not matter, as long as it says nothing about how many of them fail.
#[test]
fn intervals_of_any_number_of_requests_are_as_good() {
    let uneven = |effect: f64| {
        move |seed| {
            let mut random = Rng::with_seed(seed);
            move |_| {
                let requests = if random.f64() < 0.8 { random.u64(1..20) } else { 3_000 };
                let errors = poisson(&mut random, effect * BOUND * requests as f64).min(requests);
                Pair { canary: share(errors, requests), baseline: None }
            }
        }
    };
    let failed = |effect| rate(&all(RUNS, |seed| ever_fails(&judge(), DAY, uneven(effect)(seed))), |failed| *failed);
    let (within, above) = (failed(1.1), failed(2.0));
    println!("uneven intervals: false alarms {:.1}%, x2 of the bound found {:.1}%", 100.0 * within, 100.0 * above);
    assert!(within <= at_most(0.01, RUNS as usize) && above > 0.95, "{within} {above}");
}

/// Also a bound above which almost everything has to fail.
#[test]
fn a_large_bound_can_be_passed() {
    for (bound, part) in [(0.6, 500), (0.9, 500), (0.9, 900), (0.3, 300)] {
        let judge = analysis(errors().at_most(bound), 60);
        let end = until_sure(&judge, DAY, |_| Pair { canary: share(part, REQUESTS), baseline: None });
        assert!(end.passed(), "{part} of {REQUESTS}, at most {bound}: {end:?}");
    }
}

/// A bound knows of nobody else.
#[test]
fn what_is_beside_it_does_not_matter() {
    let judge = judge();
    let looks = |baseline: fn(u64) -> Pair| {
        let mut random = Rng::with_seed(1);
        counted(
            &judge,
            (0..60).map(|at| (at, Pair { canary: share(poisson(&mut random, 9.0), REQUESTS), ..baseline(at) })),
        )
    };
    let alone = looks(|_| Pair::default());
    assert_eq!(alone, looks(|_| Pair { canary: None, baseline: share(900, REQUESTS) }));
    let Judgement::Fail { evidence } = judge.judge(&alone) else { panic!("{:?}", judge.judge(&alone)) };
    assert!(
        evidence.contains(", at most 0.005 is wanted (") && evidence.ends_with("against its being within that"),
        "{evidence}"
    );
    let silent = counted(&judge, (0..1_000).map(|at| (at, Pair { canary: None, baseline: share(0, REQUESTS) })));
    assert!(matches!(judge.judge(&silent), Judgement::NotEnoughData { .. }));
}
