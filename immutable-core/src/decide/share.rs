//! The arithmetic of traffic: who may carry how much, and the next split on the way to a goal.
//!
//! Weights are counted in steps of the switch, so that every split that comes out can be expressed by it.

use crate::model::{FleetId, Split, Weight};

/// One fleet's part in the sharing of traffic.
#[derive(Debug, Clone)]
pub(super) struct Share<'a> {
    pub(super) fleet: &'a FleetId,
    /// Proven instances in traffic.
    pub(super) serving: usize,
    /// Basis points now.
    pub(super) now: u16,
    /// Basis points in the goal.
    pub(super) goal: u16,
}

/// The most basis points that `serving` proven instances may carry, when `required` carry the whole.
///
/// Rounded up to the step of the switch: thirds of the whole could not be carried by thirds of the capacity otherwise.
pub(crate) fn limit(serving: usize, required: usize, step: Weight) -> u16 {
    if serving == 0 {
        return 0;
    }
    if serving >= required {
        return Weight::FULL.points();
    }
    let step = u64::from(step.points().max(1));
    let (whole, serving, required) = (u64::from(Weight::FULL.points()) / step, serving as u64, required as u64);
    u16::try_from((serving * whole).div_ceil(required) * step).unwrap_or(Weight::FULL.points())
}

