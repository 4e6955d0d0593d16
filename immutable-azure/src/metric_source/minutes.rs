//! Which minutes count, and what is made of them.

use std::collections::BTreeMap;
use std::time::Duration;

use immutable_core::provider::{MetricSample, MetricValue, Window};
use jiff::Timestamp;

/// In seconds.
pub(super) const MINUTE: i64 = 60;

/// What is known of minutes, by their beginnings in seconds since 1970.
pub(super) type Minutes = BTreeMap<i64, MetricValue>;

/// Whole minutes, in seconds since 1970: from, inclusive, to, exclusive.
pub(super) type Span = (i64, i64);

/// A ratio of what was counted. Azure counts in floating point.
pub(super) fn ratio(part: f64, whole: f64) -> MetricValue {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is too large is the largest, what is below zero zero"
    )]
    let count = |value: f64| value.round() as u64;
    let whole = count(whole);
    MetricValue::Ratio { part: count(part).min(whole), whole }
}

/// Adds what is known of a minute: all requests together, or the slowest.
pub(super) fn add(minutes: &mut Minutes, at: i64, value: MetricValue) {
    minutes.entry(at).and_modify(|known| *known = together(*known, value)).or_insert(value);
}

fn together(one: MetricValue, other: MetricValue) -> MetricValue {
    match (one, other) {
        (MetricValue::Ratio { part: a, whole: b }, MetricValue::Ratio { part: c, whole: d }) => {
            MetricValue::Ratio { part: a.saturating_add(c), whole: b.saturating_add(d) }
        }
        (MetricValue::Gauge(one), MetricValue::Gauge(other)) => MetricValue::Gauge(one.max(other)),
        _ => one,
    }
}

/// The window without what may not be complete: of the newest minutes the requests may be told already and the errors among them not yet, which would
/// look like none.
pub(super) fn settled(window: Window, now: Timestamp, lag: Duration) -> Window {
    let newest = now.checked_sub(lag).unwrap_or(Timestamp::MIN);
    Window { from: window.from, to: window.to.min(newest) }
}

/// The minutes that are in the window as a whole.
pub(super) fn whole_minutes(window: Window) -> Option<Span> {
    let up = |time: Timestamp| {
        let seconds = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
        seconds.div_euclid(MINUTE) * MINUTE + if seconds.rem_euclid(MINUTE) > 0 { MINUTE } else { 0 }
    };
    let (from, to) = (up(window.from), window.to.as_second().div_euclid(MINUTE) * MINUTE);
    (from < to).then_some((from, to))
}

/// What is told of these minutes; of one without anything counted, nothing.
pub(super) fn samples(minutes: &Minutes, (from, to): Span) -> Vec<MetricSample> {
    let sample = |(at, value): (&i64, &MetricValue)| {
        let (start, end) = (Timestamp::from_second(*at).ok()?, Timestamp::from_second(at + MINUTE).ok()?);
        let is_silence = matches!(value, MetricValue::Ratio { whole: 0, .. });
        (!is_silence).then_some(MetricSample { window: Window { from: start, to: end }, value: *value })
    };
    minutes.range(from..to).filter_map(sample).collect()
}
