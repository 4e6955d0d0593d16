//! Traffic that is hard to judge, each with what has to come of it.

use fastrand::Rng;
use immutable_core::analysis::Pair;

use crate::runs::{DAY, End, all, analysis, at_most, errors, ever_fails, gauge, quantile, rate, share, until_sure};
use crate::traffic::{Column, Traffic, normal, poisson};

const RUNS: u64 = 400;

/// How often a good release is called worse within a day of minutes.
fn false_alarms<F: FnMut(u64) -> Pair>(next: impl Fn(u64) -> F + Sync) -> f64 {
    let judge = analysis(errors(), 60);
    rate(&all(RUNS, |seed| ever_fails(&judge, DAY, next(seed))), |failed| *failed)
}

/// After how many intervals half of all bad releases are called worse.
fn found<F: FnMut(u64) -> Pair>(next: impl Fn(u64) -> F + Sync) -> f64 {
    // What is rare enough would pass as acceptable, whatever the baseline is.
    let judge = analysis(errors().tolerance(1.01).acceptable(0.0), 60);
    let intervals = |seed| match until_sure(&judge, DAY, next(seed)) {
        End::Fail(at) => at as f64,
        _ => f64::INFINITY,
    };
    quantile(&all(RUNS, intervals), 0.5)
}

fn check(name: &str, alarms: f64, found: f64, soon: f64) {
    println!("{name:44} false alarms {:4.1}%, x3 found after {found} intervals", 100.0 * alarms);
    assert!(alarms <= at_most(0.01, RUNS as usize), "{name}: {alarms}");
    assert!(found <= soon, "{name}: {found}");
}

fn poissons(seed: u64, requests: u64, canary: f64, baseline: f64) -> impl FnMut(u64) -> Pair {
    let mut random = Rng::with_seed(seed);
    move |_| Pair {
        canary: share(poisson(&mut random, canary).min(requests), requests),
        baseline: share(poisson(&mut random, baseline).min(requests), requests),
    }
}

#[test]
fn rare_errors() {
    check(
        "one error in 20 minutes",
        false_alarms(|seed| poissons(seed, 1_000, 0.05, 0.05)),
        found(|seed| poissons(seed, 1_000, 0.15, 0.05)),
        1_000.0,
    );
}

#[test]
fn tiny_samples() {
    let of = |effect: f64| {
        move |seed| {
            let mut random = Rng::with_seed(seed);
            move |_| {
                let mut arm = |share_of: f64| {
                    let requests = random.u64(0..4);
                    share((0..requests).filter(|_| random.f64() < share_of).count() as u64, requests)
                };
                Pair { canary: arm(0.1 * effect), baseline: arm(0.1) }
            }
        }
    };
    check("three requests at most", false_alarms(of(1.0)), found(of(3.0)), 300.0);
}

/// Latencies of which one in a hundred is a thousand times the usual.
#[test]
fn heavy_tails() {
    let of = |effect: f64| {
        move |seed| {
            let mut random = Rng::with_seed(seed);
            let mut level = move || (3.0 * normal(&mut random)).exp();
            move |_| Pair { canary: gauge(effect * level()), baseline: gauge(level()) }
        }
    };
    check("levels with a heavy tail", false_alarms(of(1.0)), found(of(3.0)), 250.0);
}

/// What the sources say of one arm is an interval late.
#[test]
fn skewed_clocks() {
    for column in [Column::Bursty, Column::Incidents] {
        let of = |effect: f64| {
            move |seed| {
                let (mut traffic, mut before) = (Traffic::new(column, 1.0, seed), None);
                move |_| {
                    let look = traffic.next(effect);
                    let late = before.replace(look).unwrap_or(look);
                    Pair { canary: share(look.canary, look.requests), baseline: share(late.baseline, late.requests) }
                }
            }
        };
        check(&format!("{column:?}, one arm a minute late"), false_alarms(of(1.0)), found(of(3.0)), 60.0);
    }
}

/// The canary has 5 % of the traffic, and is compared with the old fleet.
#[test]
fn unequal_shares() {
    let of = |effect: f64| {
        move |seed| {
            let mut random = Rng::with_seed(seed);
            move |_| {
                let hour = (0.5 * normal(&mut random)).exp();
                let canary = poisson(&mut random, 5.0 * effect * hour).min(1_000);
                let baseline = poisson(&mut random, 95.0 * hour).min(19_000);
                Pair { canary: share(canary, 1_000), baseline: share(baseline, 19_000) }
            }
        }
    };
    check("5 % against 95 %", false_alarms(of(1.0)), found(of(3.0)), 20.0);
    let judge = analysis(errors().margin(1e9), 60);
    let passed = rate(&all(RUNS, |seed| until_sure(&judge, DAY, of(1.5)(seed))), |end| end.passed());
    assert!(passed <= at_most(0.05, RUNS as usize), "{passed}");
}

/// For an hour, fifty times the errors in both arms; then the canary is as good as before.
#[test]
fn a_common_disturbance_is_not_the_release() {
    let of = |seed| {
        let mut random = Rng::with_seed(seed);
        move |at: u64| {
            let errors = if (100..160).contains(&at) { 250.0 } else { 5.0 };
            let mut arm = || share(poisson(&mut random, errors).min(1_000), 1_000);
            Pair { canary: arm(), baseline: arm() }
        }
    };
    let alarms = false_alarms(of);
    assert!(alarms <= at_most(0.01, RUNS as usize), "{alarms}");
}