/// The next split toward the goal that what is proven can carry.
///
/// * Enough is proven: each fleet gets its goal or what it can carry; the rest stays with those that carry it now, then
///   goes to whoever can carry more.
/// * Too little is proven: traffic is shared in proportion to what is proven.
/// * Nothing is proven: traffic stays where it is.
pub(super) fn next_split(shares: &[Share<'_>], required: usize, step: Weight) -> Split {
    let total: usize = shares.iter().map(|share| share.serving).sum();
    let weights = if total == 0 {
        shares.iter().map(|share| share.now).collect()
    } else if total < required {
        in_proportion(shares, total, step)
    } else {
        toward_goal(shares, required, step)
    };
    let named = shares.iter().zip(weights).map(|(share, points)| {
        let weight = Weight::basis_points(points).expect("invariant: no share is above the whole");
        (share.fleet.clone(), weight)
    });
    Split::new(named).expect("invariant: the shares sum to the whole, or to what they were")
}

fn toward_goal(shares: &[Share<'_>], required: usize, step: Weight) -> Vec<u16> {
    let limits: Vec<u16> = shares.iter().map(|share| limit(share.serving, required, step)).collect();
    let mut weights: Vec<u16> = shares.iter().zip(&limits).map(|(share, limit)| share.goal.min(*limit)).collect();
    let mut rest = Weight::FULL.points() - weights.iter().sum::<u16>();
    let mut by_goal: Vec<usize> = (0..shares.len()).collect();
    by_goal.sort_by_key(|index| std::cmp::Reverse(shares[*index].goal));
    let stay = |index: usize| shares[index].now.min(limits[index]);
    let most = |index: usize| limits[index];
    for bound in [&stay as &dyn Fn(usize) -> u16, &most] {
        for &index in &by_goal {
            let more = rest.min(bound(index).saturating_sub(weights[index]));
            weights[index] += more;
            rest -= more;
        }
    }
    gather(shares, &limits, &mut weights);
    weights
}

/// Of several fleets that are to go, the first ones carry what is left: the last ones are free to end, which makes room.
fn gather(shares: &[Share<'_>], limits: &[u16], weights: &mut [u16]) {
    let leaving: Vec<usize> = (0..shares.len()).filter(|index| shares[*index].goal == 0).collect();
    for (place, &first) in leaving.iter().enumerate() {
        for &last in leaving[place + 1..].iter().rev() {
            let moved = weights[last].min(limits[first].saturating_sub(weights[first]));
            weights[first] += moved;
            weights[last] -= moved;
        }
    }
}

/// Largest remainders, in steps of the switch.
fn in_proportion(shares: &[Share<'_>], total: usize, step: Weight) -> Vec<u16> {
    let step = u64::from(step.points().max(1));
    let (whole, total) = (u64::from(Weight::FULL.points()) / step, total as u64);
    let mut steps: Vec<u64> = shares.iter().map(|share| whole * share.serving as u64 / total).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(whole * shares[*index].serving as u64 % total));
    let missing = whole - steps.iter().sum::<u64>();
    for &index in order.iter().take(usize::try_from(missing).unwrap_or(0)) {
        steps[index] += 1;
    }
    steps.iter().map(|n| u16::try_from(n * step).expect("invariant: at most the whole")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(parts: &[(usize, u16, u16)], required: usize, step: u16) -> Vec<u16> {
        let names: Vec<FleetId> = (0..parts.len()).map(|i| format!("f{i}").parse().expect("name")).collect();
        let shares: Vec<Share<'_>> = parts
            .iter()
            .zip(&names)
            .map(|(&(serving, now, goal), fleet)| Share { fleet, serving, now, goal })
            .collect();
        let split = next_split(&shares, required, Weight::basis_points(step).expect("step"));
        names.iter().map(|fleet| split.weight(fleet).points()).collect()
    }

    #[test]
    fn traffic_follows_what_is_proven() {
        type Case<'a> = (&'a [(usize, u16, u16)], usize, &'a [u16]);
        let cases: &[Case<'_>] = &[
            // (serving, now, goal) for each fleet, required, expected
            (&[(4, 10_000, 0), (1, 0, 10_000)], 4, &[7_500, 2_500]),
            (&[(4, 10_000, 0), (4, 0, 10_000)], 4, &[0, 10_000]),
            (&[(4, 10_000, 9_500), (1, 0, 500)], 4, &[9_500, 500]),
            (&[(2, 6_667, 0), (1, 3_333, 10_000)], 3, &[6_666, 3_334]),
            // The new one fell ill: it comes back to the old one, as far as that is proven.
            (&[(4, 0, 0), (0, 10_000, 10_000)], 4, &[10_000, 0]),
            // Too little in all: in proportion to what is proven.
            (&[(1, 10_000, 10_000), (1, 0, 0)], 4, &[5_000, 5_000]),
            (&[(0, 10_000, 10_000), (1, 0, 0)], 4, &[0, 10_000]),
            // What is left over goes to whom the rounding took most from, not to whom has most.
            (&[(3, 10_000, 10_000), (4, 0, 0)], 8, &[4_286, 5_714]),
            // Nothing proven at all: as it is.
            (&[(0, 10_000, 0), (0, 0, 10_000)], 4, &[10_000, 0]),
            // Three fleets: V2 is given up for V3, V1 holds what V3 cannot carry yet.
            (&[(4, 7_500, 0), (1, 2_500, 0), (1, 0, 10_000)], 4, &[7_500, 0, 2_500]),
            // Nothing of V3 yet, and no room: V1 takes over from V2, as far as it can.
            (&[(0, 0, 10_000), (4, 7_500, 0), (1, 2_500, 0)], 4, &[0, 10_000, 0]),
            (&[(0, 0, 10_000), (2, 5_000, 0), (3, 5_000, 0)], 4, &[0, 5_000, 5_000]),
            (&[(0, 0, 10_000), (3, 5_000, 0), (2, 5_000, 0)], 4, &[0, 7_500, 2_500]),
        ];
        for (parts, required, expected) in cases {
            assert_eq!(split(parts, *required, 1), *expected, "{parts:?}");
        }
    }

    proptest! {
        #[test]
        fn the_sum_is_exact_and_no_limit_is_passed(
            parts in prop::collection::vec((0usize..1_000_000, 0u16..=10_000), 1..5),
            required in 1usize..1_000_000,
            step in prop::sample::select(vec![1u16, 10, 100, 500]),
            target in 0usize..5,
        ) {
            let target = target % parts.len();
            let whole: Vec<(usize, u16, u16)> = parts.iter().enumerate().map(|(i, (serving, _))| {
                (*serving, if i == 0 { 10_000 } else { 0 }, if i == target { 10_000 } else { 0 })
            }).collect();
            let weights = split(&whole, required, step);
            prop_assert_eq!(weights.iter().map(|w| u32::from(*w)).sum::<u32>(), 10_000);
            let total: usize = parts.iter().map(|(serving, _)| serving).sum();
            for ((serving, _), weight) in parts.iter().zip(&weights) {
                prop_assert_eq!(weight % step, 0);
                if total >= required {
                    prop_assert!(*weight <= limit(*serving, required, Weight::basis_points(step).expect("step")));
                }
                if total > 0 && *serving == 0 {
                    prop_assert_eq!(*weight, 0);
                }
            }
        }
    }
}
