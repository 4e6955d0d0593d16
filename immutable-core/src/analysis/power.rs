//! What an analysis can see, and in what time, before it is begun.

use std::fmt;
use std::time::Duration;

use super::Judgement;
use super::compared::Compared;
use super::evidence::{Evidence, Pair};
use super::poisson::poisson;
use super::settings::Analysis;
use crate::model::MetricName;
use crate::provider::MetricValue;

/// The regressions that are tried: how many times as many events as before.
const TIMES: [f64; 9] = [1.25, 1.5, 1.75, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];

/// Those that are told to people.
const TOLD: [f64; 4] = [1.5, 2.0, 5.0, 20.0];

/// How many rollouts are tried of each; odd, so that one is in the middle.
const RUNS: u64 = 25;

/// The most looks that are tried: more than a day of them at the default interval.
const LOOKS: u32 = 10_000;

/// What a new release is expected to get, and what is usual for the old one.
///
/// A metric that is not named is not predicted: what is said holds if it has data and is alike in both releases. Levels cannot be
/// predicted.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Traffic {
    requests_per_second: f64,
    usual: Vec<(MetricName, f64)>,
}

impl Traffic {
    /// So many requests per second to the canary, all of its instances together; its baseline gets as many.
    pub fn of(requests_per_second: f64) -> Self {
        Self { requests_per_second, usual: Vec::new() }
    }

    /// The share of the requests that is usual for a metric: 0.002 for errors of two in a thousand requests.
    pub fn usual(mut self, metric: MetricName, share: f64) -> Self {
        self.usual.push((metric, share));
        self
    }
}

/// What an analysis can see, and in what time: see [`power`].
#[derive(Debug, Clone, PartialEq)]
pub struct Power {
    deadline: Duration,
    requests_per_second: f64,
    metrics: Vec<MetricPower>,
}

/// What an analysis can see of one metric.
#[derive(Debug, Clone, PartialEq)]
struct MetricPower {
    metric: MetricName,
    /// Regressions that are seen in at least half of all rollouts, and after what time in half of them.
    seen: Vec<(f64, Duration)>,
    /// When half of all good releases have passed.
    passes: Option<Duration>,
    /// Whether twice as many are within its fixed bound, and need not be seen.
    may_double: bool,
}

/// How small a regression an analysis can see at such traffic, and in what time.
///
/// Rollouts are tried with the judge itself: events that come independently of each other, with the same seeds each time. What is
/// told is what happens in at least half of them. Real events come in bursts, which takes longer; hard stops, which are faster, are
/// left out. It takes some ten milliseconds for each metric at the default settings, and more for a deadline of more intervals, up
/// to ten thousand of them; a later deadline is taken for that.
///
/// ```
/// use immutable_core::analysis::{Analysis, Compared, Traffic, power};
/// use immutable_core::model::MetricName;
///
/// let errors: MetricName = "errors".parse()?;
/// let analysis = Analysis::of([Compared::new(errors.clone())]);
/// assert!(power(&analysis, &Traffic::of(50.0).usual(errors.clone(), 0.01)).sees_doubling());
/// assert!(!power(&analysis, &Traffic::of(0.5).usual(errors, 0.01)).sees_doubling());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn power(analysis: &Analysis, traffic: &Traffic) -> Power {
    let deadline = analysis.deadline.min(analysis.interval.saturating_mul(LOOKS));
    let analysis = &Analysis { deadline, ..analysis.clone() };
    let of = |metric: &MetricName| traffic.usual.iter().find(|(name, _)| name == metric).map(|(_, usual)| *usual);
    let predicted = analysis.metrics.iter().filter_map(|compared| Some((compared, of(&compared.metric)?)));
    let metrics = predicted.map(|(compared, usual)| MetricPower::of(analysis, compared, traffic, usual)).collect();
    Power { deadline, requests_per_second: traffic.requests_per_second, metrics }
}

impl Power {
    /// After what time a regression of so many times is seen in half of all rollouts: that of the slowest metric. None if it is not
    /// within the deadline, or if no metric is predicted. Between the regressions that were tried the smaller one is told.
    pub fn sees(&self, times: f64) -> Option<Duration> {
        let each: Option<Vec<_>> = self.metrics.iter().map(|metric| metric.sees(times)).collect();
        each?.into_iter().max()
    }

    /// Whether twice as many events are seen within the deadline, of every metric.
    pub fn sees_doubling(&self) -> bool {
        self.sees(2.0).is_some()
    }

    /// The smallest regression of those that were tried that is seen within the deadline, of every metric.
    pub fn smallest(&self) -> Option<f64> {
        let each: Option<Vec<_>> = self.metrics.iter().map(MetricPower::smallest).collect();
        each?.into_iter().reduce(f64::max)
    }

    /// After what time half of all good releases have passed. None if it is not within the deadline, or if no metric is predicted.
    pub fn passes(&self) -> Option<Duration> {
        let each: Option<Vec<_>> = self.metrics.iter().map(|metric| metric.passes).collect();
        each?.into_iter().max()
    }
}

