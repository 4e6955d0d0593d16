//! What a list no longer shows: gone only once it was missing for as long as the platform's lists may lag.

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
    /// Since when an instance has been missing.
    missing: HashMap<InstanceId, Timestamp>,
    /// What was ended by us: nobody waits for it.
    ended: HashSet<InstanceId>,
}

impl Absence {
    /// These were ended: they are gone as soon as they are not listed.
    pub(super) fn ended(&mut self, instances: &[InstanceId]) {
        self.ended.extend(instances.iter().cloned());
    }

    /// The list together with what is only missing from it for now.
    pub(super) fn fill(&mut self, now: Timestamp, lag: Duration, mut listed: FleetsState) -> Arc<FleetsState> {
        let present: HashSet<InstanceId> =
            if self.last.is_some() { ids(&listed).cloned().collect() } else { HashSet::new() };
        self.missing.retain(|id, _| !present.contains(id));
        for fleet in self.last.take().iter().flat_map(|last| &last.fleets) {
            let missing = fleet.instances.iter().filter(|instance| !present.contains(&instance.id));
            let kept: Vec<_> = missing.filter(|instance| self.is_only_missing(now, lag, instance)).cloned().collect();
            put(&mut listed, fleet, kept);
        }
        self.ended.retain(|id| present.contains(id));
        let all = Arc::new(listed);
        self.last = Some(Arc::clone(&all));
        all
    }

    fn is_only_missing(&mut self, now: Timestamp, lag: Duration, instance: &ObservedInstance) -> bool {
        let goes = matches!(instance.lifecycle, Lifecycle::Dead | Lifecycle::Ending);
        let since = *self.missing.entry(instance.id.clone()).or_insert(now);
        let kept = !goes && !self.ended.contains(&instance.id) && later(since, lag) > now;
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
        None => listed.fleets.push(ObservedFleet { id: fleet.id.clone(), release: fleet.release, instances: kept }),
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
        assert_eq!(names(&absence.fill(at(0), LAG, both.clone())), ["a-1", "a-2"]);
        assert_eq!(names(&absence.fill(at(5), LAG, one.clone())), ["a-2", "a-1"]);
        assert_eq!(names(&absence.fill(at(14), LAG, one.clone())), ["a-2", "a-1"]);
        // Seen again: its time begins anew.
        assert_eq!(names(&absence.fill(at(15), LAG, both)), ["a-1", "a-2"]);
        assert_eq!(names(&absence.fill(at(16), LAG, one.clone())), ["a-2", "a-1"]);
        assert_eq!(names(&absence.fill(at(25), LAG, one.clone())), ["a-2", "a-1"]);
        assert_eq!(names(&absence.fill(at(26), LAG, one)), ["a-2"]);
    }

    #[test]
    fn a_whole_fleet_can_be_missing_for_a_while() {
        let mut absence = Absence::default();
        let _ = absence.fill(at(0), LAG, list(&[("a", &[("a-1", Lifecycle::Running)])]));
        let empty = absence.fill(at(1), LAG, list(&[]));
        assert_eq!((empty.fleets.len(), names(&empty)), (1, vec!["a-1"]));
        assert_eq!(absence.fill(at(11), LAG, list(&[])).fleets.len(), 0);
    }

    #[test]
    fn what_was_to_go_is_gone_at_once() {
        let mut absence = Absence::default();
        let going = [("a-1", Lifecycle::Ending), ("a-2", Lifecycle::Dead), ("a-3", Lifecycle::Running)];
        let _ = absence.fill(at(0), LAG, list(&[("a", &going)]));
        absence.ended(&["a-3".parse().unwrap()]);
        assert_eq!(names(&absence.fill(at(1), LAG, list(&[("a", &[])]))), Vec::<&str>::new());
    }

    #[test]
    fn where_lists_do_not_lag_nothing_is_kept() {
        let mut absence = Absence::default();
        let _ = absence.fill(at(0), Duration::ZERO, list(&[("a", &[("a-1", Lifecycle::Running)])]));
        assert_eq!(absence.fill(at(1), Duration::ZERO, list(&[])).fleets.len(), 0);
    }
}
