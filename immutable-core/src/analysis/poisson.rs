//! Random counts of events that come independently of each other.

/// A count with such a mean. Above a mean of 50 it is a rounded normal variable, which then differs by less than matters.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 up, and rounded")]
pub(super) fn poisson(random: &mut fastrand::Rng, mean: f64) -> u64 {
    if mean > 50.0 {
        let (radius, angle) = ((-2.0 * (1.0 - random.f64()).ln()).sqrt(), std::f64::consts::TAU * random.f64());
        return (mean + mean.sqrt() * radius * angle.cos()).round().max(0.0) as u64;
    }
    // How many exponential times fit into one unit: Knuth, "Seminumerical Algorithms", 3.4.1.
    let (limit, mut product, mut count) = ((-mean).exp(), random.f64(), 0);
    while product > limit {
        product *= random.f64();
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_the_same() {
        for mean in [0.02, 0.5, 7.0, 49.0, 51.0, 900.0] {
            let mut random = fastrand::Rng::with_seed(1);
            let draws: Vec<f64> =
                (0..40_000).map(|_| f64::from(u32::try_from(poisson(&mut random, mean)).unwrap())).collect();
            let average = draws.iter().sum::<f64>() / 40_000.0;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 40_000.0;
            // Five standard errors of either.
            assert!((average - mean).abs() < 5.0 * (mean / 40_000.0).sqrt(), "{mean}: {average}");
            let error = 5.0 * ((mean + 2.0 * mean * mean) / 40_000.0).sqrt();
            assert!((variance - mean).abs() < error, "{mean}: {variance}");
        }
    }
}
