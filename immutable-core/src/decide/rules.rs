//! The safety rules, as a judge of single actions. It shares no code with `decide`: it only knows what must never happen.

use std::collections::{HashMap, HashSet};

use super::{Action, Budget, FleetView, InstanceView, Phase, RouteChange, World};
use crate::model::{FleetId, InstanceId, Weight};
use crate::provider::SwitchKind;

/// A safety rule that an action would break. The numbers are those of the design's list of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Rule 1.
    #[error("capacity: {after} instances would serve, {required} must (desired - max_unavailable)")]
    Capacity {
        /// Proven, serving instances after the action.
        after: usize,
        /// The least there must be.
        required: usize,
    },
    /// Rule 2: a fleet would carry more than its share of proven capacity.
    #[error("conservation: fleet {fleet} would carry {weight} with {serving} of {required} instances proven")]
    Conservation {
        /// Which fleet.
        fleet: FleetId,
        /// What it would carry.
        weight: Weight,
        /// Its proven, serving instances.
        serving: usize,
        /// How many carry the whole.
        required: usize,
    },
    /// Rule 2: a fleet without proven instances would get traffic while others have some.
    #[error("conservation: fleet {fleet} would get traffic and has no proven instance")]
    Empty {
        /// Which fleet.
        fleet: FleetId,
    },
    /// Rule 3.
    #[error("proof before traffic: instance {instance} is {phase:?}")]
    Unproven {
        /// Which instance.
        instance: InstanceId,
        /// Where it stands.
        phase: Phase,
    },
    /// Rule 4.
    #[error("drain before death: instance {instance} is {phase:?}")]
    Undrained {
        /// Which instance.
        instance: InstanceId,
        /// Where it stands.
        phase: Phase,
    },
    /// Rule 5.
    #[error("surge: {after} instances would exist, at most {ceiling} may (desired + max_surge)")]
    Surge {
        /// Instances after the action, ending ones counted.
        after: usize,
        /// The most there may be.
        ceiling: usize,
    },
    /// Rule 7: a fleet that is not empty, or has traffic, would be removed.
    #[error("no leak: fleet {fleet} is in use and would be forgotten")]
    InUse {
        /// Which fleet.
        fleet: FleetId,
    },
    /// Rule 11: a healthy instance would go while one that is not to be kept stays in traffic.
    #[error("unhealthy first: instance {instance} is healthy and would go before others of its fleet that are not")]
    HealthyFirst {
        /// Which instance.
        instance: InstanceId,
    },
    /// The action names something that is not in the world.
    #[error("{what} is not in the world")]
    Unknown {
        /// What it names.
        what: String,
    },
}

/// Judges one action in a world.
///
/// # Errors
/// The [`Violation`] of the first rule that the action would break.
pub fn check(world: &World, action: &Action, budget: &Budget, switch: SwitchKind) -> Result<(), Violation> {
    match action {
        Action::Grow { fleet, to } => surge(world, fleet, *to, budget),
        Action::Route(change) => route(world, change, budget, switch),
        Action::End { fleet, instances } => end(world, fleet, instances, budget),
        Action::Remove { fleet } => remove(world, fleet),
    }
}

fn surge(world: &World, fleet: &FleetId, to: u32, budget: &Budget) -> Result<(), Violation> {
    let alive = world.fleet(fleet).map_or(0, |view| {
        view.instances.iter().filter(|instance| !instance.dead && instance.phase != Phase::Ending).count()
    });
    let (before, ceiling) = (world.total(), budget.ceiling());
    let after = before + (to as usize).saturating_sub(alive);
    if after > ceiling && after > before { Err(Violation::Surge { after, ceiling }) } else { Ok(()) }
}

fn end(world: &World, fleet: &FleetId, instances: &[InstanceId], budget: &Budget) -> Result<(), Violation> {
    let view = known(world, fleet)?;
    let known: HashMap<&InstanceId, &InstanceView> = view.instances.iter().map(|i| (&i.id, i)).collect();
    let (mut usable, mut counted) = (0, HashSet::new());
    for id in instances {
        let instance = known.get(id).ok_or_else(|| unknown("instance", id.as_str()))?;
        // Whoever is named twice is ended once.
        usable += usize::from(is_usable(instance) && counted.insert(id));
        let phase = instance.phase;
        if !matches!(phase, Phase::Pending | Phase::Unproven | Phase::Proven | Phase::Drained | Phase::Ending) {
            return Err(Violation::Undrained { instance: id.clone(), phase });
        }
    }
    // Who is proven and out of traffic may be all there is, when somebody has emptied the route.
    let all = world.fleets.iter().flat_map(|fleet| &fleet.instances);
    let after = all.filter(|instance| is_usable(instance)).count() - usable;
    let required = budget.required();
    if usable > 0 && after < required { Err(Violation::Capacity { after, required }) } else { Ok(()) }
}

