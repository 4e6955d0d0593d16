//! Strategies: how a new release takes over, in stages, with every knob in one place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Amount;
use crate::analysis::{Analysis, Check};
use crate::health::HealthPolicy;
use crate::model::{ApprovalName, Weight};

/// How a new release takes over from the old one.
///
/// Four ways to make one: [`blue_green`](Self::blue_green), [`rolling`](Self::rolling), [`canary`](Self::canary), and
/// [`stages`](Self::stages) for a list of one's own. All knobs have defaults and work on each of them.
///
/// ```
/// use immutable_core::plan::{Amount, StageSpec, Strategy};
/// use std::time::Duration;
///
/// let careful = Strategy::canary([
///     StageSpec::percent(5)?.hold(Duration::from_mins(10)),
///     StageSpec::percent(25)?.hold(Duration::from_mins(10)).approval("half".parse()?),
/// ])
/// .bake(Duration::from_secs(3600))
/// .retain_old_for(Duration::from_secs(86_400));
///
/// let quick = Strategy::rolling().max_surge(Amount::Percent(25)).max_unavailable(Amount::Count(0));
/// # let _ = (careful, quick);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Strategy {
    pub(super) name: String,
    pub(super) stages: Vec<StageSpec>,
    pub(super) max_surge: Amount,
    pub(super) max_unavailable: Amount,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(super) bake: Duration,
    pub(super) watch: Vec<Check>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) analysis: Option<Analysis>,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(super) retain_old: Duration,
    pub(super) limits: Limits,
}

/// A text that is not a strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("strategy: {field}: {problem}")]
pub struct StrategyError {
    field: String,
    problem: String,
}

impl std::str::FromStr for Strategy {
    type Err = StrategyError;

    /// Reads a strategy from the JSON that it serialises to; durations are like `90s` or `1h 30m`, amounts like `3` or `"25%"`.
    fn from_str(json: &str) -> Result<Self, StrategyError> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let strategy = serde_path_to_error::deserialize(&mut reader).map_err(|error| StrategyError {
            field: error.path().to_string(),
            problem: error.into_inner().to_string(),
        })?;
        let end = reader.end().map_err(|error| error.to_string());
        end.map_err(|problem| StrategyError { field: "end of the text".into(), problem })?;
        Ok(strategy)
    }
}

/// What holds in every stage of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many looks make an instance healthy or unhealthy.
    pub health: HealthPolicy,
    /// How many percent of the new fleet must be proven for a stage to be reached.
    pub quorum_percent: u32,
    /// How long an instance may take from its start, or from the loss of its health, to being proven. Then it is replaced.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub instance_deadline: Duration,
    /// How long a rollout may go without any progress. Then it goes back. Holds, pauses and approvals do not count.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub progress_deadline: Duration,
    /// The least time between being out of traffic and being ended, beside what the balancer itself waits for.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub drain_time: Duration,
    /// The most time that an instance out of traffic gets to finish its requests. Then it is ended all the same.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub drain_limit: Duration,
}

impl Default for Limits {
    /// All of the fleet, 5 minutes for an instance, 10 minutes without progress (as in Kubernetes and Nomad), no extra
    /// drain time and at most 5 minutes of draining (the default deregistration delay of an AWS load balancer).
    fn default() -> Self {
        Self {
            health: HealthPolicy::default(),
            quorum_percent: 100,
            instance_deadline: Duration::from_mins(5),
            progress_deadline: Duration::from_mins(10),
            drain_time: Duration::ZERO,
            drain_limit: Duration::from_mins(5),
        }
    }
}

impl Strategy {
    /// A whole new fleet beside the old one, then all traffic at once, then the end of the old one.
    ///
    /// `max_surge` is 100 %: both fleets exist at once.
    pub fn blue_green() -> Self {
        let start = StageSpec::new("start", Weight::NONE).size(Amount::Percent(100));
        Self::of("blue-green", vec![start]).max_surge(Amount::Percent(100))
    }

    /// Old instances are replaced a few at a time. `max_surge` is 25 % and `max_unavailable` none, unless they are set.
    pub fn rolling() -> Self {
        let roll = StageSpec::new("roll", Weight::FULL).size(Amount::Percent(100)).replacing_old();
        Self::of("rolling", vec![roll]).max_surge(Amount::Percent(25))
    }

    /// A small share of the traffic first, in steps, each with its own gate; all of it after the last one.
    ///
    /// `max_surge` is 100 %, so that the old fleet stays whole until the end and going back is quick; with less, the old
    /// fleet shrinks as the new one grows.
    pub fn canary(steps: impl IntoIterator<Item = StageSpec>) -> Self {
        Self::of("canary", steps.into_iter().collect()).max_surge(Amount::Percent(100))
    }

    /// Stages of one's own; all of the traffic after the last one. `max_surge` is 100 % unless it is set.
    pub fn stages(name: impl Into<String>, stages: impl IntoIterator<Item = StageSpec>) -> Self {
        Self::of(name, stages.into_iter().collect()).max_surge(Amount::Percent(100))
    }

