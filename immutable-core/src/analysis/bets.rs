//! Evidence as the wealth of a gambler who bets against a hypothesis.
//!
//! Under the hypothesis no bet has a gain to be expected, so the wealth is a nonnegative supermartingale that begins at 1, and by
//! Ville's inequality it ever reaches 1/α with a probability of at most α: however often one looks (Waudby-Smith and Ramdas,
//! "Estimating means of bounded random variables by betting", JRSS B 2024).

use serde::{Deserialize, Serialize};

/// The players' parts of the wealth at the start. The first does not play: what it holds is not lost on a good release, and is there
/// to bet with when that turns bad.
const PARTS: [f64; 4] = [0.04, 0.29, 0.29, 0.38];

/// What each of the others puts on an interval, as a share of its purse times what is gained: above −1 and below 1.
pub(super) type Bets = [f64; 3];

/// The part of the wealth that is dealt out anew after each interval, so that no player is ever too poor to see what begins late
/// (Herbster and Warmuth, "Tracking the best expert", 1998). It costs at most so much of the wealth for each interval.
const DEALT: f64 = 0.0005;

/// What two sides are cut to, so that their sum is a number.
const LARGEST: f64 = 1e150;

/// The wealth of all players, and how it is shared between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub(super) struct Wealth {
    /// The natural logarithm of the wealth.
    log: f64,
    /// Each player's part of it.
    purses: [f64; PARTS.len()],
}

impl Default for Wealth {
    fn default() -> Self {
        Self { log: 0.0, purses: PARTS }
    }
}

impl Wealth {
    /// Plays one interval: none of the bets is above 0 on average under the hypothesis, given what was before.
    pub(super) fn play(&mut self, bets: Bets) {
        for (purse, bet) in self.purses.iter_mut().skip(1).zip(bets) {
            *purse *= 1.0 + bet;
        }
        let total: f64 = self.purses.iter().sum();
        self.log += total.ln();
        for (purse, part) in self.purses.iter_mut().zip(PARTS) {
            *purse = (1.0 - DEALT) * *purse / total + DEALT * part;
        }
    }

    /// The natural logarithm of the evidence against the hypothesis.
    pub(super) fn log(&self) -> f64 {
        self.log
    }
}

/// A wealth as it is read: it may be damaged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    log: f64,
    purses: [f64; PARTS.len()],
}

impl TryFrom<Unchecked> for Wealth {
    type Error = &'static str;

    fn try_from(Unchecked { log, purses }: Unchecked) -> Result<Self, Self::Error> {
        let whole = (purses.iter().sum::<f64>() - 1.0).abs() < 1e-6;
        let valid = log.is_finite() && whole && purses.iter().all(|purse| *purse > 0.0);
        valid.then_some(Self { log, purses }).ok_or("a wealth is shared in parts above 0 that make 1 together")
    }
}

/// Bets that the canary has more than is allowed beside the baseline, `one` being a single event (0 for a level).
///
/// None is above 0 on average if the canary and the baseline could have had each other's numbers, or the canary has fewer: each rises
/// with the canary's and falls with what is allowed, which is at least the baseline's, and changes its sign when they change places.
pub(super) fn on_worse(canary: f64, allowed: f64, one: f64) -> Bets {
    let lead = lead(canary, allowed, 0.0);
    [0.15 * lead, 0.4 * lead, 0.98 * steep_lead(canary, allowed, one)]
}

/// Bets that the canary has less than is tolerated beside the baseline.
///
/// None is above 0 on average if the canary's events come at the tolerated multiple of a rate, or above, and this rate and the
/// baseline's could be each other's: the lead is concave in the canary's part of the events, and what is added to the sum gives less
/// weight to few events. In that model, and not beyond it: a canary whose events come in larger clusters than the baseline's, or in
/// rarer bursts, has fewer in most intervals.
pub(super) fn on_better(tolerated: f64, canary: f64, one: f64) -> Bets {
    let (few, many) = (lead(tolerated, canary, 5.0 * one), lead(tolerated, canary, 30.0 * one));
    [0.3 * few, 0.98 * few, 0.98 * many]
}

/// Bets that there are more events than are allowed, whatever anybody else has.
///
/// None is above 0 on average if no more are to be expected than are allowed, given what was before, however they are clustered: the
/// lead is concave in the events, so that its mean is at most the lead of their mean.
pub(super) fn on_above(events: f64, allowed: f64) -> Bets {
    [1.0, 5.0, 50.0].map(|more| 0.98 * lead(events, allowed, more))
}

