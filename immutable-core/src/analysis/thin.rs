//! Making two unequal numbers of requests comparable.

use crate::model::{Fingerprint, MetricName};
use crate::provider::MetricValue;

/// What of both values can be compared: levels as they are, events at equal numbers of requests. `None` for a share and a level.
///
/// Each event of the fleet with more requests is kept with the probability that makes the numbers equal. Then either fleet's count
/// has the same distribution if their releases are alike, which scaling would not give: a scaled count varies less. What is kept is
/// a function of the metric and the interval, so that counting again gives the same.
pub(super) fn comparable(
    metric: &MetricName,
    interval: u64,
    canary: MetricValue,
    baseline: MetricValue,
) -> Option<(f64, f64)> {
    match (canary, baseline) {
        (MetricValue::Gauge(canary), MetricValue::Gauge(baseline)) => Some((canary, baseline)),
        (MetricValue::Ratio { part: c, whole: n }, MetricValue::Ratio { part: b, whole: m }) => {
            let mut random = fastrand::Rng::with_seed(seed(metric, interval));
            let requests = n.min(m);
            Some((thinned(&mut random, c, n, requests), thinned(&mut random, b, m, requests)))
        }
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
fn thinned(random: &mut fastrand::Rng, events: u64, requests: u64, keep: u64) -> f64 {
    if keep == requests {
        return events as f64;
    }
    let probability = keep as f64 / requests as f64;
    (0..events).filter(|_| random.f64() < probability).count() as f64
}

fn seed(metric: &MetricName, interval: u64) -> u64 {
    let digest = Fingerprint::of(format!("{metric}\u{1f}{interval}")).to_string();
    u64::from_str_radix(&digest[..16], 16).expect("invariant: a fingerprint is hexadecimal digits")
}
