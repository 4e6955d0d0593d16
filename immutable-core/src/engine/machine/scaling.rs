//! What it means for a rollout that somebody else scales a fleet.

use jiff::Timestamp;

use super::Machine;
use crate::decide::{Budget, FleetGoal, Goal, World};
use crate::engine::event::Event;
use crate::engine::sizes::Scaled;
use crate::model::{FleetId, Split, Weight};
use crate::provider::FleetsState;

impl Machine {
    /// Follows somebody else who scaled a fleet of this rollout.
    ///
    /// The fleet with the most traffic says how many instances all of the traffic needs. A fleet that was made smaller may just have
    /// lost traffic to the other: less is needed only when all that have traffic together are fewer. A fleet without traffic says
    /// nothing.
    ///
    /// A baseline is followed like the others: whoever scales all fleets scales it, too, and a stage with more instances than it
    /// should have is never reached.
    pub(in crate::engine) fn follow(
        &self,
        now: Timestamp,
        scaled: &Scaled,
        fleets: &FleetsState,
        split: &Split,
    ) -> Vec<Event> {
        let plan = &self.plan;
        let ours = [Some(&plan.target), plan.replaces.as_ref(), plan.baseline.as_ref()];
        if self.outcome.is_some() || !ours.contains(&Some(&scaled.fleet)) {
            return Vec::new();
        }
        let Budget { desired, max_unavailable, .. } = plan.budget;
        let weight = split.weight(&scaled.fleet);
        let leads = split.iter().all(|(_, other)| other <= weight);
        let desired = match scaled.to.checked_sub(scaled.from) {
            _ if weight.is_none() => desired,
            // The same answer however often it is asked; and no more at once than what was added explains.
            Some(more) if leads => {
                desired.max(whole(scaled.to, weight).min(desired.saturating_add(whole(more, weight))))
            }
            Some(_) => desired,
            None => desired.min(carrying(fleets, split)).max(max_unavailable + 1),
        };
        vec![Event::Resized { fleet: scaled.fleet.clone(), size: scaled.to, desired, at: now }]
    }

    /// The goal, while instances that somebody else has started are needed: those of a fleet that is to go are not ended as long as
    /// too few serve.
    pub(super) fn keeping_what_others_started(&self, world: &World, goal: &Goal, budget: &Budget) -> Option<Goal> {
        let fleet = self.scaled.as_ref().filter(|_| world.serving() < budget.required())?;
        let live = world.fleet(fleet)?.instances.iter().filter(|instance| !instance.dead && !instance.replace);
        let live = u32::try_from(live.count()).unwrap_or(u32::MAX);
        let (mut parts, fleet) = (goal.fleets().to_vec(), fleet.clone());
        match parts.iter_mut().find(|part| part.fleet == fleet) {
            Some(part) => part.size = part.size.max(live),
            None => parts.push(FleetGoal { fleet, size: live, weight: Weight::NONE }),
        }
        Goal::new(parts).ok()
    }
}

/// How many instances all of the traffic needs, when a share of it needs so many.
fn whole(part: u32, weight: Weight) -> u32 {
    let whole = (u64::from(part) * u64::from(Weight::FULL.points())).div_ceil(u64::from(weight.points()).max(1));
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// How many instances the fleets with traffic have, or will have by themselves.
fn carrying(fleets: &FleetsState, split: &Split) -> u32 {
    let size = |fleet: &FleetId| {
        let observed = fleets.fleets.iter().find(|observed| observed.id == *fleet)?;
        observed.wanted.or_else(|| Some(fleets.live(fleet)))
    };
    let with_traffic = split.iter().filter(|(_, weight)| !weight.is_none());
    with_traffic.filter_map(|(fleet, _)| size(fleet)).fold(0, u32::saturating_add)
}
