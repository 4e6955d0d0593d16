//! Weights as a load balancer counts them, and as basis points.

use immutable_core::model::Weight;

/// The largest weight of a target group; the smallest is 0.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html>
pub(super) const LARGEST: u32 = 999;

/// What the weights of a split sum to at the balancer, so that a tenth of a percent is one. A fleet that has everything would have
/// more than is allowed, and what it has instead is everything as well.
const WHOLE: u32 = LARGEST + 1;

/// Weights for the balancer, in the order of these, whose sum is 10 000 or nothing. Multiples of ten are met exactly; others are rounded so
/// that the sum is, and whoever has some traffic keeps some.
pub(super) fn to_balancer(weights: &[Weight]) -> Vec<u32> {
    let points: Vec<u32> = weights.iter().map(|weight| u32::from(weight.points())).collect();
    apportion(&points, WHOLE).into_iter().map(|weight| weight.min(LARGEST)).collect()
}

/// What share of the traffic each of these weights means, in basis points. Their sum is 10 000, or nothing when all weights are 0.
pub(super) fn from_balancer(weights: &[u32]) -> Vec<Weight> {
    let shares = apportion(weights, Weight::FULL.points().into());
    let weight = |points: u32| u16::try_from(points).ok().and_then(|points| Weight::basis_points(points).ok());
    shares.into_iter().map(|points| weight(points).unwrap_or(Weight::FULL)).collect()
}

/// Shares of a whole in proportion to weights, rounded by the largest remainder; nobody with a weight is left without a share, as long
/// as the whole is no less than their number. The first among equals gets what is left over.
fn apportion(weights: &[u32], whole: u32) -> Vec<u32> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * u64::from(whole)).collect();
    let at_least = |exact: &u64| if *exact == 0 { 0 } else { (exact / sum).max(1) };
    let mut shares: Vec<u64> = exact.iter().map(at_least).collect();
    // What a share has more than it should, in parts of `sum`; less than nothing for those that are still owed something.
    let surplus = |share: u64, index: usize| i128::from(share) * i128::from(sum) - i128::from(exact[index]);
    let whole = u64::from(whole);
    while shares.iter().sum::<u64>() < whole {
        let some = (0..shares.len()).filter(|index| weights[*index] > 0);
        let Some(owed) = some.min_by_key(|index| surplus(shares[*index], *index)) else { break };
        shares[owed] += 1;
    }
    while shares.iter().sum::<u64>() > whole {
        let can_pay = (0..shares.len()).filter(|index| shares[*index] > 1);
        let Some(most) = can_pay.max_by_key(|index| surplus(shares[*index], *index)) else { break };
        shares[most] -= 1;
    }
    shares.into_iter().map(|share| u32::try_from(share).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(points: &[u16]) -> Vec<Weight> {
        points.iter().map(|points| Weight::basis_points(*points).unwrap()).collect()
    }

    #[test]
    fn basis_points_become_weights_whose_sum_is_exact() {
        let cases: &[(&[u16], &[u32])] = &[
            (&[10_000], &[999]),
            (&[0, 10_000], &[0, 999]),
            (&[500, 9500], &[50, 950]),
            (&[10, 9990], &[1, 999]),
            (&[1, 9999], &[1, 999]),
            (&[3333, 3333, 3334], &[333, 333, 334]),
            (&[3334, 3333, 3333], &[334, 333, 333]),
            (&[1, 1, 1, 1, 9996], &[1, 1, 1, 1, 996]),
            (&[2000; 5], &[200; 5]),
            (&[5, 5, 9990], &[1, 1, 998]),
            (&[0, 0], &[0, 0]),
            (&[], &[]),
        ];
        for (split, expected) in cases {
            assert_eq!(to_balancer(&points(split)), *expected, "{split:?}");
        }
    }

    #[test]
    fn any_weights_are_read_as_the_whole() {
        let cases: &[(&[u32], &[u16])] = &[
            (&[1], &[10_000]),
            (&[999], &[10_000]),
            (&[0, 7], &[0, 10_000]),
            (&[50, 950], &[500, 9500]),
            (&[1, 1, 1], &[3334, 3333, 3333]),
            (&[999, 999, 1], &[4998, 4997, 5]),
            (&[0, 0], &[0, 0]),
            (&[], &[]),
        ];
        for (weights, expected) in cases {
            assert_eq!(from_balancer(weights), points(expected), "{weights:?}");
        }
    }

    /// Splits between at most five fleets, as a balancer can have them.
    fn splits() -> impl Strategy<Value = Vec<Weight>> {
        proptest::collection::vec(0..=1000_u32, 1..=5)
            .prop_map(|weights| apportion(&weights, 10_000))
            .prop_map(|shares| points(&shares.iter().map(|share| u16::try_from(*share).unwrap()).collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn no_weight_is_lost_or_too_large(split in splits()) {
            let weights = to_balancer(&split);
            for (weight, asked) in weights.iter().zip(&split) {
                prop_assert!(*weight <= LARGEST);
                prop_assert_eq!(*weight == 0, asked.is_none());
            }
            let fleets = split.iter().filter(|weight| !weight.is_none()).count();
            let expected = match fleets { 0 => 0, 1 => LARGEST, _ => WHOLE };
            prop_assert_eq!(weights.iter().sum::<u32>(), expected);
        }

        #[test]
        fn nobody_is_off_by_more_than_a_rounding(split in splits()) {
            let weights = to_balancer(&split);
            // Four others at most are lifted to 1, and the largest pays for it.
            for (weight, asked) in weights.iter().zip(&split) {
                prop_assert!((i64::from(*weight) * 10 - i64::from(asked.points())).abs() < 50);
            }
        }

        #[test]
        fn multiples_of_the_step_survive_the_way_there_and_back(shares in proptest::collection::vec(0..=1000_u32, 1..=5)) {
            let tens: Vec<u16> = apportion(&shares, 1000).iter().map(|share| u16::try_from(*share * 10).unwrap()).collect();
            prop_assert_eq!(from_balancer(&to_balancer(&points(&tens))), points(&tens));
        }

        #[test]
        fn what_is_read_is_whole_and_forgets_nobody(weights in proptest::collection::vec(0..=999_u32, 1..=5)) {
            let read = from_balancer(&weights);
            let sum: u32 = read.iter().map(|weight| u32::from(weight.points())).sum();
            prop_assert_eq!(sum, if weights.iter().all(|weight| *weight == 0) { 0 } else { 10_000 });
            for (weight, points) in weights.iter().zip(&read) {
                prop_assert_eq!(*weight == 0, points.is_none());
            }
        }
    }
}
