//! What passed through the switch, per fleet: totals since the start, and counts per tenth of a second for one hour.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hyper::StatusCode;
use immutable_core::model::FleetId;
use immutable_core::provider::Window;
use jiff::Timestamp;

/// The length of one time slot in nanoseconds.
const SLOT_NANOS: i128 = 100_000_000;
/// How many slots are kept: one hour.
const KEPT_SLOTS: i64 = 36_000;
const LATENCY_BUCKETS: usize = 28;

/// What one fleet did since the switch was bound.
///
/// Every request is counted once, when it ends: `requests` is the sum of all answers, `upstream_failures` and `abandoned`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetCounters {
    /// Requests that were meant for the fleet and have ended.
    pub requests: u64,
    /// Whole answers with a status from 200 to 299.
    pub success: u64,
    /// Whole answers with a status from 300 to 399.
    pub redirection: u64,
    /// Whole answers with a status from 400 to 499.
    pub client_error: u64,
    /// Whole answers with a status from 500 to 599.
    pub server_error: u64,
    /// Requests that the fleet did not answer, or not to the end: lost, out of time, or handed on to another fleet.
    pub upstream_failures: u64,
    /// Requests whose client went away before the answer began.
    pub abandoned: u64,
    /// Tries to reach a member that failed before anything was sent. Several can belong to one request.
    pub connect_failures: u64,
    /// The time from the arrival of a request to the head of its answer.
    pub latency: LatencyHistogram,
}

/// How many requests took how long, in buckets whose limits are powers of two of microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    buckets: [u64; LATENCY_BUCKETS],
}

impl LatencyHistogram {
    /// The non-empty buckets: a limit that the latencies in it do not reach, and how many there are.
    ///
    /// The last bucket, without a limit, holds everything from 67 seconds on.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let counts = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(index, count)| ((index + 1 < LATENCY_BUCKETS).then(|| Duration::from_micros(1 << index)), *count))
    }

    fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let index = (u64::BITS - micros.leading_zeros()) as usize;
        self.buckets[index.min(LATENCY_BUCKETS - 1)] += 1;
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A member answered, to the end.
    Answered(StatusCode),
    /// No member of the fleet answered to the end.
    Failed,
    /// The client went away first.
    Abandoned,
}

/// What a fleet's requests can be asked for, as a share of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Answers with a status from 500 on, and upstream failures.
    Errors,
    /// Latencies above 100 ms.
    Over100Ms,
    /// Latencies above 1 s.
    Over1S,
}

/// So many of so many, over one time slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotRatio {
    pub(crate) window: Window,
    pub(crate) part: u64,
    pub(crate) whole: u64,
}

/// The meters of all fleets, and what belongs to none.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    fleets: RwLock<BTreeMap<FleetId, Arc<FleetMeter>>>,
    unrouted: AtomicU64,
}

impl Meters {
    /// The meter of a fleet, made if needed.
    pub(crate) fn meter(&self, fleet: &FleetId) -> Arc<FleetMeter> {
        let mut fleets = self.fleets.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fleets.entry(fleet.clone()).or_default())
    }

    /// The meter of a fleet, if it ever had a member.
    pub(crate) fn find(&self, fleet: &FleetId) -> Option<Arc<FleetMeter>> {
        self.fleets.read().unwrap_or_else(PoisonError::into_inner).get(fleet).cloned()
    }

    /// Forgets fleets that no member refers to and that have nothing left to tell.
    pub(crate) fn forget_silent(&self, now: Timestamp) {
        let mut fleets = self.fleets.write().unwrap_or_else(PoisonError::into_inner);
        fleets.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_silent(now));
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<FleetId, FleetCounters> {
        let fleets = self.fleets.read().unwrap_or_else(PoisonError::into_inner);
        fleets.iter().map(|(fleet, meter)| (fleet.clone(), meter.totals())).collect()
    }

    pub(crate) fn count_unrouted(&self) {
        self.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unrouted(&self) -> u64 {
        self.unrouted.load(Ordering::Relaxed)
    }
}

/// Counts one fleet's requests under one short lock for each: the lock is held for some tens of nanoseconds, and a request
/// costs the system a thousand times that.
#[derive(Debug, Default)]
pub(crate) struct FleetMeter {
    state: Mutex<MeterState>,
}

