//! How often a release that is no worse is called worse.

use immutable_core::analysis::{Analysis, Compared, Evidence, Judgement, Pair};

use crate::rules::{Kayenta, Limit, Reference, Rule, ZTest};
use crate::runs::{DAY, all, analysis, at_most, errors, ever_fails, rate, traffic};
use crate::traffic::{Column, Traffic};

const RUNS: u64 = 1_000;

/// 24 hours of both arms alike, with a look each minute. Nominal is 1 % everywhere.
#[test]
fn false_alarms_stay_below_alpha() {
    println!("{:12} {:>8} {:>9} {:>7} {:>8} {:>6}", "A/A, 24 h", "judge", "reference", "z-test", "Kayenta", "limit");
    let judge = analysis(errors(), 60);
    let rates = Column::ALL.map(|column| {
        let ours = rate(&all(RUNS, |seed| ever_fails(&judge, DAY, traffic(column, 1.0, seed))), |failed| *failed);
        let others = all(RUNS, |seed| {
            [
                fails(&mut Reference::new(), column, seed),
                fails(&mut ZTest::default(), column, seed),
                fails(&mut Kayenta::new(), column, seed),
                fails(&mut Limit::default(), column, seed),
            ]
        });
        let [reference, z, kayenta, limit] = [0, 1, 2, 3].map(|rule| 100.0 * rate(&others, |failed| failed[rule]));
        let name = format!("{column:?}");
        println!("{name:12} {:7.1}% {reference:8.1}% {z:6.1}% {kayenta:7.1}% {limit:5.0}%", 100.0 * ours);
        (column, ours)
    });
    for (column, ours) in rates.into_iter().filter(|(column, _)| *column != Column::OddHost) {
        assert!(ours <= at_most(0.01, RUNS as usize), "{column:?}: {ours}");
    }
}

fn fails(rule: &mut impl Rule, column: Column, seed: u64) -> bool {
    let mut traffic = Traffic::new(column, 1.0, seed);
    (0..DAY).any(|_| rule.fails(traffic.next(1.0)))
}

/// With no margin, each bet is as good as it may be: every ten seconds for half a day.
#[test]
fn false_alarms_stay_below_alpha_without_a_margin() {
    const RUNS: u64 = 400;
    let judge = analysis(errors().margin(0.0), 10);
    for column in [Column::Independent, Column::Bursty] {
        let fails = |seed| {
            let mut traffic = Traffic::new(column, 1.0 / 6.0, seed);
            ever_fails(&judge, 6 * DAY / 2, |_| traffic.next(1.0).into())
        };
        let alarms = rate(&all(RUNS, fails), |failed| *failed);
        println!("{column:?}, no margin, 12 h at 10 s: {:.1}%", 100.0 * alarms);
        assert!(alarms <= at_most(0.01, RUNS as usize), "{column:?}: {alarms}");
    }
}

/// Five metrics are judged together: α is for all of them, and one that is worse among four that are not is found.
#[test]
fn more_metrics_make_no_more_false_alarms() {
    const RUNS: u64 = 300;
    let names = ["errors", "timeouts", "slow", "retries", "crashes"];
    let judge = Analysis::of(names.map(|name| Compared::new(name.parse().unwrap()).margin(0.0)));
    let failed_after = |seed: u64, effect: f64, looks: u64| {
        let column = |metric: u64| Traffic::new(Column::Bursty, 1.0, 5 * seed + metric);
        let (mut traffic, mut evidence) = ((0..5).map(column).collect::<Vec<_>>(), Evidence::default());
        (0..looks).find(|look| {
            let worse = |metric| if metric == 3 { effect } else { 1.0 };
            let pairs: Vec<Pair> = traffic.iter_mut().enumerate().map(|(at, one)| one.next(worse(at)).into()).collect();
            evidence.count(&judge, *look, &pairs);
            matches!(judge.judge(&evidence), Judgement::Fail { .. })
        })
    };
    let alarms = rate(&all(RUNS, |seed| failed_after(seed, 1.0, DAY / 2)), Option::is_some);
    let found = rate(&all(RUNS, |seed| failed_after(seed, 3.0, 60)), Option::is_some);
    println!(
        "five metrics: false alarms {:.1}% in 12 h, x3 in one of them found within 60 looks {:.0}%",
        100.0 * alarms,
        100.0 * found
    );
    assert!(alarms <= at_most(0.01, RUNS as usize), "{alarms}");
    assert!(found >= 0.9, "{found}");
}
