//! What may still happen: calls whose answer was lost, and changes that lists do not show yet.
//!
//! A request outlives the call that sent it: one that timed out can land minutes later, on top of what was done since. So what
//! opposes it waits until it can land no more and the world was looked at again.

use jiff::Timestamp;

use super::clock::later;
use super::event::Outcome;
use crate::decide::{Action, InstanceView, Phase, World};
use crate::model::{FleetId, RouteVersion};
use crate::provider::Pace;

/// What one driver did that may not have shown its whole effect.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Requests whose answer was lost. An action is here once.
    lost: Vec<Lost>,
    /// Fleets that have grown, to what, and until when lists may not show it.
    grown: Vec<(FleetId, u32, Timestamp)>,
    /// When something was changed last.
    changed: Option<Timestamp>,
    /// Since when something waits for a lost answer.
    waits_since: Option<Timestamp>,
}

#[derive(Debug)]
struct Lost {
    action: Action,
    /// The only version of the route that it can change, if the platform sees to that.
    version: Option<RouteVersion>,
    /// When it can land no more.
    until: Timestamp,
}

impl Lost {
    /// Whether it can land no more, by a world that was looked at from this time on. A route that has another version refuses it, where the
    /// platform compares versions.
    fn is_over(&self, begun: Timestamp, world: &World) -> bool {
        self.until <= begun || self.version.as_ref().is_some_and(|version| *version != world.version)
    }

    fn text(&self) -> (Timestamp, String) {
        let Self { action, until, .. } = self;
        let why = format!(
            "the answer to \"{action}\" was lost: it may still happen until {until}, and what opposes it waits"
        );
        (*until, why)
    }
}

impl Unsettled {
    /// A request was sent; its answer was lost, or is known. It was sent for a version of the route, if the platform compares them.
    pub(super) fn sent(
        &mut self,
        now: Timestamp,
        action: &Action,
        lost: bool,
        version: Option<&RouteVersion>,
        pace: &Pace,
    ) {
        self.changed = Some(now);
        if let (Action::Grow { fleet, to }, false) = (action, lost) {
            self.grown.retain(|(known, ..)| known != fleet);
            self.grown.push((fleet.clone(), *to, later(now, pace.list_lag)));
        }
        if lost {
            self.lost.retain(|known| known.action != *action);
            let until = later(now, pace.ambiguity_horizon);
            let version = version.filter(|_| matches!(action, Action::Route(_))).cloned();
            self.lost.push(Lost { action: action.clone(), version, until });
        }
    }

    /// The world was looked at, and the look began at this time.
    pub(super) fn looked(&mut self, begun: Timestamp, world: &World) {
        self.lost.retain(|lost| !lost.is_over(begun, world));
        self.grown.retain(|(.., until)| *until > begun);
    }

    /// Leaves out what must wait; says until when and for what, for people.
    pub(super) fn hold_back(
        &mut self,
        now: Timestamp,
        world: &World,
        pace: &Pace,
        actions: &mut Vec<Action>,
    ) -> Option<(Timestamp, String)> {
        let mut first: Option<(Timestamp, String)> = None;
        let mut waits = |new: (Timestamp, String)| {
            if first.as_ref().is_none_or(|known| new.0 < known.0) {
                first = Some(new);
            }
        };
        let listed = self.listed(pace).filter(|at| *at > now);
        let mut opposed = false;
        actions.retain(|action| {
            if let Some(lost) = self.lost.iter().find(|lost| opposes(&lost.action, action, world)) {
                opposed = true;
                waits(lost.text());
                return false;
            }
            // What was started and is not shown yet has its place in the surge all the same.
            if let Some((at, fleet)) = self.grown_unseen(action, world) {
                waits((at, format!("lists of the platform to show what was started of {fleet}, at {at}")));
                return false;
            }
            // A fleet may have instances that the list does not show yet.
            if let (Action::Remove { fleet }, Some(at)) = (action, listed) {
                waits((at, format!("lists of the platform to show all instances of {fleet}, at {at}")));
                return false;
            }
            true
        });
        self.waits_since = opposed.then(|| self.waits_since.unwrap_or(now));
        first
    }

