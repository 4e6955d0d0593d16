//! What a number of Prometheus is worth as a value of a metric.

use immutable_core::provider::MetricValue;

/// What is counted, from a part of which nothing may be known because it never happened.
///
/// Both are rounded to the nearest whole number, as `increase` guesses what it did not see and so has fractions. A part may be one
/// more than the whole after that; then it is all of it. What cannot be is no value: what is not a number, infinite or negative, and
/// a part that is more.
pub(crate) fn ratio(part: Option<f64>, whole: f64) -> Option<MetricValue> {
    let part = part.unwrap_or(0.0);
    if !is_count(part) || !is_count(whole) || part.round() > whole.round() + 1.0 {
        return None;
    }
    let whole = rounded(whole);
    (whole > 0).then(|| MetricValue::Ratio { part: rounded(part).min(whole), whole })
}

/// A level; none where it is no number or infinite.
pub(crate) fn gauge(value: f64) -> Option<MetricValue> {
    value.is_finite().then_some(MetricValue::Gauge(value))
}

fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; a cast ends at the limits")]
fn rounded(count: f64) -> u64 {
    count.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rounded_to_the_nearest() {
        let cases = [
            ((Some(1.25), 10.4), (1, 10)),
            ((Some(2.5), 10.5), (3, 11)),
            ((Some(0.4), 1.0), (0, 1)),
            ((Some(0.0), 0.5), (0, 1)),
            ((Some(10.0), 10.0), (10, 10)),
            // Of the same requests: one less was seen of the whole, or the fractions fell apart.
            ((Some(10.5), 10.4), (10, 10)),
            ((Some(2.0), 1.0), (1, 1)),
            ((Some(-0.0), 3.0), (0, 3)),
        ];
        for ((part, whole), (expected, of)) in cases {
            assert_eq!(
                ratio(part, whole),
                Some(MetricValue::Ratio { part: expected, whole: of }),
                "{part:?} of {whole}"
            );
        }
    }

    #[test]
    fn nothing_of_something_is_zero_and_nothing_of_nothing_is_silence() {
        assert_eq!(ratio(None, 12.0), Some(MetricValue::Ratio { part: 0, whole: 12 }));
        for whole in [0.0, 0.49] {
            assert_eq!(ratio(None, whole), None);
            assert_eq!(ratio(Some(0.0), whole), None);
        }
    }

    #[test]
    fn what_cannot_be_is_no_data_and_never_a_pass() {
        let wrong = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0];
        for wrong in wrong {
            assert_eq!(ratio(Some(wrong), 10.0), None, "{wrong} of 10");
            assert_eq!(ratio(Some(1.0), wrong), None, "1 of {wrong}");
            assert_eq!(ratio(None, wrong), None, "nothing of {wrong}");
        }
        assert_eq!(ratio(Some(12.0), 10.0), None);
        assert_eq!(ratio(Some(3.0), 0.4), None);
    }

    #[test]
    fn a_level_is_any_number() {
        assert_eq!(gauge(-1.5), Some(MetricValue::Gauge(-1.5)));
        assert_eq!(gauge(0.0), Some(MetricValue::Gauge(0.0)));
        for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(gauge(none), None);
        }
    }
}
