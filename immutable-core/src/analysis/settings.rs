//! What is compared, how sure the judge has to be, and how long it may take.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::classic::Judge;
use super::compared::Compared;

/// How a release is judged: against the one that it replaces, all the time that both have traffic, or by [bounds](Compared::at_most)
/// of its own.
///
/// The default is the [`betting`](super) judge with α = 1 % (how often a release that is no worse may be called worse, however often
/// one looks) and β = 5 % (how often one that is worse than tolerated may be called good).
///
/// No worse means: in each interval, given all before it, either fleet could have had the other's numbers, or the release has fewer.
/// Worse than tolerated means: its events come at the tolerated multiple of a rate, or above, and in each interval this rate and the
/// baseline's could be each other's. What disturbs both fleets at once changes neither. But the judge compares interval with interval:
/// * Of two fleets with as many events on average, the one that has them all at once has fewer in most intervals, and looks better.
/// * What disturbs one fleet alone for many intervals in sequence looks like the release. Then take longer intervals.
///
/// ```
/// use immutable_core::analysis::{Analysis, Compared};
/// use std::time::Duration;
///
/// let analysis = Analysis::of([
///     Compared::new("errors".parse()?).tolerance(1.5).acceptable(0.001),
///     Compared::new("latency_over_1s".parse()?).weight(0.5),
/// ])
/// .minimum_time(Duration::from_mins(10))
/// .minimum_requests(5_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Analysis {
    pub(crate) metrics: Vec<Compared>,
    pub(crate) against: Against,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(crate) interval: Duration,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(crate) delay: Duration,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(crate) minimum_time: Duration,
    pub(crate) minimum_requests: u64,
    pub(crate) minimum_instances: u32,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(crate) deadline: Duration,
    pub(crate) at_deadline: AtDeadline,
    pub(crate) max_crashes: u32,
    #[serde(default, skip_serializing_if = "Judge::is_default")]
    pub(crate) judge: Judge,
}

/// The shortest interval: what is shorter cannot be kept up with.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a canary is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Against {
    /// A fleet of the old release that is started for the purpose: of the same age and size as the canary, with the same share of
    /// the traffic. The old fleet, where `max_surge` or the traffic switch has no room for a third fleet.
    Baseline,
    /// The old fleet as it is: warmer and larger than the canary. Its counts are thinned to the canary's share of the requests.
    OldFleet,
}

/// What to do when there is not enough data by the deadline. It never promotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AtDeadline {
    /// To stay in the stage until there is enough data, or somebody promotes or aborts.
    Hold,
    /// To go back.
    GoBack,
}

impl Analysis {
    /// Compares these metrics. More of them make false alarms no more frequent, and each finding a little slower.
    pub fn of(metrics: impl IntoIterator<Item = Compared>) -> Self {
        Self {
            metrics: metrics.into_iter().collect(),
            against: Against::Baseline,
            interval: Duration::from_secs(10),
            delay: Duration::ZERO,
            alpha: 0.01,
            beta: 0.05,
            minimum_time: Duration::from_mins(5),
            minimum_requests: 1_000,
            minimum_instances: 3,
            deadline: Duration::from_hours(1),
            at_deadline: AtDeadline::Hold,
            max_crashes: 5,
            judge: Judge::Betting,
        }
    }

    /// What the canary is compared with; a baseline of its own age and size unless it is set.
    pub fn against(mut self, against: Against) -> Self {
        self.against = against;
        self
    }

    /// The length of one interval; 10 s unless it is set. Each is one look at both fleets, begins at a multiple of its length, and
    /// should be at least as long as the metric source's own resolution (a minute for most clouds), and about as long as what
    /// disturbs one fleet alone (a full disk, a lost connection) usually lasts.
    pub fn interval(mut self, length: Duration) -> Self {
        self.interval = length;
        self
    }

    /// How long after its end an interval is read; as long as the [lag](crate::provider::MetricSource::lag) of the source is, if that is
    /// longer than what is set. What the source learns later is not counted.
    pub fn delay(mut self, time: Duration) -> Self {
        self.delay = time;
        self
    }

    /// How often a release that is no worse may be called worse, over all looks and metrics together; 0.01 unless it is set.
    pub fn alpha(mut self, probability: f64) -> Self {
        self.alpha = probability;
        self
    }

    /// How often a release that is worse than tolerated may be called good; 0.05 unless it is set.
    pub fn beta(mut self, probability: f64) -> Self {
        self.beta = probability;
        self
    }

    /// The least time with traffic, in both fleets where they are compared, before a pass; 5 minutes unless it is set.
    pub fn minimum_time(mut self, time: Duration) -> Self {
        self.minimum_time = time;
        self
    }

