//! What the clients of a load have seen.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// What is counted under this name was answered by no release, or did not say by which.
pub(crate) const NO_RELEASE: &str = "none";

/// What was counted in a period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How long the period was.
    pub(crate) elapsed: Duration,
    /// Requests begun, those that found no connection included. What is in flight is neither `ok` nor failed yet.
    pub(crate) sent: u64,
    /// Requests with a whole answer and a 2xx status.
    pub(crate) ok: u64,
    /// All other requests, by what happened to them.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// The same requests by the release that has answered.
    pub(crate) releases: BTreeMap<String, ReleaseCounts>,
    /// How long the requests took, from before they were sent to the end of their answer or their failure.
    pub(crate) latency: Latency,
}

/// What one release has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReleaseCounts {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
}

impl Counts {
    /// How many requests failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// What one release has answered.
    pub(crate) fn release(&self, version: &str) -> ReleaseCounts {
        self.releases.get(version).copied().unwrap_or_default()
    }

    /// How many requests ended in a second, on average.
    pub(crate) fn per_second(&self) -> f64 {
        let ended = u32::try_from(self.ok + self.failed()).unwrap_or(u32::MAX);
        f64::from(ended) / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// What was counted after an earlier mark of the same load. Kinds and releases that were not seen since are left out.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let failures = self.failures.iter().map(|(failure, count)| {
            let before = earlier.failures.get(failure).copied().unwrap_or_default();
            (*failure, count - before)
        });
        let releases = self.releases.iter().map(|(version, counts)| {
            let before = earlier.release(version);
            let counts = ReleaseCounts { ok: counts.ok - before.ok, failed: counts.failed - before.failed };
            (version.clone(), counts)
        });
        Self {
            elapsed: self.elapsed.saturating_sub(earlier.elapsed),
            sent: self.sent - earlier.sent,
            ok: self.ok - earlier.ok,
            failures: failures.filter(|(_, count)| *count > 0).collect(),
            releases: releases.filter(|(_, counts)| *counts != ReleaseCounts::default()).collect(),
            latency: self.latency.since(&earlier.latency),
        }
    }

    pub(super) fn record(&mut self, release: &str, result: Result<(), Failure>, took: Duration) {
        self.latency.record(took);
        if !self.releases.contains_key(release) {
            self.releases.insert(release.to_owned(), ReleaseCounts::default());
        }
        let counts = self.releases.get_mut(release).expect("invariant: it was inserted");
        match result {
            Ok(()) => {
                self.ok += 1;
                counts.ok += 1;
            }
            Err(failure) => {
                *self.failures.entry(failure).or_default() += 1;
                counts.failed += 1;
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without those in flight, so that the parts make up the whole.
        write!(f, "{} requests, {} failed", self.ok + self.failed(), self.failed())?;
        for (failure, count) in &self.failures {
            write!(f, " ({failure}: {count})")?;
        }
        let answered =
            self.releases.iter().map(|(version, counts)| format!("{version}: {}", counts.ok + counts.failed));
        let answered = answered.collect::<Vec<_>>().join(", ");
        if answered.is_empty() { Ok(()) } else { write!(f, "; answered by release {answered}") }
    }
}

/// What happened to a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Failure {
    /// A whole answer with a status that is not 2xx.
    Status(u16),
    /// There was no connection to send it on.
    Connect,
    /// The connection was closed before the whole answer was there.
    Closed,
    /// The connection broke before the whole answer was there.
    Io(io::ErrorKind),
    /// The answer was not HTTP.
    Protocol,
    /// The whole answer was not there in time.
    TimedOut,
}

impl Failure {
    pub(super) fn of(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return Self::Closed;
        }
        match error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind) {
            Some(io::ErrorKind::UnexpectedEof) => Self::Closed,
            Some(kind) => Self::Io(kind),
            None => Self::Protocol,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Connect => f.write_str("cannot connect"),
            Self::Closed => f.write_str("closed without an answer"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::Protocol => f.write_str("not HTTP"),
            Self::TimedOut => f.write_str("no answer in time"),
        }
    }
}

/// How many buckets each doubling of the latency has: a percentile is at most an eighth too high.
const STEPS: u64 = 8;

/// How long requests took: counts in buckets of microseconds that grow with the latency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    /// By bucket; it ends with the last bucket that has something in it.
    buckets: Vec<u64>,
}

impl Latency {
    /// What so many percent of the requests stayed within; zero when there are no requests.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let total: u64 = self.buckets.iter().sum();
        let rank = (total * percent.min(100)).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in (0..).zip(&self.buckets) {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_bound(bucket));
            }
        }
        Duration::ZERO
    }

    fn record(&mut self, took: Duration) {
        let bucket = bucket_of(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
    }

    fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().copied().chain(std::iter::repeat(0));
        let mut buckets: Vec<_> = self.buckets.iter().zip(before).map(|(count, before)| count - before).collect();
        buckets.truncate(buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
        Self { buckets }
    }
}

/// Small values have a bucket each; above, the place of the highest bit and the three bits after it make the bucket.
fn bucket_of(micros: u64) -> usize {
    let doubling = u64::from(micros.max(STEPS).ilog2() - STEPS.ilog2());
    usize::try_from(doubling * STEPS + (micros >> doubling)).expect("invariant: at most 62 doublings of 8 steps")
}

/// The greatest value of a bucket.
fn upper_bound(bucket: u64) -> u64 {
    let doubling = (bucket / STEPS).saturating_sub(1);
    let first = bucket - doubling * STEPS;
    (first << doubling) + ((1 << doubling) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_within_its_bucket_and_no_bucket_is_wide() {
        let values = (0..20_000).chain((0..44).map(|shift| 1_000_003 << shift)).chain([u64::MAX / 2, u64::MAX]);
        for micros in values {
            let bucket = bucket_of(micros) as u64;
            let bound = upper_bound(bucket);
            assert!(micros <= bound && bound - micros <= micros / STEPS, "{micros} in a bucket up to {bound}");
            assert!(bucket == 0 || upper_bound(bucket - 1) < micros, "{micros} is above the bucket before");
        }
    }

    #[test]
    fn percentiles_and_differences() {
        let mut counts = Counts::default();
        for millis in 1..=100 {
            counts.sent += 1;
            counts.record("1", Ok(()), Duration::from_millis(millis));
        }
        let close = |found: Duration, millis: u64| {
            let exact = Duration::from_millis(millis);
            assert!(found >= exact && found <= exact * 9 / 8, "{found:?} for {exact:?}");
        };
        close(counts.latency.percentile(50), 50);
        close(counts.latency.percentile(99), 99);
        close(counts.latency.percentile(100), 100);
        let earlier = counts.clone();
        counts.sent += 1;
        counts.record(NO_RELEASE, Err(Failure::Status(502)), Duration::from_micros(3));
        let since = counts.since(&earlier);
        assert_eq!((since.sent, since.ok, since.failed()), (1, 0, 1));
        assert_eq!(since.releases, BTreeMap::from([(NO_RELEASE.to_owned(), ReleaseCounts { ok: 0, failed: 1 })]));
        assert_eq!(since.latency.percentile(50), Duration::from_micros(3));
        assert_eq!(Latency::default().percentile(99), Duration::ZERO);
    }
}
