//! Judges that are wrong on purpose: each safety statement is checked by something that sees it broken.

use std::time::Duration;

use immutable_core::analysis::{Analysis, Evidence, Judgement, Pair};

use crate::rules::{Rule, ZTest};
use crate::runs::{DAY, all, analysis, at_most, errors, rate};
use crate::traffic::{Column, Look, Traffic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    Open,
}

/// What is under test: it is told of intervals, `None` for silence, and asked.
trait Judge {
    fn count(&mut self, interval: u64, look: Option<Look>);
    fn verdict(&self) -> Verdict;
}

/// The real one, and how to break it.
struct Real {
    analysis: Analysis,
    evidence: Evidence,
    flaw: Option<Flaw>,
    seen: u64,
    z: ZTest,
    z_failed: bool,
    wealth: f64,
    richest: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Each look counts, whether or not the interval was counted before.
    CountsTwice,
    /// Silence is zero errors of a thousand requests.
    SilenceIsGood,
    /// Enough time without a failure is a pass.
    PassesByTime,
    /// A test that is valid for one look is asked at each.
    LooksTooOften,
    /// Twice the wealth is put on each interval, and no more than a tenth of it is lost.
    BetsTooMuch,
}

impl Real {
    fn new(flaw: Option<Flaw>) -> Self {
        let analysis = analysis(errors(), 60).minimum_requests(5_000).minimum_time(Duration::from_mins(5));
        let (evidence, z) = (Evidence::default(), ZTest::default());
        Self { analysis, evidence, flaw, seen: 0, z, z_failed: false, wealth: 1.0, richest: 1.0 }
    }
}

impl Judge for Real {
    fn count(&mut self, interval: u64, look: Option<Look>) {
        let silence = Look { requests: 1_000, canary: 0, baseline: 0 };
        let look = look.or((self.flaw == Some(Flaw::SilenceIsGood)).then_some(silence));
        let fresh = interval >= self.evidence.next();
        let interval = if self.flaw == Some(Flaw::CountsTwice) { self.seen } else { interval };
        self.seen += 1;
        self.evidence.count(&self.analysis, interval, &[look.map(Pair::from).unwrap_or_default()]);
        if let Some(look) = look.filter(|_| fresh) {
            self.z_failed |= self.z.fails(look);
            let (c, b) = (look.canary as f64, look.baseline as f64);
            self.wealth *= (1.0 + 2.0 * (c - b) / (c + b).max(1.0)).max(0.9);
            self.richest = self.richest.max(self.wealth);
        }
    }

    fn verdict(&self) -> Verdict {
        let fails = match self.flaw {
            Some(Flaw::LooksTooOften) => self.z_failed,
            Some(Flaw::BetsTooMuch) => self.richest >= 100.0,
            _ => false,
        };
        match self.analysis.judge(&self.evidence) {
            _ if fails => Verdict::Fail,
            Judgement::Pass { .. } => Verdict::Pass,
            Judgement::Fail { .. } => Verdict::Fail,
            Judgement::NotEnoughData { .. } if self.flaw == Some(Flaw::PassesByTime) && self.seen > 30 => Verdict::Pass,
            Judgement::NotEnoughData { .. } => Verdict::Open,
        }
    }
}

/// A safety statement: whether it holds for the judges that are made so.
type Statement = fn(&(dyn Fn() -> Box<dyn Judge> + Sync)) -> bool;

fn no_data_is_not_a_pass(make: &(dyn Fn() -> Box<dyn Judge> + Sync)) -> bool {
    let mut judge = make();
    (0..500).all(|interval| {
        judge.count(interval, None);
        judge.verdict() == Verdict::Open
    })
}

fn an_interval_counts_once(make: &(dyn Fn() -> Box<dyn Judge> + Sync)) -> bool {
    let mut judge = make();
    let bad = Look { requests: 1_000, canary: 30, baseline: 5 };
    judge.count(0, Some(bad));
    (0..500).all(|_| {
        judge.count(0, Some(bad));
        judge.verdict() == Verdict::Open
    })
}

fn false_alarms_are_rare(make: &(dyn Fn() -> Box<dyn Judge> + Sync)) -> bool {
    const RUNS: u64 = 300;
    let fails = |seed| {
        let (mut traffic, mut judge) = (Traffic::new(Column::Independent, 1.0, seed), make());
        (0..DAY).any(|interval| {
            judge.count(interval, Some(traffic.next(1.0)));
            judge.verdict() == Verdict::Fail
        })
    };
    rate(&all(RUNS, fails), |failed| *failed) <= at_most(0.01, RUNS as usize)
}

fn a_pass_needs_evidence(make: &(dyn Fn() -> Box<dyn Judge> + Sync)) -> bool {
    const RUNS: u64 = 300;
    // As bad as is tolerated, and seen too little to be found.
    let passes = |seed| {
        let (mut traffic, mut judge) = (Traffic::new(Column::Bursty, 1.0, seed), make());
        let end = (0..60).map(|interval| {
            judge.count(interval, Some(traffic.next(1.5)));
            judge.verdict()
        });
        end.into_iter().find(|verdict| *verdict != Verdict::Open) == Some(Verdict::Pass)
    };
    rate(&all(RUNS, passes), |passed| *passed) <= at_most(0.05, RUNS as usize)
}

const STATEMENTS: [(&str, Statement); 4] = [
    ("no data is not a pass", no_data_is_not_a_pass),
    ("an interval counts once", an_interval_counts_once),
    ("false alarms are rare", false_alarms_are_rare),
    ("a pass needs evidence", a_pass_needs_evidence),
];

/// Which statements do not hold.
fn broken(flaw: Option<Flaw>) -> Vec<&'static str> {
    let make = || -> Box<dyn Judge> { Box::new(Real::new(flaw)) };
    STATEMENTS.iter().filter(|(_, holds)| !holds(&make)).map(|(name, _)| *name).collect()
}

#[test]
fn each_statement_is_seen_when_it_is_broken() {
    assert_eq!(broken(None), [""; 0]);
    for (flaw, statement) in [
        (Flaw::SilenceIsGood, "no data is not a pass"),
        (Flaw::CountsTwice, "an interval counts once"),
        (Flaw::LooksTooOften, "false alarms are rare"),
        (Flaw::BetsTooMuch, "false alarms are rare"),
        (Flaw::PassesByTime, "a pass needs evidence"),
    ] {
        assert!(broken(Some(flaw)).contains(&statement), "{flaw:?}: {:?}", broken(Some(flaw)));
    }
}
