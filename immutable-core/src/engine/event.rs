//! What happens in a rollout: the records of the journal, and the stream that users follow.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hold::Hold;
use crate::analysis::Evidence;
use crate::decide::Action;
use crate::model::{ApprovalName, FleetId, ReleaseId, RolloutId};
use crate::plan::Plan;

/// Something that happened in a rollout. The events of a rollout, in order, are all there is to know about its decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The rollout began; nothing has been touched yet.
    Started {
        /// Its name.
        rollout: RolloutId,
        /// What it will do.
        plan: Box<Plan>,
        /// When.
        at: Timestamp,
    },
    /// A stage began.
    StageEntered {
        /// Its number, from 0.
        stage: usize,
        /// When.
        at: Timestamp,
        /// When the rollout goes back unless there is progress.
        deadline: Timestamp,
    },
    /// Something moved toward the goal.
    Progressed {
        /// When the rollout goes back unless there is more.
        deadline: Timestamp,
        /// How near the goal is: only its growth means anything.
        score: u64,
    },
    /// The deadline passed while nobody could look; it is put off, so that somebody looks before anything is judged.
    LookedAgain {
        /// When.
        at: Timestamp,
        /// When the rollout goes back unless there is progress.
        deadline: Timestamp,
    },
    /// Another driver goes on. It looks, and does nothing while requests of the driver before may still land.
    TakenOver {
        /// When.
        at: Timestamp,
        /// Until when nothing is done.
        until: Timestamp,
        /// When the rollout goes back, or is stuck on its way back, unless there is progress.
        deadline: Timestamp,
    },
    /// Somebody else, such as an autoscaler, scaled a fleet: from now on the service needs another number of instances, or none
    /// more if the fleet has no traffic.
    Resized {
        /// The fleet.
        fleet: FleetId,
        /// How many instances it has, or will have by itself.
        size: u32,
        /// How many instances the service needs.
        desired: u32,
        /// When.
        at: Timestamp,
    },
    /// These actions are about to be tried.
    Intended {
        /// What will be tried, in any order.
        actions: Vec<Action>,
        /// When.
        at: Timestamp,
    },
    /// The stage's goal is reached; its gate decides about the next.
    GoalReached {
        /// When.
        at: Timestamp,
        /// The end of the gate's hold.
        hold_until: Timestamp,
    },
    /// The stage's goal, once reached, no longer is.
    GoalLost {
        /// When.
        at: Timestamp,
        /// When the rollout goes back unless there is progress.
        deadline: Timestamp,
    },
    /// Somebody stopped the rollout for a while.
    Paused {
        /// When.
        at: Timestamp,
    },
    /// Somebody let the rollout go on.
    Resumed {
        /// When.
        at: Timestamp,
    },
    /// Somebody stopped all rollouts until further notice.
    Frozen {
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// The freeze is over.
    Thawed {
        /// When.
        at: Timestamp,
    },
    /// Somebody approved.
    Approved {
        /// What.
        approval: ApprovalName,
        /// When.
        at: Timestamp,
    },
    /// Somebody asked to skip the exposure stages and gates that are left.
    PromotionAsked {
        /// When.
        at: Timestamp,
    },
    /// The rollout cannot go on for now, through no fault of the release: no deadline passes until it [goes on](Self::WentOn).
    Held {
        /// Why.
        hold: Hold,
        /// Since when.
        at: Timestamp,
    },
    /// Intervals were measured, and this is what is known of the new release beside the old one.
    Judged {
        /// What is known.
        evidence: Evidence,
        /// When.
        at: Timestamp,
    },
    /// What held the rollout is over.
    WentOn {
        /// When.
        at: Timestamp,
        /// When the rollout goes back, or is stuck on its way back, unless there is progress.
        deadline: Timestamp,
    },
    /// The rollout goes back.
    TurnedBack {
        /// Why.
        reason: Reason,
        /// When.
        at: Timestamp,
        /// When it is stuck unless there is progress.
        deadline: Timestamp,
    },
    /// The rollout is over.
    Ended {
        /// How.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
}

impl Event {
    /// Whether this can happen in a rollout whose plan has so many stages; if not, why. Events are read from journals, and a
    /// record can be whole and make no sense all the same.
    pub(super) fn fits(&self, stages: usize) -> Result<(), String> {
        match self {
            Self::Started { plan, .. } if plan.stages.is_empty() => Err("the plan has no stages".into()),
            Self::StageEntered { stage, .. } if *stage >= stages => {
                Err(format!("stage {stage} of a plan that has {stages}"))
            }
            _ => Ok(()),
        }
    }
}

/// Why a rollout goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Somebody asked for it.
    Asked {
        /// In their words.
        note: String,
    },
    /// A check of the new release failed.
    CheckFailed {
        /// What it rests on.
        evidence: String,
    },
    /// There was not enough data to judge the new release by its deadline, and its analysis goes back then. Nothing speaks against it.
    NotJudged {
        /// What was missing.
        evidence: String,
    },
    /// There was no progress for too long.
    NoProgress {
        /// What it waited for.
        waiting: String,
    },
    /// A provider said that trying again does not help.
    Refused {
        /// What it said.
        error: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { note } => write!(f, "asked to: {note}"),
            Self::CheckFailed { evidence } => write!(f, "check failed: {evidence}"),
            Self::NotJudged { evidence } => write!(f, "not enough data by the deadline: {evidence}"),
            Self::NoProgress { waiting } => write!(f, "no progress in time; waited for {waiting}"),
            Self::Refused { error } => write!(f, "refused: {error}"),
        }
    }
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The new release serves alone, proven.
    Promoted,
    /// The previous release serves alone, as before.
    RolledBack {
        /// The release that serves.
        to: ReleaseId,
        /// Why.
        reason: Reason,
    },
    /// Nothing served before, and nothing is left of the attempt.
    Aborted {
        /// Why.
        reason: Reason,
    },
    /// Another rollout took its place, and goes on from what is there.
    Superseded {
        /// Which.
        by: RolloutId,
    },
    /// A human is needed. What runs was left as it is.
    Stuck {
        /// For what.
        reason: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted => write!(f, "promoted"),
            Self::RolledBack { to, reason } => write!(f, "rolled back to {to}: {reason}"),
            Self::Aborted { reason } => write!(f, "aborted: {reason}"),
            Self::Superseded { by } => write!(f, "superseded by {by}"),
            Self::Stuck { reason } => write!(f, "stuck: {reason}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { plan, .. } => write!(f, "started {} to release {}", plan.strategy, plan.release.id()),
            Self::StageEntered { stage, .. } => write!(f, "stage {}", stage + 1),
            Self::Progressed { .. } => write!(f, "progress"),
            Self::Intended { actions, .. } => {
                let actions: Vec<_> = actions.iter().map(ToString::to_string).collect();
                write!(f, "{}", actions.join("; "))
            }
            Self::Resized { fleet, size, desired, .. } => {
                write!(f, "somebody else scaled {fleet} to {size}; the service needs {desired}")
            }
            Self::LookedAgain { .. } => write!(f, "looked again after the deadline had passed unseen"),
            Self::TakenOver { until, .. } => write!(f, "taken over; nothing is done until {until}"),
            Self::GoalReached { .. } => write!(f, "goal reached"),
            Self::GoalLost { .. } => write!(f, "goal lost"),
            Self::Paused { .. } => write!(f, "paused"),
            Self::Resumed { .. } => write!(f, "resumed"),
            Self::Frozen { reason, .. } => write!(f, "frozen: {reason}"),
            Self::Thawed { .. } => write!(f, "thawed"),
            Self::Approved { approval, .. } => write!(f, "approved {approval}"),
            Self::PromotionAsked { .. } => write!(f, "asked to promote at once"),
            Self::Held { hold, .. } => write!(f, "held; waits for {hold}"),
            Self::Judged { evidence, .. } => write!(f, "judged up to interval {}", evidence.next()),
            Self::WentOn { .. } => write!(f, "goes on"),
            Self::TurnedBack { reason, .. } => write!(f, "goes back: {reason}"),
            Self::Ended { outcome, .. } => write!(f, "ended: {outcome}"),
        }
    }
}
