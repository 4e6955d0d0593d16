//! Two samples compared by their ranks.

/// Two samples, each in order.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Samples {
    /// Takes numbers; anything else has no rank.
    pub(super) fn new(mut x: Vec<f64>, mut y: Vec<f64>) -> Self {
        x.sort_unstable_by(f64::total_cmp);
        y.sort_unstable_by(f64::total_cmp);
        Self { x, y }
    }

    /// How many standard deviations the sum of ranks of `x − shift` is above its mean if `x − shift` and `y` are alike: the test of
    /// Mann and Whitney with the normal approximation, ties and the correction for continuity. It falls as the shift grows. None
    /// when all values are the same, or when there are none.
    pub(super) fn deviations(&self, shift: f64) -> Option<f64> {
        let (pairs, n) = (count(self.x.len()) * count(self.y.len()), count(self.x.len() + self.y.len()));
        let (above, ties) = self.merge(shift);
        let excess = above - pairs / 2.0;
        let variance = pairs / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
        let correction = if excess == 0.0 { 0.0 } else { excess.signum() / 2.0 };
        (variance > 0.0).then(|| (excess - correction) / variance.sqrt())
    }

    /// The shift that best takes `y` to `x`, the median of all differences (Hodges and Lehmann, "Estimates of location based on rank
    /// tests", 1963): where half of all pairs are above it. None when there are no values.
    pub(super) fn shift(&self) -> Option<f64> {
        let half = count(self.x.len()) * count(self.y.len()) / 2.0;
        let (least, most) = (self.x.first()? - self.y.last()?, self.x.last()? - self.y.first()?);
        let (mut low, mut high) = (least, most);
        // Each step halves what is left; sixty leave nothing that a number could tell.
        for _ in 0..60 {
            let middle = low.midpoint(high);
            if self.merge(middle).0 > half {
                low = middle;
            } else {
                high = middle;
            }
        }
        // What the search leaves of a shift of nothing would take apart values that are equal.
        let (shift, nothing) = (low.midpoint(high), (most - least) * 1e-12);
        Some(if shift.abs() <= nothing { 0.0 } else { shift })
    }

    /// The mean of `x` by that of `y`. None when either is 0, or not there.
    pub(super) fn ratio_of_means(&self) -> Option<f64> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / count(values.len());
        let (x, y) = (mean(&self.x), mean(&self.y));
        (x != 0.0 && y != 0.0).then_some(x / y).filter(|ratio| ratio.is_finite())
    }

    /// The number of pairs in which `x − shift` is above `y`, equal ones counted by half; and the sum of `t³ − t` over groups of `t`
    /// equal values.
    fn merge(&self, shift: f64) -> (f64, f64) {
        let (mut i, mut j, mut above, mut ties) = (0, 0, 0.0, 0.0);
        while i < self.x.len() || j < self.y.len() {
            let x = self.x.get(i).map_or(f64::INFINITY, |x| x - shift);
            let y = self.y.get(j).copied().unwrap_or(f64::INFINITY);
            let value = x.min(y);
            let own = self.x[i..].iter().take_while(|x| **x - shift <= value).count();
            let other = self.y[j..].iter().take_while(|y| **y <= value).count();
            above += count(own) * (count(j) + count(other) / 2.0);
            let equal = count(own + other);
            ties += equal * equal * equal - equal;
            (i, j) = (i + own, j + other);
        }
        (above, ties)
    }
}

#[expect(clippy::cast_precision_loss, reason = "samples are small")]
fn count(values: usize) -> f64 {
    values as f64
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};
    use statrs::stats_tests::Alternative;
    use statrs::stats_tests::mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu};

    use super::*;

    fn random(seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut random = fastrand::Rng::with_seed(seed);
        // Of a few values, so that many are equal; every third time of many.
        let levels = if seed.is_multiple_of(3) { 1e6 } else { 7.0 };
        let mut sample = |size| (0..size).map(|_| (random.f64() * levels).floor()).collect::<Vec<_>>();
        (sample(2 + usize::try_from(seed % 30).expect("small")), sample(12))
    }

    #[test]
    fn the_test_of_ranks_is_that_of_statrs() {
        for seed in 0..300 {
            let (x, y) = random(seed);
            let by_statrs =
                mannwhitneyu(&x, &y, MannWhitneyUMethod::AsymptoticInclContinuityCorrection, Alternative::TwoSided);
            let p = by_statrs.expect("numbers").1;
            let deviations = Samples::new(x, y).deviations(0.0).expect("values differ");
            let own = 2.0 * Normal::standard().sf(deviations.abs());
            assert!((own.min(1.0) - p).abs() < 1e-9, "seed {seed}: {own} is {p} by statrs");
        }
    }

    #[test]
    fn the_shift_is_the_median_of_all_differences() {
        for seed in 0..300 {
            let (x, y) = random(seed);
            let mut differences: Vec<f64> = x.iter().flat_map(|x| y.iter().map(move |y| x - y)).collect();
            differences.sort_unstable_by(f64::total_cmp);
            let half = differences.len() / 2;
            let least = differences[(differences.len() - 1) / 2];
            let shift = Samples::new(x, y).shift().expect("values");
            assert!(least - 1e-6 <= shift && shift <= differences[half] + 1e-6, "seed {seed}: {shift}");
        }
    }

    #[test]
    fn rare_events_are_no_shift() {
        let rare = |events: u32| (0..20u32).map(|i| if i < events { 0.1 + f64::from(i) } else { 0.0 }).collect();
        assert_eq!(Samples::new(rare(9), rare(1)).shift(), Some(0.0));
    }

    #[test]
    fn what_has_no_spread_has_no_deviation() {
        assert_eq!(Samples::new(vec![1.0; 9], vec![1.0; 9]).deviations(0.0), None);
        assert_eq!(Samples::new(Vec::new(), Vec::new()).shift(), None);
        assert_eq!(Samples::new(vec![0.0], vec![1.0]).ratio_of_means(), None);
        assert_eq!(Samples::new(vec![3.0], vec![2.0]).ratio_of_means(), Some(1.5));
    }
}