impl fmt::Display for Power {
    /// A line for each metric, and one more for each that cannot see a doubling.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deadline, rate) = (friendly(self.deadline), self.requests_per_second);
        for (index, metric) in self.metrics.iter().enumerate() {
            let name = &metric.metric;
            write!(f, "{}{name}: {metric}", if index > 0 { "\n" } else { "" })?;
            if metric.sees(2.0).is_none() && !metric.may_double {
                write!(
                    f,
                    "\n{name}: cannot see twice as many within {deadline} at {rate} requests per second: give it more traffic or time"
                )?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for MetricPower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for times in TOLD {
            match self.sees(times) {
                Some(time) => write!(f, "×{times} seen in {}, ", friendly(time))?,
                None => write!(f, "×{times} not seen, ")?,
            }
        }
        match self.passes {
            Some(time) => write!(f, "passes in {}", friendly(time))?,
            None => write!(f, "does not pass")?,
        }
        if self.may_double { write!(f, "; ×2 is within its bound") } else { Ok(()) }
    }
}

fn friendly(time: Duration) -> String {
    jiff::fmt::friendly::SpanPrinter::new().unsigned_duration_to_string(&time)
}

impl MetricPower {
    fn of(analysis: &Analysis, compared: &Compared, traffic: &Traffic, usual: f64) -> Self {
        let alone = alone(analysis, compared);
        let tried =
            Tried { analysis: &alone, requests: traffic.requests_per_second * alone.interval.as_secs_f64(), usual };
        // What is not seen is not seen when it is smaller, either: one that is not ends the search.
        let worse = TIMES.iter().rev();
        let mut seen: Vec<_> = worse
            .map_while(|times| {
                let fails = |judgement: &Judgement| matches!(judgement, Judgement::Fail { .. });
                Some((*times, tried.time_until(*times, fails)?))
            })
            .collect();
        seen.reverse();
        let passes = tried.time_until(1.0, |judgement| matches!(judgement, Judgement::Pass { .. }));
        let allowed = compared.at_most.map(|bound| (1.0 + compared.margin) * bound);
        let may_double = allowed.is_some_and(|allowed| 2.0 * usual <= allowed);
        Self { metric: compared.metric.clone(), seen, passes, may_double }
    }

    fn sees(&self, times: f64) -> Option<Duration> {
        self.seen.iter().rev().find(|(tried, _)| *tried <= times).map(|(_, time)| *time)
    }

    fn smallest(&self) -> Option<f64> {
        self.seen.first().map(|(times, _)| *times)
    }
}

/// The analysis with one metric. The others say nothing against the release, so that this one has to outweigh them.
fn alone(analysis: &Analysis, compared: &Compared) -> Analysis {
    let all: f64 = analysis.metrics.iter().map(|compared| compared.weight).sum();
    let metrics = vec![Compared { hard_stop: None, ..compared.clone() }];
    Analysis { metrics, alpha: analysis.alpha * compared.weight / all, ..analysis.clone() }
}

/// What is tried.
struct Tried<'a> {
    analysis: &'a Analysis,
    /// In each interval, in either release.
    requests: f64,
    usual: f64,
}

