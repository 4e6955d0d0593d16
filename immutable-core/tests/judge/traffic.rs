//! Traffic of two arms that serve alike, made from a seed.
//!
//! A thousand requests a minute to either arm, of which one in two hundred fails: so few that the usual tests have something to
//! do, and as many as a canary of a middling service has.

use std::f64::consts::TAU;

use fastrand::Rng;

/// Requests to each arm in a minute.
pub(crate) const REQUESTS: f64 = 1_000.0;

/// The share of them that fails.
pub(crate) const ERRORS: f64 = 0.005;

/// What the errors of both arms are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Column {
    /// Each fails for itself.
    Independent,
    /// The same, and nine times the traffic at noon of that at night.
    Daily,
    /// Errors come in clusters of four on average, in each arm its own, and more often in some quarters of an hour than in others.
    Bursty,
    /// Each fails for itself; every four hours twenty times as many fail in both arms, for ten minutes.
    Incidents,
    /// Each fails for itself; one of three canaries has twice as many errors as the others.
    OddHost,
}

impl Column {
    pub(crate) const ALL: [Self; 5] = [Self::Independent, Self::Daily, Self::Bursty, Self::Incidents, Self::OddHost];
}

/// What both arms see in one interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    pub(crate) requests: u64,
    pub(crate) canary: u64,
    pub(crate) baseline: u64,
}

/// One run of a column.
#[derive(Debug)]
pub(crate) struct Traffic {
    column: Column,
    random: Rng,
    /// The length of an interval.
    minutes: f64,
    now: f64,
    /// Of a slow wave of both arms, about normal.
    wave: f64,
    incident_until: f64,
}

impl Traffic {
    pub(crate) fn new(column: Column, minutes: f64, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let wave = normal(&mut random);
        Self { column, random, minutes, now: 0.0, wave, incident_until: 0.0 }
    }

    /// The next interval, in which the canary has so many times the errors.
    pub(crate) fn next(&mut self, effect: f64) -> Look {
        self.now += self.minutes;
        let daily = if self.column == Column::Daily { 1.0 - 0.8 * (TAU * self.now / 1_440.0).cos() } else { 1.0 };
        let requests = (REQUESTS * self.minutes * daily).round();
        let errors = requests * ERRORS * self.disturbance();
        let odd = if self.column == Column::OddHost { 4.0 / 3.0 } else { 1.0 };
        let canary = self.errors(errors * odd * effect).min(requests as u64);
        let baseline = self.errors(errors).min(requests as u64);
        Look { requests: requests as u64, canary, baseline }
    }

    /// By what both arms are worse than usual.
    fn disturbance(&mut self) -> f64 {
        match self.column {
            Column::Bursty => {
                let kept = (-self.minutes / 15.0).exp();
                self.wave = kept * self.wave + (1.0 - kept * kept).sqrt() * normal(&mut self.random);
                (0.5 * self.wave - 0.125).exp()
            }
            Column::Incidents => {
                if self.random.f64() < self.minutes / 240.0 {
                    self.incident_until = self.now + 10.0;
                }
                if self.now < self.incident_until { 20.0 } else { 1.0 }
            }
            _ => 1.0,
        }
    }

    fn errors(&mut self, mean: f64) -> u64 {
        if self.column == Column::Bursty {
            clusters(&mut self.random, mean, 4.0)
        } else {
            poisson(&mut self.random, mean)
        }
    }
}

pub(crate) fn normal(random: &mut Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (TAU * random.f64()).cos()
}

/// So many on average, each for itself.
pub(crate) fn poisson(random: &mut Rng, mean: f64) -> u64 {
    if mean > 60.0 {
        return (mean + mean.sqrt() * normal(random)).round().max(0.0) as u64;
    }
    let (end, mut product, mut count) = ((-mean).exp(), random.f64(), 0);
    while product > end {
        product *= random.f64();
        count += 1;
    }
    count
}

/// So many on average, in clusters of so many on average.
pub(crate) fn clusters(random: &mut Rng, mean: f64, size: f64) -> u64 {
    let begun = poisson(random, mean / size);
    let more = |random: &mut Rng| (random.f64().max(1e-300).ln() / (1.0 - 1.0 / size).ln()).floor() as u64;
    (0..begun).map(|_| 1 + if size > 1.0 { more(random) } else { 0 }).sum()
}
