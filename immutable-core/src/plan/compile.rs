//! From a strategy and what is, to a plan; or a refusal.

use super::strategy::{StageSpec, Strategy};
use super::{Amount, Gate, Plan, PlanError, RolloutSpec, Stage};
use crate::analysis::Analysis;
use crate::decide::{Budget, FleetGoal, Goal, limit};
use crate::model::{FleetId, Release, Split, Weight};
use crate::provider::{FleetsState, ProvisionerCapabilities, SwitchKind, TrafficCapabilities};

/// What a plan is made against: the world, what the providers can do, and what was proven before.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// All fleets of the service.
    pub fleets: &'a FleetsState,
    /// The weights in effect.
    pub split: &'a Split,
    /// What the provisioner can do.
    pub provisioner: ProvisionerCapabilities,
    /// What the switch can do.
    pub traffic: TrafficCapabilities,
    /// Releases that were proven.
    pub proven: &'a [Release],
    /// The rollout that this one takes the place of, if one is going on: what that one would go back to, this one goes back to.
    pub superseded: Option<&'a Plan>,
}

/// Makes the plan of a rollout.
///
/// # Errors
/// [`PlanError`] when it cannot work; nothing has been touched.
pub fn compile(spec: &RolloutSpec, facts: &Facts<'_>) -> Result<Plan, PlanError> {
    let target = FleetId::of(&spec.service, &spec.release.id());
    if facts.fleets.fleets.iter().any(|fleet| fleet.id == target && fleet.release != spec.release.id()) {
        return Err(PlanError::FleetTaken(target));
    }
    let old = match facts.superseded {
        Some(plan) => plan.replaces.clone().filter(|fleet| *fleet != target),
        None => serving_fleet(spec, facts, &target).or_else(|| standing_fleet(spec, facts, &target)),
    };
    let standing = old.as_ref().map_or(0, |old| facts.fleets.live(old));
    let previous_size = facts.superseded.map_or(standing, |plan| plan.previous_size);
    let desired = match facts.superseded {
        Some(plan) => desired(spec, facts, plan.budget.desired)?,
        None => desired(spec, facts, previous_size.max(facts.fleets.live(&target)))?,
    };
    let budget = budget(&spec.strategy, desired)?;
    let limits = spec.strategy.limits.clone();
    check_limits(&spec.strategy, &budget)?;
    let serves = !facts.split.weight(&target).is_none();
    // To take the place of a rollout with what that one replaces is a way back: there is nothing else to go back to.
    let returns = facts.superseded.is_some_and(|plan| plan.replaces.as_ref() == Some(&target));
    let replaces = old.clone().or_else(|| (serves || returns).then(|| target.clone()));
    let previous = replaces.as_ref().and_then(|fleet| {
        facts.proven.iter().find(|release| FleetId::of(&spec.service, &release.id()) == *fleet).cloned()
    });
    let analysis = spec.strategy.analysis.as_ref();
    let plain = Compiler {
        target: &target,
        old: old.as_ref(),
        baseline: None,
        serves,
        budget,
        traffic: facts.traffic,
        analysis,
    };
    let (baseline, stages) = match plain.beside_a_baseline(spec, previous.as_ref()) {
        Some((baseline, stages)) => (Some(baseline), stages),
        None => (None, plain.stages(&spec.strategy)?),
    };
    let is_shared = |stage: &Stage| stage.goal.split().iter().count() > 1;
    let judged = |analysis: &Analysis| {
        let is_possible = analysis.has_hard_stop() || analysis.stands_alone();
        is_possible || old.is_none() || stages.iter().any(is_shared)
    };
    if !analysis.is_none_or(judged) {
        let problem = "no stage shares the traffic of both releases, so there is nothing to compare; add one, such as 5 %, a hard_stop, or at_most for each metric";
        return Err(PlanError::Analysis { problem: problem.into() });
    }
    // With the way back waived, the image of the old release may be gone.
    let known = previous.as_ref().filter(|_| !spec.way_back_waived);
    let stages = plain.behind_those_that_leave(stages, facts, baseline.as_ref(), known);
    Ok(Plan {
        service: spec.service.clone(),
        route: spec.route.clone(),
        strategy: spec.strategy.name.clone(),
        target,
        release: spec.release.clone(),
        replaces,
        returns: facts.proven.iter().any(|release| release.id() == spec.release.id()),
        way_back_waived: spec.way_back_waived,
        previous,
        previous_size,
        budget,
        switch: facts.traffic.kind,
        limits,
        analysis: spec.strategy.analysis.clone(),
        baseline,
        outlook: None,
        stages,
    })
}

