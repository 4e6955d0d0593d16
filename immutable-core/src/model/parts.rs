//! Weights as platforms count them, and back.

use super::Weight;

impl Weight {
    /// So many parts of a whole for each of these weights, in their order. The sum is the whole, or nothing when all weights are. Who has a weight has a
    /// part, as long as the whole is no less than their number.
    ///
    /// ```
    /// # use immutable_core::model::Weight;
    /// let weights = [Weight::percent(99)?, Weight::percent(1)?];
    /// assert_eq!(Weight::to_parts(&weights, 1000), [990, 10]);
    /// assert_eq!(Weight::to_parts(&weights, 10), [9, 1]);
    /// # Ok::<(), immutable_core::model::SplitError>(())
    /// ```
    pub fn to_parts(weights: &[Self], whole: u32) -> Vec<u32> {
        let points: Vec<u32> = weights.iter().map(|weight| u32::from(weight.points())).collect();
        apportion(&points, whole)
    }

    /// The share of all that each of these parts is, in their order. The sum is everything, or nothing when there is no part;
    /// of more than 10 000 who have a part each has a basis point.
    ///
    /// ```
    /// # use immutable_core::model::Weight;
    /// assert_eq!(Weight::from_parts(&[3, 1]), [Weight::percent(75)?, Weight::percent(25)?]);
    /// # Ok::<(), immutable_core::model::SplitError>(())
    /// ```
    pub fn from_parts(parts: &[u32]) -> Vec<Self> {
        let shares = apportion(parts, Self::FULL.points().into());
        let weight = |points: u32| u16::try_from(points).ok().and_then(|points| Self::basis_points(points).ok());
        shares.into_iter().map(|points| weight(points).unwrap_or(Self::FULL)).collect()
    }
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
    fn weights_become_parts_whose_sum_is_the_whole() {
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
        for (weights, expected) in cases {
            assert_eq!(Weight::to_parts(&points(weights), 1000), *expected, "{weights:?}");
        }
        // More of them than parts.
        assert_eq!(Weight::to_parts(&points(&[5000, 3000, 2000]), 2), [1, 1, 1]);
    }

    #[test]
    fn any_parts_are_read_as_the_whole() {
        let cases: &[(&[u32], &[u16])] = &[
            (&[1], &[10_000]),
            (&[u32::MAX], &[10_000]),
            (&[0, 7], &[0, 10_000]),
            (&[50, 950], &[500, 9500]),
            (&[1, 1, 1], &[3334, 3333, 3333]),
            (&[999, 999, 1], &[4998, 4997, 5]),
            (&[0, 0], &[0, 0]),
            (&[], &[]),
        ];
        for (parts, expected) in cases {
            assert_eq!(Weight::from_parts(parts), points(expected), "{parts:?}");
        }
    }

    #[test]
    fn every_multiple_of_a_part_survives_the_way_there_and_back() {
        for one in 0..=1000_u16 {
            for other in [0, 1, 333, 500].map(|other: u16| other.min(1000 - one)) {
                let weights = points(&[one * 10, other * 10, (1000 - one - other) * 10]);
                let parts = Weight::to_parts(&weights, 1000);
                assert_eq!(parts, [one, other, 1000 - one - other].map(u32::from));
                assert_eq!(Weight::from_parts(&parts), weights);
            }
        }
    }

    /// Splits between a few fleets.
    fn splits() -> impl Strategy<Value = Vec<Weight>> {
        proptest::collection::vec(0..=1000_u32, 1..=5).prop_map(|parts| Weight::from_parts(&parts))
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_nobody_is_off_by_more_than_a_rounding(split in splits()) {
            let parts = Weight::to_parts(&split, 1000);
            for (part, weight) in parts.iter().zip(&split) {
                prop_assert_eq!(*part == 0, weight.is_none());
                // The others at most are lifted to 1, and the largest pays for it.
                let most = 10 * (i64::try_from(split.len()).unwrap() - 1);
                prop_assert!((i64::from(*part) * 10 - i64::from(weight.points())).abs() <= most);
            }
            let is_closed = split.iter().all(|weight| weight.is_none());
            prop_assert_eq!(parts.iter().sum::<u32>(), if is_closed { 0 } else { 1000 });
        }

        #[test]
        fn multiples_of_a_part_survive_the_way_there_and_back(split in splits()) {
            let tens: Vec<u16> =
                Weight::to_parts(&split, 1000).iter().map(|part| u16::try_from(*part * 10).unwrap()).collect();
            prop_assert_eq!(Weight::from_parts(&Weight::to_parts(&points(&tens), 1000)), points(&tens));
        }

        #[test]
        fn what_is_read_is_whole_and_forgets_nobody(parts in proptest::collection::vec(0..=999_u32, 1..=5)) {
            let read = Weight::from_parts(&parts);
            let sum: u32 = read.iter().map(|weight| u32::from(weight.points())).sum();
            prop_assert_eq!(sum, if parts.iter().all(|part| *part == 0) { 0 } else { 10_000 });
            for (part, points) in parts.iter().zip(&read) {
                prop_assert_eq!(*part == 0, points.is_none());
            }
        }
    }
}
