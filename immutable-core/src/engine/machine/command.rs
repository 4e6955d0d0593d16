//! What people can wish of a rollout.

use jiff::Timestamp;

use super::{Course, Machine};
use crate::engine::event::{Event, Reason};
use crate::model::ApprovalName;

/// A wish of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stop for a while.
    Pause,
    /// Go on.
    Resume,
    /// Stop with all others until further notice, for a reason.
    Freeze(String),
    /// End the freeze.
    Thaw,
    /// Let a gate pass.
    Approve(ApprovalName),
    /// Skip the exposure stages and gates that are left.
    Promote,
    /// Go back.
    Abort(String),
}

impl Machine {
    /// What a person's wish changes now. Nothing when it is so already, or the rollout is over.
    pub fn command(&self, now: Timestamp, command: Command) -> Vec<Event> {
        let forward = matches!(self.course, Course::Forward { .. });
        if self.outcome.is_some() || !forward {
            return Vec::new();
        }
        match command {
            Command::Pause if !self.paused => vec![Event::Paused { at: now }],
            Command::Resume if self.paused => vec![Event::Resumed { at: now }],
            // To go back to what worked is always allowed.
            Command::Freeze(reason) if self.frozen.is_none() && !self.plan.returns => {
                vec![Event::Frozen { reason, at: now }]
            }
            Command::Thaw if self.frozen.is_some() => vec![Event::Thawed { at: now }],
            Command::Approve(approval) if !self.approvals.contains(&approval) => {
                vec![Event::Approved { approval, at: now }]
            }
            Command::Promote if !self.promoting => vec![Event::PromotionAsked { at: now }],
            Command::Abort(note) => self.turn_back(now, Reason::Asked { note }).events,
            _ => Vec::new(),
        }
    }
}