/// The fleet that the new one takes over from: the one with the most traffic.
fn serving_fleet(spec: &RolloutSpec, facts: &Facts<'_>, target: &FleetId) -> Option<FleetId> {
    // A baseline that was left over is not what serves, even where it has as much traffic.
    let serves = |fleet: &FleetId| {
        let of = facts.fleets.fleets.iter().find(|observed| observed.id == *fleet);
        of.is_none_or(|observed| observed.id == FleetId::of(&spec.service, &observed.release))
    };
    let others = facts.split.iter().filter(|(fleet, _)| *fleet != target);
    others.max_by_key(|(fleet, weight)| (serves(fleet), *weight)).map(|(fleet, _)| fleet.clone())
}

/// Without any traffic, the fleet of the release that was proven last and still stands: a proxy that was started anew has
/// forgotten it, and it must not be ended before the new one is proven.
fn standing_fleet(spec: &RolloutSpec, facts: &Facts<'_>, target: &FleetId) -> Option<FleetId> {
    let proven = facts.proven.iter().rev().map(|release| FleetId::of(&spec.service, &release.id()));
    let mut standing = proven.filter(|fleet| facts.split.is_closed() && facts.fleets.live(fleet) > 0);
    standing.next().filter(|fleet| fleet != target)
}

fn desired(spec: &RolloutSpec, facts: &Facts<'_>, live: u32) -> Result<u32, PlanError> {
    let desired = match spec.desired {
        Some(desired) => desired,
        None if live == 0 => return Err(PlanError::NoSize),
        None => live,
    };
    match facts.provisioner.max_fleet_size {
        _ if desired == 0 => Err(PlanError::NothingDesired),
        Some(limit) if desired > limit => Err(PlanError::TooLarge { desired, limit }),
        _ => Ok(desired),
    }
}

fn budget(strategy: &Strategy, desired: u32) -> Result<Budget, PlanError> {
    let (surge, unavailable) = (strategy.max_surge, strategy.max_unavailable);
    let max_surge = surge.rounded_up(desired);
    let max_unavailable = unavailable.rounded_down(desired);
    if max_surge == 0 && max_unavailable == 0 {
        return Err(PlanError::NoBudget { surge, unavailable, desired });
    }
    if max_unavailable >= desired {
        return Err(PlanError::NothingServes { unavailable: max_unavailable, desired });
    }
    Ok(Budget { desired, max_surge, max_unavailable })
}

fn check_limits(strategy: &Strategy, budget: &Budget) -> Result<(), PlanError> {
    let limits = &strategy.limits;
    let quorum = limits.quorum_percent;
    if !(1..=100).contains(&quorum) {
        return Err(PlanError::Quorum(quorum));
    }
    let (desired, required) = (budget.desired, budget.desired - budget.max_unavailable);
    let enough = Amount::Percent(quorum).rounded_up(desired);
    if enough < required {
        return Err(PlanError::QuorumBelowFloor { quorum, desired, enough, required, needed: desired - enough });
    }
    if limits.progress_deadline.is_zero() {
        return Err(PlanError::NoTime { field: "progress_deadline" });
    }
    if limits.instance_deadline.is_zero() {
        return Err(PlanError::NoTime { field: "instance_deadline" });
    }
    let (deadline, healthy) = (limits.instance_deadline, limits.health.minimum_healthy_time());
    if deadline <= healthy {
        return Err(PlanError::DeadlineTooShort { deadline, healthy });
    }
    let checks = strategy.stages.iter().flat_map(|stage| &stage.checks).chain(&strategy.watch);
    for check in checks {
        if let Some(problem) = check.problem() {
            return Err(PlanError::Check { check: check.clone(), problem });
        }
    }
    if let Some(problem) = strategy.analysis.as_ref().and_then(Analysis::problem) {
        return Err(PlanError::Analysis { problem });
    }
    Ok(())
}

