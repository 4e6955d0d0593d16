//! From what was observed to the world that `decide` looks at: one phase for each instance.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::blame::{Beside, Fare};
use super::clock::later;
use super::machine::Machine;
use super::word::{Standing, Word};
use crate::decide::{FleetView, InstanceView, Phase, World};
use crate::health::Track;
use crate::model::{FleetId, InstanceId, Lifecycle, Look as Seen, ObservedFleet, ObservedInstance, Sample, Verdict};
use crate::provider::{FleetsState, Member, MemberHealth, Pace, ProbeTarget, TrafficState};

/// The pause after the first failed start of a fleet's instances; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is known about instances beyond the last observation. It is kept in memory only: after a restart everything is
/// looked at anew, which may cost time, never safety.
#[derive(Debug, Default)]
pub(super) struct Assessor {
    instances: HashMap<InstanceId, Known>,
    failures: HashMap<FleetId, Failures>,
    /// How many instances of a fleet died or were not ready in time.
    crashes: HashMap<FleetId, u32>,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one instance, in any combination")]
struct Known {
    fleet: FleetId,
    track: Track,
    /// What the last look said, unless it was good.
    evidence: String,
    /// Since when it has not been in use while it should be: its deadline counts from here.
    wanting_since: Option<Timestamp>,
    /// Since when every look at it failed without an answer: its deadline stands still, as that says nothing about it.
    unseen_since: Option<Timestamp>,
    /// What the balancer said about it.
    word: Word,
    out_since: Option<Timestamp>,
    /// Since when the balancer drains it.
    draining_since: Option<Timestamp>,
    was_proven: bool,
    /// Whether it fell ill in traffic and was not seen well there since: once out, it does not come back.
    ailing: bool,
    failed: bool,
    crashed: bool,
    probe_due: Timestamp,
    probing: bool,
}

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    /// What is known about the last one.
    last: String,
    retry_at: Option<Timestamp>,
}

/// What the balancer thinks of a member, and the moment that this is about.
type Said = (MemberHealth, Timestamp);

/// The world, and when it changes by time alone.
pub(super) struct Assessment {
    pub(super) world: World,
    pub(super) wake: Option<Timestamp>,
    pub(super) beside: Beside,
}

impl Assessor {
    /// Takes looks into account; says whether any verdict changed.
    pub(super) fn looked(&mut self, machine: &Machine, targets: &[InstanceId], samples: Vec<Sample>) -> bool {
        for id in targets {
            if let Some(known) = self.instances.get_mut(id) {
                known.probing = false;
            }
        }
        let policy = &machine.plan().limits.health;
        let mut changed = false;
        for sample in samples {
            if let Some(known) = self.instances.get_mut(&sample.instance) {
                known.is_seen(sample.at);
                let before = known.track.verdict(policy, sample.at);
                known.track.look(policy, sample.at, sample.look);
                changed |= known.track.verdict(policy, sample.at) != before;
                known.evidence = if sample.look == Seen::Good { String::new() } else { sample.evidence };
            }
        }
        changed
    }

    /// Looks failed without an answer about any instance: that is never taken for ill health.
    pub(super) fn looks_failed(&mut self, now: Timestamp, targets: &[InstanceId]) {
        for id in targets {
            if let Some(known) = self.instances.get_mut(id) {
                known.unseen_since.get_or_insert(now);
            }
        }
    }

    /// Nothing could be observed for a time: nobody could have seen that an instance was ready.
    pub(super) fn was_blind(&mut self, since: Timestamp, now: Timestamp) {
        let blind = now.duration_since(since).unsigned_abs();
        for known in self.instances.values_mut().filter(|known| known.unseen_since.is_none()) {
            known.wanting_since = known.wanting_since.map(|at| later(at, blind));
        }
    }

    /// The instances that are due for a look, marked as being looked at.
    pub(super) fn due(&mut self, now: Timestamp, fleets: &FleetsState, pace: &Pace) -> Vec<ProbeTarget> {
        let mut targets = Vec::new();
        for fleet in &fleets.fleets {
            for instance in &fleet.instances {
                let Some(known) = self.instances.get_mut(&instance.id) else { continue };
                let alive = matches!(instance.lifecycle, Lifecycle::Starting | Lifecycle::Running);
                if !alive || known.probing || instance.endpoint.is_none() || known.probe_due > now {
                    continue;
                }
                known.probing = true;
                let every = if known.was_proven { pace.probe_running } else { pace.probe_starting };
                known.probe_due = later(now, every);
                targets.push(ProbeTarget {
                    instance: instance.id.clone(),
                    fleet: fleet.id.clone(),
                    endpoint: instance.endpoint.clone(),
                });
            }
        }
        targets
    }

