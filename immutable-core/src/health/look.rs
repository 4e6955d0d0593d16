//! Looking at many targets at once, within a time.

#![expect(
    clippy::disallowed_methods,
    reason = "looks have a time limit, and are stamped with the time at which they end"
)]

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::HealthConfigError;
use crate::model::{Endpoint, InstanceId, Look, Sample};
use crate::provider::{OpContext, ProbeTarget};

/// What the probes over the network have in common.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) timeout: Duration,
    pub(super) concurrency: usize,
    pub(super) port: Option<u16>,
    /// Where the time of a sample comes from.
    pub(super) now: fn() -> Timestamp,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(1), concurrency: 64, port: None, now: Timestamp::now }
    }
}

/// What one look showed, and the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) look: Look,
    pub(super) evidence: String,
}

impl Finding {
    pub(super) fn good(evidence: impl Into<String>) -> Self {
        Self { look: Look::Good, evidence: evidence.into() }
    }

    pub(super) fn bad(evidence: impl Into<String>) -> Self {
        Self { look: Look::Bad, evidence: evidence.into() }
    }

    pub(super) fn unknown(evidence: impl Into<String>) -> Self {
        Self { look: Look::Unknown, evidence: evidence.into() }
    }
}

/// The part of a call's time that the looks may use. The rest is for answering before the caller gives up.
pub(super) fn usable(time: Duration) -> Duration {
    time / 10 * 9
}

impl Settings {
    pub(super) fn check(&self, of: &'static str) -> Result<(), HealthConfigError> {
        if self.timeout.is_zero() {
            return Err(HealthConfigError::new(of, "timeout", "must be longer than nothing"));
        }
        if self.concurrency == 0 {
            return Err(HealthConfigError::new(of, "concurrency", "must be at least 1"));
        }
        if self.port == Some(0) {
            return Err(HealthConfigError::new(of, "port", "must not be 0"));
        }
        Ok(())
    }

    /// Looks once at each instance that has an endpoint. Those that are not reached in time are unknown.
    pub(super) async fn look_at_all<'a, L, F>(
        &'a self,
        cx: &OpContext,
        targets: &'a [ProbeTarget],
        look: L,
    ) -> Vec<Sample>
    where
        L: Fn(&'a str, u16) -> F + Send + Sync,
        F: Future<Output = Finding> + Send,
    {
        let mut named = HashSet::new();
        let known = targets.iter().filter_map(|target| Some((&target.instance, target.endpoint.as_ref()?)));
        let known: Vec<(&InstanceId, &Endpoint)> = known.filter(|(instance, _)| named.insert(*instance)).collect();
        let mut found: Vec<Option<Sample>> = vec![None; known.len()];

        // Over numbers, because the compiler cannot prove a closure over references general enough for a future that is `Send`.
        let look_at = |index: usize| {
            let (instance, endpoint) = known[index];
            let finding = look(endpoint.host(), self.port.unwrap_or(endpoint.port()));
            async move {
                let finding = timeout(self.timeout, finding)
                    .await
                    .unwrap_or_else(|_| Finding::bad(format!("no answer within {}", in_words(self.timeout))));
                (index, self.sample(instance, finding))
            }
        };
        let mut looks = stream::iter(0..known.len()).map(look_at).buffer_unordered(self.concurrency);
        let look_at_each = async {
            while let Some((index, sample)) = looks.next().await {
                found[index] = Some(sample);
            }
        };
        // Whoever has no sample when the time is over gets one below.
        let _ = timeout(usable(cx.timeout), look_at_each).await;
        drop(looks);

        let late = || Finding::unknown(format!("not looked at to the end within {}", in_words(cx.timeout)));
        let sample = |((instance, _), found): ((&InstanceId, _), Option<Sample>)| {
            found.unwrap_or_else(|| self.sample(instance, late()))
        };
        known.into_iter().zip(found).map(sample).collect()
    }

    fn sample(&self, instance: &InstanceId, finding: Finding) -> Sample {
        Sample { instance: instance.clone(), at: (self.now)(), look: finding.look, evidence: finding.evidence }
    }
}

/// Connects, or says what that shows about the instance.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, Finding> {
    let addresses: Vec<_> = match lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(_) => return Err(Finding::unknown("its name cannot be resolved")),
    };
    TcpStream::connect(&addresses[..]).await.map_err(|error| finding_of(&error))
}

/// What a failed connection shows: something about the instance, or only about the machine that looks.
pub(super) fn finding_of(error: &io::Error) -> Finding {
    if is_local(error) { Finding::unknown(name_of(error)) } else { Finding::bad(name_of(error)) }
}

fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    // ENFILE and EMFILE have these numbers on every Unix, and WSAEMFILE and WSAENOBUFS on Windows; the standard library has no kind for them.
    let exhausted: &[i32] = if cfg!(windows) { &[10024, 10055] } else { &[23, 24] };
    matches!(error.kind(), Kind::AddrNotAvailable | Kind::OutOfMemory | Kind::NetworkDown | Kind::NetworkUnreachable)
        || error.raw_os_error().is_some_and(|number| exhausted.contains(&number))
}

