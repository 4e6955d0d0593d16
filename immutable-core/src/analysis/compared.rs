//! One metric of an analysis: what it is compared with, and what it may be.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::MetricName;

/// One metric of an [`Analysis`](super::Analysis): a share such as errors of requests, or a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Compared {
    pub(crate) metric: MetricName,
    pub(crate) weight: f64,
    pub(crate) margin: f64,
    pub(crate) floor: f64,
    pub(crate) tolerance: f64,
    pub(crate) acceptable: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_most: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hard_stop: Option<HardStop>,
}

/// A level that ends a rollout without statistics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HardStop {
    pub(crate) above: f64,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(crate) during: Duration,
}

impl Compared {
    /// A metric of which less is better, with a margin of 10 %, a tolerance of 1.5 and one in a thousand acceptable.
    pub fn new(metric: MetricName) -> Self {
        Self {
            metric,
            weight: 1.0,
            margin: 0.1,
            floor: 0.0,
            tolerance: 1.5,
            acceptable: 0.001,
            at_most: None,
            hard_stop: None,
        }
    }

    /// How much this metric counts beside the others when it is worse; 1 unless it is set. To pass, each has to pass.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// By how much worse it may look before that counts against the release: 0.1 for 10 %, which is the default. It is what one odd
    /// host among several may do; how often a release that is worse, but by less than this, is called worse is not promised.
    pub fn margin(mut self, share: f64) -> Self {
        self.margin = share;
        self
    }

    /// What is added to the baseline in each interval: so many events, or so much of a level; none unless it is set.
    pub fn floor(mut self, amount: f64) -> Self {
        self.floor = amount;
        self
    }

    /// To pass, the release must be shown to be less than so many times as bad as the baseline; 1.5 unless it is set.
    pub fn tolerance(mut self, times: f64) -> Self {
        self.tolerance = times;
        self
    }

    /// To pass, it is also enough to be shown to be below this share (or level), whatever the baseline is; 0.001 unless it is set.
    /// Without it a service with no errors at all could never pass: nothing is 1.5 times nothing. It takes about 4 / `acceptable`
    /// requests without an error. Where errors come so many at a time, it is a bound on how often they begin to: of ten at a time ten
    /// times this share may pass.
    pub fn acceptable(mut self, bound: f64) -> Self {
        self.acceptable = bound;
        self
    }

    /// Compares this metric with a fixed bound, such as that of a service level objective, in place of another fleet: whatever the old
    /// release is like, and whoever is to blame.
    ///
    /// As long as in each interval, given all before it and how many requests it has, no more than (1 + `margin`) times the bound is to
    /// be expected, it fails with a probability of at most α, in whatever clusters events come. It passes when it is shown to be below
    /// `tolerance` times the bound: by its requests, with the limits of [`acceptable`](Self::acceptable); a level by being below it in
    /// most intervals. `acceptable` itself has no meaning beside a bound.
    ///
    /// An analysis whose metrics all have bounds needs nothing to compare with. No baseline is started for it, and it judges each stage
    /// in which the new release has traffic, up to the first in which it has all.
    pub fn at_most(mut self, bound: f64) -> Self {
        self.at_most = Some(bound);
        self
    }

    /// Ends the rollout when the new release is above a bound in every interval of such a time, and what it is compared with is not,
    /// without any statistics. It also works while nothing is there to compare with, and for a metric that is compared with nothing.
    pub fn hard_stop(mut self, above: f64, during: Duration) -> Self {
        self.hard_stop = Some(HardStop { above, during });
        self
    }

    /// The metric.
    pub fn metric(&self) -> &MetricName {
        &self.metric
    }

    /// What is wrong with the settings, if anything is: which, and what to do.
    pub(super) fn problem(&self) -> Option<String> {
        let metric = &self.metric;
        let number = |name: &str, value: f64, least: f64| {
            let valid = value.is_finite() && value >= least;
            (!valid).then(|| format!("metric {metric}: {name}: {value} is not a number from {least} up"))
        };
        let stop = self.hard_stop.and_then(|stop| {
            let never =
                stop.during.is_zero().then(|| format!("metric {metric}: hard_stop: must last longer than nothing"));
            number("hard_stop", stop.above, 0.0).or(never)
        });
        let above_one =
            |name: &str, value: f64| (value <= 1.0).then(|| format!("metric {metric}: {name}: {value} is not above 1"));
        let no_weight =
            (self.weight <= 0.0).then(|| format!("metric {metric}: weight: {} is not above 0", self.weight));
        let bound = self.at_most.filter(|bound| !(bound.is_finite() && *bound > 0.0));
        let bound = bound.map(|bound| format!("metric {metric}: at_most: {bound} is not a number above 0"));
        number("weight", self.weight, 0.0)
            .or(no_weight)
            .or_else(|| number("margin", self.margin, 0.0))
            .or_else(|| number("floor", self.floor, 0.0))
            .or_else(|| number("acceptable", self.acceptable, 0.0))
            .or_else(|| number("tolerance", self.tolerance, 1.0))
            .or_else(|| above_one("tolerance", self.tolerance))
            .or(bound)
            .or(stop)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, tolerance, acceptable, .. } = self;
        match self.at_most {
            Some(bound) => write!(f, "{metric} less than {tolerance} times {bound}"),
            None => write!(f, "{metric} less than {tolerance} times the old, or below {acceptable}"),
        }
    }
}
