//! A plan whose service becomes larger or smaller on the way, because somebody else scales it.

use super::{Plan, Stage};
use crate::decide::{Budget, FleetGoal, Goal};
use crate::model::FleetId;

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
    /// somebody else made it so; the old one stays as large as it is now. The surge becomes larger where both together would have no
    /// room.
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
        let Budget { desired, .. } = self.budget;
        let mut room = self.budget.ceiling();
        let parts = stage.goal.fleets().iter().map(|part| {
            let needed = self.budget.needed(part.weight);
            let is_scaled = part.fleet == *change.fleet;
            let size = if part.size == 0 {
                0
            } else if part.fleet == self.target {
                let planned = if part.size >= before { desired } else { part.size.max(needed).min(desired) };
                // Never fewer than are to be proven.
                if is_scaled && is_current { planned.max(change.size) } else { planned }
            } else if is_scaled && is_current {
                change.size.max(needed)
            } else {
                let size = if is_scaled { change.size } else { part.size };
                size.min(u32::try_from(room).unwrap_or(u32::MAX)).max(needed)
            };
            room = room.saturating_sub(size as usize);
            FleetGoal { size, ..part.clone() }
        });
        // A part keeps its weight, and with a weight it keeps an instance: it remains a goal.
        if let Ok(goal) = Goal::new(parts.collect::<Vec<_>>()) {
            stage.goal = goal;
        }
    }
}
