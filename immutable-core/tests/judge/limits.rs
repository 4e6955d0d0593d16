//! What the judge does not promise: where its hypothesis does not hold, and what it does there.

use fastrand::Rng;
use immutable_core::analysis::Pair;

use crate::runs::{DAY, all, analysis, errors, ever_fails, rate, share, until_sure};
use crate::traffic::{clusters, poisson};

const RUNS: u64 = 400;

/// So many times the errors on average, in clusters of such sizes: (called worse, passed) within a day.
fn spreads(effect: f64, canary: f64, baseline: f64) -> (f64, f64) {
    let judge = analysis(errors(), 60);
    let next = |seed| {
        let mut random = Rng::with_seed(seed);
        let mut arm = move |mean, size| share(clusters(&mut random, mean, size).min(1_000), 1_000);
        move |_| Pair { canary: arm(5.0 * effect, canary), baseline: arm(5.0, baseline) }
    };
    let ends = all(RUNS, |seed| until_sure(&judge, DAY, next(seed)));
    (rate(&ends, |end| end.failed()), rate(&ends, |end| end.passed()))
}

/// The judge compares interval with interval: of two arms with as many errors, the one that has them all at once has fewer in most
/// intervals, and looks better.
#[test]
fn of_the_same_errors_those_at_once_look_better() {
    let (steady, bursty) = (spreads(1.0, 1.0, 8.0), spreads(1.0, 8.0, 1.0));
    println!("the same mean, clusters of 1 against 8: worse {:.1}%, passed {:.1}%", 100.0 * steady.0, 100.0 * steady.1);
    println!("the same mean, clusters of 8 against 1: worse {:.1}%, passed {:.1}%", 100.0 * bursty.0, 100.0 * bursty.1);
    let worse = spreads(1.5, 8.0, 1.0);
    println!("x1.5 of them, clusters of 8 against 1: worse {:.1}%, passed {:.1}%", 100.0 * worse.0, 100.0 * worse.1);
    assert!(worse.1 > 0.05, "what is worse and less steady may pass: {worse:?}");
    assert!(steady.0 > 0.5, "a steadier canary is called worse: {steady:?}");
    assert!(bursty.0 <= 0.03 && bursty.1 > 0.5, "a less steady canary passes: {bursty:?}");
}

/// Bad minutes of one arm alone, ten at a time, an hour apart on average, in either arm for itself.
fn outlasting(minutes: u64) -> f64 {
    let judge = analysis(errors(), 60 * minutes);
    let next = |seed| {
        let mut random = Rng::with_seed(seed);
        let mut until = [0u64; 2];
        move |at: u64| {
            let mut errors = [0u64; 2];
            for minute in at * minutes..(at + 1) * minutes {
                for (until, errors) in until.iter_mut().zip(&mut errors) {
                    if random.f64() < 1.0 / 60.0 {
                        *until = minute + 10;
                    }
                    *errors += poisson(&mut random, if minute < *until { 50.0 } else { 5.0 });
                }
            }
            let arm = |part: u64| share(part.min(1_000 * minutes), 1_000 * minutes);
            Pair { canary: arm(errors[0]), baseline: arm(errors[1]) }
        }
    };
    rate(&all(RUNS, |seed| ever_fails(&judge, DAY / minutes, next(seed))), |failed| *failed)
}

/// Where one arm alone is bad for many intervals in sequence, they are not many pieces of evidence. An interval as long is one.
#[test]
fn what_hits_one_arm_for_long_is_taken_for_the_release_unless_the_interval_is_as_long() {
    let (short, long) = (outlasting(1), outlasting(20));
    println!(
        "one arm bad for 10 minutes: called worse {:.1}% at intervals of 1 minute, {:.1}% of 20",
        100.0 * short,
        100.0 * long
    );
    assert!(short > 0.05, "{short}");
    assert!(long <= 0.025, "{long}");
}
