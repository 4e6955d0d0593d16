//! The moments that a server is asked about.

use immutable_core::provider::Window;
use jiff::Timestamp;

/// So many moments are in an answer at most. The server allows
/// [so many steps](https://github.com/prometheus/prometheus/blob/v2.42.0/web/api/v1/api.go) from the first to the last: one moment more.
const POINTS: i64 = 11_000;

const NANOSECONDS: i128 = 1_000_000_000;

/// Moments at the same distance, in seconds since 1970: multiples of the step, where samples of that length end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) step: i64,
}

impl Steps {
    /// The ends of all samples that lie inside the window as a whole.
    pub(crate) fn within(window: Window, step: i64) -> Option<Self> {
        let unit = i128::from(step) * NANOSECONDS;
        let begin = -(-window.from.as_nanosecond()).div_euclid(unit);
        let end = window.to.as_nanosecond().div_euclid(unit);
        // A timestamp has fewer seconds than fit.
        let seconds = |units: i128| i64::try_from(units).ok()?.checked_mul(step);
        (begin < end).then_some(Self { first: seconds(begin + 1)?, last: seconds(end)?, step })
    }

    /// The same in parts that a server answers.
    pub(crate) fn chunks(self) -> impl Iterator<Item = Self> {
        let length = (POINTS - 1) * self.step;
        let next = move |chunk: &Self| {
            let first = chunk.last + self.step;
            (first <= self.last).then(|| Self { first, last: self.last.min(first + length), ..self })
        };
        std::iter::successors(Some(Self { last: self.last.min(self.first + length), ..self }), next)
    }

    /// The moment of an answer, if it was asked for.
    pub(crate) fn find(self, seconds: f64) -> Option<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "what is out of range is not one of these moments")]
        let at = seconds.round() as i64;
        #[expect(clippy::cast_precision_loss, reason = "seconds have half of the digits of a float")]
        let is_whole = (at as f64 - seconds).abs() < 1e-3;
        (is_whole && (self.first..=self.last).contains(&at) && at.rem_euclid(self.step) == 0).then_some(at)
    }

    /// What a sample is about that ends at a moment.
    pub(crate) fn window(self, at: i64) -> Option<Window> {
        let moment = |seconds| Timestamp::from_second(seconds).ok();
        Some(Window { from: moment(at - self.step)?, to: moment(at)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(from: &str, to: &str, step: i64) -> Option<(i64, i64)> {
        let window = Window { from: from.parse().unwrap(), to: to.parse().unwrap() };
        Steps::within(window, step).map(|steps| (steps.first, steps.last))
    }

    #[test]
    fn only_what_lies_inside_the_window_as_a_whole_is_asked_for() {
        let cases = [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:30Z", 10, Some((10, 30))),
            ("1970-01-01T00:00:00.000000001Z", "1970-01-01T00:00:30Z", 10, Some((20, 30))),
            ("1970-01-01T00:00:01Z", "1970-01-01T00:00:29.999999999Z", 10, Some((20, 20))),
            ("1970-01-01T00:00:01Z", "1970-01-01T00:00:19.999999999Z", 10, None),
            ("1970-01-01T00:00:10Z", "1970-01-01T00:00:10Z", 10, None),
            ("1970-01-01T00:00:30Z", "1970-01-01T00:00:10Z", 10, None),
            ("1969-12-31T23:59:45.5Z", "1970-01-01T00:00:05Z", 10, Some((0, 0))),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:30Z", 7, Some((7, 28))),
        ];
        for (from, to, step, expected) in cases {
            assert_eq!(within(from, to, step), expected, "{from} to {to} by {step}");
        }
        let all = Window { from: Timestamp::MIN, to: Timestamp::MAX };
        assert!(Steps::within(all, 1).is_some());
    }

    #[test]
    fn windows_side_by_side_share_no_moment_and_miss_none() {
        let steps = |from, to| {
            let moment = |second| Timestamp::from_second(second).unwrap();
            Steps::within(Window { from: moment(from), to: moment(to) }, 10)
        };
        let ends = |steps: Option<Steps>| steps.map(|steps| (steps.first, steps.last));
        assert_eq!([ends(steps(0, 50)), ends(steps(50, 100))], [Some((10, 50)), Some((60, 100))]);
        // A sample that is cut by the border is in neither.
        assert_eq!([ends(steps(0, 55)), ends(steps(55, 100))], [Some((10, 50)), Some((70, 100))]);
    }

    #[test]
    fn a_long_window_is_asked_for_in_parts() {
        let parts = |points: i64, step| {
            let steps = Steps { first: step, last: points * step, step };
            let parts: Vec<_> = steps.chunks().collect();
            assert_eq!((parts[0].first, parts[parts.len() - 1].last), (steps.first, steps.last));
            assert!(parts.windows(2).all(|pair| pair[0].last + step == pair[1].first));
            parts.iter().map(|part| (part.last - part.first) / step + 1).collect::<Vec<_>>()
        };
        assert_eq!(parts(1, 10), [1]);
        assert_eq!(parts(11_000, 10), [11_000]);
        assert_eq!(parts(11_001, 10), [11_000, 1]);
        assert_eq!(parts(30_000, 1), [11_000, 11_000, 8_000]);
    }

    #[test]
    fn a_moment_that_was_not_asked_for_is_not_found() {
        let steps = Steps { first: 20, last: 40, step: 10 };
        let cases = [
            (20.0, Some(20)),
            (30.0004, Some(30)),
            (40.0, Some(40)),
            (10.0, None),
            (50.0, None),
            (25.0, None),
            (30.5, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ];
        for (seconds, expected) in cases {
            assert_eq!(steps.find(seconds), expected, "{seconds}");
        }
        let window = steps.window(20).unwrap();
        assert_eq!((window.from.as_second(), window.to.as_second()), (10, 20));
    }
}