    /// The least number of requests to the canary, for each metric that is a share, before a pass; 1000 unless it is set.
    pub fn minimum_requests(mut self, requests: u64) -> Self {
        self.minimum_requests = requests;
        self
    }

    /// How many canaries there are at least, and as many baselines, where a stage does not say its size; 3 unless it is set. One odd
    /// host fools every test: with fewer it cannot be told from the release.
    pub fn minimum_instances(mut self, instances: u32) -> Self {
        self.minimum_instances = instances;
        self
    }

    /// How long a stage may wait for enough data; an hour unless it is set. Then what [`at_deadline`](Self::at_deadline) says.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// What to do when there is not enough data by the deadline; to hold unless it is set.
    pub fn at_deadline(mut self, what: AtDeadline) -> Self {
        self.at_deadline = what;
        self
    }

    /// After so many instances of the new release have died or were never ready, and no fewer than its fleet has, it goes back
    /// whatever the metrics say; 5 unless it is set. It is counted until the old fleet goes, by the driver that is at work, and not
    /// while the environment is at fault.
    pub fn max_crashes(mut self, crashes: u32) -> Self {
        self.max_crashes = crashes;
        self
    }

    /// What decides; [`Judge::Betting`] unless it is set.
    pub fn judge_by(mut self, judge: Judge) -> Self {
        self.judge = judge;
        self
    }

    /// What is compared.
    pub fn metrics(&self) -> &[Compared] {
        &self.metrics
    }

    /// Whether it needs nothing to compare with: each metric has a bound of its own.
    pub(crate) fn stands_alone(&self) -> bool {
        !self.metrics.iter().any(|compared| self.compares(compared))
    }

    /// Whether a metric is compared with another fleet.
    pub(crate) fn compares(&self, compared: &Compared) -> bool {
        match self.judge {
            Judge::Betting => compared.at_most.is_none(),
            Judge::Threshold(_) => false,
            Judge::MannWhitney(_) => true,
        }
    }

    /// Reads intervals no earlier than so long after their end.
    pub(crate) fn delay_at_least(&mut self, time: Duration) {
        self.delay = self.delay.max(time);
    }

    /// Whether it can end a rollout without anything to compare with.
    pub(crate) fn has_hard_stop(&self) -> bool {
        self.metrics.iter().any(|compared| compared.hard_stop.is_some())
    }

    fn never_in_time(&self) -> Option<String> {
        let least = self.minimum_time.max(self.interval).saturating_add(self.delay);
        (least >= self.deadline).then(|| {
            format!(
                "deadline: {:?} is not longer than minimum_time and delay together; nothing could pass",
                self.deadline
            )
        })
    }

    /// What is wrong with the settings, if anything is: which, and what to do.
    pub(crate) fn problem(&self) -> Option<String> {
        let probability = |name: &str, value: f64| {
            let valid = value > 0.0 && value < 0.5;
            (!valid).then(|| format!("{name}: {value} is not between 0 and 0.5"))
        };
        let time =
            |name: &str, value: Duration| value.is_zero().then(|| format!("{name}: must be longer than nothing"));
        let own = [
            self.metrics.is_empty().then(|| "metrics: there are none; give at least one".to_owned()),
            probability("alpha", self.alpha),
            probability("beta", self.beta),
            time("interval", self.interval),
            time("deadline", self.deadline),
            (self.interval < SHORTEST).then(|| format!("interval: {:?} is shorter than {SHORTEST:?}", self.interval)),
            self.never_in_time(),
            (self.minimum_instances == 0).then(|| "minimum_instances: give at least 1".to_owned()),
            (self.max_crashes == 0).then(|| "max_crashes: give at least 1".to_owned()),
        ];
        let twice = self
            .metrics
            .iter()
            .enumerate()
            .find(|(index, compared)| self.metrics[..*index].iter().any(|other| other.metric == compared.metric));
        let twice = twice.map(|(_, compared)| format!("metric {}: is named twice; name it once", compared.metric));
        let of_metric = || self.metrics.iter().find_map(Compared::problem);
        let bound = self.metrics.iter().find(|compared| compared.at_most.is_some() && self.judge != Judge::Betting);
        let bound = bound.map(|compared| {
            format!(
                "metric {}: at_most: is for the betting judge; a threshold judge goes by acceptable",
                compared.metric
            )
        });
        own.into_iter().flatten().next().or(twice).or(bound).or_else(of_metric).or_else(|| self.judge.problem())
    }
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics: Vec<_> = self.metrics.iter().map(|compared| self.judge.in_words(compared)).collect();
        write!(f, "{}", metrics.join(", "))
    }
}
