//! One probe made of several.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::HealthConfigError;
use super::look::usable;
use crate::model::{InstanceId, Look, Sample};
use crate::provider::{ErrorKind, HealthProbe, OpContext, ProbeTarget, ProviderError};

/// Good when all its probes say good, bad when any says bad, else unknown.
#[derive(Debug, Clone)]
pub struct AllOf(QuorumOf);

/// Good when any of its probes says good, bad when all say bad, else unknown.
#[derive(Debug, Clone)]
pub struct AnyOf(QuorumOf);

/// Good when enough of its probes say good, bad when so many say bad that enough cannot be reached, else unknown.
///
/// The probes look at the same time. One that fails, or has no sample for a target that another one has, is unknown about it;
/// only when all fail is the answer an error, the first one's. The sample is as old as the oldest of its parts.
///
/// ```
/// use immutable_core::health::{HttpProbe, QuorumOf, TcpProbe};
/// use std::sync::Arc;
///
/// let probe = QuorumOf::new(2, vec![
///     Arc::new(TcpProbe::builder().build()?),
///     Arc::new(HttpProbe::get("/health").build()?),
///     Arc::new(HttpProbe::get("/ready").port(9000).build()?),
/// ])?;
///
/// let error = QuorumOf::new(2, vec![Arc::new(TcpProbe::builder().build()?)]).unwrap_err();
/// assert_eq!(error.to_string(), "quorum of probes: needed must be from 1 to the number of probes");
/// # Ok::<(), immutable_core::health::HealthConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct QuorumOf {
    needed: usize,
    probes: Vec<Arc<dyn HealthProbe>>,
}

impl AllOf {
    /// All of these probes.
    ///
    /// # Errors
    /// [`HealthConfigError`] when there is no probe: nothing would be asked, and that must not pass.
    pub fn new(probes: Vec<Arc<dyn HealthProbe>>) -> Result<Self, HealthConfigError> {
        some("all of probes", &probes)?;
        Ok(Self(QuorumOf { needed: probes.len(), probes }))
    }
}

impl AnyOf {
    /// Any of these probes.
    ///
    /// # Errors
    /// [`HealthConfigError`] when there is no probe.
    pub fn new(probes: Vec<Arc<dyn HealthProbe>>) -> Result<Self, HealthConfigError> {
        some("any of probes", &probes)?;
        Ok(Self(QuorumOf { needed: 1, probes }))
    }
}

impl QuorumOf {
    /// At least `needed` of these probes.
    ///
    /// # Errors
    /// [`HealthConfigError`] when `needed` is zero or more than there are probes.
    pub fn new(needed: usize, probes: Vec<Arc<dyn HealthProbe>>) -> Result<Self, HealthConfigError> {
        if needed == 0 || needed > probes.len() {
            let problem = "must be from 1 to the number of probes";
            return Err(HealthConfigError::new("quorum of probes", "needed", problem));
        }
        Ok(Self { needed, probes })
    }

    fn look(&self, good: usize, bad: usize) -> Look {
        if good >= self.needed {
            Look::Good
        } else if self.probes.len() - bad < self.needed {
            Look::Bad
        } else {
            Look::Unknown
        }
    }

    /// One sample of what each probe has to say about an instance; none if none of them looked at it.
    fn combine(&self, instance: &InstanceId, answers: &[Answer]) -> Option<Sample> {
        let samples = || answers.iter().filter_map(|answer| answer.as_ref().ok()?.get(instance));
        let at = samples().map(|sample| sample.at).min()?;
        let count = |look| samples().filter(|sample| sample.look == look).count();
        let evidence: Vec<String> = answers
            .iter()
            .map(|answer| match answer {
                Ok(samples) => {
                    samples.get(instance).map_or_else(|| "not looked at".into(), |sample| sample.evidence.clone())
                }
                Err(error) => error.to_string(),
            })
            .collect();
        let look = self.look(count(Look::Good), count(Look::Bad));
        Some(Sample { instance: instance.clone(), at, look, evidence: evidence.join("; ") })
    }
}

/// What one probe said, by instance.
type Answer = Result<HashMap<InstanceId, Sample>, ProviderError>;

#[async_trait]
impl HealthProbe for QuorumOf {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        // One slow probe must not take the others' answers with it, so each has a bit less time than there is.
        let inner = OpContext { timeout: usable(cx.timeout), ..cx.clone() };
        let ask = |probe: &Arc<dyn HealthProbe>| {
            let (probe, inner) = (Arc::clone(probe), &inner);
            async move { answer(timeout(inner.timeout, probe.sample(inner, targets)).await) }
        };
        let mut answers = join_all(self.probes.iter().map(ask)).await;
        if answers.iter().all(Result::is_err) {
            return Err(answers.swap_remove(0).expect_err("invariant: all of at least one are errors"));
        }
        // Who is named twice has one sample all the same.
        let mut named = HashSet::new();
        let once = targets.iter().filter(|target| named.insert(&target.instance));
        Ok(once.filter_map(|target| self.combine(&target.instance, &answers)).collect())
    }
}

#[async_trait]
impl HealthProbe for AllOf {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        self.0.sample(cx, targets).await
    }
}

#[async_trait]
impl HealthProbe for AnyOf {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        self.0.sample(cx, targets).await
    }
}

