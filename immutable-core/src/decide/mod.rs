//! Deciding what to do next: pure, without I/O, clock or randomness.
//!
//! [`decide`] looks at what *is* and at a [`Goal`], and returns the next safe [`Action`]s, or what it waits for. It does not
//! know how the world came to be as it is, so it can be run from any state, and a call whose answer was lost needs no
//! special case. [`check`] judges any action against the safety rules without knowing how it was found.

mod action;
mod goal;
mod proof;
mod rules;
mod share;
mod tally;
#[cfg(test)]
pub(crate) mod tests;
mod world;

pub use action::{Action, Decision, RouteChange, Waiting};
pub use goal::{Budget, FleetGoal, Goal, GoalError};
pub use proof::{ProofError, RetireProof};
pub use rules::{Violation, check};
pub(crate) use share::limit;
pub use world::{FleetView, InstanceView, Phase, World};

use crate::model::{FleetId, InstanceId, Split, Weight};
use crate::provider::SwitchKind;
use share::Share;
use tally::Tally;

/// The next safe actions from this world toward a goal.
///
/// Each action keeps the safety rules in the world that was given, alone and together with the others, in any order.
/// The function is level-triggered: run it again on what is observed afterwards.
///
/// ```
/// use immutable_core::decide::{Action, Budget, Goal, World, decide};
/// use immutable_core::{model::Split, provider::SwitchKind};
///
/// let world = World {
///     as_of: jiff::Timestamp::UNIX_EPOCH,
///     fleets: vec![],
///     split: Split::closed(),
///     version: "1".parse()?,
/// };
/// let goal = Goal::only("web-1".parse()?, 3)?;
/// let budget = Budget { desired: 3, max_surge: 1, max_unavailable: 0 };
/// let decision = decide(&world, &goal, &budget, SwitchKind::Membership);
/// assert_eq!(decision.actions, [Action::Grow { fleet: "web-1".parse()?, to: 3 }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decide(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut sides = sides(world, goal);
    let mut decision = Decision::default();
    let mut surplus = Vec::with_capacity(sides.len());
    // What is proven and out of traffic is not given up while too little serves: somebody may have emptied the route.
    let serving: usize = sides.iter().map(|side| side.tally.capacity()).sum();
    let mut short = budget.required().saturating_sub(serving);
    for side in &mut sides {
        let too_many = side.tally.keepers.saturating_sub(side.size);
        let kept = side.tally.usable_soon().min(too_many).min(short);
        short -= kept;
        surplus.push(side.tally.give_up(too_many - kept, kept));
        if !side.tally.end.is_empty() {
            let instances = side.tally.end.iter().map(|id| (*id).clone()).collect();
            decision.actions.push(Action::End { fleet: side.id.clone(), instances });
        }
    }
    grow(&sides, world.total(), budget, &mut decision);
    decision.actions.extend(route(world, goal, budget, switch, &sides, &surplus));
    for fleet in &world.fleets {
        let unused = fleet.instances.is_empty() && goal.fleet(&fleet.id).is_none();
        if unused && world.split.weight(&fleet.id).is_none() {
            decision.actions.push(Action::Remove { fleet: fleet.id.clone() });
        }
    }
    waits(&sides, budget, &surplus, &mut decision.waiting);
    decision
}

/// Whether the world is as the goal wants it, with this many ready instances of its first fleet being enough.
///
/// `enough` maps the fleet's size to the number of its instances that have to be ready; the identity asks for all of them.
///
/// The first fleet of a goal is what the goal is about: it must be ready and have at least its weight. The others must
/// not be larger than they should, but may be ill or short: a broken old release never blocks the new one.
pub fn reached(world: &World, goal: &Goal, switch: SwitchKind, enough: impl Fn(u32) -> u32) -> bool {
    let bounded =
        |fleet: &FleetView| goal.fleet(&fleet.id).is_some_and(|part| fleet.instances.len() <= part.size as usize);
    let closed = !goal.split().is_closed() || world.split.is_closed();
    let ready = goal.fleets().first().is_none_or(|part| ready(world, goal, part, switch, enough(part.size)));
    ready && closed && world.fleets.iter().all(bounded)
}