#[derive(Debug, Default)]
struct MeterState {
    totals: FleetCounters,
    slots: BTreeMap<i64, Slot>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    requests: u32,
    errors: u32,
    over_100ms: u32,
    over_1s: u32,
}

impl FleetMeter {
    /// Counts one request that ended at this moment.
    pub(crate) fn record(&self, at: Timestamp, outcome: Outcome, latency: Duration) {
        let mut state = self.lock();
        let error = state.totals.record(outcome, latency);
        let now = slot_of(at);
        let slot = state.slots.entry(now).or_default();
        slot.requests += 1;
        slot.errors += u32::from(error);
        slot.over_100ms += u32::from(latency > Duration::from_millis(100));
        slot.over_1s += u32::from(latency > Duration::from_secs(1));
        while let Some(oldest) = state.slots.first_entry().filter(|slot| *slot.key() <= now - KEPT_SLOTS) {
            oldest.remove();
        }
    }

    /// Counts one try to reach a member that failed before anything was sent.
    pub(crate) fn count_connect_failure(&self) {
        self.lock().totals.connect_failures += 1;
    }

    /// A share of the requests, for each slot that lies inside the window as a whole and has any.
    pub(crate) fn ratios(&self, share: Share, window: Window) -> Vec<SlotRatio> {
        let from = slot_at_or_after(window.from);
        let to = slot_of(window.to);
        if from >= to {
            return Vec::new();
        }
        let part = |slot: &Slot| match share {
            Share::Errors => slot.errors,
            Share::Over100Ms => slot.over_100ms,
            Share::Over1S => slot.over_1s,
        };
        let state = self.lock();
        let slots = state.slots.range(from..to);
        slots
            .map(|(at, slot)| SlotRatio {
                window: Window { from: start_of(*at), to: start_of(*at + 1) },
                part: part(slot).into(),
                whole: slot.requests.into(),
            })
            .collect()
    }

    fn totals(&self) -> FleetCounters {
        self.lock().totals.clone()
    }

    fn is_silent(&self, now: Timestamp) -> bool {
        self.lock().slots.last_key_value().is_none_or(|(at, _)| *at <= slot_of(now) - KEPT_SLOTS)
    }

    fn lock(&self) -> MutexGuard<'_, MeterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FleetCounters {
    /// Counts a request, and tells whether it is an error.
    fn record(&mut self, outcome: Outcome, latency: Duration) -> bool {
        self.requests += 1;
        self.latency.record(latency);
        let (counter, error) = match outcome {
            Outcome::Answered(status) if status.is_success() => (&mut self.success, false),
            Outcome::Answered(status) if status.is_redirection() => (&mut self.redirection, false),
            Outcome::Answered(status) if status.is_client_error() => (&mut self.client_error, false),
            Outcome::Answered(_) => (&mut self.server_error, true),
            Outcome::Failed => (&mut self.upstream_failures, true),
            Outcome::Abandoned => (&mut self.abandoned, false),
        };
        *counter += 1;
        error
    }
}

fn slot_of(at: Timestamp) -> i64 {
    // Every timestamp is within 300,000 million slots of the epoch.
    i64::try_from(at.as_nanosecond().div_euclid(SLOT_NANOS)).unwrap_or(i64::MAX)
}

fn slot_at_or_after(at: Timestamp) -> i64 {
    let slot = slot_of(at);
    if at.as_nanosecond().rem_euclid(SLOT_NANOS) == 0 { slot } else { slot + 1 }
}

