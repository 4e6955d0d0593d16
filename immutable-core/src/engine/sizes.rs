//! Who scales a fleet: we, or somebody else, such as an autoscaler. What others do is followed, never fought.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::clock::later;
use crate::decide::Action;
use crate::model::FleetId;
use crate::provider::{Effect, FleetsState, Pace, Progress, ProviderError};

/// What the sizes that the platform keeps its fleets at should be, by what this driver did. In memory only: a driver that is new
/// takes them as they are.
#[derive(Debug, Default)]
pub(super) struct Sizes(HashMap<FleetId, Size>);

#[derive(Debug)]
struct Size {
    /// Our own requests explain everything between these.
    least: u32,
    most: u32,
    /// Until then whatever is listed may come from a request of ours.
    ours_until: Timestamp,
    /// Since when something else is listed.
    differs_since: Option<Timestamp>,
    listed: u32,
}

/// A fleet that somebody else has scaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) fleet: FleetId,
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Sizes {
    /// A request was sent.
    pub(super) fn sent(
        &mut self,
        now: Timestamp,
        action: &Action,
        answer: &Result<Progress<()>, ProviderError>,
        pace: &Pace,
    ) {
        let is_lost = match answer {
            Ok(_) => false,
            Err(error) if error.effect() == Effect::None => return,
            Err(_) => true,
        };
        let until = later(now, if is_lost { pace.ambiguity_horizon } else { pace.list_lag });
        match action {
            Action::Grow { fleet, to } => {
                let size = self.of(fleet, until);
                size.most = size.most.max(*to);
                if matches!(answer, Ok(Progress::Done(()))) {
                    size.least = size.least.max(*to);
                }
            }
            Action::End { fleet, instances } => {
                let size = self.of(fleet, until);
                size.least = size.least.saturating_sub(u32::try_from(instances.len()).unwrap_or(u32::MAX));
            }
            _ => {}
        }
    }

    fn of(&mut self, fleet: &FleetId, until: Timestamp) -> &mut Size {
        let unknown = || Size { least: 0, most: 0, ours_until: until, differs_since: None, listed: 0 };
        let size = self.0.entry(fleet.clone()).or_insert_with(unknown);
        size.ours_until = size.ours_until.max(until);
        size
    }

    /// The fleets were listed, as asked for at this time; says which one somebody else has scaled, once that was listed for as long as
    /// lists may lag.
    pub(super) fn listed(&mut self, now: Timestamp, lag: Duration, fleets: &FleetsState) -> Option<Scaled> {
        let listed: HashMap<&FleetId, u32> =
            fleets.fleets.iter().filter_map(|fleet| Some((&fleet.id, fleet.wanted?))).collect();
        self.0.retain(|fleet, _| listed.contains_key(fleet));
        let mut scaled = None;
        for (fleet, wanted) in listed {
            let new =
                Size { least: wanted, most: wanted, ours_until: later(now, lag), differs_since: None, listed: wanted };
            let size = self.0.entry(fleet.clone()).or_insert(new);
            size.listed = wanted;
            if now < size.ours_until {
                size.widen(wanted);
            } else if (size.least..=size.most).contains(&wanted) {
                size.take(wanted);
            } else {
                let since = *size.differs_since.get_or_insert(now);
                if since < now && later(since, lag) <= now && scaled.is_none() {
                    let from = wanted.clamp(size.least, size.most);
                    scaled = Some(Scaled { fleet: fleet.clone(), from, to: wanted });
                    size.take(wanted);
                }
            }
        }
        scaled
    }

    /// Requests of another driver may still land: nothing is known.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// What somebody else seems to be scaling, for people: nothing is done before that is known.
    pub(super) fn unclear(&self) -> Option<String> {
        let (fleet, size) = self.0.iter().find(|(_, size)| size.differs_since.is_some())?;
        Some(format!("fleet {fleet} to be listed again: somebody else seems to scale it to {}", size.listed))
    }
}

impl Size {
    fn widen(&mut self, wanted: u32) {
        (self.least, self.most) = (self.least.min(wanted), self.most.max(wanted));
    }

