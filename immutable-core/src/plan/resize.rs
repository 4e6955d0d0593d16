//! A plan whose service becomes larger or smaller on the way, because somebody else scales it.

use super::compile::Compiler;
use super::{Plan, Stage};
use crate::decide::{Budget, FleetGoal, Goal};
use crate::model::{FleetId, Weight};
use crate::provider::SwitchKind;

/// What somebody else made of a fleet, and how many instances the service needs since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resize<'a> {
    pub(crate) fleet: &'a FleetId,
    pub(crate) size: u32,
    pub(crate) desired: u32,
    /// The stage that is pursued.
    pub(crate) stage: Option<usize>,
}

impl Plan {
    /// This plan after a fleet was scaled. The new fleet becomes as large as its share needs, and no smaller than planned because
    /// somebody else made it so; its baseline remains like it, as far as there is room; the old one stays as large as it is now. The
    /// surge becomes larger where new and old together would have no room.
    pub(crate) fn resized(mut self, change: &Resize<'_>) -> Self {
        let before = self.budget;
        let desired = change.desired.max(1);
        let max_unavailable = before.max_unavailable.min(desired - 1);
        // A surge of the whole fleet remains one.
        let whole = before.max_surge >= before.desired;
        let max_surge = if whole { before.max_surge.max(desired) } else { before.max_surge };
        self.budget = Budget { desired, max_surge, max_unavailable };
        self.previous_size =
            if desired < before.desired { self.previous_size.min(desired) } else { self.previous_size };
        let mut stages = std::mem::take(&mut self.stages);
        for (index, stage) in stages.iter_mut().enumerate() {
            self.resize_stage(stage, before.desired, change, change.stage == Some(index));
        }
        let most = stages.iter().map(|stage| stage.goal.total()).max().unwrap_or(0);
        let most = u32::try_from(most).unwrap_or(u32::MAX).saturating_sub(desired);
        self.budget.max_surge = self.budget.max_surge.max(most);
        self.stages = stages;
        self
    }

    fn resize_stage(&self, stage: &mut Stage, before: u32, change: &Resize<'_>, is_current: bool) {
        let mut room = u32::try_from(self.budget.ceiling()).unwrap_or(u32::MAX);
        let made = |part: &FleetGoal| (is_current && part.fleet == *change.fleet).then_some(change.size);
        let least = |part: &FleetGoal| self.budget.needed(part.weight).max(made(part).unwrap_or(0));
        let is_old = |part: &&FleetGoal| part.fleet != self.target && self.baseline.as_ref() != Some(&part.fleet);
        // What is left of it carries its share, whatever the two that are compared would like to have.
        let old: u32 = stage.goal.fleets().iter().filter(is_old).map(least).fold(0, u32::saturating_add);
        let mut canary = (0, Weight::NONE);
        let parts = stage.goal.fleets().iter().map(|part| {
            let size = if part.fleet == self.target {
                let beside = self.as_large_as_the_baseline(&stage.goal, room.saturating_sub(old), made);
                // Never fewer than are to be proven.
                self.planned_size(part, before).max(made(part).unwrap_or(0)).max(beside)
            } else if self.baseline.as_ref() == Some(&part.fleet) {
                Compiler::baseline_size(canary, part.weight).min(room.saturating_sub(old)).max(least(part))
            } else {
                let size = if part.fleet == *change.fleet { change.size } else { part.size };
                size.min(room).max(least(part))
            };
            if part.fleet == self.target {
                canary = (size, part.weight);
            }
            room = room.saturating_sub(size);
            FleetGoal { size, ..part.clone() }
        });
        // A part keeps its weight, and with a weight it keeps an instance: it remains a goal.
        if let Ok(goal) = Goal::new(parts.collect::<Vec<_>>()) {
            stage.goal = goal;
        }
    }

    /// As many instances of the new release as its share needs, and no more than all.
    fn planned_size(&self, part: &FleetGoal, before: u32) -> u32 {
        let Budget { desired, .. } = self.budget;
        if part.size >= before { desired } else { part.size.max(self.budget.needed(part.weight)).min(desired) }
    }

    /// How large the canary has to be to be like a baseline that somebody else made larger, as far as both have room.
    ///
    /// Ending what was started would go on for ever, and a baseline with less load on each instance looks better than it is. Where the
    /// members are the weights, each has as much load whatever their number, and a larger canary would have more traffic than planned.
    fn as_large_as_the_baseline(&self, goal: &Goal, room: u32, made: impl Fn(&FleetGoal) -> Option<u32>) -> u32 {
        let part = |fleet: &FleetId| goal.fleet(fleet);
        let pair = part(&self.target).zip(self.baseline.as_ref().and_then(part));
        let Some((canary, baseline)) = pair.filter(|_| self.switch != SwitchKind::Membership) else { return 0 };
        let Some(size) = made(baseline) else { return 0 };
        // Rounded down: a baseline beside it is just as large as it was made.
        let like = u64::from(size) * u64::from(canary.weight.points()) / u64::from(baseline.weight.points().max(1));
        u32::try_from(like).unwrap_or(u32::MAX).min(room.saturating_sub(size)).min(self.budget.desired)
    }
}
