//! What people do to a cloud behind the engine's back.

use std::time::Duration;

use super::SimCloud;
use super::machine::Machine;
use crate::model::{FleetId, InstanceId, Split};
use crate::provider::SwitchKind;

impl SimCloud {
    /// Makes an instance stop by itself. Whether there is such an instance.
    pub fn kill(&self, instance: &InstanceId) -> bool {
        self.by_hand("kill", instance, |now, machine| machine.killed = machine.killed.or(Some(now)))
    }

    /// Ends an instance, in traffic or not. Whether there is such an instance.
    pub fn end(&self, instance: &InstanceId) -> bool {
        self.by_hand("end", instance, |now, machine| machine.ended = machine.ended.or(Some(now)))
    }

    /// Makes every look at an instance bad. Whether there is such an instance.
    pub fn make_ill(&self, instance: &InstanceId) -> bool {
        self.by_hand("make ill", instance, |_, machine| machine.ill = true)
    }

    /// Undoes [`make_ill`](Self::make_ill). Whether there is such an instance.
    pub fn heal(&self, instance: &InstanceId) -> bool {
        self.by_hand("heal", instance, |_, machine| machine.ill = false)
    }

    /// Makes an instance run other content than it was started from. Whether there is such an instance.
    pub fn drift(&self, instance: &InstanceId) -> bool {
        let content = crate::model::Fingerprint::of(format!("drift of {instance}"));
        self.by_hand("drift", instance, |_, machine| machine.image = content)
    }

    /// Takes an instance out of traffic, on the first route by name. Whether it was in traffic.
    pub fn take_out(&self, instance: &InstanceId) -> bool {
        self.with(|state| {
            let now = state.now;
            let taken = state.routes.values_mut().next().is_some_and(|route| route.take_out(instance, now));
            if taken {
                state.record(&format!("by hand: take out {instance}"));
            }
            taken
        })
    }

    /// Gives the first route by name other weights. Whether there is a route that has weights.
    pub fn move_weights(&self, split: &Split) -> bool {
        self.with(|state| {
            let weighted = matches!(state.options.switch, SwitchKind::Weighted { .. });
            let Some(route) = state.routes.values_mut().next().filter(|_| weighted) else { return false };
            route.move_weights(split);
            state.record(&format!("by hand: move weights to {split}"));
            true
        })
    }

    /// Brings a fleet to a size as an autoscaler does: starts what is missing of its release, and ends what is too many, the newest
    /// first and without a drain. Whether there is such a fleet.
    pub fn scale(&self, fleet: &FleetId, size: u32) -> bool {
        self.with(|state| state.scale(fleet, size))
    }

    /// Deletes the image of a version, whatever uses it: instances that run go on, and no other can be started. Whether it was there.
    pub fn delete_image(&self, version: &str) -> bool {
        self.with(|state| {
            state.record(&format!("by hand: delete image {version}"));
            state.set_removed(version, true)
        })
    }

    /// Undoes [`delete_image`](Self::delete_image). Whether it was gone.
    pub fn restore_image(&self, version: &str) -> bool {
        self.with(|state| {
            state.record(&format!("by hand: restore image {version}"));
            state.set_removed(version, false)
        })
    }

    fn by_hand(&self, what: &str, instance: &InstanceId, change: impl FnOnce(Duration, &mut Machine)) -> bool {
        self.with(|state| {
            let now = state.now;
            let Some(machine) = state.machines.get_mut(instance) else { return false };
            change(now, machine);
            state.record(&format!("by hand: {what} {instance}"));
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{after, apply, cx, fleet_id, id, quick, ready, weighted};
    use super::*;
    use crate::model::Lifecycle;
    use crate::provider::{ErrorKind, MemberHealth};

    #[tokio::test(start_paused = true)]
    async fn whoever_is_ended_by_hand_goes_as_if_the_engine_had_ended_it() {
        let cloud = quick(weighted());
        ready(&cloud, "1", 2).await;
        assert!(cloud.end(&id("sim-1")) && !cloud.end(&id("sim-9")));
        assert_eq!(cloud.instances()[0].lifecycle, Lifecycle::Ending);
        after(60).await;
        assert_eq!(cloud.instances().iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["sim-2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_that_was_changed_by_hand_has_another_version() {
        let cloud = quick(weighted());
        ready(&cloud, "1", 2).await;
        ready(&cloud, "2", 1).await;
        apply(&cloud, &["sim-1", "sim-2", "sim-3"], &[("1", 100)]).await.unwrap();
        let traffic = cloud.platform().traffic;
        let version = async || traffic.observe(&cx(), &"route".parse().unwrap()).await.unwrap().version;
        let before = version().await;
        assert!(cloud.move_weights(&Split::all_to(fleet_id("2"))));
        assert_eq!(cloud.split(), Split::all_to(fleet_id("2")));
        let between = version().await;
        assert!(cloud.take_out(&id("sim-1")) && !cloud.take_out(&id("sim-1")) && !cloud.take_out(&id("sim-9")));
        assert_eq!(cloud.members()[0].health, MemberHealth::Draining);
        assert!(before != between && between != version().await);
        let stale = crate::provider::Assignment { split: Split::all_to(fleet_id("1")), members: Vec::new() };
        let refused = traffic.apply(&cx(), &"route".parse().unwrap(), &stale, &before).await.expect_err("stale");
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }
}
