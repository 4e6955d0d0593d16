//! Plans: what a rollout will do, stage by stage, as data that can be read, stored and refused before anything is touched.

mod amount;
mod baseline;
mod compile;
mod error;
mod make_way;
mod resize;
mod strategy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use amount::{Amount, AmountError};
pub use compile::{Facts, compile};
pub use error::PlanError;
pub(crate) use resize::Resize;
pub use strategy::{Limits, StageSpec, Strategy, StrategyError};

use crate::analysis::{Analysis, Check};
use crate::decide::{Budget, Goal};
use crate::model::{ApprovalName, FleetId, Release, RouteId, ServiceName, Weight};
use crate::provider::SwitchKind;

/// A rollout that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct RolloutSpec {
    /// What is rolled out.
    pub service: ServiceName,
    /// Where its traffic enters.
    pub route: RouteId,
    /// The release that is to serve.
    pub release: Release,
    /// How it takes over.
    pub strategy: Strategy,
    /// How many instances the service needs; as many as it has now when it is not set.
    pub desired: Option<u32>,
    /// Whether it may go on although the image is gone that going back would start instances from.
    #[serde(default)]
    pub way_back_waived: bool,
}

impl RolloutSpec {
    /// A rollout of a release, at the size that the service has now.
    pub fn new(service: ServiceName, route: RouteId, release: Release, strategy: Strategy) -> Self {
        Self { service, route, release, strategy, desired: None, way_back_waived: false }
    }

    /// How many instances the service needs to carry all of its traffic.
    pub fn desired(mut self, instances: u32) -> Self {
        self.desired = Some(instances);
        self
    }

    /// Lets it go on although the image of what serves now is gone, so that going back works only as long as those instances live.
    ///
    /// Otherwise such a rollout is refused, and one whose image is deleted on the way is held before more traffic moves.
    pub fn waive_way_back(mut self) -> Self {
        self.way_back_waived = true;
        self
    }
}

/// What must hold before the next stage, once a stage's goal is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The least time in the stage.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub hold: Duration,
    /// What the metrics of the new release must say.
    pub checks: Vec<Check>,
    /// Who has to approve.
    pub approval: Option<ApprovalName>,
}

/// One stage of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, for people.
    pub name: String,
    /// What the world is to become.
    pub goal: Goal,
    /// What must hold before the next stage.
    pub gate: Gate,
}

