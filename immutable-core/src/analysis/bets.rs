//! Evidence as the wealth of a gambler who bets against a hypothesis.
//!
//! Under the hypothesis no bet has a gain to be expected, so the wealth is a nonnegative supermartingale that begins at 1, and by
//! Ville's inequality it ever reaches 1/α with a probability of at most α: however often one looks (Waudby-Smith and Ramdas,
//! "Estimating means of bounded random variables by betting", JRSS B 2024).

use serde::{Deserialize, Serialize};

/// The shares of the wealth that are put on each interval. None is best for all effects; the mean of their wealths is a wealth, too.
const BETS: [f64; 7] = [0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95];

/// The natural logarithms of the wealths of all bets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Wealth([f64; BETS.len()]);

impl Wealth {
    /// Plays one interval: `gain` is from −1 to 1 and not above 0 on average under the hypothesis.
    pub(super) fn bet(&mut self, gain: f64) {
        for (log, bet) in self.0.iter_mut().zip(BETS) {
            *log += (bet * gain).ln_1p();
        }
    }

    /// The natural logarithm of the evidence against the hypothesis.
    pub(super) fn log(&self) -> f64 {
        mean_of_logs(self.0.iter().map(|log| (*log, 1.0)))
    }
}

/// The logarithm of the weighted mean of values that are given by their logarithms.
///
/// A mean of e-values is one whatever they have to do with each other (Vovk and Wang, "E-values: calibration, combination and
/// applications", Annals of Statistics 2021).
pub(super) fn mean_of_logs(values: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let largest = values.clone().map(|(log, _)| log).fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    let weight: f64 = values.clone().map(|(_, weight)| weight).sum();
    let sum: f64 = values.map(|(log, weight)| weight * (log - largest).exp()).sum();
    largest + (sum / weight).ln()
}