    fn of(name: impl Into<String>, stages: Vec<StageSpec>) -> Self {
        Self {
            name: name.into(),
            stages,
            max_surge: Amount::Count(0),
            max_unavailable: Amount::Count(0),
            bake: Duration::ZERO,
            watch: Vec::new(),
            analysis: None,
            retain_old: Duration::ZERO,
            limits: Limits::default(),
        }
    }

    /// How many instances more than desired may exist, ending ones counted. A percent rounds up.
    pub fn max_surge(mut self, amount: Amount) -> Self {
        self.max_surge = amount;
        self
    }

    /// How many instances fewer than desired may serve. A percent rounds down.
    pub fn max_unavailable(mut self, amount: Amount) -> Self {
        self.max_unavailable = amount;
        self
    }

    /// Somebody has to approve before the first traffic moves to the new release.
    pub fn approval_before_traffic(mut self, name: ApprovalName) -> Self {
        let dark = self.stages.first().is_some_and(|stage| stage.weight.is_none());
        if !dark {
            self.stages.insert(0, StageSpec::new("start", Weight::NONE));
        }
        self.stages[0].approval = Some(name);
        self
    }

    /// How long the new release is watched with all of the traffic before the old one ends.
    pub fn bake(mut self, time: Duration) -> Self {
        self.bake = time;
        self
    }

    /// What must hold while the new release bakes.
    pub fn watch(mut self, checks: impl IntoIterator<Item = Check>) -> Self {
        self.watch = checks.into_iter().collect();
        self
    }

    /// How the new release is judged against the old one, from its first traffic on. Each stage in which both have traffic waits
    /// for a pass of its own; a fail goes back, at any time. Where there is no old release there is nothing to compare with, and only
    /// its hard stops hold.
    pub fn analysis(mut self, analysis: Analysis) -> Self {
        self.analysis = Some(analysis);
        self
    }

    /// How long the old fleet stays, whole and without traffic, after all that: going back is instant for that time.
    pub fn retain_old_for(mut self, time: Duration) -> Self {
        self.retain_old = time;
        self
    }

    /// How many looks make an instance healthy or unhealthy, the minimum healthy time among them.
    pub fn health(mut self, policy: HealthPolicy) -> Self {
        self.limits.health = policy;
        self
    }

    /// How many percent of the new fleet must be proven for a stage to be reached; 100 unless it is set.
    pub fn quorum_percent(mut self, percent: u32) -> Self {
        self.limits.quorum_percent = percent;
        self
    }

    /// How long one instance may take to be proven before it is replaced; 5 minutes unless it is set.
    pub fn instance_deadline(mut self, time: Duration) -> Self {
        self.limits.instance_deadline = time;
        self
    }

    /// How long the rollout may go without progress before it goes back; 10 minutes unless it is set.
    pub fn progress_deadline(mut self, time: Duration) -> Self {
        self.limits.progress_deadline = time;
        self
    }

    /// The least time between being out of traffic and being ended; none beside the balancer's own unless it is set.
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.limits.drain_time = time;
        self
    }

    /// The most time that requests in flight get to finish before their instance is ended; 5 minutes unless it is set.
    pub fn drain_limit(mut self, time: Duration) -> Self {
        self.limits.drain_limit = time;
        self
    }

    /// The limits of another rollout of the service, but for its quorum: that belongs to its budget.
    pub(crate) fn limits_of(mut self, other: &Limits) -> Self {
        self.limits = Limits { quorum_percent: self.limits.quorum_percent, ..other.clone() };
        self
    }
}

/// One stage of a strategy: how much traffic the new release gets, on how many instances, and what must hold before the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct StageSpec {
    pub(super) name: String,
    pub(super) weight: Weight,
    pub(super) size: Option<Amount>,
    #[serde(default)]
    pub(super) replaces_old: bool,
    #[serde(default, with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(super) hold: Duration,
    #[serde(default)]
    pub(super) checks: Vec<Check>,
    #[serde(default)]
    pub(super) approval: Option<ApprovalName>,
}

impl StageSpec {
    /// A stage in which the new release has this share of the traffic.
    pub fn new(name: impl Into<String>, weight: Weight) -> Self {
        Self {
            name: name.into(),
            weight,
            size: None,
            replaces_old: false,
            hold: Duration::ZERO,
            checks: Vec::new(),
            approval: None,
        }
    }

    /// A stage in which the new release has so many percent of the traffic.
    ///
    /// # Errors
    /// [`SplitError`](crate::model::SplitError) above 100.
    pub fn percent(percent: u16) -> Result<Self, crate::model::SplitError> {
        Ok(Self::new(format!("{percent} %"), Weight::percent(percent)?))
    }

    /// How many instances of the new release; as few as can carry the traffic unless it is set. A percent rounds up.
    pub fn size(mut self, size: Amount) -> Self {
        self.size = Some(size);
        self
    }

    /// The old fleet goes as the new one comes, instead of staying beside it.
    pub fn replacing_old(mut self) -> Self {
        self.replaces_old = true;
        self
    }

    /// The least time in this stage, once it is reached.
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// What the metrics must say before the next stage.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Somebody has to approve before the next stage.
    pub fn approval(mut self, name: ApprovalName) -> Self {
        self.approval = Some(name);
        self
    }
}
