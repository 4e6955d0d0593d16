//! A baseline beside the canary: as many instances of the old release, as old as the canary's, with as much traffic.

use super::compile::Compiler;
use super::{RolloutSpec, Stage};
use crate::analysis::{Against, Analysis};
use crate::model::{FleetId, Release, Weight};
use crate::provider::SwitchKind;

impl Compiler<'_> {
    /// The stages with a baseline, if one is wanted and there is room for it in each of them.
    pub(super) fn beside_a_baseline(
        self,
        spec: &RolloutSpec,
        previous: Option<&Release>,
    ) -> Option<(FleetId, Vec<Stage>)> {
        // With the way back waived, the image of the old release may be gone.
        let wanted = |analysis: &&Analysis| analysis.against == Against::Baseline && !analysis.stands_alone();
        self.analysis.filter(wanted).filter(|_| !spec.way_back_waived)?;
        // Instances of a release that is not known cannot be started.
        let old = previous.filter(|release| release.id() != spec.release.id())?;
        let baseline = FleetId::baseline_of(&spec.service, &old.id(), &spec.release.id());
        let stages = Compiler { baseline: Some(&baseline), ..self }.stages(&spec.strategy).ok()?;
        let with_traffic = |stage: &Stage| {
            let weight = |fleet| stage.goal.split().weight(fleet);
            // Where the members are the weights, as many instances have as much traffic.
            let as_planned = self.traffic.kind != SwitchKind::Membership || weight(&baseline) == weight(self.target);
            as_planned && !weight(&baseline).is_none()
        };
        let is_shared = |stage: &&Stage| stage.goal.fleet(&baseline).is_some();
        let shared = stages.iter().filter(is_shared).count();
        (shared > 0 && stages.iter().filter(is_shared).all(with_traffic)).then_some((baseline, stages))
    }

    /// The canary's own weight, or half of what it leaves: the old fleet keeps at least as much as the baseline has.
    pub(super) fn baseline_weight(&self, canary: Weight) -> Weight {
        let half = (Weight::FULL.points() - canary.points()) / 2;
        let step = match self.traffic.kind {
            SwitchKind::Weighted { step } => step.points().max(1),
            SwitchKind::Membership => 1,
        };
        let points = canary.points().min(half);
        Weight::basis_points(points - points % step).unwrap_or(Weight::NONE)
    }

    /// As many instances as the canary has, or fewer where it has less traffic: the load of each is what has to be alike.
    pub(super) fn baseline_size(canary: (u32, Weight), baseline: Weight) -> u32 {
        let (size, weight) = canary;
        let needed = (u64::from(size) * u64::from(baseline.points())).div_ceil(u64::from(weight.points().max(1)));
        u32::try_from(needed).unwrap_or(u32::MAX)
    }
}