impl Tried<'_> {
    /// When half of the rollouts of a release with so many times the usual events have been judged so. None if that is not within
    /// the deadline.
    fn time_until(&self, times: f64, judged: impl Fn(&Judgement) -> bool) -> Option<Duration> {
        let half = usize::try_from(RUNS / 2).expect("invariant: a few");
        let (mut ends, mut never) = (Vec::new(), 0);
        for seed in 0..RUNS {
            match self.run(times, seed, &judged) {
                Some(intervals) => ends.push(intervals),
                None => never += 1,
            }
            if never > half {
                return None;
            }
        }
        ends.sort_unstable();
        Some(self.analysis.interval * ends[half])
    }

    /// After how many intervals a rollout is judged so.
    fn run(&self, times: f64, seed: u64, judged: &impl Fn(&Judgement) -> bool) -> Option<u32> {
        let (mut random, mut evidence) = (fastrand::Rng::with_seed(seed), Evidence::default());
        let deadline = self.analysis.deadline.div_duration_f64(self.analysis.interval);
        let mut intervals = 0;
        while f64::from(intervals) < deadline {
            let mut fleet = |times: f64| {
                let whole = poisson(&mut random, self.requests);
                let part = poisson(&mut random, self.requests * self.usual * times).min(whole);
                Some(MetricValue::Ratio { part, whole })
            };
            let pair = Pair { canary: fleet(times), baseline: fleet(1.0) };
            evidence.count(self.analysis, u64::from(intervals), &[pair]);
            intervals += 1;
            if judged(&self.analysis.judge(&evidence)) {
                return Some(intervals);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors() -> MetricName {
        "errors".parse().expect("name")
    }

    fn analysis() -> Analysis {
        let latency = Compared::new("latency".parse().expect("name")).weight(0.5);
        Analysis::of([Compared::new(errors()), latency])
    }

    /// How many of 200 rollouts with two metrics are failed within some time when errors are so many times as many: with other seeds,
    /// and request by request, where the prediction draws counts.
    fn failed(analysis: &Analysis, times: f64, within: Duration) -> usize {
        let intervals = within.as_secs() / analysis.interval.as_secs();
        let fails = |seed: &u64| {
            let (mut random, mut evidence) = (fastrand::Rng::with_seed(1_000 + seed), Evidence::default());
            (0..intervals).any(|interval| {
                let mut fleet = |share: f64| {
                    let part = (0..200).filter(|_| random.f64() < share).count() as u64;
                    Some(MetricValue::Ratio { part, whole: 200 })
                };
                let errors = Pair { canary: fleet(0.02 * times), baseline: fleet(0.02) };
                let latency = Pair { canary: fleet(0.05), baseline: fleet(0.05) };
                evidence.count(analysis, interval, &[errors, latency]);
                matches!(analysis.judge(&evidence), Judgement::Fail { .. })
            })
        };
        (0..200).filter(fails).count()
    }

    #[test]
    fn what_is_predicted_is_what_happens_to_others() {
        let analysis = analysis();
        let power = power(&analysis, &Traffic::of(20.0).usual(errors(), 0.02));
        let smallest = power.smallest().expect("a regression");
        for times in [smallest, 2.0, 5.0] {
            let predicted = power.sees(times).expect("is seen");
            let (before, after) = (predicted.mul_f64(0.7), predicted.mul_f64(1.3));
            let (before, after) = (failed(&analysis, times, before), failed(&analysis, times, after));
            assert!(before < 100 && after >= 100, "×{times}: {before} before and {after} after {predicted:?}, of 200");
        }
        let smaller = TIMES.iter().rev().find(|times| **times < smallest).copied().unwrap_or(1.0);
        let failed = failed(&analysis, smaller, analysis.deadline);
        assert!(failed < 120, "×{smaller}: {failed} of 200, and was not to be seen");
    }

    #[test]
    fn more_traffic_sees_more_and_sooner() {
        let at = |rate: f64| power(&analysis(), &Traffic::of(rate).usual(errors(), 0.01));
        let (little, some, much) = (at(0.5), at(5.0), at(500.0));
        assert!(!little.sees_doubling() && some.sees_doubling());
        assert!(much.sees(2.0) < some.sees(2.0) && some.sees(5.0) < little.sees(5.0).or(Some(Duration::MAX)));
        assert!(much.smallest() < some.smallest() && some.smallest() < little.smallest());
        let passes = |power: &Power| power.passes().unwrap_or(Duration::MAX);
        assert!(passes(&much) < passes(&some), "{some}");
        assert_eq!(at(5.0), some, "the same is said again");
    }

    #[test]
    fn it_is_told_in_lines_for_a_dry_run() {
        let minutes = |minutes| Duration::from_mins(minutes);
        let (seen, latency) = (vec![(5.0, minutes(12)), (20.0, minutes(2))], "latency".parse().expect("name"));
        let metrics = vec![
            MetricPower {
                metric: latency,
                seen: vec![(1.5, minutes(90)), (2.0, minutes(20))],
                passes: Some(minutes(5)),
                may_double: false,
            },
            MetricPower { metric: errors(), seen, passes: None, may_double: false },
        ];
        let power = Power { deadline: minutes(120), requests_per_second: 2.5, metrics };
        let expected = "\
latency: ×1.5 seen in 1h 30m, ×2 seen in 20m, ×5 seen in 20m, ×20 seen in 20m, passes in 5m
errors: ×1.5 not seen, ×2 not seen, ×5 seen in 12m, ×20 seen in 2m, does not pass
errors: cannot see twice as many within 2h at 2.5 requests per second: give it more traffic or time";
        assert_eq!(power.to_string(), expected);
        assert_eq!((power.smallest(), power.sees(5.0), power.sees(2.0)), (Some(5.0), Some(minutes(20)), None));
        assert_eq!((power.sees_doubling(), power.passes()), (false, None));
    }

    #[test]
    fn what_is_within_a_bound_need_not_be_seen() {
        let bounded = |usual| {
            let analysis = Analysis::of([Compared::new(errors()).at_most(0.01)]);
            power(&analysis, &Traffic::of(20.0).usual(errors(), usual)).to_string()
        };
        let within = bounded(0.001);
        assert!(within.contains("×2 not seen") && within.ends_with("; ×2 is within its bound"), "{within}");
        let beyond = bounded(0.01);
        assert!(!beyond.contains("×2 not seen") && !beyond.contains("within its bound"), "{beyond}");
    }

    #[test]
    fn a_deadline_of_years_is_no_reason_to_think_for_years() {
        let analysis = analysis().deadline(Duration::from_hours(100_000)).interval(Duration::from_secs(1));
        let power = power(&analysis, &Traffic::of(0.01).usual(errors(), 0.001));
        assert!(power.to_string().contains("within 2h 46m 40s at"), "{power}");
    }

    #[test]
    fn nothing_is_promised_of_what_is_not_known() {
        let power = power(&analysis(), &Traffic::of(100.0));
        assert_eq!((power.sees(50.0), power.smallest(), power.passes()), (None, None, None));
        assert_eq!(power.to_string(), "");
    }
}