    /// Another fleet than the one that is to grow has grown, and the list does not show it yet.
    fn grown_unseen<'a>(&'a self, action: &Action, world: &World) -> Option<(Timestamp, &'a FleetId)> {
        let Action::Grow { fleet: next, .. } = action else { return None };
        let mut others = self.grown.iter().filter(|(fleet, ..)| fleet != next);
        others.find(|(fleet, to, _)| alive(world, fleet) < *to).map(|(fleet, _, until)| (*until, fleet))
    }

    /// Until when a rollout must not end so, and for what, for people: nobody would look after what still happens.
    pub(super) fn end_waits(&self, now: Timestamp, outcome: &Outcome, pace: &Pace) -> Option<(Timestamp, String)> {
        let lost = self.last().map(Lost::text);
        // Whoever is called for help looks for himself.
        let alone = !matches!(outcome, Outcome::Stuck { .. });
        let listed = self.listed(pace).filter(|at| alone && *at > now);
        let listed = listed.map(|at| (at, format!("lists of the platform to show what was changed, at {at}")));
        [lost, listed].into_iter().flatten().max_by_key(|(until, _)| *until)
    }

    /// Since when something waits for a lost answer, and what was lost, for people.
    pub(super) fn waits(&self) -> Option<(Timestamp, String)> {
        self.waits_since.zip(self.last().map(|lost| lost.text().1))
    }

    /// When the last request can land no more whose answer was lost.
    pub(super) fn last_lands(&self) -> Option<Timestamp> {
        self.last().map(|lost| lost.until)
    }

    fn last(&self) -> Option<&Lost> {
        self.lost.iter().max_by_key(|lost| lost.until)
    }

    /// When lists show everything that was changed.
    pub(super) fn listed(&self, pace: &Pace) -> Option<Timestamp> {
        self.changed.map(|at| later(at, pace.list_lag))
    }
}

/// Whether an action must wait while another, whose answer was lost, may still land.
fn opposes(lost: &Action, next: &Action, world: &World) -> bool {
    match (lost, next) {
        // The same again has the same key: it happens once.
        _ if lost == next => false,
        // What it names is to end anyway.
        (Action::End { instances: lost, .. }, Action::End { instances: next, .. }) => {
            !next.iter().all(|id| lost.contains(id))
        }
        // What ends or is removed cannot be had back.
        (_, Action::End { .. } | Action::Remove { .. }) => true,
        // Both would be more than the budget allows, unless the first has happened.
        (Action::Grow { fleet: lost, to }, Action::Grow { fleet: next, .. }) => {
            lost != next && alive(world, lost) < *to
        }
        (Action::Remove { fleet: lost }, Action::Grow { fleet: next, .. }) => lost == next,
        // What is about to end must not get requests.
        (Action::End { instances, .. }, Action::Route(change)) => {
            change.register.iter().any(|id| instances.contains(id))
        }
        // Sizes are absolute: in place of whoever ends after all, one more would be started.
        (Action::End { fleet: lost, instances }, Action::Grow { fleet: next, .. }) => {
            lost == next && living(world, lost).any(|alive| instances.contains(&alive.id))
        }
        // Of two changes of one version of the route only one can happen. Where that is not sure, a change that lands late is put right by
        // the next look, and nothing ends before; to wait for it would leave all of the traffic where it should not be.
        (_, Action::Route(_)) | (Action::Route(_), Action::Grow { .. }) => false,
    }
}

fn alive(world: &World, fleet: &FleetId) -> u32 {
    u32::try_from(living(world, fleet).count()).unwrap_or(u32::MAX)
}

