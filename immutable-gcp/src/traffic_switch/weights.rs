//! Weights as a URL map counts them, and as basis points.

use immutable_core::model::Weight;

/// The largest weight of a backend service, which is also what all of them sum to here, so that one is a tenth of a percent; the
/// smallest is 0. <https://docs.cloud.google.com/compute/docs/reference/rest/v1/urlMaps>
pub(super) const LARGEST: u32 = 1000;

/// Weights for the balancer, in the order of these, whose sum is 10 000 or nothing. Multiples of ten are met exactly; others are rounded so
/// that the sum is, and whoever has some traffic keeps some.
pub(super) fn to_balancer(weights: &[Weight]) -> Vec<u32> {
    let points: Vec<u32> = weights.iter().map(|weight| u32::from(weight.points())).collect();
    apportion(&points, LARGEST)
}

/// What share of the traffic each of these weights means, in basis points. Their sum is 10 000, or nothing when all weights are 0.
pub(super) fn from_balancer(weights: &[u32]) -> Vec<Weight> {
    let shares = apportion(weights, Weight::FULL.points().into());
    let weight = |points: u32| u16::try_from(points).ok().and_then(|points| Weight::basis_points(points).ok());
    shares.into_iter().map(|points| weight(points).unwrap_or(Weight::FULL)).collect()
}

/// Divides a whole in proportion to these weights. Each share is rounded down, but to no less than 1 where there is a weight; what is then
/// left over goes, one by one, to those who lack most, and what is then too much is taken from those who have most too much.
fn apportion(weights: &[u32], whole: u32) -> Vec<u32> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * u64::from(whole)).collect();
    let mut shares: Vec<u64> = exact.iter().map(|exact| if *exact == 0 { 0 } else { (exact / sum).max(1) }).collect();
    // In parts of the sum, so that nothing is lost by dividing.
    let surplus = |share: u64, index: usize| i128::from(share * sum) - i128::from(exact[index]);
    loop {
        let given: u64 = shares.iter().sum();
        let change = match given.cmp(&u64::from(whole)) {
            std::cmp::Ordering::Equal => break,
            std::cmp::Ordering::Less => {
                let some = (0..shares.len()).filter(|index| weights[*index] > 0);
                some.min_by_key(|index| surplus(shares[*index], *index)).map(|index| (index, shares[index] + 1))
            }
            std::cmp::Ordering::Greater => {
                let several = (0..shares.len()).filter(|index| shares[*index] > 1);
                several.max_by_key(|index| surplus(shares[*index], *index)).map(|index| (index, shares[index] - 1))
            }
        };
        // More fleets than parts of the whole: then some have one part too many.
        let Some((index, share)) = change else { break };
        shares[index] = share;
    }
    shares.into_iter().map(|share| u32::try_from(share).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(points: &[u16]) -> Vec<Weight> {
        points.iter().map(|points| Weight::basis_points(*points).unwrap()).collect()
    }

    #[test]
    fn basis_points_become_weights_whose_sum_is_exact() {
        let cases: &[(&[u16], &[u32])] = &[
            (&[10_000], &[1000]),
            (&[0, 10_000], &[0, 1000]),
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
            (&[1000], &[10_000]),
            (&[0, 7], &[0, 10_000]),
            (&[50, 950], &[500, 9500]),
            (&[1000, 1000], &[5000, 5000]),
            (&[1, 1, 1], &[3334, 3333, 3333]),
            (&[1000, 1000, 1], &[4998, 4997, 5]),
            (&[0, 0], &[0, 0]),
            (&[], &[]),
        ];
        for (weights, expected) in cases {
            assert_eq!(from_balancer(weights), points(expected), "{weights:?}");
        }
    }

    #[test]
    fn every_multiple_of_the_step_survives_the_way_there_and_back() {
        for one in 0..=1000_u16 {
            for other in [0, 1, 333, 500].map(|other: u16| other.min(1000 - one)) {
                let split = points(&[one * 10, other * 10, (1000 - one - other) * 10]);
                let weights = to_balancer(&split);
                assert_eq!(weights, [one, other, 1000 - one - other].map(u32::from));
                assert_eq!(from_balancer(&weights), split);
            }
        }
    }

    #[test]
    fn no_weight_is_lost_or_too_large() {
        for first in (0..=10_000_u16).step_by(7) {
            for second in (0..=10_000 - first).step_by(911) {
                let split = points(&[first, second, 10_000 - first - second]);
                let weights = to_balancer(&split);
                assert_eq!(weights.iter().sum::<u32>(), LARGEST, "{split:?}");
                for (weight, asked) in weights.iter().zip(&split) {
                    assert_eq!(*weight == 0, asked.is_none(), "{split:?}");
                    // Two others at most are lifted to 1, and the largest pays for it.
                    assert!(
                        (i64::from(*weight) * 10 - i64::from(asked.points())).abs() <= 20,
                        "{split:?}: {weights:?}"
                    );
                }
            }
        }
    }
}
