//! Deliberately broken versions of `decide`, at least one for each rule, and the word by which its violation is known.

use immutable_core::decide::{Action, Budget, Decision, FleetView, Goal, InstanceView, Phase, World, decide};
use immutable_core::model::{InstanceId, Split};
use immutable_core::provider::SwitchKind;

use crate::explore::Decide;
use crate::spoil;

pub(crate) const MUTANTS: &[(&str, &str, Decide<'static>)] = &[
    ("drains below the floor", "capacity", &drains_all_surplus),
    ("ends what is proven though nothing serves", "capacity", &ends_the_last),
    ("trusts a weight before the capacity is there", "conservation", &moves_all_traffic_at_once),
    ("sends traffic to an empty fleet", "conservation", &traffic_to_the_empty),
    ("registers before proof", "proof before traffic", &registers_unproven),
    ("ends what is draining", "drain before death", &ends_draining),
    ("ends what serves", "drain before death", &ends_serving),
    ("does not count terminating instances", "surge", &forgets_ending),
    ("grows beyond the surge", "surge", &grows_by_one_more),
    ("removes a fleet in use", "no leak", &removes_all),
    ("leaves the emptied fleet behind", "progress", &never_removes),
    ("never heals", "progress", &ignores_dead),
    ("keeps drifted instances", "progress", &ignores_drift),
    ("takes ailing instances for capacity", "conservation", &trusts_ailing),
    ("drains the healthy before the ailing", "unhealthy first", &spares_ailing),
    ("writes in steady state", "never left alone", &always_writes),
    ("never moves traffic", "progress", &never_routes),
];

fn all(world: &World) -> impl Iterator<Item = (&FleetView, &InstanceView)> {
    world.fleets.iter().flat_map(|fleet| fleet.instances.iter().map(move |instance| (fleet, instance)))
}

fn in_phase(world: &World, phase: Phase) -> Vec<InstanceId> {
    all(world).filter(|(_, instance)| instance.phase == phase).map(|(_, instance)| instance.id.clone()).collect()
}

/// The world with some instances seen otherwise.
fn seen_as(world: &World, change: impl Fn(&mut InstanceView)) -> World {
    let mut world = world.clone();
    world.fleets.iter_mut().flat_map(|fleet| &mut fleet.instances).for_each(change);
    world
}

fn drains_all_surplus(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    decide(world, goal, &Budget { max_unavailable: budget.desired, ..*budget }, switch)
}

fn ends_the_last(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut decision = decide(world, goal, budget, switch);
    let relaxed = decide(world, goal, &Budget { max_unavailable: budget.desired, ..*budget }, switch);
    decision.actions.retain(|action| !matches!(action, Action::End { .. } | Action::Route(_)));
    decision.actions.extend(relaxed.actions.into_iter().filter(|action| matches!(action, Action::End { .. })));
    decision
}

fn moves_all_traffic_at_once(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    spoil(decide(world, goal, budget, switch), |action| {
        if let Action::Route(change) = action
            && world.serving() > 0
        {
            change.split = goal.split().clone();
        }
    })
}

fn traffic_to_the_empty(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    spoil(decide(world, goal, budget, switch), |action| {
        if let Action::Route(change) = action
            && let Some(empty) = world.fleets.iter().find(|fleet| fleet.count(Phase::Serving) == 0)
        {
            change.split = Split::all_to(empty.id.clone());
        }
    })
}

fn registers_unproven(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let hopeful = seen_as(world, |instance| {
        if instance.phase == Phase::Unproven {
            instance.phase = Phase::Proven;
        }
    });
    decide(&hopeful, goal, budget, switch)
}

fn ends_draining(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    ends_in_phase(Phase::Draining, world, goal, decide(world, goal, budget, switch))
}

fn ends_serving(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut decision = decide(world, goal, budget, switch);
    decision.actions.retain(|action| !matches!(action, Action::Route(_)));
    ends_in_phase(Phase::Serving, world, goal, decision)
}

/// Ends what stands in a phase and is of a fleet that is to go, at once.
fn ends_in_phase(phase: Phase, world: &World, goal: &Goal, mut decision: Decision) -> Decision {
    for fleet in world.fleets.iter().filter(|fleet| goal.fleet(&fleet.id).is_none()) {
        let victims = fleet.instances.iter().filter(|instance| instance.phase == phase);
        let instances: Vec<_> = victims.map(|instance| instance.id.clone()).collect();
        if !instances.is_empty() {
            decision.actions.push(Action::End { fleet: fleet.id.clone(), instances });
        }
    }
    decision
}

fn forgets_ending(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut world = world.clone();
    for fleet in &mut world.fleets {
        fleet.instances.retain(|instance| instance.phase != Phase::Ending);
    }
    decide(&world, goal, budget, switch)
}

fn grows_by_one_more(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    decide(world, goal, &Budget { max_surge: budget.max_surge + 1, ..*budget }, switch)
}

fn removes_all(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut decision = decide(world, goal, budget, switch);
    let unwanted = world.fleets.iter().filter(|fleet| goal.fleet(&fleet.id).is_none());
    decision.actions.extend(unwanted.map(|fleet| Action::Remove { fleet: fleet.id.clone() }));
    decision
}

fn never_removes(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut decision = decide(world, goal, budget, switch);
    decision.actions.retain(|action| !matches!(action, Action::Remove { .. }));
    decision
}

fn ignores_dead(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut decision = decide(world, goal, budget, switch);
    let dead = |id: &InstanceId| all(world).any(|(_, instance)| instance.id == *id && instance.dead);
    for action in &mut decision.actions {
        if let Action::End { instances, .. } = action {
            instances.retain(|id| !dead(id));
        }
    }
    decision
}

fn ignores_drift(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    decide(&seen_as(world, |instance| instance.replace &= instance.phase != Phase::Serving), goal, budget, switch)
}

fn trusts_ailing(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let blind = seen_as(world, |instance| {
        if instance.phase == Phase::Ailing {
            instance.phase = Phase::Serving;
        }
    });
    decide(&blind, goal, budget, switch)
}

fn spares_ailing(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let ailing = in_phase(world, Phase::Ailing);
    spoil(decide(world, goal, budget, switch), |action| {
        if let Action::Route(change) = action {
            change.drain.retain(|id| !ailing.contains(id));
        }
    })
}

fn always_writes(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut decision = decide(world, goal, budget, switch);
    if decision.actions.is_empty()
        && let Some(part) = goal.fleets().first()
    {
        decision.actions.push(Action::Grow { fleet: part.fleet.clone(), to: 0 });
    }
    decision
}

fn never_routes(world: &World, goal: &Goal, budget: &Budget, switch: SwitchKind) -> Decision {
    let mut decision = decide(world, goal, budget, switch);
    decision.actions.retain(|action| !matches!(action, Action::Route(_)));
    decision
}