fn living<'a>(world: &'a World, fleet: &FleetId) -> impl Iterator<Item = &'a InstanceView> {
    let instances = world.fleet(fleet).into_iter().flat_map(|view| &view.instances);
    instances.filter(|instance| !instance.dead && instance.phase != Phase::Ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{FleetView, RouteChange};
    use crate::model::{InstanceId, Split};

    fn ids(names: &str) -> Vec<InstanceId> {
        names.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    fn grow(fleet: &str, to: u32) -> Action {
        Action::Grow { fleet: fleet.parse().unwrap(), to }
    }

    fn end(fleet: &str, instances: &str) -> Action {
        Action::End { fleet: fleet.parse().unwrap(), instances: ids(instances) }
    }

    fn remove(fleet: &str) -> Action {
        Action::Remove { fleet: fleet.parse().unwrap() }
    }

    fn route(register: &str, drain: &str) -> Action {
        Action::Route(RouteChange { split: Split::closed(), register: ids(register), drain: ids(drain) })
    }

    /// Fleet `a` has two instances that are alive, one that ends and one that is dead.
    fn world() -> World {
        let instance = |id: &str, phase, dead| InstanceView {
            id: id.parse().unwrap(),
            phase,
            replace: false,
            dead,
            endpoint: None,
        };
        let instances = vec![
            instance("a-1", Phase::Serving, false),
            instance("a-2", Phase::Ending, false),
            instance("a-3", Phase::Serving, false),
            instance("a-4", Phase::Ailing, true),
        ];
        World {
            as_of: Timestamp::UNIX_EPOCH,
            fleets: vec![FleetView { id: "a".parse().unwrap(), instances, hold_growth: false }],
            split: Split::closed(),
            version: "1".parse().unwrap(),
        }
    }

    #[test]
    fn what_was_started_and_is_not_listed_yet_has_its_place_in_the_surge() {
        let (mut unsettled, pace, at) =
            (Unsettled::default(), Pace::default(), |second| Timestamp::constant(second, 0));
        let mut kept = |now, grown: Action| {
            unsettled.sent(at(0), &grown, false, Some(&"1".parse().unwrap()), &pace);
            unsettled.looked(at(now), &world());
            let mut actions = vec![grow("a", 4), grow("b", 1)];
            let _ = unsettled.hold_back(at(now), &world(), &pace, &mut actions);
            actions
        };
        assert_eq!(kept(9, grow("a", 3)), [grow("a", 4)]);
        // It is shown, or would be.
        assert_eq!(kept(9, grow("a", 2)), [grow("a", 4), grow("b", 1)]);
        assert_eq!(kept(10, grow("a", 3)), [grow("a", 4), grow("b", 1)]);
    }

    #[test]
    fn what_opposes_a_lost_answer_and_what_does_not() {
        let opposing = [
            (grow("a", 3), end("a", "a-1")),
            (grow("a", 3), remove("a")),
            (grow("a", 3), remove("b")),
            (grow("a", 3), grow("b", 1)),
            (route("a-1", ""), end("b", "b-1")),
            (route("", "a-1"), remove("b")),
            (end("a", "a-1 a-2"), end("a", "a-1 a-3")),
            (end("a", "a-1"), route("a-1", "")),
            (end("a", "a-1"), remove("a")),
            (end("a", "a-1 a-2"), grow("a", 3)),
            (remove("a"), grow("a", 1)),
            (remove("a"), end("b", "b-1")),
        ];
        for (lost, next) in opposing {
            assert!(opposes(&lost, &next, &world()), "{lost}, then {next}");
        }
        let harmless = [
            (grow("a", 3), grow("a", 3)),
            (grow("a", 3), grow("a", 4)),
            // It has happened.
            (grow("a", 2), grow("b", 1)),
            (grow("a", 3), route("a-1", "")),
            (route("a-1", ""), route("", "a-1")),
            (route("a-1", ""), grow("b", 1)),
            (end("a", "a-1 a-2"), end("a", "a-2")),
            (end("a", "a-1"), grow("b", 3)),
            (end("a", "a-2"), grow("a", 3)),
            (end("a", "a-1"), route("a-3", "a-1")),
            (remove("a"), remove("a")),
            (remove("a"), grow("b", 1)),
        ];
        for (lost, next) in harmless {
            assert!(!opposes(&lost, &next, &world()), "{lost}, then {next}");
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pace() -> Pace {
        let (horizon, lag) = (std::time::Duration::from_mins(5), std::time::Duration::from_secs(10));
        Pace { ambiguity_horizon: horizon, list_lag: lag, ..Pace::default() }
    }

    /// Sent at these times, for version 1 of the route, with their answers lost.
    fn lost(sent: &[(i64, &Action)]) -> Unsettled {
        let mut unsettled = Unsettled::default();
        for (second, action) in sent {
            unsettled.sent(at(*second), action, true, Some(&"1".parse().unwrap()), &pace());
        }
        unsettled
    }

    /// What is left of the actions, and until when something waits.
    fn held_back(unsettled: &mut Unsettled, second: i64, actions: &[Action]) -> (Vec<Action>, Option<i64>) {
        let mut actions = actions.to_vec();
        let waits = unsettled.hold_back(at(second), &world(), &pace(), &mut actions);
        if let Some((_, why)) = &waits {
            assert!(why.contains("lost: it may still happen until") || why.contains("to show all instances"), "{why}");
        }
        (actions, waits.map(|(until, _)| until.as_second()))
    }

    #[test]
    fn what_opposes_waits_for_the_first_that_it_opposes_and_the_rest_is_done() {
        let (early, late) = (grow("a", 3), end("b", "b-1"));
        let mut unsettled = lost(&[(0, &early), (20, &late)]);
        let (by_early, by_late, free) = (grow("b", 1), route("b-1", ""), route("a-1", ""));
        for both in [[by_early.clone(), by_late.clone()], [by_late.clone(), by_early.clone()]] {
            let actions = [&both[..], std::slice::from_ref(&free)].concat();
            assert_eq!(held_back(&mut unsettled, 21, &actions), (vec![free.clone()], Some(300)));
        }
        assert_eq!(held_back(&mut unsettled, 22, &[by_late]), (vec![], Some(320)));
        let (since, why) = unsettled.waits().unwrap();
        assert_eq!((since, unsettled.last_lands()), (at(21), Some(at(320))));
        let text = "the answer to \"end 1 of b\" was lost: it may still happen until 1970-01-01T00:05:20Z, and what opposes \
                    it waits";
        assert_eq!(why, text);
        // Nothing that is to be done opposes it any more.
        assert_eq!(held_back(&mut unsettled, 23, std::slice::from_ref(&free)), (vec![free], None));
        assert_eq!(unsettled.waits(), None);
    }

    #[test]
    fn a_request_sent_again_can_land_for_longer_and_others_stay() {
        let (first, second) = (grow("a", 3), end("b", "b-1"));
        let unsettled = lost(&[(0, &first), (10, &second), (20, &first)]);
        let known: Vec<_> = unsettled.lost.iter().map(|lost| (&lost.action, lost.until.as_second())).collect();
        assert_eq!(known, [(&second, 310), (&first, 320)]);
    }

    #[test]
    fn a_request_is_over_when_it_can_land_no_more_or_its_route_has_changed() {
        let actions = [grow("a", 3), route("a-1", "")];
        for (begun, version, left) in [(299, "1", 2), (300, "1", 0), (0, "2", 1)] {
            let mut unsettled = lost(&[(0, &actions[0]), (0, &actions[1])]);
            unsettled.looked(at(begun), &World { version: version.parse().unwrap(), ..world() });
            assert_eq!(unsettled.lost.len(), left, "looked from {begun} on, version {version}");
            assert!(left == 0 || unsettled.lost[0].action == actions[0]);
        }
    }

    /// A change of the route that lands late takes whom it drains out of traffic, and who replaced them may be ended by then.
    #[test]
    fn where_only_the_provider_compares_versions_a_lost_change_is_over_when_it_can_land_no_more() {
        let mut unsettled = Unsettled::default();
        unsettled.sent(at(0), &route("", "a-1"), true, None, &pace());
        let changed = World { version: "2".parse().unwrap(), ..world() };
        unsettled.looked(at(299), &changed);
        let back = route("a-1", "");
        assert_eq!(held_back(&mut unsettled, 299, &[back.clone(), end("b", "b-1")]), (vec![back], Some(300)));
        unsettled.looked(at(300), &changed);
        assert_eq!(held_back(&mut unsettled, 300, &[end("b", "b-1")]), (vec![end("b", "b-1")], None));
    }

    #[test]
    fn a_fleet_is_not_removed_and_a_rollout_not_ended_before_lists_show_what_was_changed() {
        let mut unsettled = Unsettled::default();
        unsettled.sent(at(0), &grow("a", 2), false, Some(&"1".parse().unwrap()), &pace());
        assert_eq!(unsettled.last_lands(), None);
        assert_eq!(held_back(&mut unsettled, 9, &[remove("b"), grow("b", 1)]), (vec![grow("b", 1)], Some(10)));
        assert_eq!(unsettled.waits(), None, "no answer is waited for");
        assert_eq!(held_back(&mut unsettled, 10, &[remove("b")]), (vec![remove("b")], None));
        let stuck = Outcome::Stuck { reason: "by hand".into() };
        let until = |unsettled: &Unsettled, second, outcome: &Outcome| {
            unsettled.end_waits(at(second), outcome, &pace()).map(|(until, _)| until.as_second())
        };
        assert_eq!(until(&unsettled, 9, &Outcome::Promoted), Some(10));
        assert_eq!((until(&unsettled, 10, &Outcome::Promoted), until(&unsettled, 9, &stuck)), (None, None));
        let unsettled = lost(&[(0, &remove("b"))]);
        assert_eq!((until(&unsettled, 9, &Outcome::Promoted), until(&unsettled, 9, &stuck)), (Some(300), Some(300)));
    }
}
