//! What lists that lag say: gone is only what was missing for as long as they may lag, and what was ended is not back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::clock::later;
use crate::model::{InstanceId, Lifecycle, ObservedFleet, ObservedInstance};
use crate::provider::FleetsState;

/// What was listed before, so that one stale list makes nothing disappear.
#[derive(Debug, Default)]
pub(super) struct Absence {
    last: Option<Arc<FleetsState>>,
    /// When an instance was listed for the first time, as long as a list may be older than that.
    young: HashMap<InstanceId, Timestamp>,
    /// Since when an instance has been missing.
    missing: HashMap<InstanceId, Timestamp>,
    /// What was ended by us, and when the platform has said so: nobody waits for it, and a list that is older shows it in vain.
    ended: HashMap<InstanceId, Option<Timestamp>>,
}

impl Absence {
    /// These were to be ended: they are gone as soon as they are not listed. With a time: the platform has said so then.
    pub(super) fn ended(&mut self, instances: &[InstanceId], said: Option<Timestamp>) {
        self.ended.extend(instances.iter().map(|id| (id.clone(), said)));
    }

    /// The list together with what is only missing from it for now. It was asked for at one time and has come at another: what it
    /// shows is older than the first by the lag at the most.
    pub(super) fn fill(
        &mut self,
        asked: Timestamp,
        now: Timestamp,
        lag: Duration,
        mut listed: FleetsState,
    ) -> Arc<FleetsState> {
        let present: HashSet<InstanceId> =
            if self.last.is_some() { ids(&listed).cloned().collect() } else { HashSet::new() };
        self.missing.retain(|id, _| !present.contains(id));
        self.note_the_young(asked, now, lag, &listed);
        for fleet in self.last.take().iter().flat_map(|last| &last.fleets) {
            let missing = fleet.instances.iter().filter(|instance| !present.contains(&instance.id));
            let kept: Vec<_> =
                missing.filter(|instance| self.is_only_missing(asked, now, lag, instance)).cloned().collect();
            put(&mut listed, fleet, kept);
        }
        let is_recent = |said: Option<Timestamp>| said.is_some_and(|said| later(said, lag) > asked);
        self.ended.retain(|id, said| present.contains(id) || is_recent(*said));
        self.end_again(asked, lag, &mut listed);
        let all = Arc::new(listed);
        self.last = Some(Arc::clone(&all));
        all
    }

    fn note_the_young(&mut self, asked: Timestamp, now: Timestamp, lag: Duration, listed: &FleetsState) {
        let known: HashSet<&InstanceId> = self.last.iter().flat_map(|last| ids(last)).collect();
        let new = ids(listed).filter(|id| !known.contains(id)).map(|id| (id.clone(), now));
        self.young.extend(new);
        self.young.retain(|_, first| later(*first, lag) > asked);
    }

    /// What a list shows that is older than its end.
    fn end_again(&self, asked: Timestamp, lag: Duration, listed: &mut FleetsState) {
        let is_ending =
            |id: &InstanceId| self.ended.get(id).copied().flatten().is_some_and(|said| later(said, lag) > asked);
        let instances = listed.fleets.iter_mut().flat_map(|fleet| &mut fleet.instances);
        for instance in instances.filter(|instance| is_ending(&instance.id)) {
            instance.lifecycle = Lifecycle::Ending;
        }
    }

    fn is_only_missing(
        &mut self,
        asked: Timestamp,
        now: Timestamp,
        lag: Duration,
        instance: &ObservedInstance,
    ) -> bool {
        let goes = matches!(instance.lifecycle, Lifecycle::Dead | Lifecycle::Ending);
        let goes = goes || self.ended.contains_key(&instance.id);
        let since = *self.missing.entry(instance.id.clone()).or_insert(now);
        // What goes is gone once it is missing, but not from a list that may be older than its start.
        let kept = (!goes || self.young.contains_key(&instance.id)) && later(since, lag) > asked;
        if !kept {
            self.missing.remove(&instance.id);
        }
        kept
    }
}

fn ids(fleets: &FleetsState) -> impl Iterator<Item = &InstanceId> {
    fleets.fleets.iter().flat_map(|fleet| fleet.instances.iter().map(|instance| &instance.id))
}

