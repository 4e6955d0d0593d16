//! Room at the switch for a rollout that takes the place of another one.

use super::compile::{Compiler, Facts};
use super::{Gate, Stage};
use crate::decide::Goal;
use crate::model::{FleetId, Release};

impl Compiler<'_> {
    /// The stages, behind one in which all traffic goes back to the old fleet, where the switch cannot do as many fleets as will have
    /// traffic otherwise: those of a superseded rollout leave it while the new ones come in.
    ///
    /// Only to a release that is known, as more instances of it may have to be started; and not where the switch can do but one, as
    /// none is ever shared there.
    pub(super) fn behind_those_that_leave(
        &self,
        stages: Vec<Stage>,
        facts: &Facts<'_>,
        baseline: Option<&FleetId>,
        previous: Option<&Release>,
    ) -> Vec<Stage> {
        let stays = [Some(self.target), self.old, baseline];
        let stood = facts.fleets.fleets.iter().map(|fleet| &fleet.id).filter(|fleet| facts.fleets.live(fleet) > 0);
        let mut leaving: Vec<&FleetId> = stood.chain(facts.split.iter().map(|(fleet, _)| fleet)).collect();
        leaving.retain(|fleet| !stays.contains(&Some(fleet)));
        leaving.sort();
        leaving.dedup();
        let most = leaving.len() + stays.iter().flatten().count();
        let has_room = |limit: u32| limit < 2 || most <= limit as usize;
        let back = self.old.filter(|_| previous.is_some() && !leaving.is_empty());
        let (Some(old), false) = (back, facts.traffic.max_fleets.is_none_or(has_room)) else { return stages };
        let Ok(goal) = Goal::only(old.clone(), self.budget.desired) else { return stages };
        let first = Stage { name: "make way".into(), goal, gate: Gate::default() };
        [first].into_iter().chain(stages).collect()
    }
}