    /// When the next look is due. What is due already and was not looked at cannot be looked at.
    pub(super) fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        let ahead = self.instances.values().filter(|known| !known.probing && known.probe_due > now);
        ahead.map(|known| known.probe_due).min()
    }

    /// Looks were lost without an answer, and nobody knows whose: all may be looked at again.
    pub(super) fn looks_lost(&mut self) {
        self.instances.values_mut().for_each(|known| known.probing = false);
    }

    /// How many instances of a fleet died or were not ready in time, since this driver began, or since the environment was at fault.
    pub(super) fn crashes(&self, fleet: &FleetId) -> u32 {
        self.crashes.get(fleet).copied().unwrap_or(0)
    }

    /// What became of the last instance of a fleet that had to be replaced, for people.
    pub(super) fn fate(&self, fleet: &FleetId) -> Option<String> {
        self.failures.get(fleet).map(|failures| failures.last.clone()).filter(|last| !last.is_empty())
    }

    /// The last evidence about an instance of a fleet that is not healthy, for people.
    pub(super) fn evidence(&self, fleet: &FleetId) -> Option<String> {
        let ill = self.instances.iter().filter(|(_, known)| known.fleet == *fleet && !known.evidence.is_empty());
        ill.min_by_key(|(id, _)| *id).map(|(id, known)| format!("last look at {id}: {}", known.evidence))
    }

    /// The world as of these observations.
    pub(super) fn assess(
        &mut self,
        now: Timestamp,
        machine: &Machine,
        fleets: &FleetsState,
        traffic: &TrafficState,
    ) -> Assessment {
        let said = |member: &Member| (member.health, member.health_as_of.unwrap_or(traffic.as_of));
        let members: HashMap<&InstanceId, Said> =
            traffic.members.iter().map(|member| (&member.instance, said(member))).collect();
        let mut look = Look { now, machine, wake: None };
        let views: Vec<_> = fleets.fleets.iter().map(|fleet| self.fleet(&mut look, fleet, &members)).collect();
        let existing: HashSet<&InstanceId> =
            fleets.fleets.iter().flat_map(|f| f.instances.iter().map(|i| &i.id)).collect();
        self.instances.retain(|id, _| existing.contains(id));
        let beside = self.beside(now, machine, &views);
        Assessment {
            beside,
            world: World {
                as_of: fleets.as_of.min(traffic.as_of),
                fleets: views,
                split: traffic.split.clone(),
                version: traffic.version.clone(),
            },
            wake: look.wake,
        }
    }

    /// How the new fleet fares, and the one that serves beside it.
    fn beside(&self, now: Timestamp, machine: &Machine, views: &[FleetView]) -> Beside {
        let (plan, policy) = (machine.plan(), &machine.plan().limits.health);
        let old = plan.replaces.as_ref().filter(|fleet| **fleet != plan.target);
        let of = |fleet: Option<&FleetId>| {
            let view = views.iter().find(|view| Some(&view.id) == fleet);
            let present = view.into_iter().flat_map(|view| &view.instances).filter(|view| view.phase != Phase::Ending);
            present.filter_map(|view| self.instances.get(&view.id).map(|known| (view, known)))
        };
        let mut beside = Beside { fleet: old.cloned(), ..Beside::default() };
        for (view, known) in of(old) {
            let ill = view.dead || known.ailing || known.track.verdict(policy, now) == Verdict::Unhealthy;
            let taken_out = machine.has_drained(&view.id) && !known.ailing;
            // A driver that has just begun has not seen how they were; that the rollout is held says it.
            if (known.was_proven || machine.is_blamed()) && !taken_out {
                let well = !ill && known.track.verdict(policy, now) == Verdict::Healthy;
                beside.old.count(well, ill);
            }
        }
        for (view, known) in of(Some(&plan.target)) {
            let ill = view.dead || known.ailing || view.replace;
            beside.new.count(!ill && known.track.verdict(policy, now) == Verdict::Healthy, ill);
        }
        let fleets = [Some(&plan.target), old];
        beside.looks = fleets.into_iter().flatten().filter_map(|fleet| self.evidence(fleet)).collect();
        beside
    }

    fn fleet(&mut self, look: &mut Look<'_>, fleet: &ObservedFleet, members: &HashMap<&InstanceId, Said>) -> FleetView {
        let image = look.machine.plan().release_of(&fleet.id).map(|release| release.image().fingerprint);
        let failures = self.failures.entry(fleet.id.clone()).or_default();
        let crashes = self.crashes.entry(fleet.id.clone()).or_default();
        let mut instances = Vec::with_capacity(fleet.instances.len());
        for instance in &fleet.instances {
            let known = self.instances.entry(instance.id.clone()).or_insert_with(|| Known {
                fleet: fleet.id.clone(),
                track: Track::default(),
                evidence: String::new(),
                wanting_since: None,
                unseen_since: None,
                word: Word::default(),
                out_since: None,
                draining_since: None,
                was_proven: false,
                ailing: false,
                failed: false,
                crashed: false,
                probe_due: look.now,
                probing: false,
            });
            let drifted = image.is_some() && instance.image.is_some() && image != instance.image;
            let view = known.view(look, instance, members.get(&instance.id).copied(), drifted);
            if (view.dead || view.replace) && !drifted {
                failures.last = known.fate(instance, view.dead);
            }
            let died = view.replace && !drifted && (view.dead || !known.was_proven) && view.phase != Phase::Ending;
            if died && !std::mem::replace(&mut known.crashed, true) {
                *crashes += 1;
            }
            if view.replace && !drifted && !known.was_proven && !known.failed && view.phase != Phase::Ending {
                known.failed = true;
                failures.failed(look.now);
            }
            instances.push(view);
        }
        // Who died with the environment, and what was seen just before it was known to be at fault, says nothing.
        if look.machine.is_blamed() {
            *crashes = 0;
        }
        let hold_growth = failures.retry_at.is_some_and(|at| at > look.now);
        if hold_growth {
            look.wake_at(failures.retry_at);
        }
        FleetView { id: fleet.id.clone(), instances, hold_growth }
    }
}