fn put(listed: &mut FleetsState, fleet: &ObservedFleet, kept: Vec<ObservedInstance>) {
    if kept.is_empty() {
        return;
    }
    match listed.fleets.iter_mut().find(|known| known.id == fleet.id) {
        Some(known) => known.instances.extend(kept),
        None => listed.fleets.push(ObservedFleet { instances: kept, ..fleet.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn list(fleets: &[(&str, &[(&str, Lifecycle)])]) -> FleetsState {
        let fleets = fleets.iter().map(|(id, instances)| ObservedFleet {
            id: id.parse().unwrap(),
            release: serde_json::from_value("0".repeat(64).into()).unwrap(),
            instances: instances.iter().map(|(id, lifecycle)| instance(id, *lifecycle)).collect(),
            wanted: None,
        });
        FleetsState { as_of: at(0), fleets: fleets.collect() }
    }

    fn instance(id: &str, lifecycle: Lifecycle) -> ObservedInstance {
        let (image, endpoint) = (None, None);
        ObservedInstance { id: id.parse().unwrap(), lifecycle, image, endpoint, started_at: at(0) }
    }

    fn names(state: &FleetsState) -> Vec<&str> {
        ids(state).map(InstanceId::as_str).collect()
    }

    #[test]
    fn what_is_missing_is_there_until_it_was_missing_for_the_lag() {
        use Lifecycle::Running;
        let mut absence = Absence::default();
        let both = list(&[("a", &[("a-1", Running), ("a-2", Running)])]);
        let one = list(&[("a", &[("a-2", Running)])]);
        assert_eq!(names(&absence.fill(at(0), at(0), LAG, both.clone())), ["a-1", "a-2"]);
        assert_eq!(names(&absence.fill(at(5), at(5), LAG, one.clone())), ["a-2", "a-1"]);
        assert_eq!(names(&absence.fill(at(14), at(14), LAG, one.clone())), ["a-2", "a-1"]);
        // Seen again: its time begins anew.
        assert_eq!(names(&absence.fill(at(15), at(15), LAG, both)), ["a-1", "a-2"]);
        assert_eq!(names(&absence.fill(at(16), at(16), LAG, one.clone())), ["a-2", "a-1"]);
        assert_eq!(names(&absence.fill(at(25), at(25), LAG, one.clone())), ["a-2", "a-1"]);
        assert_eq!(names(&absence.fill(at(26), at(26), LAG, one)), ["a-2"]);
    }

    #[test]
    fn what_is_missing_stays_in_its_own_fleet() {
        let mut absence = Absence::default();
        let running = |id| (id, Lifecycle::Running);
        let _ = absence.fill(
            at(0),
            at(0),
            LAG,
            list(&[("a", &[running("a-1")]), ("b", &[running("b-1"), running("b-2")])]),
        );
        let filled = absence.fill(at(1), at(1), LAG, list(&[("a", &[running("a-1")]), ("b", &[running("b-1")])]));
        let of = |index: usize| filled.fleets[index].instances.iter().map(|i| i.id.as_str()).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), (vec!["a-1"], vec!["b-1", "b-2"]));
    }

    #[test]
    fn a_whole_fleet_can_be_missing_for_a_while() {
        let mut absence = Absence::default();
        let _ = absence.fill(at(0), at(0), LAG, list(&[("a", &[("a-1", Lifecycle::Running)])]));
        let empty = absence.fill(at(1), at(1), LAG, list(&[]));
        assert_eq!((empty.fleets.len(), names(&empty)), (1, vec!["a-1"]));
        assert_eq!(absence.fill(at(11), at(11), LAG, list(&[])).fleets.len(), 0);
    }

    #[test]
    fn what_was_to_go_is_gone_at_once() {
        let mut absence = Absence::default();
        let going = [("a-1", Lifecycle::Ending), ("a-2", Lifecycle::Dead), ("a-3", Lifecycle::Running)];
        let _ = absence.fill(at(0), at(0), LAG, list(&[("a", &going)]));
        absence.ended(&["a-3".parse().unwrap()], None);
        assert_eq!(names(&absence.fill(at(10), at(10), LAG, list(&[("a", &[])]))), Vec::<&str>::new());
    }

    #[test]
    fn what_was_ended_just_after_its_start_is_not_gone_for_a_list_from_before_it() {
        use Lifecycle::{Ending, Running};
        let mut absence = Absence::default();
        let _ = absence.fill(at(0), at(0), LAG, list(&[("a", &[("a-1", Running)])]));
        let _ = absence.fill(at(20), at(20), LAG, list(&[("a", &[("a-1", Running), ("a-2", Running)])]));
        absence.ended(&["a-1".parse().unwrap(), "a-2".parse().unwrap()], Some(at(21)));
        let before = absence.fill(at(22), at(22), LAG, list(&[("a", &[("a-1", Running)])]));
        let told: Vec<_> = before.fleets[0].instances.iter().map(|i| (i.id.as_str(), i.lifecycle)).collect();
        assert_eq!(told, [("a-1", Ending), ("a-2", Ending)]);
        // A list from after its start misses it because it is gone.
        assert_eq!(names(&absence.fill(at(30), at(30), LAG, list(&[("a", &[])]))), Vec::<&str>::new());
    }

    #[test]
    fn what_was_ended_does_not_come_back_in_an_older_list() {
        let mut absence = Absence::default();
        let running = list(&[("a", &[("a-1", Lifecycle::Running), ("a-2", Lifecycle::Running)])]);
        let _ = absence.fill(at(0), at(0), LAG, running.clone());
        absence.ended(&["a-1".parse().unwrap()], Some(at(0)));
        absence.ended(&["a-2".parse().unwrap()], None);
        let mut lifecycles = |second| {
            let filled = absence.fill(at(second), at(second), LAG, running.clone());
            filled.fleets[0].instances.iter().map(|instance| instance.lifecycle).collect::<Vec<_>>()
        };
        assert_eq!(lifecycles(9), [Lifecycle::Ending, Lifecycle::Running]);
        // Then the list is right, and it was not ended.
        assert_eq!(lifecycles(10), [Lifecycle::Running, Lifecycle::Running]);
    }

    #[test]
    fn an_answer_that_takes_its_time_is_older_by_it() {
        let mut absence = Absence::default();
        let _ = absence.fill(at(0), at(0), LAG, list(&[("a", &[("a-1", Lifecycle::Running)])]));
        absence.ended(&["a-1".parse().unwrap()], Some(at(1)));
        let slow = absence.fill(at(2), at(15), LAG, list(&[("a", &[])]));
        assert_eq!((names(&slow), slow.fleets[0].instances[0].lifecycle), (vec!["a-1"], Lifecycle::Ending));
    }

    #[test]
    fn what_was_ended_and_is_gone_does_not_come_back_either() {
        let mut absence = Absence::default();
        let running = list(&[("a", &[("a-1", Lifecycle::Running)])]);
        let _ = absence.fill(at(0), at(0), LAG, running.clone());
        absence.ended(&["a-1".parse().unwrap()], Some(at(11)));
        assert_eq!(names(&absence.fill(at(12), at(12), LAG, list(&[]))), Vec::<&str>::new());
        let late = absence.fill(at(20), at(20), LAG, running);
        assert_eq!(late.fleets[0].instances[0].lifecycle, Lifecycle::Ending);
    }

    #[test]
    fn what_was_to_be_ended_and_is_still_listed_is_gone_as_soon_as_it_is_not() {
        let mut absence = Absence::default();
        let running = list(&[("a", &[("a-1", Lifecycle::Running)])]);
        let _ = absence.fill(at(0), at(0), LAG, running.clone());
        absence.ended(&["a-1".parse().unwrap()], None);
        assert_eq!(names(&absence.fill(at(11), at(11), LAG, running)), ["a-1"]);
        assert_eq!(names(&absence.fill(at(12), at(12), LAG, list(&[]))), Vec::<&str>::new());
    }

    #[test]
    fn where_lists_do_not_lag_nothing_is_kept() {
        let mut absence = Absence::default();
        let _ = absence.fill(at(0), at(0), Duration::ZERO, list(&[("a", &[("a-1", Lifecycle::Running)])]));
        assert_eq!(absence.fill(at(1), at(1), Duration::ZERO, list(&[])).fleets.len(), 0);
    }
}
