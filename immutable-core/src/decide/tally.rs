//! One pass over a fleet: who stays, who goes, who comes in.

use super::{FleetView, InstanceView, Phase};
use crate::model::InstanceId;

/// The instances of one fleet, sorted by what may be done with them.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    /// Instances that are neither dead nor ending: what the provider counts as the fleet's size.
    pub(super) alive: usize,
    /// Instances that can be part of the goal, wherever they stand.
    pub(super) keepers: usize,
    /// Out of traffic and not to be kept.
    pub(super) end: Vec<&'a InstanceId>,
    /// Out of traffic and usable, in the order in which surplus is given up.
    pub(super) drained: Vec<&'a InstanceView>,
    pub(super) pending: Vec<&'a InstanceId>,
    pub(super) unproven: Vec<&'a InstanceId>,
    pub(super) proven: Vec<&'a InstanceView>,
    pub(super) joining: Vec<&'a InstanceId>,
    /// So many of the joining are waited for, though they are too many in the end.
    pub(super) joining_kept: usize,
    /// In traffic, proven, and not to be kept.
    pub(super) outdated: Vec<&'a InstanceId>,
    /// In traffic, proven, and usable.
    pub(super) serving: Vec<&'a InstanceId>,
    pub(super) ailing: Vec<&'a InstanceId>,
    pub(super) unsure: usize,
    pub(super) draining: usize,
    /// Draining and usable: in a moment it can be taken in again, or given up.
    pub(super) draining_keepers: usize,
    pub(super) ending: usize,
}

impl<'a> Tally<'a> {
    pub(super) fn of(fleet: &'a FleetView) -> Self {
        let mut tally = Self::default();
        for instance in &fleet.instances {
            tally.add(instance);
        }
        tally
    }

    fn add(&mut self, instance: &'a InstanceView) {
        let (id, replace) = (&instance.id, instance.replace);
        if !instance.dead && instance.phase != Phase::Ending {
            self.alive += 1;
        }
        let keeper = !replace && !matches!(instance.phase, Phase::Ending | Phase::Ailing);
        self.keepers += usize::from(keeper);
        match instance.phase {
            Phase::Pending | Phase::Unproven | Phase::Proven | Phase::Drained if replace => self.end.push(id),
            Phase::Pending => self.pending.push(id),
            Phase::Unproven => self.unproven.push(id),
            Phase::Proven => self.proven.push(instance),
            Phase::Drained => self.drained.push(instance),
            Phase::Joining => self.joining.push(id),
            Phase::Serving if replace => self.outdated.push(id),
            Phase::Serving => self.serving.push(id),
            Phase::Unsure => self.unsure += 1,
            Phase::Ailing => self.ailing.push(id),
            Phase::Draining => {
                self.draining += 1;
                self.draining_keepers += usize::from(keeper);
            }
            Phase::Ending => self.ending += 1,
        }
    }

    /// Proven capacity.
    pub(super) fn capacity(&self) -> usize {
        self.serving.len() + self.outdated.len()
    }

    /// Proven instances that do not serve yet, and could.
    pub(super) fn usable_soon(&self) -> usize {
        self.joining.len() + self.proven.len() + self.drained.len()
    }

    /// Gives up `surplus` usable instances that are out of traffic, cheapest first, but none of `kept` that are proven; returns
    /// how many are still too many.
    pub(super) fn give_up(&mut self, surplus: usize, kept: usize) -> usize {
        self.joining_kept = kept.min(self.joining.len());
        let kept_out = kept - self.joining_kept;
        let mut rest = surplus.saturating_sub(self.draining_keepers);
        let mut give = |from: usize| {
            let count = from.min(rest);
            rest -= count;
            count
        };
        let proven = self.proven.len().saturating_sub(kept_out);
        let drained = (self.drained.len() + self.proven.len()).saturating_sub(kept_out) - proven;
        let counts = [drained, self.pending.len(), self.unproven.len(), proven].map(&mut give);
        self.end.extend(self.drained.drain(..counts[0]).map(|instance| &instance.id));
        self.end.extend(self.pending.drain(..counts[1]));
        self.end.extend(self.unproven.drain(..counts[2]));
        self.end.extend(self.proven.drain(..counts[3]).map(|instance| &instance.id));
        rest
    }

    /// Instances that the balancer is taking into use and that need not be waited for.
    pub(super) fn joining_surplus(&self) -> &[&'a InstanceId] {
        &self.joining[self.joining_kept..]
    }
}
