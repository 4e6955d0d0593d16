//! The safety rules, asked of what really happened.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use immutable_core::decide::Budget;
use immutable_core::model::{FleetId, InstanceId, Lifecycle, Weight};
use immutable_core::provider::{MemberHealth, SwitchKind};
use immutable_core::testkit::{Change, Operation, Truth};
use jiff::Timestamp;

/// After so long, every caller knows of a member: it takes half a minute to come into use, and looks are slow for less.
const SETTLED: Duration = Duration::from_mins(1);

/// What the calls of one simulation broke.
pub(crate) fn broken(changes: &[Change], budget: &Budget, switch: SwitchKind) -> Vec<String> {
    let mut violations = Vec::new();
    let (mut newest, mut joined) = (0, HashMap::new());
    for change in changes {
        let was_member = |id: &InstanceId| change.before.members.iter().any(|member| member.instance == *id);
        let new = change.after.members.iter().filter(|member| !was_member(&member.instance));
        joined.extend(new.map(|member| (member.instance.clone(), change.at)));
        // What lands minutes after it was sent was right when it was sent: whose health has changed since is not its fault.
        let judged = change.sent + SETTLED > change.at;
        let found = [
            capacity(change, budget, switch, &joined).filter(|_| judged),
            conservation(change, budget, switch, &joined).filter(|_| judged),
            proof(change),
            drain(change),
            surge(change, budget),
            single_writer(change, &mut newest),
            immutability(change),
        ];
        let tell = |text: String| format!("{} {} (epoch {}): {text}", change.at, change.operation, change.epoch);
        violations.extend(found.into_iter().flatten().map(tell));
    }
    violations
}

/// Who carries traffic, as far as our calls can know: a member that a fault has just struck still counts,
/// or each death would be blamed on the call after it.
fn carrying(truth: &Truth, switch: SwitchKind) -> BTreeSet<&InstanceId> {
    let struck = |id: &InstanceId| truth.instances.iter().any(|i| i.id == *id && i.was_seen_good && !i.is_good);
    // By membership, a fleet has no share only because all of its members were struck.
    let open = |fleet: &FleetId| switch == SwitchKind::Membership || !truth.split.weight(fleet).is_none();
    let carries = |health: MemberHealth, id: &InstanceId| match health {
        MemberHealth::Healthy => true,
        MemberHealth::Unhealthy => struck(id),
        _ => false,
    };
    let members = truth.members.iter().filter(|member| open(&member.fleet));
    members.filter(|member| carries(member.health, &member.instance)).map(|member| &member.instance).collect()
}

/// A member that has just come into use may not have been in use when the caller looked.
fn is_known(id: &InstanceId, change: &Change, joined: &HashMap<InstanceId, Timestamp>) -> bool {
    joined.get(id).is_none_or(|at| *at + SETTLED <= change.at)
}

fn capacity(
    change: &Change,
    budget: &Budget,
    switch: SwitchKind,
    joined: &HashMap<InstanceId, Timestamp>,
) -> Option<String> {
    let before = carrying(&change.before, switch);
    let before: BTreeSet<_> = before.into_iter().filter(|id| is_known(id, change, joined)).collect();
    let after = carrying(&change.after, switch);
    // To take out one that does not serve anyway, or did not when the caller looked, is no fall.
    let good_since = |id: &InstanceId| change.before.instances.iter().find(|i| i.id == *id)?.good_since;
    let fell = before.difference(&after).any(|id| good_since(id).is_some_and(|since| since + SETTLED <= change.at));
    let (before, after) = (before.len(), after.len());
    (fell && after < before && after < budget.required())
        .then(|| format!("rule 1, capacity: {after} serve, {before} did, {} must", budget.required()))
}

fn conservation(
    change: &Change,
    budget: &Budget,
    switch: SwitchKind,
    joined: &HashMap<InstanceId, Timestamp>,
) -> Option<String> {
    let SwitchKind::Weighted { step } = switch else { return None };
    let carrying = carrying(&change.after, switch);
    let of = |fleet: &FleetId| {
        change.after.members.iter().filter(|m| m.fleet == *fleet && carrying.contains(&m.instance)).count()
    };
    // The caller may not have known of who has just come into use, and shared in proportion to the others.
    let known = carrying.iter().filter(|id| is_known(id, change, joined)).count();
    let whole = budget.required().min(known) as u64;
    change.after.split.iter().find_map(|(fleet, weight)| {
        let raised = weight > change.before.split.weight(fleet);
        let carried = u64::from(weight.points()) * whole;
        let allowed = of(fleet) as u64 * u64::from(Weight::FULL.points()) + u64::from(step.points()) * whole;
        (raised && (of(fleet) == 0 || carried > allowed))
            .then(|| format!("rule 2, conservation: {fleet} carries {weight} with {} of {whole}", of(fleet)))
    })
}

fn proof(change: &Change) -> Option<String> {
    let was = |id: &InstanceId| change.before.members.iter().any(|member| member.instance == *id);
    let proven = |id: &InstanceId| change.after.instances.iter().any(|i| i.id == *id && i.was_seen_good);
    let joined = change.after.members.iter().filter(|member| !was(&member.instance));
    joined
        .filter(|member| !proven(&member.instance))
        .map(|member| format!("rule 3, proof before traffic: {} was never seen good", member.instance))
        .next()
}

fn drain(change: &Change) -> Option<String> {
    let ending = |truth: &Truth, id: &InstanceId| {
        truth.instances.iter().any(|i| i.id == *id && i.lifecycle == Lifecycle::Ending)
    };
    let ended = |id: &InstanceId| ending(&change.after, id) && !ending(&change.before, id);
    let member = change.before.members.iter().find(|member| ended(&member.instance))?;
    Some(format!("rule 4, drain before death: {} ended while {:?}", member.instance, member.health))
}

fn surge(change: &Change, budget: &Budget) -> Option<String> {
    // The one excuse: whoever died after the last look that the call was based on. Sizes are absolute, so one more is
    // started for it, and what is left of the dead one stays until it is ended.
    let exist = |truth: &Truth| truth.instances.iter().filter(|i| i.lifecycle != Lifecycle::Dead).count();
    let (before, after) = (exist(&change.before), exist(&change.after));
    let over = change.operation == Operation::EnsureFleet && after > before && after > budget.ceiling();
    over.then(|| format!("rule 5, surge: {after} exist, {before} did, {} may", budget.ceiling()))
}

/// No stale driver moves traffic once a newer one has.
fn single_writer(change: &Change, newest: &mut u64) -> Option<String> {
    let written = |truth: &Truth| {
        let in_use = truth.members.iter().filter(|member| member.health != MemberHealth::Draining);
        (truth.split.clone(), in_use.map(|member| member.instance.clone()).collect::<Vec<_>>())
    };
    if change.operation != Operation::ApplyRoute || written(&change.before) == written(&change.after) {
        return None;
    }
    let stale = change.epoch < *newest;
    *newest = change.epoch.max(*newest);
    stale.then(|| format!("rule 6, single writer: traffic moved after epoch {newest} had"))
}

fn immutability(change: &Change) -> Option<String> {
    let instances = &change.after.instances;
    let differs = instances.iter().find(|i| instances.iter().any(|j| i.fleet == j.fleet && i.release != j.release))?;
    Some(format!("rule 8, immutability: fleet {} has instances of several releases", differs.fleet))
}
