//! `decide` in any world at all, also in those that no rollout leads to, with more fleets than the exhaustive walk has.

use proptest::prelude::*;

use super::notation::{case, written};
use super::*;

/// One to three fleets of up to five instances, weights that sum to the whole or a closed route, any goal and budget.
fn any_case() -> impl Strategy<Value = String> {
    let instance = prop::sample::select(vec![
        "p", "u", "u!", "P", "P!", "P-", "j", "S", "S", "S", "S!", "?", "a", "ax", "d", "d!", "D", "D!", "Dx", "e",
    ]);
    let fleet = (prop::collection::vec(instance, 0..6), 0u16..5, 0u16..5, 0u32..5);
    let settings = (0u32..7, 0u32..4, 0u32..4, prop::sample::select(vec!["members", "step 1", "step 100", "step 500"]));
    (prop::collection::vec(fleet, 1..4), settings).prop_map(|(fleets, (desired, surge, unavailable, switch))| {
        let (now, goal): (Vec<u16>, Vec<u16>) = fleets.iter().map(|(_, now, goal, _)| (*now, *goal)).unzip();
        let (now, goal) = (whole(&now), whole(&goal));
        let name = |index: usize| ["a", "b", "c"][index];
        let world = fleets
            .iter()
            .enumerate()
            .map(|(index, (instances, ..))| format!("{} at {} [{}]", name(index), now[index], instances.join(" ")));
        let parts = fleets.iter().enumerate().map(|(index, (.., size))| {
            let size = if goal[index] > 0 { (*size).max(1) } else { *size };
            format!("{} {size}@{}", name(index), goal[index])
        });
        let (world, parts) = (world.collect::<Vec<_>>().join(" "), parts.collect::<Vec<_>>().join(" "));
        format!("{desired} {surge} {unavailable} {switch}: {world} toward {parts}")
    })
}

/// Weights in these proportions, multiples of 500 where there are several; all zero when all are.
fn whole(parts: &[u16]) -> Vec<u16> {
    let sum: u16 = parts.iter().sum();
    let mut weights: Vec<u16> = parts.iter().map(|part| 20 * part / sum.max(1) * 500).collect();
    if let Some(first) = parts.iter().position(|part| *part > 0) {
        weights[first] += 10_000 - weights.iter().sum::<u16>();
    }
    weights
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_action_breaks_a_rule_whatever_the_world_is(text in any_case()) {
        let (world, goal, budget, switch) = case(&text);
        let decision = decide(&world, &goal, &budget, switch);
        for action in &decision.actions {
            prop_assert_eq!(check(&world, action, &budget, switch), Ok(()), "{}: {}", text, written(action));
        }
    }
}
