//! The protocol of two controllers over one journal, one lease and one route, walked through in every order.
//!
//! What the model holds: two controllers share a service. Each of their steps can be the last one for any time (a controller that
//! is frozen is one that is not chosen), or the last one for good (it crashes and begins anew). A request that was sent lands at
//! any later time before it is refused as too old, its answer arrives or is lost. The wishes of the operator are any, at any time:
//! an owner that has looked may choose every effect that is right by what it saw.
//!
//! What it takes for granted: a journal and a lease record that do each call as a whole (the conformance suite of journals is about
//! those), and that the lease is checked and the request gets its time stamp in one step. A controller that is frozen between these
//! two for longer than the lease and the horizon together is beyond this protocol.
//!
//! Each rule can be taken away. With all of them no order of steps does harm; without any single one of them there is one that does.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod controller;
mod protocol;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Path};

use protocol::{NEWER_STAYS, Protocol, Rule, SOMEBODY_CAN_ACT, SOMEBODY_SERVES, Step, WRITERS_IN_TURN, WRITTEN_ONCE};
use world::State;

#[test]
fn with_all_rules_no_order_of_steps_does_harm() {
    expect_safe(false, 634_975);
}

#[test]
fn with_all_rules_no_order_of_steps_does_harm_where_the_route_has_a_version() {
    expect_safe(true, 643_063);
}

/// All rules hold in all states. Their number is stated: a model that grows or shrinks unseen is not the one that was thought through.
fn expect_safe(route_has_version: bool, states: usize) {
    let checker = Protocol { without: None, route_has_version }.checker().spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.is_done());
    assert_eq!(checker.unique_state_count(), states);
}

#[test]
fn without_create_only_appends_an_answered_record_is_lost() {
    expect_harm(Rule::CreateOnly, &[WRITTEN_ONCE, WRITERS_IN_TURN]);
}

#[test]
fn without_a_check_of_the_lease_before_the_call_a_woken_owner_does_harm() {
    expect_harm(Rule::LeaseBeforeCall, &[NEWER_STAYS, SOMEBODY_SERVES]);
}

#[test]
fn without_waiting_for_the_horizon_a_request_of_the_old_owner_lands_on_the_new_one() {
    expect_harm(Rule::NewOwnerWaits, &[NEWER_STAYS, SOMEBODY_SERVES]);
}

#[test]
fn without_settling_a_lost_answer_an_owner_is_hit_by_its_own_request() {
    expect_harm(Rule::LostAnswerSettled, &[NEWER_STAYS, SOMEBODY_SERVES]);
}

#[test]
fn without_renewing_the_lease_while_it_waits_no_owner_ever_acts() {
    expect_harm(Rule::OwnerRenews, &[SOMEBODY_CAN_ACT]);
}

/// There is an order of steps that does harm without this rule, without and with a version on the route, and its first harm is
/// one of those that are named.
fn expect_harm(rule: Rule, names: &[&str]) {
    for route_has_version in [false, true] {
        let model = Protocol { without: Some(rule), route_has_version };
        let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let first_harm = |path: &Path<State, Step>| {
            path.clone().into_states().iter().map(|state| model.broken(state)).find(|broken| !broken.is_empty())
        };
        let mut found = checker.discoveries().into_values().filter_map(|path| Some((first_harm(&path)?, path)));
        let Some((broken, path)) = found.next() else {
            panic!("no harm in {} states: the rule that was taken away is not needed", checker.unique_state_count())
        };
        assert!(broken.iter().all(|name| names.contains(name)), "{broken:?} by\n{path}");
    }
}
