//! Why a plan is refused, before anything is touched.

use crate::analysis::Check;
use crate::decide::GoalError;
use crate::model::{FleetId, ImageId, MetricName, ReleaseId, Weight};

/// Why a rollout cannot work. Each names the knob, and says what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No size is known.
    #[error("desired: the service has no instances to take its size from; say how many it needs")]
    NoSize,
    /// A size of zero.
    #[error("desired: 0 instances can serve nothing; give at least 1")]
    NothingDesired,
    /// More than the provider can do.
    #[error("desired: {desired} instances; the provider's fleets have at most {limit}")]
    TooLarge {
        /// What is asked for.
        desired: u32,
        /// What the provider can do.
        limit: u32,
    },
    /// Nothing could ever be replaced.
    #[error(
        "max_surge {surge} and max_unavailable {unavailable} are both nothing for {desired} instances: nothing could ever be replaced; allow one of them at least 1"
    )]
    NoBudget {
        /// As it was given.
        surge: super::Amount,
        /// As it was given.
        unavailable: super::Amount,
        /// The desired size.
        desired: u32,
    },
    /// The whole service could be down.
    #[error(
        "max_unavailable {unavailable} of {desired} instances would let nothing serve: allow fewer, and a max_surge of at least 1"
    )]
    NothingServes {
        /// In instances.
        unavailable: u32,
        /// The desired size.
        desired: u32,
    },
    /// No stage at all.
    #[error("stages: there are none; give at least one")]
    NoStages,
    /// A stage of no instances.
    #[error("stage {stage:?}: size {size} of {desired} instances is none; give at least 1")]
    EmptyStage {
        /// Which.
        stage: String,
        /// As it was given.
        size: super::Amount,
        /// The desired size.
        desired: u32,
    },
    /// More instances than the service needs.
    #[error("stage {stage:?}: size {size} is more than the {desired} desired instances")]
    StageTooLarge {
        /// Which.
        stage: String,
        /// In instances.
        size: u32,
        /// The desired size.
        desired: u32,
    },
    /// The budget has no room for both fleets of a stage.
    #[error(
        "stage {stage:?}: {new} new instances beside the old ones that {old_weight} of the traffic needs are {total}, max_surge allows {ceiling}; raise max_surge to {needed}"
    )]
    NoRoom {
        /// Which.
        stage: String,
        /// New instances.
        new: u32,
        /// The old fleet's share of the traffic.
        old_weight: Weight,
        /// How many instances the stage needs.
        total: u32,
        /// How many may exist.
        ceiling: u32,
        /// The `max_surge` that would do.
        needed: u32,
    },
    /// More traffic than the instances of the stage can carry.
    #[error(
        "stage {stage:?}: {weight} of the traffic needs {needed} of {desired} instances, its size is {size}; raise the size or lower the weight"
    )]
    Overloaded {
        /// Which.
        stage: String,
        /// The new release's share of the traffic.
        weight: Weight,
        /// In instances.
        size: u32,
        /// How many it takes.
        needed: u32,
        /// The desired size.
        desired: u32,
    },
    /// A weight between two steps of the switch.
    #[error("stage {stage:?}: the switch cannot express {weight}; its smallest step is {step}")]
    WeightStep {
        /// Which.
        stage: String,
        /// What is asked for.
        weight: Weight,
        /// What the switch can do.
        step: Weight,
    },
    /// A weight that the members of a fleet do not make.
    #[error(
        "stage {stage:?}: a switch by membership gives {new} of {total} instances {expressed} of the traffic, not {weight}; ask for that weight or another size"
    )]
    WeightMembership {
        /// Which.
        stage: String,
        /// What is asked for.
        weight: Weight,
        /// New instances.
        new: u32,
        /// All instances in traffic.
        total: u32,
        /// What they get.
        expressed: Weight,
    },
    /// More fleets with traffic than the switch can do.
    #[error("stage {stage:?}: two fleets would have traffic at once, the switch can do {limit}; use blue-green")]
    TooManyFleets {
        /// Which.
        stage: String,
        /// What the switch can do.
        limit: u32,
    },
    /// A quorum that means nothing.
    #[error("quorum_percent: {0} is not between 1 and 100")]
    Quorum(u32),
    /// A quorum that the capacity rule would never accept.
    #[error(
        "quorum_percent: {quorum} % of {desired} are {enough} instances, {required} must serve (desired - max_unavailable); raise max_unavailable to {needed}"
    )]
    QuorumBelowFloor {
        /// As it was given.
        quorum: u32,
        /// The desired size.
        desired: u32,
        /// What the quorum asks for.
        enough: u32,
        /// What the capacity rule asks for.
        required: u32,
        /// The `max_unavailable` that would do.
        needed: u32,
    },
    /// A deadline of nothing.
    #[error("{field}: must be longer than nothing")]
    NoTime {
        /// Which knob.
        field: &'static str,
    },
    /// An instance could not become healthy before its deadline.
    #[error(
        "instance_deadline: {} is not longer than the minimum healthy time of {}; no instance could ever be proven",
        super::friendly(*deadline),
        super::friendly(*healthy)
    )]
    DeadlineTooShort {
        /// The deadline.
        deadline: std::time::Duration,
        /// The minimum healthy time.
        healthy: std::time::Duration,
    },
    /// A check that cannot be judged.
    #[error("check {check}: {problem}")]
    Check {
        /// Which.
        check: Check,
        /// What is wrong.
        problem: &'static str,
    },
    /// An analysis that cannot be made.
    #[error("analysis: {problem}")]
    Analysis {
        /// Which setting, what is wrong, and what to do.
        problem: String,
    },
    /// A metric that the source does not have.
    #[error("metric {metric}: {problem}")]
    Metric {
        /// Which.
        metric: MetricName,
        /// What the source says.
        problem: String,
    },
    /// The image to start instances from is not there.
    #[error("release {release}: its image {image} is not there: build it first")]
    ImageGone {
        /// The release that was to be rolled out.
        release: ReleaseId,
        /// Its image.
        image: ImageId,
    },
    /// The image that going back would start instances from is not there.
    #[error(
        "release {release} serves now, and its image {image} is gone, so that going back would work only as long as its instances live: build that image again, or waive the way back"
    )]
    NoWayBack {
        /// The release that serves now.
        release: ReleaseId,
        /// Its image.
        image: ImageId,
    },
    /// The release failed before.
    #[error("release {0} was not proven: going back is only possible to a release that was")]
    NotProven(ReleaseId),
    /// A release that the journal does not know.
    #[error(
        "release {0} is not in the journal of this service: only a release that was rolled out can be gone back to"
    )]
    UnknownRelease(ReleaseId),
    /// The old fleet cannot stay, because it goes as the new one comes.
    #[error(
        "retain_old_for {time}: the old fleet is replaced instance by instance, nothing of it is left to keep; use blue-green, or a canary with a max_surge of {max_surge}"
    )]
    CannotRetain {
        /// As it was given.
        time: String,
        /// The `max_surge` that would do.
        max_surge: u32,
    },
    /// A goal that cannot be, from stages that look possible.
    #[error("stage {stage:?}: {source}")]
    Goal {
        /// Which.
        stage: String,
        /// What is wrong.
        source: GoalError,
    },
    /// A foreign fleet has the new fleet's name.
    #[error("fleet {0} exists with another release: its name is taken")]
    FleetTaken(FleetId),
}