fn name_of(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind().to_string()) {
        (Some(number), kind) if kind.starts_with("uncategorized") => format!("system error {number}"),
        (_, kind) => kind,
    }
}

/// A duration for people, with whole units: `850 ms`, `2 s`.
pub(super) fn in_words(time: Duration) -> String {
    if time.subsec_millis() == 0 && time.as_secs() > 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn targets(count: usize) -> Vec<ProbeTarget> {
        let target = |index| ProbeTarget {
            instance: InstanceId::new(format!("i-{index}")).unwrap(),
            fleet: "web-1".parse().unwrap(),
            endpoint: Some(Endpoint::new(&format!("host-{index}"), 80).unwrap()),
        };
        (0..count).map(target).collect()
    }

    fn within(timeout: Duration) -> OpContext {
        OpContext { timeout, ..OpContext::standalone("test") }
    }

    fn looks(samples: &[Sample]) -> Vec<Look> {
        samples.iter().map(|sample| sample.look).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_comes_before_the_caller_gives_up_and_says_whom_it_did_not_reach() {
        let settings = Settings { concurrency: 1, timeout: Duration::from_secs(4), ..Settings::default() };
        let cx = within(Duration::from_secs(10));
        let targets = targets(4);
        let samples =
            tokio::time::timeout(cx.timeout, settings.look_at_all(&cx, &targets, |_, _| pending())).await.unwrap();
        assert_eq!(looks(&samples), [Look::Bad, Look::Bad, Look::Unknown, Look::Unknown]);
        assert_eq!(samples[0].evidence, "no answer within 4 s");
        assert_eq!(samples[3].evidence, "not looked at to the end within 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_looks_at_once_than_allowed() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let look = |_: &str, _| async {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Finding::good("")
        };
        let settings = Settings { concurrency: 3, ..Settings::default() };
        let targets = targets(10);
        let samples = settings.look_at_all(&within(Duration::from_secs(10)), &targets, look).await;
        assert_eq!((looks(&samples), most.into_inner()), (vec![Look::Good; 10], 3));
    }

    #[tokio::test]
    async fn who_is_named_twice_is_looked_at_once() {
        let targets = [targets(2), targets(3)].concat();
        let looked = AtomicUsize::new(0);
        let look = |_: &str, _| {
            looked.fetch_add(1, Ordering::SeqCst);
            async { Finding::good("") }
        };
        let samples = Settings::default().look_at_all(&within(Duration::from_secs(10)), &targets, look).await;
        let named: Vec<_> = samples.iter().map(|sample| sample.instance.as_str()).collect();
        assert_eq!((named, looked.into_inner()), (vec!["i-0", "i-1", "i-2"], 3));
    }

    #[tokio::test]
    async fn a_target_without_an_endpoint_has_no_sample_and_the_others_keep_their_order() {
        let mut targets = targets(3);
        targets[1].endpoint = None;
        let look = |host: &str, port| {
            let evidence = format!("{host}:{port}");
            async { Finding::good(evidence) }
        };
        let settings = Settings { port: Some(8080), now: || Timestamp::UNIX_EPOCH, ..Settings::default() };
        let samples = settings.look_at_all(&within(Duration::from_secs(10)), &targets, look).await;
        let told: Vec<_> = samples.iter().map(|s| (s.instance.as_str(), s.evidence.as_str(), s.at)).collect();
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(told, [("i-0", "host-0:8080", at), ("i-2", "host-2:8080", at)]);
    }

    #[cfg(unix)]
    #[test]
    fn what_this_machine_lacks_says_nothing_about_the_instance() {
        // Linux errno: 23 ENFILE, 24 EMFILE; POSIX leaves the numbers of the others open, so they come as kinds.
        for error in [
            io::Error::from_raw_os_error(23),
            io::Error::from_raw_os_error(24),
            io::ErrorKind::AddrNotAvailable.into(),
            io::ErrorKind::NetworkUnreachable.into(),
        ] {
            assert_eq!(finding_of(&error).look, Look::Unknown, "{error}");
        }
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset, io::ErrorKind::HostUnreachable] {
            assert_eq!(finding_of(&kind.into()), Finding::bad(kind.to_string()));
        }
        assert_eq!(finding_of(&io::Error::from_raw_os_error(24)).evidence, "system error 24");
    }

    #[test]
    fn durations_are_in_whole_units() {
        let check = |millis, expected: &str| assert_eq!(in_words(Duration::from_millis(millis)), expected);
        check(0, "0 ms");
        check(999, "999 ms");
        check(1_000, "1 s");
        check(1_500, "1500 ms");
        check(60_000, "60 s");
    }
}
