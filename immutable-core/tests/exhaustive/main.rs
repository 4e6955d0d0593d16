//! Every reachable state of small worlds: `decide` keeps the safety rules in each of them, under every loss, repetition and
//! partial effect of its actions and every move of the environment, and reaches every goal from every state.

#![allow(clippy::print_stdout, reason = "the number of states is worth seeing")]

mod broken;
mod explore;
mod small_world;

use explore::{Case, Found, explore};
use immutable_core::decide::{Action, Decision, decide};
use immutable_core::model::Weight;
use immutable_core::provider::SwitchKind;
use small_world::Moves;

const WEIGHTED: SwitchKind = SwitchKind::Weighted { step: Weight::FULL };

fn weighted() -> SwitchKind {
    SwitchKind::Weighted { step: Weight::basis_points(1).expect("a step") }
}

/// Desired, surge, unavailable, and how the environment may misbehave.
fn cases() -> Vec<Case> {
    let budgets = [(1, 1, 0), (2, 1, 0), (2, 0, 1), (2, 1, 1), (2, 2, 0), (3, 1, 0), (3, 0, 1)];
    let mut cases = Vec::new();
    for budget in budgets {
        for switch in [weighted(), SwitchKind::Membership] {
            for moves in [Moves::Health, Moves::Death, Moves::Drift, Moves::Silence, Moves::Emptied] {
                cases.push(Case::new(budget, switch, moves));
            }
        }
    }
    cases
}

#[test]
fn no_rule_is_broken_and_every_goal_is_reached_from_every_state() {
    let mut states = 0;
    for case in cases() {
        match explore(&case, &decide) {
            Found::Nothing { states: seen } => {
                println!("{case:?}: {seen} states");
                states += seen;
            }
            Found::Broken(what) => panic!("{case:?}: {what}"),
        }
    }
    println!("{states} states, no rule broken, every goal reached from every state");
    assert!(states > 50_000, "the walk has become too small to prove anything: {states} states");
}

#[test]
fn two_whole_fleets_of_three() {
    for (switch, moves) in [(SwitchKind::Membership, Moves::Health), (weighted(), Moves::Plain)] {
        let case = Case::new((3, 3, 0), switch, moves);
        match explore(&case, &decide) {
            Found::Nothing { states } => println!("{case:?}: {states} states"),
            Found::Broken(what) => panic!("{case:?}: {what}"),
        }
    }
}

#[test]
fn a_coarse_switch_is_no_exception() {
    // A switch that knows only all or nothing.
    for moves in [Moves::Health, Moves::Death] {
        let case = Case::new((2, 2, 0), WEIGHTED, moves).without_canary();
        let found = explore(&case, &decide);
        assert!(matches!(found, Found::Nothing { .. }), "{case:?}: {found:?}");
    }
}

#[test]
fn each_broken_decide_is_caught() {
    for (name, expected, mutant) in broken::MUTANTS {
        let found = cases().iter().find_map(|case| match explore(case, mutant) {
            Found::Broken(what) => Some(what),
            Found::Nothing { .. } => None,
        });
        let what = found.unwrap_or_else(|| panic!("nothing noticed that `decide` {name}"));
        assert!(what.contains(expected), "`decide` {name}: expected {expected:?}, found {what}");
    }
}

/// For mutants: `decide`, and then something wrong with its actions.
fn spoil(mut decision: Decision, spoil: impl FnMut(&mut Action)) -> Decision {
    decision.actions.iter_mut().for_each(spoil);
    decision
}
