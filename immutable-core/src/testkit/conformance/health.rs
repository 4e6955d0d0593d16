//! The clauses of [`HealthProbe`](crate::provider::HealthProbe).

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::bench::{Bench, Check, Seen, hold};
use super::harness::{Ability, Fault, Version};
use crate::model::{Endpoint, FleetId, InstanceId, Look, ObservedInstance, Sample};
use crate::provider::{ProbeTarget, ProviderError};

fn target(fleet: &FleetId, instance: &InstanceId, endpoint: Option<Endpoint>) -> ProbeTarget {
    ProbeTarget { instance: instance.clone(), fleet: fleet.clone(), endpoint }
}

impl Bench<'_> {
    /// Running instances that a probe finds good.
    pub(super) async fn good_targets(&self, version: Version, count: u32) -> Result<Vec<ProbeTarget>, Seen> {
        let fleet = self.fleet_id(version).await;
        let running = self.running(version, count).await?;
        let of = |one: &ObservedInstance| target(&fleet, &one.id, one.endpoint.clone());
        let targets: Vec<_> = running.iter().map(of).collect();
        self.until("every running instance is found good", async || {
            let samples = self.samples(&targets).await?;
            Ok(samples.iter().filter(|sample| sample.look == Look::Good).count() == targets.len())
        })
        .await?;
        Ok(targets)
    }

    async fn try_samples(&self, targets: &[ProbeTarget]) -> Result<Result<Vec<Sample>, ProviderError>, Seen> {
        let cx = self.cx("sample");
        let answer = self.call("sample", self.platform.health.sample(&cx, targets)).await?;
        answer.iter().flatten().for_each(|sample| self.hear(&sample.evidence));
        Ok(answer)
    }

    async fn samples(&self, targets: &[ProbeTarget]) -> Result<Vec<Sample>, Seen> {
        self.try_samples(targets).await?.map_err(|error| Seen(format!("sample failed: {error}")))
    }

    /// The one look at one target.
    async fn look_at(&self, target: &ProbeTarget) -> Result<Look, Seen> {
        let samples = self.samples(std::slice::from_ref(target)).await?;
        match samples.as_slice() {
            [sample] => Ok(sample.look),
            other => Err(Seen(format!("one look at one target gave {other:?}"))),
        }
    }
}

pub(super) async fn h1_one_sample_each(bench: &Bench<'_>) -> Check {
    let targets = bench.good_targets(Version::Old, 3).await?;
    let begun = bench.harness.now();
    let mut doubled = targets[..2].to_vec();
    doubled.extend(targets[..2].to_vec());
    for asked in [&targets[..2], &doubled[..], &[]] {
        let samples = bench.samples(asked).await?;
        for sample in &samples {
            let mine = samples.iter().filter(|other| other.instance == sample.instance).count();
            hold!(mine == 1, "{} has {mine} samples in one answer", sample.instance);
            let named = asked.iter().any(|target| target.instance == sample.instance);
            hold!(named, "{} was not asked about and has a sample", sample.instance);
            let now = bench.harness.now();
            hold!(begun <= sample.at && sample.at <= now, "a look from {begun} to {now} is told as of {}", sample.at);
        }
        let expected = asked.len().min(2);
        hold!(samples.len() == expected, "{expected} good instances have {} samples", samples.len());
    }
    let unknown = ProbeTarget { endpoint: None, ..targets[0].clone() };
    let samples = bench.samples(&[unknown]).await?;
    let seen = samples.iter().all(|sample| sample.look != Look::Bad);
    hold!(samples.len() <= 1 && seen, "an instance without an endpoint was found bad: {samples:?}");
    Ok(())
}

pub(super) async fn h2_bad_is_not_broken(bench: &Bench<'_>) -> Check {
    let targets = bench.good_targets(Version::Old, 2).await?;
    if bench.inject(Fault::BlindProbe).await? {
        match bench.try_samples(&targets).await? {
            Err(_) => {}
            Ok(samples) => {
                let judged = samples.iter().find(|sample| sample.look != Look::Unknown);
                hold!(judged.is_none(), "a probe that could not look says {judged:?}");
            }
        }
        let look = bench.look_at(&targets[0]).await?;
        hold!(look == Look::Good, "when the probe can look again, a good instance is {look:?}");
    }
    let victim = &targets[0];
    if bench.inject(Fault::Kill(victim.instance.clone())).await? {
        let mut look = Look::Unknown;
        bench
            .until("a look at a killed instance is no longer good", async || {
                look = bench.look_at(victim).await?;
                Ok(look != Look::Good)
            })
            .await?;
        hold!(look == Look::Bad, "an instance that was killed is {look:?}");
        let other = bench.look_at(&targets[1]).await?;
        hold!(other == Look::Good, "beside a killed instance, a good one is {other:?}");
    }
    Ok(())
}

pub(super) async fn h3_no_memory(bench: &Bench<'_>) -> Check {
    let targets = bench.good_targets(Version::Old, 1).await?;
    let victim = &targets[0];
    let turns =
        [(Fault::MakeIll(victim.instance.clone()), Look::Bad), (Fault::Heal(victim.instance.clone()), Look::Good)];
    for _ in 0..2 {
        for (fault, expected) in &turns {
            if !bench.inject(fault.clone()).await? {
                return Ok(());
            }
            for number in ["first", "second"] {
                let look = bench.look_at(victim).await?;
                hold!(look == *expected, "after {fault:?}, the {number} look is {look:?}");
            }
        }
    }
    Ok(())
}

pub(super) async fn h4_bounded(bench: &Bench<'_>) -> Check {
    let fleet = bench.fleet_id(Version::Old).await;
    let good = bench.good_targets(Version::Old, 1).await?;
    let silent = bench.harness.silent_endpoint();
    bench.able(Ability::SilentEndpoint, silent.is_some())?;
    let crowd = |endpoint: &Endpoint| -> Result<Vec<ProbeTarget>, Seen> {
        let id = |number| InstanceId::new(format!("silent-{number}")).map_err(|error| Seen(error.to_string()));
        (0..50).map(|number| Ok(target(&fleet, &id(number)?, Some(endpoint.clone())))).collect()
    };
    let endpoint = silent.or_else(|| good[0].endpoint.clone());
    let targets = endpoint.as_ref().map(crowd).transpose()?.unwrap_or_default();
    // A quarter of the usual limit, so that a probe that ignores the context's is found out.
    let limit = bench.platform.pace.call_timeout / 4;
    let mut cx = bench.cx("sample many");
    cx.timeout = limit;
    let call = bench.platform.health.sample(&cx, &targets);
    // What the answer says is the matter of other clauses; a little more than the limit is for the machine's own delays.
    let in_time = limit + (limit / 4).max(Duration::from_millis(1));
    match select(pin!(call), bench.harness.wait(in_time)).await {
        Either::Left(_) => Ok(()),
        Either::Right(_) => Err(Seen(format!("{} targets had no answer within {limit:?}", targets.len()))),
    }
}