fn ready(world: &World, goal: &Goal, part: &FleetGoal, switch: SwitchKind, enough: u32) -> bool {
    let Some(fleet) = world.fleet(&part.fleet) else { return false };
    let (routed, weighted) = match switch {
        SwitchKind::Weighted { .. } => (true, world.split.weight(&part.fleet) >= part.weight),
        SwitchKind::Membership => (!part.weight.is_none(), true),
    };
    // A fleet without weight comes into traffic when those with weight are too few: it has more than the goal asks for then.
    let short = |other: &FleetGoal| {
        let serving = world.fleet(&other.fleet).map_or(0, |fleet| fleet.count(Phase::Serving));
        !other.weight.is_none() && serving < other.size as usize
    };
    let called_in = goal.fleets().iter().any(short);
    let alone = switch == SwitchKind::Membership && part.weight == Weight::FULL;
    let others = |fleet: &FleetView| fleet.id != part.fleet && fleet.instances.iter().any(|i| i.phase.is_in_traffic());
    let ready = fleet.instances.iter().filter(|instance| match instance.phase {
        Phase::Serving => (routed || called_in) && !instance.replace,
        Phase::Proven | Phase::Drained => !routed && !instance.replace,
        _ => false,
    });
    let outdated = fleet.instances.iter().any(|instance| instance.replace && instance.phase == Phase::Serving);
    weighted && !outdated && ready.count() >= enough as usize && !(alone && world.fleets.iter().any(others))
}

/// One fleet between the world and the goal.
struct Side<'a> {
    id: &'a FleetId,
    size: usize,
    weight: Weight,
    hold_growth: bool,
    tally: Tally<'a>,
}

/// The goal's fleets in its order, then those that are to go.
fn sides<'a>(world: &'a World, goal: &'a Goal) -> Vec<Side<'a>> {
    let wanted = goal.fleets().iter().map(|part| {
        let view = world.fleet(&part.fleet);
        Side {
            id: &part.fleet,
            size: part.size as usize,
            weight: part.weight,
            hold_growth: view.is_some_and(|fleet| fleet.hold_growth),
            tally: view.map(Tally::of).unwrap_or_default(),
        }
    });
    let unwanted = world.fleets.iter().filter(|fleet| goal.fleet(&fleet.id).is_none()).map(|fleet| Side {
        id: &fleet.id,
        size: 0,
        weight: Weight::NONE,
        hold_growth: false,
        tally: Tally::of(fleet),
    });
    wanted.chain(unwanted).collect()
}

