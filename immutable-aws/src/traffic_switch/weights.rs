//! Weights as a load balancer counts them.

use immutable_core::model::Weight;

/// The largest weight of a target group; the smallest is 0.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html>
pub(super) const LARGEST: u32 = 999;

/// What the weights of a split sum to at the balancer, so that a tenth of a percent is one. A fleet that has everything would have
/// more than is allowed, and what it has instead is everything as well.
const WHOLE: u32 = LARGEST + 1;

/// Weights for the balancer, in the order of these. Multiples of ten basis points are met exactly.
pub(super) fn to_balancer(weights: &[Weight]) -> Vec<u32> {
    Weight::to_parts(weights, WHOLE).into_iter().map(|weight| weight.min(LARGEST)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_all_of_the_traffic_is_no_more_than_a_balancer_takes() {
        let cases: &[(&[u16], &[u32])] = &[
            (&[10_000], &[999]),
            (&[0, 10_000], &[0, 999]),
            (&[1, 9999], &[1, 999]),
            (&[5, 5, 9990], &[1, 1, 998]),
            (&[2000; 5], &[200; 5]),
            (&[0, 0], &[0, 0]),
        ];
        for (split, expected) in cases {
            let weights: Vec<_> = split.iter().map(|points| Weight::basis_points(*points).unwrap()).collect();
            let balanced = to_balancer(&weights);
            assert_eq!(balanced, *expected, "{split:?}");
            if split.iter().all(|points| points.is_multiple_of(10)) {
                assert_eq!(Weight::from_parts(&balanced), weights);
            }
        }
    }
}