/// Whether an instance serves, or could after a change of the route.
fn is_usable(instance: &InstanceView) -> bool {
    match instance.phase {
        Phase::Serving => true,
        Phase::Joining | Phase::Proven | Phase::Drained => !instance.replace,
        _ => false,
    }
}

fn remove(world: &World, fleet: &FleetId) -> Result<(), Violation> {
    let view = known(world, fleet)?;
    let in_use = !view.instances.is_empty() || !world.split.weight(fleet).is_none();
    if in_use { Err(Violation::InUse { fleet: fleet.clone() }) } else { Ok(()) }
}

fn route(world: &World, change: &RouteChange, budget: &Budget, switch: SwitchKind) -> Result<(), Violation> {
    let drained: HashSet<&InstanceId> = change.drain.iter().collect();
    // Only those that are named are looked up: a change names few of many.
    let named: HashSet<&InstanceId> = change.register.iter().chain(&change.drain).collect();
    let all: HashMap<&InstanceId, (&FleetView, &InstanceView)> = world
        .fleets
        .iter()
        .flat_map(|fleet| fleet.instances.iter().map(move |instance| (fleet, instance)))
        .filter(|(_, instance)| named.contains(&instance.id))
        .map(|(fleet, instance)| (&instance.id, (fleet, instance)))
        .collect();
    for id in &change.register {
        let (_, instance) = all.get(id).ok_or_else(|| unknown("instance", id.as_str()))?;
        let proven = matches!(instance.phase, Phase::Proven | Phase::Drained) && !instance.replace;
        if !proven {
            return Err(Violation::Unproven { instance: id.clone(), phase: instance.phase });
        }
    }
    // Once for each fleet, not once for each instance that is drained.
    let left_behind = |other: &InstanceView| other.phase == Phase::Ailing && !drained.contains(&other.id);
    let with_worse: HashSet<&FleetId> =
        world.fleets.iter().filter(|fleet| fleet.instances.iter().any(left_behind)).map(|fleet| &fleet.id).collect();
    for id in &change.drain {
        let (fleet, instance) = all.get(id).ok_or_else(|| unknown("instance", id.as_str()))?;
        let healthy = instance.phase == Phase::Serving && !instance.replace;
        if healthy && with_worse.contains(&fleet.id) {
            return Err(Violation::HealthyFirst { instance: id.clone() });
        }
    }
    let was: HashMap<&FleetId, usize> =
        world.fleets.iter().map(|fleet| (&fleet.id, fleet.count(Phase::Serving))).collect();
    let mut is = was.clone();
    for id in &drained {
        if let Some((fleet, instance)) = all.get(id)
            && instance.phase == Phase::Serving
            && let Some(count) = is.get_mut(&fleet.id)
        {
            *count -= 1;
        }
    }
    let before: usize = was.values().sum();
    let after: usize = is.values().sum();
    let required = budget.required();
    if after < before && after < required {
        return Err(Violation::Capacity { after, required });
    }
    if let SwitchKind::Weighted { step } = switch {
        // On the way there the route may have the old weights with the new members: both must hold.
        let shrunk = world.split.iter().filter(|(fleet, _)| is.get(fleet) < was.get(fleet));
        conservation(shrunk, &is, required, step)?;
        let raised = change.split.iter().filter(|(fleet, weight)| *weight > world.split.weight(fleet));
        conservation(raised, &is, required, step)?;
    }
    Ok(())
}

/// `weight <= proven / required`, to within one step of the switch; in proportion when too little is proven.
fn conservation<'a>(
    weights: impl Iterator<Item = (&'a FleetId, Weight)>,
    serving: &HashMap<&FleetId, usize>,
    required: usize,
    step: Weight,
) -> Result<(), Violation> {
    let total: usize = serving.values().sum();
    // What carries the whole: the requirement, or all there is when that is less.
    let denominator = required.min(total) as u64;
    for (fleet, weight) in weights {
        let serving = serving.get(fleet).copied().unwrap_or(0);
        if serving == 0 {
            return Err(Violation::Empty { fleet: fleet.clone() });
        }
        let carried = u64::from(weight.points()) * denominator;
        let allowed = serving as u64 * u64::from(Weight::FULL.points()) + u64::from(step.points()) * denominator;
        if carried >= allowed {
            return Err(Violation::Conservation { fleet: fleet.clone(), weight, serving, required });
        }
    }
    Ok(())
}

fn known<'a>(world: &'a World, fleet: &FleetId) -> Result<&'a FleetView, Violation> {
    world.fleet(fleet).ok_or_else(|| unknown("fleet", fleet.as_str()))
}

fn unknown(kind: &str, name: &str) -> Violation {
    Violation::Unknown { what: format!("{kind} {name}") }
}