impl Failures {
    fn failed(&mut self, now: Timestamp) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.count.min(16)).min(LONGEST_PAUSE);
        self.count += 1;
        self.retry_at = Some(later(now, pause));
    }
}

struct Look<'a> {
    now: Timestamp,
    machine: &'a Machine,
    wake: Option<Timestamp>,
}

impl Look<'_> {
    fn wake_at(&mut self, at: Option<Timestamp>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }

    /// Whether a time is still to come; if it is, the world changes then.
    fn is_ahead(&mut self, at: Timestamp) -> bool {
        let ahead = at > self.now;
        if ahead {
            self.wake_at(Some(at));
        }
        ahead
    }
}

impl Fare {
    fn count(&mut self, well: bool, ill: bool) {
        self.all += 1;
        self.well += usize::from(well);
        self.ill += usize::from(ill);
    }
}

impl Known {
    /// It can be looked at again: the time in which nobody could look does not count.
    fn is_seen(&mut self, at: Timestamp) {
        if let Some(since) = self.unseen_since.take() {
            let unseen = |wanting: Timestamp| at.duration_since(since.max(wanting)).max(SignedDuration::ZERO);
            self.wanting_since = self.wanting_since.map(|wanting| later(wanting, unseen(wanting).unsigned_abs()));
        }
    }

    fn fate(&self, instance: &ObservedInstance, dead: bool) -> String {
        let id = &instance.id;
        match (dead, self.evidence.as_str()) {
            (true, _) => format!("{id} stopped by itself"),
            (false, "") => format!("{id} was not ready in time"),
            (false, evidence) => format!("{id}: {evidence}"),
        }
    }

