//! Many runs of one judge, and what came of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use immutable_core::analysis::{Analysis, Compared, Evidence, Judgement, Pair};
use immutable_core::provider::MetricValue;

use crate::traffic::{Column, Look, Traffic};

/// Minutes in 24 hours.
pub(crate) const DAY: u64 = 1_440;

/// How a run ended, and after how many intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Fail(u64),
    Pass(u64),
    Open,
}

impl End {
    pub(crate) fn failed(self) -> bool {
        matches!(self, Self::Fail(_))
    }

    pub(crate) fn passed(self) -> bool {
        matches!(self, Self::Pass(_))
    }
}

pub(crate) fn errors() -> Compared {
    Compared::new("errors".parse().unwrap())
}

/// A judge of one metric that is asked after each interval of so many seconds, and has to wait for nothing but evidence.
pub(crate) fn analysis(compared: Compared, seconds: u64) -> Analysis {
    Analysis::of([compared]).interval(Duration::from_secs(seconds)).minimum_time(Duration::ZERO).minimum_requests(1)
}

#[expect(clippy::unnecessary_wraps, reason = "what a pair is made of")]
pub(crate) fn share(part: u64, whole: u64) -> Option<MetricValue> {
    Some(MetricValue::Ratio { part, whole })
}

#[expect(clippy::unnecessary_wraps, reason = "what a pair is made of")]
pub(crate) fn gauge(level: f64) -> Option<MetricValue> {
    Some(MetricValue::Gauge(level))
}

impl From<Look> for Pair {
    fn from(look: Look) -> Self {
        Self { canary: share(look.canary, look.requests), baseline: share(look.baseline, look.requests) }
    }
}

/// Looks after each interval until the judge is sure.
pub(crate) fn until_sure(analysis: &Analysis, intervals: u64, mut next: impl FnMut(u64) -> Pair) -> End {
    let mut evidence = Evidence::default();
    for interval in 0..intervals {
        evidence.count(analysis, interval, &[next(interval)]);
        match analysis.judge(&evidence) {
            Judgement::Fail { .. } => return End::Fail(interval + 1),
            Judgement::Pass { .. } => return End::Pass(interval + 1),
            Judgement::NotEnoughData { .. } => {}
        }
    }
    End::Open
}

/// Looks after each interval for a failure alone: whether there ever is one.
pub(crate) fn ever_fails(analysis: &Analysis, intervals: u64, mut next: impl FnMut(u64) -> Pair) -> bool {
    let mut evidence = Evidence::default();
    (0..intervals).any(|interval| {
        evidence.count(analysis, interval, &[next(interval)]);
        matches!(analysis.judge(&evidence), Judgement::Fail { .. })
    })
}

/// A column with a constant effect, by minutes.
pub(crate) fn traffic(column: Column, effect: f64, seed: u64) -> impl FnMut(u64) -> Pair {
    let mut traffic = Traffic::new(column, 1.0, seed);
    move |_| traffic.next(effect).into()
}

/// The results of all seeds, in order, by all cores.
pub(crate) fn all<T: Send>(seeds: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds) {
            done.push((seed, run(seed)));
        }
        done
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut results = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    results.sort_by_key(|(seed, _)| *seed);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The share of the runs of which it holds.
pub(crate) fn rate<T>(runs: &[T], holds: impl Fn(&T) -> bool) -> f64 {
    runs.iter().filter(|run| holds(run)).count() as f64 / runs.len() as f64
}

/// The largest share that so many runs may show of a probability: three standard errors above it.
pub(crate) fn at_most(probability: f64, runs: usize) -> f64 {
    probability + 3.0 * (probability * (1.0 - probability) / runs as f64).sqrt()
}

/// The value that such a part of all are not above.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}
