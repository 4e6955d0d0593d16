//! Before traffic moves on to the new release: could what serves now be started again?

use jiff::Timestamp;

use super::Driver;
use super::looking::Observed;
use crate::decide::{Action, FleetView, Phase, World};
use crate::engine::hold::Hold;
use crate::engine::images::is_gone;
use crate::engine::machine::Step;
use crate::journal::JournalError;
use crate::model::{FleetId, Image, InstanceId, Release};
use crate::plan::Plan;
use crate::provider::{ProviderError, SwitchKind};

impl Driver {
    /// Leaves traffic where it is while the image is gone that going back would start instances from, and holds the rollout.
    /// Looked at before the first traffic of each stage, and then until it is there.
    pub(super) async fn mind_the_way_back(
        &mut self,
        now: Timestamp,
        observed: &Observed,
        step: &mut Step,
    ) -> Result<(), JournalError> {
        let is_held = matches!(self.machine.hold(), Some(Hold::NoWayBack { .. }));
        let over = if is_held { self.machine.go_on(now) } else { Vec::new() };
        let Some(release) = self.machine.way_back_needs().filter(|release| self.can_wait(release, &observed.world))
        else {
            step.events.splice(..0, over);
            return Ok(());
        };
        let plan = self.machine.plan();
        let moves_on = |action: &Action| moves_on(action, plan, &observed.world);
        let due = self.way_back_seen != self.machine.stage() && step.actions.iter().any(moves_on);
        if !is_held && !due {
            return Ok(());
        }
        let image = release.image();
        let gone = match self.is_gone(image).await {
            // A builder that does not know the new image either keeps others, and can tell nothing.
            Ok(true) => self.is_gone(plan.release.image()).await.map(|unknown| !unknown),
            answer => answer,
        };
        match gone {
            Ok(false) => {
                step.events.splice(..0, over);
                self.way_back_seen = self.machine.stage();
            }
            Ok(true) => {
                step.actions.retain(|action| !moves_on(action));
                let hold = Hold::NoWayBack { release: release.id(), image: image.id.clone() };
                step.events.splice(..0, self.machine.hold_since(now, now, hold));
            }
            Err(error) if !error.kind().is_transient() => {
                *step = Step { events: self.refused(now, &error), wake: Some(now), ..Step::default() };
            }
            Err(error) => {
                step.actions.retain(|action| !moves_on(action));
                step.waiting.push(format!("whether image {} is there to go back to", image.id));
                self.acts.tell(now, "the image to be looked up", &error);
                self.mind_throttling().await?;
            }
        }
        Ok(())
    }

    async fn is_gone(&self, image: &Image) -> Result<bool, ProviderError> {
        let context = self.calls.context(&["find image"]);
        is_gone(self.calls.look("find image", self.platform.images.find(&context, &image.fingerprint)).await)
    }

    /// Whether what serves is enough as it is, some of it of the release to go back to. Where it is not, nothing may wait for an image.
    fn can_wait(&self, release: &Release, world: &World) -> bool {
        let old = FleetId::of(&self.machine.plan().service, &release.id());
        let healthy = |fleet: &FleetView| {
            let serving = fleet.instances.iter().filter(|instance| instance.phase == Phase::Serving);
            serving.filter(|instance| !instance.replace && !instance.dead).count()
        };
        let all: usize = world.fleets.iter().map(healthy).sum();
        world.fleet(&old).is_some_and(|fleet| healthy(fleet) > 0) && all >= self.machine.budget().required()
    }
}

/// Whether an action gives the new release more of the traffic, or takes a healthy instance from what served before.
fn moves_on(action: &Action, plan: &Plan, world: &World) -> bool {
    let old = plan.previous_fleet().and_then(|fleet| world.fleet(&fleet));
    let is_healthy_old = |id: &InstanceId| {
        let mut old = old.into_iter().flat_map(|fleet| &fleet.instances);
        old.any(|instance| instance.id == *id && !instance.replace && !instance.dead)
    };
    match action {
        Action::Route(change) => {
            let view = world.fleet(&plan.target);
            let is_new =
                |id: &InstanceId| view.is_some_and(|view| view.instances.iter().any(|instance| instance.id == *id));
            let gains = match plan.switch {
                SwitchKind::Weighted { .. } => change.split.weight(&plan.target) > world.split.weight(&plan.target),
                SwitchKind::Membership => change.register.iter().any(is_new),
            };
            gains || change.drain.iter().any(is_healthy_old)
        }
        Action::End { instances, .. } => instances.iter().any(is_healthy_old),
        _ => false,
    }
}