/// Everything that a rollout will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The service.
    pub service: ServiceName,
    /// Where its traffic enters.
    pub route: RouteId,
    /// The strategy's name.
    pub strategy: String,
    /// The fleet of the new release.
    pub target: FleetId,
    /// The new release.
    pub release: Release,
    /// The fleet that serves now; the new one's own when it does already.
    pub replaces: Option<FleetId>,
    /// The release to go back to: the one that serves now, if it was proven.
    pub previous: Option<Release>,
    /// How many instances of it there were: going back makes it as large as before.
    pub previous_size: u32,
    /// Whether the new release was proven before: to roll it out is to go back, and is allowed while all else is frozen.
    #[serde(default)]
    pub returns: bool,
    /// Whether it may go on although the image is gone that going back would start instances from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub way_back_waived: bool,
    /// How far the world may sag on the way.
    pub budget: Budget,
    /// How the switch shares traffic.
    pub switch: SwitchKind,
    /// What holds in every stage.
    pub limits: Limits,
    /// How the new release is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// The fleet of the old release that is started to be compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<FleetId>,
    /// How small a regression the analysis can see, and in what time, at the traffic that there was before the start; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<String>,
    /// The stages, in order; at least one.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// The fleet to go back to.
    pub fn previous_fleet(&self) -> Option<FleetId> {
        self.previous.as_ref().map(|release| FleetId::of(&self.service, &release.id()))
    }

    /// The goal of going back, with its budget: the previous release alone; or nothing at all when nothing served before.
    ///
    /// `None` when what serves was never proven: there is nothing that it would be safe to go back to.
    pub fn way_back(&self) -> Option<(Goal, Budget)> {
        match (self.previous_fleet(), &self.replaces) {
            (Some(fleet), _) => {
                let desired = self.budget.desired.max(self.previous_size);
                Goal::only(fleet, desired).ok().map(|goal| (goal, Budget { desired, ..self.budget }))
            }
            (None, None) => Some((Goal::nothing(), Budget { desired: 0, ..self.budget })),
            (None, Some(_)) => None,
        }
    }

    /// The release whose image has to be there before traffic moves away from it. `None` when there is none to go back to, when
    /// this is a way back itself, or when that was waived.
    pub fn way_back_needs(&self) -> Option<&Release> {
        let waived = self.way_back_waived || self.returns;
        self.previous.as_ref().filter(|release| !waived && release.id() != self.release.id())
    }

    /// The release of a fleet of this plan.
    pub fn release_of(&self, fleet: &FleetId) -> Option<&Release> {
        if *fleet == self.target {
            return Some(&self.release);
        }
        let is_old = |release: &&Release| FleetId::of(&self.service, &release.id()) == *fleet;
        self.previous.as_ref().filter(|release| is_old(release) || self.baseline.as_ref() == Some(fleet))
    }

    /// The fleet that the new one is compared with: the baseline, or else the old fleet. `None` when nothing served before.
    pub fn compared_with(&self) -> Option<&FleetId> {
        self.baseline.as_ref().or_else(|| self.replaces.as_ref().filter(|fleet| **fleet != self.target))
    }

    /// The share of the traffic that the new release has when it is judged for the first time.
    pub(crate) fn first_judged_weight(&self) -> Option<Weight> {
        let judged = (0..self.stages.len()).find(|stage| self.is_shared(*stage) || self.judges_alone(*stage))?;
        Some(self.stages[judged].goal.split().weight(&self.target))
    }

    /// Whether the new release is judged in a stage without anything to compare it with.
    pub(crate) fn judges_alone(&self, stage: usize) -> bool {
        let is_new = self.replaces.as_ref() != Some(&self.target);
        let has_traffic = !self.stages[stage].goal.split().weight(&self.target).is_none();
        let alone = self.analysis.as_ref().is_some_and(Analysis::stands_alone);
        is_new && alone && has_traffic && stage <= self.full_stage()
    }

    /// Whether both releases have traffic in a stage, so that they can be compared.
    pub(crate) fn is_shared(&self, stage: usize) -> bool {
        let weight = self.stages[stage].goal.split().weight(&self.target);
        !weight.is_none() && weight != Weight::FULL
    }

    /// The most instances that will exist at once.
    pub fn peak_instances(&self) -> usize {
        self.budget.ceiling()
    }

    /// The first stage in which the new release has all of the traffic.
    pub(crate) fn full_stage(&self) -> usize {
        let full = |stage: &Stage| stage.goal.split().weight(&self.target) == Weight::FULL;
        self.stages.iter().position(full).unwrap_or(self.stages.len() - 1)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let desired = self.budget.desired;
        writeln!(
            f,
            "{} of {} to release {} ({})",
            self.strategy,
            self.service,
            self.release.id(),
            self.release.image().labels.version
        )?;
        match &self.previous {
            Some(release) => {
                let waived = if self.way_back_waived { ", as long as it lives" } else { "" };
                writeln!(f, "  back to:  release {} ({}){waived}", release.id(), release.image().labels.version)?;
            }
            None => writeln!(f, "  back to:  nothing: no proven release serves now")?,
        }
        writeln!(
            f,
            "  size:     {desired} instances, at most {} at once, at least {} serving",
            self.budget.ceiling(),
            self.budget.required()
        )?;
        if let Some(analysis) = &self.analysis {
            let with = match (&self.baseline, self.compared_with()) {
                _ if (0..self.stages.len()).any(|stage| self.judges_alone(stage)) => "by itself".into(),
                (Some(baseline), _) => format!("against baseline {baseline}, started for it"),
                (None, Some(old)) => format!("against {old}, as it is"),
                (None, None) => "against nothing: only hard stops hold".into(),
            };
            writeln!(f, "  judged:   {analysis}; {with}")?;
            for line in self.outlook.iter().flat_map(|outlook| outlook.lines()) {
                writeln!(f, "            {line}")?;
            }
        }
        for (number, stage) in self.stages.iter().enumerate() {
            writeln!(f, "  stage {}:  {}: {}", number + 1, stage.name, stage.goal)?;
            let Gate { hold, checks, approval } = &stage.gate;
            if !hold.is_zero() {
                writeln!(f, "            hold for {}", friendly(*hold))?;
            }
            for check in checks {
                writeln!(f, "            check {check}")?;
            }
            if let Some(approval) = approval {
                writeln!(f, "            approval {approval}")?;
            }
        }
        let Limits { instance_deadline, progress_deadline, .. } = &self.limits;
        let (instance, progress) = (friendly(*instance_deadline), friendly(*progress_deadline));
        write!(f, "  limits:   {instance} for an instance, {progress} without progress")
    }
}

/// A time as a person writes it: `1h 30m`.
pub(crate) fn friendly(time: Duration) -> String {
    jiff::fmt::friendly::SpanPrinter::new().unsigned_duration_to_string(&time)
}
