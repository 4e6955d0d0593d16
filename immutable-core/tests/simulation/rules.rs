//! The safety rules, asked of what really happened at every changing call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use immutable_core::decide::Budget;
use immutable_core::model::{FleetId, InstanceId, Lifecycle, Weight};
use immutable_core::provider::{MemberHealth, SwitchKind};
use immutable_core::testkit::{Change, Operation, SimInstance, Truth};
use jiff::Timestamp;

use crate::story::Story;
use crate::watch::{Known, Watch};

/// What the calls of one simulation are judged by.
pub(crate) struct Judge<'a> {
    pub(crate) story: &'a Story,
    pub(crate) watch: &'a Watch,
    pub(crate) switch: SwitchKind,
    /// Whose content a person has changed.
    pub(crate) drifted: BTreeSet<InstanceId>,
}

/// One change, what its caller knew, and how far it may go.
struct Case<'a> {
    change: &'a Change,
    known: Arc<Known>,
    budget: Budget,
    switch: SwitchKind,
    drifted: &'a BTreeSet<InstanceId>,
}

/// What is known of the changes before.
#[derive(Default)]
struct Past {
    /// The newest epoch that moved traffic.
    newest: u64,
    /// Who was ended by us.
    ended: BTreeSet<InstanceId>,
    /// When we took whom out of traffic.
    out: BTreeMap<InstanceId, Timestamp>,
    /// Who was what when it was first there.
    born: BTreeMap<InstanceId, SimInstance>,
}

impl Judge<'_> {
    /// What the calls broke.
    pub(crate) fn broken(&self, changes: &[Change]) -> Vec<String> {
        let (mut violations, mut past) = (Vec::new(), Past::default());
        for change in changes {
            let (budget, drain_time) = self.story.limits_at(change.sent);
            let known = self.watch.known(change);
            let case = Case { change, known, budget, switch: self.switch, drifted: &self.drifted };
            past.note(change);
            let found = [
                case.capacity(),
                case.conservation(),
                case.proof(),
                case.drain(&past, drain_time),
                case.surge(&past),
                case.single_writer(&mut past),
                self.tags(change),
                self.immutability(change, &past),
                case.unhealthy_first(),
            ];
            let tell = |text: String| format!("{} {} (epoch {}): {text}", change.at, change.operation, change.epoch);
            violations.extend(found.into_iter().flatten().map(tell));
        }
        violations
    }

    /// Whoever is started says whose it is from the first moment on.
    fn tags(&self, change: &Change) -> Option<String> {
        let foreign = |instance: &&SimInstance| {
            let serves = instance.fleet == FleetId::of(&instance.service, &instance.release);
            !self.story.knows(&instance.rollout)
                || !serves && !self.story.compares_with(&instance.fleet, instance.release)
        };
        let stranger = change.after.instances.iter().find(foreign)?;
        Some(format!("rule 7, no leak: {} says that it is of {}", stranger.id, stranger.rollout))
    }

    /// Whoever is there stays what it was, unless a person lays hands on it.
    fn immutability(&self, change: &Change, past: &Past) -> Option<String> {
        let changed = |now: &&SimInstance| {
            past.born.get(&now.id).is_some_and(|born| {
                let content = born.image != now.image && !self.drifted.contains(&now.id);
                content || (&born.fleet, born.release, &born.rollout) != (&now.fleet, now.release, &now.rollout)
            })
        };
        let differs = change.after.instances.iter().find(changed)?;
        Some(format!("rule 8, immutability: {} is not what it was started as", differs.id))
    }
}

impl Past {
    fn note(&mut self, change: &Change) {
        for instance in change.before.instances.iter().chain(&change.after.instances) {
            self.born.entry(instance.id.clone()).or_insert_with(|| instance.clone());
        }
        if change.operation == Operation::Retire {
            self.ended.extend(ended(change).map(|instance| instance.id.clone()));
        }
        let (before, after) = (in_use(&change.before), in_use(&change.after));
        self.out.extend(before.difference(&after).map(|id| ((*id).clone(), change.at)));
        self.out.retain(|id, _| !after.contains(id));
    }
}

/// Whom a call ended.
fn ended(change: &Change) -> impl Iterator<Item = &SimInstance> {
    let ending = |instance: &SimInstance| instance.lifecycle == Lifecycle::Ending;
    let was = move |id: &InstanceId| change.before.instances.iter().any(|i| i.id == *id && ending(i));
    change.after.instances.iter().filter(move |instance| ending(instance) && !was(&instance.id))
}

/// The members that are not on their way out.
fn in_use(truth: &Truth) -> BTreeSet<&InstanceId> {
    let used = truth.members.iter().filter(|member| member.health != MemberHealth::Draining);
    used.map(|member| &member.instance).collect()
}