/// The same for a level. What is a little of it depends on its unit, so that nothing is added to the sum.
pub(super) fn on_level_above(level: f64, allowed: f64) -> Bets {
    [0.15, 0.4, 0.98].map(|stake| stake * lead(level, allowed, 0.0))
}

/// Bets on something that is so (1) or not (−1).
pub(super) fn on_sign(sign: f64) -> Bets {
    [0.15 * sign, 0.4 * sign, 0.98 * sign]
}

/// How far `a` is above `b`, from −1 to 1, as a share of their sum and something more. Nothing and nothing say nothing.
fn lead(a: f64, b: f64, more: f64) -> f64 {
    let (a, b) = (a.min(LARGEST), b.min(LARGEST));
    if a + b > 0.0 { (a - b) / (a + b + more) } else { 0.0 }
}

/// The lead of the squares, with `more` added to either.
///
/// For independent events at ρ times the rate the best gain is tanh(½ (a − b) ln ρ). This is as steep where it matters, and loses
/// less when events come in bursts.
fn steep_lead(a: f64, b: f64, more: f64) -> f64 {
    let (a, b) = (a.min(LARGEST) + more, b.min(LARGEST) + more);
    let (less, most) = if a < b { (a, b) } else { (b, a) };
    if most <= 0.0 {
        return 0.0;
    }
    let squared = (less / most).powi(2);
    let lead = (1.0 - squared) / (1.0 + squared);
    if a < b { -lead } else { lead }
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
    // Weights are taken relative to the largest, so that their sum is a number whatever they are.
    let unit = values.clone().map(|(_, weight)| weight).fold(0.0, f64::max);
    let weight: f64 = values.clone().map(|(_, weight)| weight / unit).sum();
    let sum: f64 = values.map(|(log, weight)| weight / unit * (log - largest).exp()).sum();
    largest + (sum / weight).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A state that some game leads to.
    fn any_wealth() -> impl Strategy<Value = Wealth> {
        prop::collection::vec(prop::array::uniform3(-0.98..=0.98f64), 0..50).prop_map(|games| {
            let mut wealth = Wealth::default();
            for bets in games {
                wealth.play(bets);
            }
            wealth
        })
    }

    fn side() -> impl Strategy<Value = f64> {
        let absurd = [1e-300, f64::MAX, f64::INFINITY];
        prop_oneof![Just(0.0), (0..40u32).prop_map(f64::from), 0.0..1e9, prop::sample::select(absurd.to_vec())]
    }

    /// By which factor the wealth grows when two arms have so many events.
    fn factor(wealth: &Wealth, canary: f64, baseline: f64, margin: f64) -> f64 {
        let mut after = wealth.clone();
        after.play(on_worse(canary, (1.0 + margin) * baseline, 1.0));
        (after.log() - wealth.log()).exp()
    }

    proptest! {
        /// The hypothesis of a failure: either arm could have had the other's numbers. Whatever they are, and whatever was before.
        #[test]
        fn nothing_is_won_on_average_when_the_arms_are_exchangeable(wealth in any_wealth(), a in side(), b in side(), margin in 0.0..3.0f64) {
            let mean = f64::midpoint(factor(&wealth, a, b, margin), factor(&wealth, b, a, margin));
            prop_assert!(mean <= 1.0 + 1e-12, "{mean}");
        }

        #[test]
        fn a_wealth_stays_a_number_and_is_read_as_it_was_written(wealth in any_wealth(), a in side(), b in side(), one in 0..2u8) {
            let beside = [on_worse(a, b, f64::from(one)), on_better(a, b, f64::from(one)), on_sign(1.0), on_sign(-1.0)];
            for bets in beside.into_iter().chain([on_above(a, b), on_level_above(a, b)]) {
                let mut wealth = wealth.clone();
                wealth.play(bets);
                prop_assert!(wealth.log.is_finite() && wealth.purses.iter().all(|purse| *purse > 0.0), "{:?}", wealth);
                let json = serde_json::to_string(&wealth).expect("json");
                prop_assert_eq!(serde_json::from_str::<Wealth>(&json).expect("wealth"), wealth);
            }
        }
    }

    /// The hypothesis beside a fixed bound: whatever the shape, the mean is at most what is allowed. Two points are the extreme ones.
    #[test]
    fn nothing_is_won_on_average_within_a_bound() {
        for allowed in [0.01, 0.3, 1.0, 7.0, 500.0] {
            for low in [0.0, 0.1, 0.5, 0.9, 1.0] {
                for high in [1.0, 1.001, 2.0, 10.0, 1e6] {
                    // So often the high one that the mean is what is allowed.
                    let often = if high > low { (1.0 - low) / (high - low) } else { 0.0 };
                    for bets in [on_above, on_level_above] {
                        let (one, other) = (bets(high * allowed, allowed), bets(low * allowed, allowed));
                        let means = one.iter().zip(other).map(|(high, low)| often * high + (1.0 - often) * low);
                        let most = means.fold(f64::MIN, f64::max);
                        assert!(most <= 1e-9, "{most}: {low} or {high} times {allowed}");
                    }
                }
            }
        }
    }

    /// The hypothesis of a pass: events at `tolerance` times a rate, where this rate and the baseline's may be exchanged.
    #[test]
    fn nothing_is_won_on_average_when_the_canary_is_worse_by_the_tolerance() {
        for tolerance in [1.1, 1.5, 2.0, 4.0] {
            for rate in [0.01, 0.1, 1.0, 3.0, 10.0] {
                for burst in [1.0, 2.0, 10.0] {
                    let one = means(tolerance, tolerance * rate, rate * burst);
                    let other = means(tolerance, tolerance * rate * burst, rate);
                    let mean = one.iter().zip(other).map(|(one, other)| one + other).fold(f64::MIN, f64::max);
                    assert!(mean <= 1e-9, "{mean} at {rate} and {burst} times it, {tolerance}");
                }
            }
        }
    }

    /// The means of all bets when both arms have so many events on average, independent of each other.
    fn means(tolerance: f64, canary: f64, baseline: f64) -> Bets {
        let (canary, baseline) = (poisson(canary), poisson(baseline));
        let mut means = [0.0; 3];
        for (c, p) in canary.iter().enumerate() {
            for (b, q) in baseline.iter().enumerate() {
                let bets = on_better(tolerance * count(b), count(c), 1.0);
                means.iter_mut().zip(bets).for_each(|(mean, bet)| *mean += p * q * bet);
            }
        }
        means
    }

    /// The probabilities of 0, 1, 2, … events, until they are next to nothing.
    fn poisson(mean: f64) -> Vec<f64> {
        let mut all = vec![(-mean).exp()];
        while count(all.len()) < mean + 12.0 * mean.sqrt() + 20.0 {
            all.push(all[all.len() - 1] * mean / count(all.len()));
        }
        all
    }

    fn count(of: usize) -> f64 {
        f64::from(u32::try_from(of).expect("few"))
    }

    #[test]
    fn what_begins_late_is_seen_almost_as_soon_as_what_begins_at_once() {
        let until_sure = |mut wealth: Wealth| {
            let from = (0..1_000).find(|_| {
                wealth.play(on_worse(20.0, 1.0, 1.0));
                wealth.log() >= 100f64.ln()
            });
            from.expect("an interval")
        };
        let mut good = Wealth::default();
        for (canary, baseline) in [(3.0, 1.0), (1.0, 4.0)].repeat(2_000) {
            good.play(on_worse(canary, baseline, 1.0));
        }
        let (at_once, late) = (until_sure(Wealth::default()), until_sure(good.clone()));
        assert!(at_once <= 10 && late <= 30, "{at_once} {late} {good:?}");
    }

    #[test]
    fn a_damaged_wealth_is_an_error() {
        for json in [
            "{}",
            "null",
            "[0,0,0,0]",
            r#"{"log":null,"purses":[0.25,0.25,0.25,0.25]}"#,
            r#"{"log":1e999,"purses":[0.25,0.25,0.25,0.25]}"#,
            r#"{"log":0,"purses":[0.5,0.25,0.25]}"#,
            r#"{"log":0,"purses":[1,1,1,1]}"#,
            r#"{"log":0,"purses":[0.5,0.5,0.5,-0.5]}"#,
            r#"{"log":0,"purses":[0.25,0.25,0.25,0.25],"more":1}"#,
        ] {
            assert!(serde_json::from_str::<Wealth>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn weights_of_any_size_make_a_mean() {
        let mean = |values: &[(f64, f64)]| mean_of_logs(values.iter().copied());
        assert!((mean(&[(2.0, 1e308), (2.0, 1e308), (2.0, 1e-308)]) - 2.0).abs() < 1e-12);
        assert!((mean(&[(1e6, 1.0), (0.0, 1.0)]) - (1e6 - 2f64.ln())).abs() < 1e-6);
        assert!(mean(&[]).is_infinite());
    }
}