    fn view(
        &mut self,
        look: &mut Look<'_>,
        instance: &ObservedInstance,
        member: Option<Said>,
        drifted: bool,
    ) -> InstanceView {
        let limits = &look.machine.plan().limits;
        let dead = instance.lifecycle == Lifecycle::Dead;
        let verdict = if dead { Verdict::Unhealthy } else { self.track.verdict(&limits.health, look.now) };
        self.was_proven |= verdict == Verdict::Healthy;
        let phase = match (instance.lifecycle, member) {
            (Lifecycle::Ending, _) => Phase::Ending,
            (_, Some((MemberHealth::Draining, _))) => {
                let since = *self.draining_since.get_or_insert(look.now);
                // A request that never ends must not hold up the rollout for ever.
                if look.is_ahead(later(since, limits.drain_limit)) { Phase::Draining } else { Phase::Drained }
            }
            (_, Some((member, as_of))) => {
                self.out_since = None;
                self.draining_since = None;
                let standing = self.word.hear(&limits.health, as_of, member);
                in_traffic(member, standing, verdict)
            }
            (_, None) => self.out_of_traffic(look, instance, dead, verdict),
        };
        let wanting = matches!(phase, Phase::Pending | Phase::Unproven | Phase::Joining | Phase::Unsure);
        // Not from its start: nobody may have looked since then.
        self.wanting_since = wanting.then(|| self.wanting_since.unwrap_or(look.now));
        // While every look fails its clock stands still.
        let until = self.unseen_since.unwrap_or(look.now);
        let late = self.wanting_since.is_some_and(|since| {
            let deadline = later(since, limits.instance_deadline);
            deadline <= until || self.unseen_since.is_none() && !look.is_ahead(deadline)
        });
        // A member that the balancer never takes into use, or that nobody can look at, is as good as ill.
        let phase = if late && phase.is_in_traffic() { Phase::Ailing } else { phase };
        match phase {
            Phase::Ailing => self.ailing = true,
            Phase::Serving => self.ailing = false,
            _ => {}
        }
        let out = matches!(phase, Phase::Draining | Phase::Drained);
        // What is in use again only when it is known to be healthy is not kept on a guess.
        let bad = out && (self.ailing || verdict == Verdict::Unhealthy)
            || phase == Phase::Drained && verdict != Verdict::Healthy;
        InstanceView {
            id: instance.id.clone(),
            phase,
            replace: drifted || dead || late || bad,
            dead,
            endpoint: instance.endpoint.clone(),
        }
    }

    fn out_of_traffic(
        &mut self,
        look: &mut Look<'_>,
        instance: &ObservedInstance,
        dead: bool,
        verdict: Verdict,
    ) -> Phase {
        let (machine, limits) = (look.machine, &look.machine.plan().limits);
        let was_drained = machine.has_drained(&instance.id);
        let out_since = *self.out_since.get_or_insert(look.now);
        if dead {
            return Phase::Drained;
        }
        // Born in this rollout and never registered by it: it cannot have had a request.
        let untouched = instance.started_at >= machine.started_at() && !machine.has_routed(&instance.id);
        if !untouched && look.is_ahead(later(out_since, limits.drain_time)) {
            return Phase::Draining;
        }
        match (was_drained, verdict) {
            // Whether it can be used again has to be known before anything is done with it: the route may have been emptied by
            // somebody else, or by a proxy that was started anew.
            (_, Verdict::Unknown) if !untouched && look.is_ahead(later(out_since, limits.instance_deadline)) => {
                Phase::Draining
            }
            (true, _) => Phase::Drained,
            (false, Verdict::Healthy) => Phase::Proven,
            (false, _) if instance.lifecycle == Lifecycle::Starting => Phase::Pending,
            (false, _) => Phase::Unproven,
        }
    }
}

/// What our looks and the balancer's word mean together. A bad word that our looks contradict, or do not know of yet, makes
/// nobody ill before it was said often enough; until then the instance is no capacity, and nothing is done with it.
fn in_traffic(member: MemberHealth, standing: Standing, verdict: Verdict) -> Phase {
    match (member, standing, verdict) {
        (MemberHealth::Draining, ..) => Phase::Draining,
        (_, Standing::Condemned, _) | (.., Verdict::Unhealthy) => Phase::Ailing,
        (MemberHealth::Registering, ..) => Phase::Joining,
        (MemberHealth::Healthy | MemberHealth::Untold, Standing::Trusted, Verdict::Healthy) => Phase::Serving,
        (MemberHealth::Healthy | MemberHealth::Untold | MemberHealth::Unhealthy, ..) => Phase::Unsure,
    }
}
