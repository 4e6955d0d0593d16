//! How often a release that is worse than tolerated is called good, and how soon one that is good.

use immutable_core::analysis::Pair;

use crate::runs::{DAY, End, all, analysis, at_most, errors, quantile, rate, share, traffic, until_sure};
use crate::traffic::{Column, Traffic};

/// The judge that never fails: nothing ends a run before a wrong pass.
fn lenient() -> immutable_core::analysis::Analysis {
    analysis(errors().margin(1e9), 60)
}

#[test]
fn what_is_as_bad_as_the_tolerance_passes_no_more_often_than_beta() {
    const RUNS: u64 = 1_000;
    println!("{:12} {:>13} {:>11}", "x1.5, 24 h", "wrong passes", "never fails");
    for column in Column::ALL {
        let wrong = |analysis| {
            let runs = all(RUNS, |seed| until_sure(&analysis, DAY, traffic(column, 1.5, seed)));
            rate(&runs, |end| end.passed())
        };
        let (judge, never_fails) = (wrong(analysis(errors(), 60)), wrong(lenient()));
        println!("{:12} {:12.1}% {:10.1}%", format!("{column:?}"), 100.0 * judge, 100.0 * never_fails);
        assert!(judge.max(never_fails) <= at_most(0.05, RUNS as usize), "{column:?}: {judge} {never_fails}");
    }
}

#[test]
fn what_is_good_passes_in_a_reasonable_time() {
    const RUNS: u64 = 200;
    println!(
        "minutes until a good release passes at intervals of 10 s: half of all runs, nine in ten; not within 12 h; failed"
    );
    for column in Column::ALL {
        let judge = analysis(errors(), 10);
        let ends = all(RUNS, |seed| {
            let mut traffic = Traffic::new(column, 1.0 / 6.0, seed);
            until_sure(&judge, 12 * 360, |_| Pair::from(traffic.next(1.0)))
        });
        let minutes = |end: &End| match end {
            End::Pass(at) => *at as f64 / 6.0,
            _ => f64::INFINITY,
        };
        let times: Vec<f64> = ends.iter().map(minutes).collect();
        let (half, most) = (quantile(&times, 0.5), quantile(&times, 0.9));
        let (open, failed) = (rate(&ends, |end| *end == End::Open), rate(&ends, |end| end.failed()));
        println!("{:12} {half:6.1} {most:6.1} {:5.1}% {:5.1}%", format!("{column:?}"), 100.0 * open, 100.0 * failed);
        if column != Column::OddHost {
            assert!(half <= 180.0, "{column:?}: {half}");
        }
    }
}

#[test]
fn without_any_error_it_passes_by_what_is_acceptable() {
    let judge = analysis(errors().acceptable(0.001), 10);
    let nothing = |_| Pair { canary: share(0, 100), baseline: share(0, 100) };
    let End::Pass(intervals) = until_sure(&judge, 10_000, nothing) else { panic!("does not pass") };
    println!("no errors: passes after {} requests", intervals * 100);
    assert!((3_500..=4_600).contains(&(intervals * 100)), "{intervals}");

    let never = analysis(errors().acceptable(0.0), 10);
    assert_eq!(until_sure(&never, 10_000, nothing), End::Open, "nothing is 1.5 times nothing");
}
