//! The rules of other tools, and the reference, each asked at each look.

use std::collections::VecDeque;

use crate::traffic::Look;

/// A rule that is told of each interval and says whether the canary has failed.
pub(crate) trait Rule {
    fn fails(&mut self, look: Look) -> bool;
}

/// Plain bets with fixed stakes on x = (c − (1+m)·b) / (c + (1+m)·b): the mean of seven wealths against 1/α.
pub(crate) struct Reference {
    logs: [f64; 7],
}

impl Reference {
    const STAKES: [f64; 7] = [0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95];

    pub(crate) fn new() -> Self {
        Self { logs: [0.0; 7] }
    }
}

impl Rule for Reference {
    fn fails(&mut self, look: Look) -> bool {
        let (c, b) = (look.canary as f64, 1.1 * look.baseline as f64);
        let gain = if c + b > 0.0 { (c - b) / (c + b) } else { 0.0 };
        self.logs.iter_mut().zip(Self::STAKES).for_each(|(log, stake)| *log += (stake * gain).ln_1p());
        self.logs.iter().map(|log| log.exp()).sum::<f64>() / 7.0 >= 100.0
    }
}

/// A z-test of two proportions over all so far, two-sided at 1 %.
#[derive(Default)]
pub(crate) struct ZTest {
    requests: f64,
    canary: f64,
    baseline: f64,
}

impl Rule for ZTest {
    fn fails(&mut self, look: Look) -> bool {
        self.requests += look.requests as f64;
        self.canary += look.canary as f64;
        self.baseline += look.baseline as f64;
        let pooled = (self.canary + self.baseline) / (2.0 * self.requests);
        let error = (pooled * (1.0 - pooled) * 2.0 / self.requests).sqrt();
        error > 0.0 && ((self.canary - self.baseline) / self.requests / error).abs() > 2.575_8
    }
}

/// Kayenta's: Mann–Whitney at 98 % over the last hour. High if the interval of confidence of the shift (Hodges–Lehmann) is above a
/// quarter of the shift itself.
pub(crate) struct Kayenta {
    canary: VecDeque<usize>,
    baseline: VecDeque<usize>,
    /// How many pairs have which difference.
    differences: Vec<u32>,
}

impl Kayenta {
    const POINTS: usize = 60;
    const LARGEST: usize = 400;

    pub(crate) fn new() -> Self {
        let differences = vec![0; 2 * Self::LARGEST + 1];
        Self { canary: VecDeque::new(), baseline: VecDeque::new(), differences }
    }

    /// The difference that so many are below.
    fn ranked(&self, rank: f64) -> f64 {
        let mut below = 0.0;
        let at = self.differences.iter().position(|count| {
            below += f64::from(*count);
            below >= rank
        });
        at.unwrap() as f64 - Self::LARGEST as f64
    }
}

impl Rule for Kayenta {
    fn fails(&mut self, look: Look) -> bool {
        let (c, b) = ((look.canary as usize).min(Self::LARGEST), (look.baseline as usize).min(Self::LARGEST));
        if self.canary.len() == Self::POINTS {
            let (old_c, old_b) = (self.canary.pop_front().unwrap(), self.baseline.pop_front().unwrap());
            self.baseline.iter().for_each(|b| self.differences[old_c + Self::LARGEST - b] -= 1);
            self.canary.iter().for_each(|c| self.differences[c + Self::LARGEST - old_b] -= 1);
            self.differences[old_c + Self::LARGEST - old_b] -= 1;
        }
        self.baseline.iter().for_each(|b| self.differences[c + Self::LARGEST - b] += 1);
        self.canary.push_back(c);
        self.canary.iter().for_each(|c| self.differences[c + Self::LARGEST - b] += 1);
        self.baseline.push_back(b);
        if self.canary.len() < Self::POINTS {
            return false;
        }
        let points = Self::POINTS as f64;
        let spread = (points * points * (2.0 * points + 1.0) / 12.0).sqrt();
        let (shift, lowest) = (self.ranked(points * points / 2.0), self.ranked(points * points / 2.0 - 2.326 * spread));
        lowest > 0.25 * shift && shift > 0.0
    }
}

/// An error rate above 1 % in five looks.
#[derive(Default)]
pub(crate) struct Limit {
    failures: u32,
}

impl Rule for Limit {
    fn fails(&mut self, look: Look) -> bool {
        self.failures += u32::from(look.canary as f64 > 0.01 * look.requests as f64);
        self.failures >= 5
    }
}
