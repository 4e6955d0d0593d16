//! Making two unequal numbers of requests comparable.

use crate::model::{Fingerprint, MetricName};
use crate::provider::MetricValue;

/// Up to so many events are drawn one by one.
const ONE_BY_ONE: u64 = 10_000;

/// What of both values can be compared: levels as they are, events at equal numbers of requests. `None` for a share and a level.
///
/// Of the fleet with more requests as many are drawn as the other had, without putting back, and the events among them are counted.
/// Then either fleet's count has the same distribution if their releases are alike, which scaling would not give: a scaled count
/// varies less. What is drawn is a function of the metric and the interval, so that counting again gives the same.
#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
pub(super) fn comparable(
    metric: &MetricName,
    interval: u64,
    canary: MetricValue,
    baseline: MetricValue,
) -> Option<(f64, f64)> {
    match (canary, baseline) {
        (MetricValue::Gauge(canary), MetricValue::Gauge(baseline)) => Some((canary, baseline)),
        (MetricValue::Ratio { part: c, whole: n }, MetricValue::Ratio { part: b, whole: m }) => {
            let drawn = |events, requests, draws| {
                if draws == requests { events } else { draw(&mut rng(metric, interval), events, requests, draws) }
            };
            let requests = n.min(m);
            Some((drawn(c, n, requests) as f64, drawn(b, m, requests) as f64))
        }
        _ => None,
    }
}

/// How many of the events are among so many draws from the requests (a hypergeometric number).
#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
fn draw(random: &mut fastrand::Rng, events: u64, requests: u64, draws: u64) -> u64 {
    if events > ONE_BY_ONE {
        return draw_many(random, events, requests, draws);
    }
    let (mut left, mut kept) = (requests, 0);
    for _ in 0..events {
        if random.f64() * (left as f64) < (draws - kept) as f64 {
            kept += 1;
        }
        left -= 1;
    }
    kept
}

/// The same by its mean and variance, in a time that does not grow with the events.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number that varies by hundreds, and is cut to what is possible"
)]
fn draw_many(random: &mut fastrand::Rng, events: u64, requests: u64, draws: u64) -> u64 {
    let (share, part) = (events as f64 / requests as f64, draws as f64 / requests as f64);
    let spread = (requests as f64 * share * (1.0 - share) * part * (1.0 - part)).sqrt();
    let normal = (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
    let kept = (events as f64 * part + spread * normal).round() as u64;
    // All that are not drawn hold at most so many events.
    let least = events.saturating_sub(requests - draws);
    kept.clamp(least, events.min(draws))
}

fn rng(metric: &MetricName, interval: u64) -> fastrand::Rng {
    let digest = Fingerprint::of(format!("{metric}\u{1f}{interval}")).to_string();
    fastrand::Rng::with_seed(
        u64::from_str_radix(&digest[..16], 16).expect("invariant: a fingerprint is hexadecimal digits"),
    )
}

#[cfg(test)]
#[expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "counts, which are exact")]
mod tests {
    use super::*;

    fn drawn(interval: u64, events: u64, requests: u64, draws: u64) -> f64 {
        let ratio = |part, whole| MetricValue::Ratio { part, whole };
        let metric = "errors".parse().expect("name");
        let (c, b) = comparable(&metric, interval, ratio(0, draws), ratio(events, requests)).expect("shares");
        assert_eq!(c, 0.0);
        b
    }

    #[test]
    fn what_is_drawn_is_what_a_smaller_fleet_would_have_had() {
        for (events, requests, draws) in [(50, 1_000, 100), (900, 1_000, 300), (1_000_000, 4_000_000, 1_000_000)] {
            let all: Vec<f64> = (0..4_000).map(|interval| drawn(interval, events, requests, draws)).collect();
            let (n, k, d) = (requests as f64, events as f64, draws as f64);
            let (mean, variance) = (d * k / n, d * (k / n) * (1.0 - k / n) * (n - d) / (n - 1.0));
            let measured = all.iter().sum::<f64>() / 4_000.0;
            let spread = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4_000.0;
            assert!((measured - mean).abs() < 5.0 * (variance / 4_000.0).sqrt(), "{measured} {mean}");
            assert!((spread / variance - 1.0).abs() < 0.12, "{spread} {variance}");
        }
    }

    #[test]
    fn drawing_again_gives_the_same_and_all_of_all_is_all() {
        assert_eq!(drawn(7, 500, 10_000, 900), drawn(7, 500, 10_000, 900));
        assert_eq!(drawn(7, 10_000, 10_000, 900), 900.0);
        assert_eq!(drawn(7, u64::MAX, u64::MAX, 900), 900.0);
        assert_eq!(drawn(7, 0, u64::MAX, 900), 0.0);
        assert!(drawn(7, u64::MAX / 2, u64::MAX, 900) <= 900.0);
    }
}