    fn take(&mut self, wanted: u32) {
        (self.least, self.most, self.differs_since) = (wanted, wanted, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObservedFleet;
    use crate::provider::ErrorKind;
    use std::time::Duration;

    type Answer<'a> = &'a dyn Fn() -> Result<Progress<()>, ProviderError>;
    /// An action, its answer, what is listed after it, and what is told then.
    type Case<'a> = (&'a Action, Answer<'a>, &'a [(i64, u32)], &'a [(u32, u32)]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pace() -> Pace {
        Pace { list_lag: Duration::from_secs(10), ambiguity_horizon: Duration::from_mins(5), ..Pace::default() }
    }

    /// What is told of a fleet that is listed with these sizes at these seconds, after it was known to be 4.
    fn told(sizes: &mut Sizes, listed: &[(i64, u32)]) -> Vec<(u32, u32)> {
        let listed = listed.iter().filter_map(|(second, wanted)| {
            let fleet = ObservedFleet {
                id: "web-1".parse().unwrap(),
                release: serde_json::from_value("0".repeat(64).into()).unwrap(),
                instances: Vec::new(),
                wanted: Some(*wanted),
            };
            let state = FleetsState { as_of: at(*second), fleets: vec![fleet] };
            sizes.listed(at(*second), pace().list_lag, &state).map(|scaled| (scaled.from, scaled.to))
        });
        listed.collect()
    }

    fn known() -> Sizes {
        let mut sizes = Sizes::default();
        assert!(told(&mut sizes, &[(0, 4), (10, 4)]).is_empty());
        sizes
    }

    #[test]
    fn a_size_that_others_changed_is_told_once_it_was_listed_for_long_enough() {
        for (listed, expected) in [
            (&[(20, 6), (30, 6), (40, 6), (50, 6)][..], vec![(4, 6)]),
            (&[(20, 3), (30, 3)], vec![(4, 3)]),
            // Seen once, or not for long enough, or gone again.
            (&[(30, 6)], vec![]),
            (&[(20, 6), (29, 6)], vec![]),
            (&[(20, 6), (25, 4), (40, 6), (45, 6)], vec![]),
            // The last word counts, and nobody waits for one who changes his mind all the time.
            (&[(20, 6), (25, 7), (30, 8)], vec![(4, 8)]),
            (&[(20, 6), (30, 6), (40, 4), (50, 4)], vec![(4, 6), (6, 4)]),
        ] {
            assert_eq!(told(&mut known(), listed), expected, "{listed:?}");
        }
        let mut sizes = known();
        told(&mut sizes, &[(20, 6)]);
        assert!(sizes.unclear().is_some_and(|why| why.contains("web-1") && why.contains("to 6")));
        told(&mut sizes, &[(30, 6)]);
        assert_eq!(sizes.unclear(), None);
    }

    #[test]
    fn what_our_own_requests_explain_is_not_told() {
        let fleet: FleetId = "web-1".parse().unwrap();
        let grow = Action::Grow { fleet: fleet.clone(), to: 6 };
        let end = Action::End { fleet, instances: ["a", "b"].map(|id| id.parse().unwrap()).to_vec() };
        let done = || Ok(Progress::Done(()));
        let lost = || Err(ProviderError::new(ErrorKind::Timeout, "ensure fleet", "no answer"));
        let refused = || lost().map_err(ProviderError::without_effect);
        let pending = || Ok(Progress::Pending { retry_after: Duration::from_secs(1), note: String::new() });
        let cases: [Case; 9] = [
            (&grow, &done, &[(21, 4), (31, 6), (41, 6)], &[]),
            // What was asked for is not there, long after it was done: somebody has taken it away.
            (&grow, &done, &[(31, 6), (41, 4), (51, 4)], &[(6, 4)]),
            (&grow, &pending, &[(31, 5), (41, 5)], &[]),
            (&grow, &lost, &[(31, 4), (299, 4), (319, 6), (330, 6)], &[]),
            (&grow, &refused, &[(31, 6), (41, 6)], &[(4, 6)]),
            (&end, &done, &[(21, 4), (31, 2), (41, 2)], &[]),
            // One of them was gone already, and lowered nothing.
            (&end, &done, &[(31, 3), (41, 3)], &[]),
            (&end, &done, &[(31, 1), (41, 1)], &[(2, 1)]),
            (&end, &lost, &[(31, 4), (300, 2), (321, 2), (331, 2)], &[]),
        ];
        for (action, answer, listed, expected) in cases {
            let mut sizes = known();
            sizes.sent(at(20), action, &answer(), &pace());
            assert_eq!(told(&mut sizes, listed), expected, "{action} {listed:?}");
        }
    }

    #[test]
    fn a_fleet_that_is_new_is_taken_as_it_is() {
        let mut sizes = Sizes::default();
        assert!(told(&mut sizes, &[(0, 4), (5, 6), (10, 6), (20, 6)]).is_empty());
        sizes.forget();
        assert!(told(&mut sizes, &[(30, 9), (40, 9)]).is_empty());
    }
}