/// Starts what is missing, as far as the surge allows.
///
/// A fleet that ends instances in the same decision waits for the next one: sizes are absolute, and the provider may
/// take the two in any order.
fn grow(sides: &[Side<'_>], total: usize, budget: &Budget, decision: &mut Decision) {
    let mut room = budget.ceiling().saturating_sub(total);
    for side in sides {
        let missing = side.size.saturating_sub(side.tally.keepers);
        if missing == 0 || !side.tally.end.is_empty() {
            continue;
        }
        let fleet = side.id.clone();
        if side.hold_growth {
            decision.waiting.push(Waiting::Backoff { fleet, missing });
            continue;
        }
        let more = missing.min(room);
        room -= more;
        if more < missing {
            let ceiling = budget.ceiling();
            decision.waiting.push(Waiting::Room { fleet: fleet.clone(), missing: missing - more, ceiling });
        }
        if more > 0 {
            let to = u32::try_from(side.tally.alive + more).unwrap_or(u32::MAX);
            decision.actions.push(Action::Grow { fleet, to });
        }
    }
}

/// The next change of the route, if there is one.
fn route(
    world: &World,
    goal: &Goal,
    budget: &Budget,
    switch: SwitchKind,
    sides: &[Side<'_>],
    surplus: &[usize],
) -> Option<Action> {
    let mut drains = drain_ailing(world, budget, sides);
    let admitted = admitted(switch, budget, sides);
    let surplus: Vec<usize> = sides
        .iter()
        .zip(surplus)
        .zip(&admitted)
        .map(|((side, surplus), admitted)| {
            let in_traffic = side.tally.serving.len() + side.tally.joining.len();
            in_traffic.saturating_sub(*admitted).max(*surplus)
        })
        .collect();
    // Who has not been looked at counts neither as capacity nor as lost: nothing is moved until it is known.
    let sure = sides.iter().all(|side| side.tally.unsure == 0);
    let mut capacity: Vec<usize> = sides.iter().map(|side| side.tally.capacity()).collect();
    if sure {
        drain_surplus(world, budget, switch, sides, &surplus, &mut capacity, &mut drains);
    }
    let register = register(sides, &admitted);
    let split = match switch {
        SwitchKind::Membership => goal.split().clone(),
        SwitchKind::Weighted { step } if sure => split(world, goal, budget, step, sides, &capacity),
        SwitchKind::Weighted { .. } => world.split.clone(),
    };
    let weights_change = matches!(switch, SwitchKind::Weighted { .. }) && split != world.split;
    (weights_change || !register.is_empty() || !drains.is_empty()).then_some(Action::Route(RouteChange {
        split,
        register,
        drain: drains,
    }))
}

/// Takes instances that are no longer healthy out of traffic.
///
/// When nothing at all is proven, they stay: traffic to an ailing instance is better than to none. Only when there is no
/// room to start others, a few are given up to make it.
fn drain_ailing(world: &World, budget: &Budget, sides: &[Side<'_>]) -> Vec<InstanceId> {
    let proven = sides.iter().any(|side| side.tally.capacity() > 0);
    let full = world.total() >= budget.ceiling() && sides.iter().all(|side| side.tally.end.is_empty());
    let leaving: usize = sides.iter().map(|side| side.tally.draining + side.tally.ending).sum();
    let most = match (proven || budget.required() == 0, full) {
        (true, _) => usize::MAX,
        (false, true) => (budget.max_unavailable.max(1) as usize).saturating_sub(leaving),
        (false, false) => 0,
    };
    // Where nothing is proven, weight cannot move: the last member of a fleet with weight goes last.
    let lasts = |side: &Side<'_>| {
        let alone = side.tally.joining.is_empty() && side.tally.unsure == 0;
        usize::from(!proven && alone && !world.split.weight(side.id).is_none())
    };
    let first = sides.iter().rev().flat_map(|side| side.tally.ailing.iter().skip(lasts(side)));
    let last = sides.iter().rev().flat_map(|side| side.tally.ailing.iter().take(lasts(side)));
    first.chain(last).take(most).map(|id| (*id).clone()).collect()
}

/// Takes out of traffic what is not to be kept and then what is too many, as far as capacity and the weights in effect
/// allow; lowers `capacity` with it.
fn drain_surplus(
    world: &World,
    budget: &Budget,
    switch: SwitchKind,
    sides: &[Side<'_>],
    surplus: &[usize],
    capacity: &mut [usize],
    drains: &mut Vec<InstanceId>,
) {
    let required = budget.required();
    let mut total: usize = capacity.iter().sum();
    let mut drain = |index: usize, candidates: &[&InstanceId]| {
        for id in candidates {
            let rest = capacity[index] - 1;
            let carried = match switch {
                SwitchKind::Membership => true,
                SwitchKind::Weighted { step } => {
                    world.split.weight(sides[index].id).points() <= limit(rest, required, step)
                }
            };
            if total - 1 < required || !carried {
                return;
            }
            capacity[index] = rest;
            total -= 1;
            drains.push((*id).clone());
        }
    };
    for (index, side) in sides.iter().enumerate().rev() {
        drain(index, &side.tally.outdated);
    }
    for (index, side) in sides.iter().enumerate().rev() {
        let (serving, joining) = (&side.tally.serving, side.tally.joining_surplus());
        let surplus = surplus[index].saturating_sub(joining.len()).min(serving.len());
        drain(index, &serving[..surplus]);
    }
    for (side, surplus) in sides.iter().zip(surplus) {
        drains.extend(side.tally.joining_surplus().iter().take(*surplus).map(|id| (*id).clone()));
    }
}

/// How many usable instances of each fleet may be in traffic: all of them, but on a switch by membership none of a fleet
/// without weight, unless the others cannot carry the traffic.
fn admitted(switch: SwitchKind, budget: &Budget, sides: &[Side<'_>]) -> Vec<usize> {
    let routed = |side: &Side<'_>| matches!(switch, SwitchKind::Weighted { .. }) || !side.weight.is_none();
    let usable = |side: &Side<'_>| {
        let Tally { serving, joining, proven, drained, .. } = &side.tally;
        serving.len() + joining.len() + proven.len() + drained.len()
    };
    let carried: usize = sides.iter().filter(|side| routed(side)).map(usable).sum();
    let open = sides.iter().any(routed);
    let mut short = if open { budget.required().saturating_sub(carried) } else { 0 };
    let admit = |side: &Side<'_>| {
        if routed(side) {
            return usize::MAX;
        }
        let called_in = short.min(usable(side));
        short -= called_in;
        called_in
    };
    sides.iter().map(admit).collect()
}

/// Puts proven instances into traffic, as many of each fleet as are admitted.
fn register(sides: &[Side<'_>], admitted: &[usize]) -> Vec<InstanceId> {
    let join = |(side, admitted): (&Side<'_>, &usize)| {
        let Tally { serving, joining, proven, drained, .. } = &side.tally;
        let ready = proven.iter().chain(drained).filter(|instance| instance.endpoint.is_some());
        let more = admitted.saturating_sub(serving.len() + joining.len());
        ready.take(more).map(|instance| instance.id.clone()).collect::<Vec<_>>()
    };
    sides.iter().zip(admitted).flat_map(join).collect()
}

fn split(world: &World, goal: &Goal, budget: &Budget, step: Weight, sides: &[Side<'_>], capacity: &[usize]) -> Split {
    if goal.split().is_closed() {
        let may_close = budget.required() == 0;
        return if may_close { Split::closed() } else { world.split.clone() };
    }
    // A fleet that has traffic and no longer exists carries nothing; its share must still be counted.
    let vanished = world.split.iter().filter(|(id, _)| sides.iter().all(|side| side.id != *id));
    let vanished = vanished.map(|(fleet, now)| Share { fleet, serving: 0, now: now.points(), goal: 0 });
    // Instances that run another image give way where the others can carry their share. Those of the goal's first fleet
    // only: traffic then moves to what was there before, never earlier than planned to what is new.
    let outdated = sides.iter().zip(capacity).next().map_or(0, |(first, capacity)| {
        let drained = first.tally.capacity() - capacity;
        first.tally.outdated.len().saturating_sub(drained)
    });
    let spared = if capacity.iter().sum::<usize>() >= budget.required() + outdated { outdated } else { 0 };
    let shares = sides.iter().zip(capacity).enumerate().map(|(index, (side, serving))| Share {
        fleet: side.id,
        serving: if index == 0 { serving.saturating_sub(spared) } else { *serving },
        now: world.split.weight(side.id).points(),
        goal: side.weight.points(),
    });
    let shares: Vec<_> = shares.chain(vanished).collect();
    share::next_split(&shares, budget.required(), step)
}

fn waits(sides: &[Side<'_>], budget: &Budget, surplus: &[usize], waiting: &mut Vec<Waiting>) {
    for side in sides {
        let tally = &side.tally;
        let fleet = || side.id.clone();
        let mut wait = |count: usize, make: fn(FleetId, usize) -> Waiting| {
            if count > 0 {
                waiting.push(make(fleet(), count));
            }
        };
        wait(tally.pending.len(), |fleet, count| Waiting::Start { fleet, count });
        wait(tally.unproven.len() + tally.ailing.len(), |fleet, count| Waiting::Proof { fleet, count });
        wait(tally.joining.len(), |fleet, count| Waiting::Balancer { fleet, count });
        wait(tally.unsure, |fleet, count| Waiting::Looks { fleet, count });
        wait(tally.draining, |fleet, count| Waiting::Drain { fleet, count });
        wait(tally.ending, |fleet, count| Waiting::End { fleet, count });
    }
    let serving: usize = sides.iter().map(|side| side.tally.capacity()).sum();
    let blocked = surplus.iter().any(|count| *count > 0) && serving <= budget.required();
    if blocked {
        waiting.push(Waiting::Capacity { serving, required: budget.required() });
    }
}