impl Case<'_> {
    /// Who carries traffic, as far as the caller could know: whoever fell ill after its last look at the route still counts, or
    /// each death would be blamed on the call after it.
    fn carrying<'t>(&self, truth: &'t Truth) -> BTreeSet<&'t InstanceId> {
        // By membership, a fleet has no share only because all of its members fell ill.
        let open = |fleet: &FleetId| self.switch == SwitchKind::Membership || !truth.split.weight(fleet).is_none();
        let carries = |health: MemberHealth, id: &InstanceId| match health {
            MemberHealth::Healthy => true,
            MemberHealth::Unhealthy => self.known.members.get(id) == Some(&MemberHealth::Healthy),
            _ => false,
        };
        let members = truth.members.iter().filter(|member| open(&member.fleet));
        members.filter(|member| carries(member.health, &member.instance)).map(|member| &member.instance).collect()
    }

    /// Nobody is taken out who was known to serve, unless enough others do. To take out one that had come back unseen is no fall.
    fn capacity(&self) -> Option<String> {
        let (before, after) = (self.carrying(&self.change.before), self.carrying(&self.change.after));
        let fell = before.difference(&after).find(|id| self.known.serves(id))?;
        let (serve, must) = (after.len(), self.budget.required());
        (serve < must).then(|| format!("rule 1, capacity: {fell} served; {serve} do now, {must} must"))
    }

    /// No fleet gets more than its share of those who were known to serve and still do; where more had come, unseen, it may be less.
    fn conservation(&self) -> Option<String> {
        let SwitchKind::Weighted { step } = self.switch else { return None };
        let (change, carrying) = (self.change, self.carrying(&self.change.after));
        let of = |fleet: &FleetId| {
            change.after.members.iter().filter(|m| m.fleet == *fleet && carrying.contains(&m.instance)).count()
        };
        let used = in_use(&change.after);
        let known = used.iter().filter(|id| self.known.serves(id)).count();
        let whole = self.budget.required().min(known) as u64;
        change.after.split.iter().find_map(|(fleet, weight)| {
            let raised = weight > change.before.split.weight(fleet);
            let carried = u64::from(weight.points()) * whole;
            let allowed = of(fleet) as u64 * u64::from(Weight::FULL.points()) + u64::from(step.points()) * whole;
            // To within one step, as weights are rounded up to whole ones.
            (raised && (of(fleet) == 0 || carried >= allowed))
                .then(|| format!("rule 2, conservation: {fleet} carries {weight} with {} of {whole}", of(fleet)))
        })
    }

    /// Whoever gets traffic was healthy by the looks that its caller had.
    fn proof(&self) -> Option<String> {
        let (before, after) = (in_use(&self.change.before), in_use(&self.change.after));
        let unproven = after.difference(&before).find(|id| !self.known.is_healthy(id))?;
        Some(format!("rule 3, proof before traffic: {unproven} was not proven"))
    }

    /// Whoever is ended is no member any more, also not one whose requests are in flight, and had its time. Who is dead needs none.
    fn drain(&self, past: &Past, drain_time: Duration) -> Option<String> {
        let ended = || ended(self.change).map(|instance| &instance.id);
        if let Some(member) = self.change.before.members.iter().find(|member| ended().any(|id| *id == member.instance))
        {
            let (id, health) = (&member.instance, member.health);
            return Some(format!("rule 4, drain before death: {id} ended while {health:?}"));
        }
        let dead = |id: &InstanceId| {
            self.change.before.instances.iter().any(|i| i.id == *id && i.lifecycle == Lifecycle::Dead)
        };
        let early =
            |id: &&InstanceId| past.out.get(*id).is_some_and(|out| *out + drain_time > self.change.at) && !dead(id);
        let early = ended().find(early)?;
        Some(format!("rule 4, drain before death: {early} had less than {drain_time:?} to drain"))
    }

    /// All that exist are counted, ending and dead ones too. The one excuse: whoever went by itself, or by a person's hand, and was
    /// not gone yet in the caller's last list. Sizes are absolute, so another one is started in its place.
    fn surge(&self, past: &Past) -> Option<String> {
        let is_new = |i: &SimInstance| self.change.before.instances.iter().all(|before| before.id != i.id);
        let excused = |i: &SimInstance| {
            let gone = matches!(i.lifecycle, Lifecycle::Dead | Lifecycle::Ending);
            gone && !self.known.gone.contains(&i.id) && !past.ended.contains(&i.id)
        };
        let after = &self.change.after.instances;
        let (grown, exist) = (after.iter().any(is_new), after.iter().filter(|i| !excused(i)).count());
        (grown && exist > self.budget.ceiling())
            .then(|| format!("rule 5, surge: {exist} exist, {} may", self.budget.ceiling()))
    }

    /// No stale driver moves traffic once a newer one has.
    fn single_writer(&self, past: &mut Past) -> Option<String> {
        let change = self.change;
        let moved = change.before.split != change.after.split && matches!(self.switch, SwitchKind::Weighted { .. });
        if change.operation != Operation::ApplyRoute || !moved && in_use(&change.before) == in_use(&change.after) {
            return None;
        }
        let stale = change.epoch < past.newest;
        past.newest = change.epoch.max(past.newest);
        stale.then(|| format!("rule 6, single writer: traffic moved after epoch {} had", past.newest))
    }

    /// Nobody goes who was known to serve while one of its fleet stays in use that was known to be ill.
    fn unhealthy_first(&self) -> Option<String> {
        let (before, after) = (in_use(&self.change.before), in_use(&self.change.after));
        let fleet = |id: &InstanceId| self.change.before.members.iter().find(|m| m.instance == *id).map(|m| &m.fleet);
        let kept = after.iter().filter(|id| self.known.is_ill(id) && self.known.members.contains_key(**id));
        let worse: BTreeSet<_> = kept.filter_map(|id| fleet(id)).collect();
        let mut gone = before.difference(&after).filter(|id| self.known.serves(id) && !self.drifted.contains(**id));
        let first = gone.find(|id| fleet(id).is_some_and(|fleet| worse.contains(fleet)))?;
        Some(format!("rule 11, broken old never blocks the fix: {first} goes before those that are ill"))
    }
}
