//! How soon a release that is worse is called worse.

use immutable_core::analysis::Pair;

use crate::rules::{Reference, Rule};
use crate::runs::{End, all, analysis, errors, quantile, until_sure};
use crate::traffic::{Column, Look, Traffic};

const RUNS: u64 = 400;

/// Ten seconds.
const INTERVAL: f64 = 1.0 / 6.0;

/// What is beyond it is not measured.
const CAP: u64 = 12 * 360;

/// By how much a release is worse, and minutes by which half of them have to be found.
const EFFECTS: [(f64, f64); 5] = [(1.5, 130.0), (2.0, 40.0), (5.0, 7.5), (20.0, 3.0), (50.0, 2.2)];

/// Minutes until it is found: (judge, reference), on the same traffic.
fn found(column: Column, good_for: u64, effect: f64) -> [Vec<f64>; 2] {
    let judge = analysis(errors().tolerance(1.01).acceptable(0.0), 10);
    let look =
        |traffic: &mut Traffic, interval| -> Look { traffic.next(if interval < good_for { 1.0 } else { effect }) };
    let minutes =
        |intervals: Option<u64>| intervals.map_or(f64::INFINITY, |at| (at - good_for.min(at)) as f64 * INTERVAL);
    let both = all(RUNS, |seed| {
        let mut traffic = Traffic::new(column, INTERVAL, seed);
        let ours = match until_sure(&judge, CAP, |interval| Pair::from(look(&mut traffic, interval))) {
            End::Fail(at) => Some(at),
            _ => None,
        };
        let (mut traffic, mut rule) = (Traffic::new(column, INTERVAL, seed), Reference::new());
        let reference = (0..CAP).find(|interval| rule.fails(look(&mut traffic, *interval))).map(|at| at + 1);
        (minutes(ours), minutes(reference))
    });
    [both.iter().map(|(ours, _)| *ours).collect(), both.iter().map(|(_, reference)| *reference).collect()]
}

#[test]
fn what_is_worse_is_found_sooner_than_by_the_reference() {
    println!("minutes until found at intervals of 10 s: half of all runs, nine in ten");
    for (column, good_for) in [(Column::Bursty, 0), (Column::Bursty, 180), (Column::Independent, 0)] {
        println!("{column:?}, good for {} minutes before{:>11} {:>17}", good_for / 6, "judge", "reference");
        for (effect, bound) in EFFECTS {
            let [ours, reference] = found(column, good_for, effect);
            let [half, most] = [0.5, 0.9].map(|part| (quantile(&ours, part), quantile(&reference, part)));
            println!("  x{effect:<36} {:6.1} {:6.1}     {:6.1} {:6.1}", half.0, most.0, half.1, most.1);
            assert!(half.0 <= half.1, "x{effect} of {column:?}: {half:?}");
            assert!(good_for > 0 || half.0 <= bound, "x{effect} of {column:?}: {half:?}, at most {bound}");
        }
    }
}