fn answer(result: Result<Result<Vec<Sample>, ProviderError>, tokio::time::error::Elapsed>) -> Answer {
    match result {
        Ok(samples) => Ok(samples?.into_iter().map(|sample| (sample.instance.clone(), sample)).collect()),
        Err(_) => {
            Err(ProviderError::new(ErrorKind::Timeout, "probe health", "the probe did not answer in time")
                .without_effect())
        }
    }
}

fn some(of: &'static str, probes: &[Arc<dyn HealthProbe>]) -> Result<(), HealthConfigError> {
    if probes.is_empty() {
        return Err(HealthConfigError::new(of, "probes", "must not be empty"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};

    use super::*;

    /// Says one thing about every target: `G`ood, `B`ad, `?` unknown, `.` no sample, `E` an error, `W` waits for ever.
    #[derive(Debug)]
    struct Says(char, u8);

    #[async_trait]
    impl HealthProbe for Says {
        async fn sample(&self, _: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
            let look = match self.0 {
                'G' => Look::Good,
                'B' => Look::Bad,
                '?' => Look::Unknown,
                '.' => return Ok(Vec::new()),
                'W' => std::future::pending().await,
                _ => return Err(ProviderError::new(ErrorKind::Unavailable, "look", format!("probe {}", self.1))),
            };
            let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60 - i64::from(self.1));
            let sample = |target: &ProbeTarget| Sample {
                instance: target.instance.clone(),
                at,
                look,
                evidence: format!("probe {} says {}", self.1, self.0),
            };
            Ok(targets.iter().map(sample).collect())
        }
    }

    fn probes(says: &str) -> Vec<Arc<dyn HealthProbe>> {
        (0..).zip(says.chars()).map(|(index, letter)| Arc::new(Says(letter, index)) as _).collect()
    }

    fn target() -> ProbeTarget {
        ProbeTarget { instance: "i-1".parse().unwrap(), fleet: "web-1".parse().unwrap(), endpoint: None }
    }

    async fn sample(probe: &dyn HealthProbe) -> Result<Option<Sample>, ProviderError> {
        probe.sample(&OpContext::standalone("test"), &[target()]).await.map(|mut samples| samples.pop())
    }

    async fn letter(probe: &dyn HealthProbe) -> char {
        match sample(probe).await {
            Ok(Some(sample)) => match sample.look {
                Look::Good => 'G',
                Look::Bad => 'B',
                Look::Unknown => '?',
            },
            Ok(None) => '.',
            Err(_) => 'E',
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_are_combined_by_the_rule_of_each() {
        // What the probes say: what all, any, and two of them make of it.
        let cases = [
            ("GGG", "GGG"),
            ("GGB", "BGG"),
            ("GBB", "BGB"),
            ("BBB", "BBB"),
            ("GG?", "?GG"),
            ("G??", "?G?"),
            ("GB?", "BG?"),
            ("BB?", "B?B"),
            ("B??", "B??"),
            ("???", "???"),
            ("GG.", "?GG"),
            ("BB.", "B?B"),
            ("...", "..."),
            ("GGE", "?GG"),
            ("EEG", "?G?"),
            ("BEE", "B??"),
            ("EEE", "EEE"),
            ("EE.", "..."),
            ("GGW", "?GG"),
            ("WWW", "EEE"),
        ];
        for (says, expected) in cases {
            let found = [
                letter(&AllOf::new(probes(says)).unwrap()).await,
                letter(&AnyOf::new(probes(says)).unwrap()).await,
                letter(&QuorumOf::new(2, probes(says)).unwrap()).await,
            ];
            assert_eq!(String::from_iter(found), expected, "{says}");
        }
    }

    #[tokio::test]
    async fn a_sample_has_all_the_evidence_and_the_oldest_time() {
        let sample = sample(&AnyOf::new(probes("BG.E")).unwrap()).await.unwrap().unwrap();
        let expected = "probe 0 says B; probe 1 says G; not looked at; unavailable in look: probe 3";
        assert_eq!(sample.evidence, expected);
        assert_eq!(sample.at, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(59));
    }

    #[tokio::test]
    async fn a_target_that_is_named_twice_has_one_sample() {
        let probe = AllOf::new(probes("GB")).unwrap();
        let samples = probe.sample(&OpContext::standalone("test"), &[target(), target()]).await.unwrap();
        assert_eq!(samples.len(), 1, "{samples:?}");
    }

    #[tokio::test]
    async fn when_all_fail_the_first_one_tells_why() {
        let error = sample(&AllOf::new(probes("EE")).unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), "unavailable in look: probe 0");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_does_not_cost_the_others_their_answer() {
        let inner: Arc<dyn HealthProbe> = Arc::new(AnyOf::new(probes("GW")).unwrap());
        let outer = AllOf::new(vec![inner]).unwrap();
        assert_eq!(OpContext::standalone("test").timeout, Duration::from_secs(30));
        let sample = timeout(Duration::from_secs(29), sample(&outer)).await.unwrap();
        assert_eq!(sample.unwrap().unwrap().look, Look::Good);
    }

    #[test]
    fn a_composition_of_nothing_is_refused() {
        assert_eq!(AllOf::new(vec![]).unwrap_err().to_string(), "all of probes: probes must not be empty");
        assert_eq!(AnyOf::new(vec![]).unwrap_err().to_string(), "any of probes: probes must not be empty");
        for needed in [0, 3] {
            assert_eq!(QuorumOf::new(needed, probes("GG")).unwrap_err().field(), "needed");
        }
    }
}