#[derive(Clone, Copy)]
pub(super) struct Compiler<'a> {
    pub(super) target: &'a FleetId,
    pub(super) old: Option<&'a FleetId>,
    /// A fleet to compare with, beside the old one.
    pub(super) baseline: Option<&'a FleetId>,
    /// Whether the new release has traffic already.
    pub(super) serves: bool,
    pub(super) budget: Budget,
    pub(super) traffic: TrafficCapabilities,
    pub(super) analysis: Option<&'a Analysis>,
}

impl Compiler<'_> {
    pub(super) fn stages(&self, strategy: &Strategy) -> Result<Vec<Stage>, PlanError> {
        if strategy.stages.is_empty() {
            return Err(PlanError::NoStages);
        }
        let mut stages = match self.old {
            Some(_) => strategy.stages.iter().map(|stage| self.stage(stage)).collect::<Result<Vec<_>, _>>()?,
            None if self.serves => Vec::new(),
            None => self.first_install(strategy)?,
        };
        let desired = self.budget.desired;
        let alone = goal("retire", &[(self.target, desired, Weight::FULL)])?;
        // The stage with all of the traffic, in which the new release bakes, while the old fleet is still there if it can be.
        let baking = stages.last().is_some_and(|stage| stage.goal.split().weight(self.target) == Weight::FULL);
        if !baking {
            let goal = match self.old.filter(|_| self.budget.max_surge >= desired) {
                Some(old) => goal("switch", &[(self.target, desired, Weight::FULL), (old, desired, Weight::NONE)])?,
                None => alone.clone(),
            };
            stages.push(Stage { name: "switch".into(), goal, gate: Gate::default() });
        }
        let last = stages.last_mut().expect("invariant: there is at least one stage");
        last.gate.hold = last.gate.hold.max(strategy.bake);
        last.gate.checks.extend(strategy.watch.iter().cloned());
        let kept = last.goal.clone();
        let retains = !strategy.retain_old.is_zero();
        if kept == alone && retains && self.old.is_some() {
            let time = super::friendly(strategy.retain_old);
            return Err(PlanError::CannotRetain { time, max_surge: desired });
        }
        if kept != alone {
            if retains {
                let gate = Gate { hold: strategy.retain_old, ..Gate::default() };
                stages.push(Stage { name: "retain".into(), goal: kept, gate });
            }
            stages.push(Stage { name: "retire".into(), goal: alone, gate: Gate::default() });
        }
        Ok(stages)
    }

    /// Without an old fleet there is no traffic to share: the whole fleet is proven in the dark, then the route opens.
    fn first_install(&self, strategy: &Strategy) -> Result<Vec<Stage>, PlanError> {
        let goal = goal("start", &[(self.target, self.budget.desired, Weight::NONE)])?;
        let approval = strategy.stages.iter().find_map(|stage| stage.approval.clone());
        Ok(vec![Stage { name: "start".into(), goal, gate: Gate { approval, ..Gate::default() } }])
    }

    fn stage(&self, spec: &StageSpec) -> Result<Stage, PlanError> {
        let old = self.old.expect("invariant: stages share traffic with an old fleet");
        let desired = self.budget.desired;
        let size = self.size(spec)?;
        let old_weight = Weight::basis_points(Weight::FULL.points() - spec.weight.points()).unwrap_or(Weight::NONE);
        let is_shared = !spec.weight.is_none() && !old_weight.is_none();
        let baseline = self.baseline.filter(|_| is_shared).map(|fleet| {
            let weight = self.baseline_weight(spec.weight);
            (fleet, Self::baseline_size((size, spec.weight), weight), weight)
        });
        let (beside, beside_weight) = baseline.map_or((0, Weight::NONE), |(_, size, weight)| (size, weight));
        let old_weight = Weight::basis_points(old_weight.points() - beside_weight.points()).unwrap_or(Weight::NONE);
        let old_size = if spec.replaces_old && spec.weight == Weight::FULL {
            0
        } else {
            self.old_size(spec, size, beside, old_weight)?
        };
        self.check_weight(spec, size, old_size + beside)?;
        let (limit, fleets) = (self.traffic.max_fleets, if baseline.is_some() { 3 } else { 2 });
        if let Some(limit) = limit.filter(|limit| *limit < fleets && is_shared) {
            return Err(PlanError::TooManyFleets { stage: spec.name.clone(), limit });
        }
        debug_assert!(size <= desired, "a stage is not larger than the service");
        let old = (old, old_size, old_weight);
        let fleets: Vec<_> = [(self.target, size, spec.weight)].into_iter().chain(baseline).chain([old]).collect();
        let goal = goal(&spec.name, &fleets)?;
        let gate = Gate { hold: spec.hold, checks: spec.checks.clone(), approval: spec.approval.clone() };
        Ok(Stage { name: spec.name.clone(), goal, gate })
    }

    fn size(&self, spec: &StageSpec) -> Result<u32, PlanError> {
        let desired = self.budget.desired;
        let stage = || spec.name.clone();
        let size = match spec.size {
            None if spec.weight == Weight::FULL => desired,
            None => {
                let compared = self.analysis.filter(|_| !spec.weight.is_none());
                let least = compared.map_or(1, |analysis| analysis.minimum_instances.min(desired));
                self.budget.needed(spec.weight).max(least)
            }
            Some(size) => match size.rounded_up(desired) {
                0 => return Err(PlanError::EmptyStage { stage: stage(), size, desired }),
                count => count,
            },
        };
        if size > desired {
            return Err(PlanError::StageTooLarge { stage: stage(), size, desired });
        }
        let needed = self.budget.needed(spec.weight);
        let (weight, required) = (spec.weight, self.budget.required());
        let weighted = matches!(self.traffic.kind, SwitchKind::Weighted { step } if weight.points() > limit(size as usize, required, step));
        if weighted {
            return Err(PlanError::Overloaded { stage: stage(), weight, size, needed, desired });
        }
        Ok(size)
    }

    /// The old fleet stays as large as the surge allows, and must be able to carry its share. Where the members are the weights,
    /// a baseline takes the place of some of it.
    fn old_size(&self, spec: &StageSpec, canary: u32, baseline: u32, weight: Weight) -> Result<u32, PlanError> {
        let size = canary + baseline;
        let ceiling = u32::try_from(self.budget.ceiling()).unwrap_or(u32::MAX);
        let needed = self.budget.needed(weight);
        let room = ceiling.saturating_sub(size);
        if room < needed {
            let total = size + needed;
            let needed = total - self.budget.desired;
            return Err(PlanError::NoRoom {
                stage: spec.name.clone(),
                new: size,
                old_weight: weight,
                total,
                ceiling,
                needed,
            });
        }
        let replaced = if self.traffic.kind == SwitchKind::Membership { baseline } else { 0 };
        Ok(self.budget.desired.saturating_sub(replaced).max(needed).min(room))
    }

    fn check_weight(&self, spec: &StageSpec, size: u32, old_size: u32) -> Result<(), PlanError> {
        let (stage, weight) = (spec.name.clone(), spec.weight);
        match self.traffic.kind {
            SwitchKind::Weighted { step } if !weight.points().is_multiple_of(step.points().max(1)) => {
                Err(PlanError::WeightStep { stage, weight, step })
            }
            SwitchKind::Membership if !weight.is_none() && weight != Weight::FULL => {
                let total = size + old_size;
                let points = u64::from(size) * u64::from(Weight::FULL.points()) / u64::from(total.max(1));
                let expressed = Weight::basis_points(u16::try_from(points).unwrap_or(0)).unwrap_or(Weight::NONE);
                // To within a whole percent: nobody writes 16.67 %.
                let near = expressed.points().abs_diff(weight.points()) < 100;
                if near {
                    Ok(())
                } else {
                    Err(PlanError::WeightMembership { stage, weight, new: size, total, expressed })
                }
            }
            _ => Ok(()),
        }
    }
}

fn goal(stage: &str, fleets: &[(&FleetId, u32, Weight)]) -> Result<Goal, PlanError> {
    let parts =
        fleets.iter().map(|(fleet, size, weight)| FleetGoal { fleet: (*fleet).clone(), size: *size, weight: *weight });
    Goal::new(parts).map_err(|source| PlanError::Goal { stage: stage.to_owned(), source })
}