fn start_of(slot: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(slot) * SLOT_NANOS).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);
    const OK: Outcome = Outcome::Answered(StatusCode::OK);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).expect("within range")
    }

    /// The parts and wholes of a window, with the start of each slot.
    fn check(meter: &FleetMeter, share: Share, from: i64, to: i64, expected: &[(i64, u64, u64)]) {
        let ratios = meter.ratios(share, Window { from: at(from), to: at(to) });
        let found: Vec<_> = ratios.iter().map(|r| (r.window.from.as_millisecond(), r.part, r.whole)).collect();
        assert_eq!(found, expected, "{share:?} from {from} to {to}");
        assert!(ratios.iter().all(|r| r.window.from >= at(from) && r.window.to <= at(to)));
    }

    #[test]
    fn each_outcome_has_its_counter() {
        let meter = FleetMeter::default();
        for status in [200, 204, 301, 404, 500, 503, 999] {
            let status = StatusCode::from_u16(status).expect("a status");
            meter.record(at(0), Outcome::Answered(status), QUICK);
        }
        meter.record(at(0), Outcome::Failed, QUICK);
        meter.record(at(0), Outcome::Abandoned, QUICK);
        meter.count_connect_failure();
        let totals = meter.totals();
        assert_eq!((totals.requests, totals.success, totals.redirection), (9, 2, 1));
        assert_eq!((totals.client_error, totals.server_error), (1, 3));
        assert_eq!((totals.upstream_failures, totals.abandoned, totals.connect_failures), (1, 1, 1));
        check(&meter, Share::Errors, 0, 100, &[(0, 4, 9)]);
    }

    #[test]
    fn a_slot_counts_only_when_it_lies_inside_the_window_as_a_whole() {
        let meter = FleetMeter::default();
        for millis in [0, 99, 100, 250] {
            meter.record(at(millis), OK, QUICK);
        }
        let all = [(0, 0, 2), (100, 0, 1), (200, 0, 1)];
        check(&meter, Share::Errors, 0, 300, &all);
        check(&meter, Share::Errors, 0, 299, &all[..2]);
        check(&meter, Share::Errors, 1, 300, &all[1..]);
        check(&meter, Share::Errors, 100, 200, &all[1..2]);
        check(&meter, Share::Errors, 100, 100, &[]);
        check(&meter, Share::Errors, 200, 100, &[]);
        check(&meter, Share::Errors, 300, 10_000, &[]);
    }

    #[test]
    fn latencies_are_told_against_their_limits() {
        let meter = FleetMeter::default();
        for millis in [100, 101, 1000, 1001] {
            meter.record(at(0), OK, Duration::from_millis(millis));
        }
        check(&meter, Share::Over100Ms, 0, 100, &[(0, 3, 4)]);
        check(&meter, Share::Over1S, 0, 100, &[(0, 1, 4)]);
    }

    #[test]
    fn slots_are_kept_for_one_hour() {
        let meter = FleetMeter::default();
        meter.record(at(0), OK, QUICK);
        meter.record(at(3_599_999), OK, QUICK);
        check(&meter, Share::Errors, 0, 3_600_000, &[(0, 0, 1), (3_599_900, 0, 1)]);
        meter.record(at(3_600_000), OK, QUICK);
        check(&meter, Share::Errors, 0, 3_700_000, &[(3_599_900, 0, 1), (3_600_000, 0, 1)]);
    }

    #[test]
    fn a_clock_that_steps_back_loses_nothing() {
        let meter = FleetMeter::default();
        meter.record(at(500), OK, QUICK);
        meter.record(at(-500), OK, QUICK);
        check(&meter, Share::Errors, -1000, 1000, &[(-500, 0, 1), (500, 0, 1)]);
    }

    #[test]
    fn latency_buckets_double() {
        let mut histogram = LatencyHistogram::default();
        for micros in [0, 1, 2, 3, 4, 1_000_000, 67_108_863, 67_108_864, u64::MAX] {
            histogram.record(Duration::from_micros(micros));
        }
        let limit = |micros| Some(Duration::from_micros(micros));
        let found: Vec<_> = histogram.buckets().collect();
        let expected = [
            (limit(1), 1),
            (limit(2), 1),
            (limit(4), 2),
            (limit(8), 1),
            (limit(1 << 20), 1),
            (limit(1 << 26), 1),
            (None, 2),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_fleet_is_forgotten_when_it_is_out_of_use_and_silent_for_an_hour() {
        let meters = Meters::default();
        let fleet = FleetId::new("web-1").expect("a name");
        let held = meters.meter(&fleet);
        held.record(at(0), OK, QUICK);
        meters.forget_silent(at(7_200_000));
        assert!(meters.find(&fleet).is_some(), "still in use");
        drop(held);
        meters.forget_silent(at(3_599_000));
        assert!(meters.find(&fleet).is_some(), "still has something to tell");
        meters.forget_silent(at(3_600_000));
        assert!(meters.find(&fleet).is_none());
    }
}
