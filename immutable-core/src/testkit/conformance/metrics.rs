//! The clauses of [`MetricSource`](crate::provider::MetricSource).

use std::time::Duration;

use jiff::Timestamp;

use super::bench::{Bench, Check, Seen, hold};
use super::harness::{Ability, Version};
use crate::model::{FleetId, MetricName, Split};
use crate::provider::{Assignment, ErrorKind, MetricKind, MetricSample, MetricValue, Window};

impl Bench<'_> {
    async fn query(&self, fleet: &FleetId, from: Timestamp, to: Timestamp) -> Result<Vec<MetricSample>, Seen> {
        let (cx, metric) = (self.cx("query"), self.harness.metric());
        let window = Window { from, to };
        let samples = self.good("query", self.platform.metrics.query(&cx, &metric, fleet, window)).await?;
        for (index, sample) in samples.iter().enumerate() {
            let inside = from <= sample.window.from && sample.window.to <= to;
            hold!(inside, "a query from {from} to {to} has a sample of {:?}", sample.window);
            let overlap =
                |other: &&MetricSample| sample.window.from < other.window.to && other.window.from < sample.window.to;
            let twice = samples[..index].iter().find(overlap);
            hold!(twice.is_none(), "two samples are about the same moments: {sample:?} and {twice:?}");
            if let MetricValue::Ratio { part, whole } = sample.value {
                hold!(whole > 0 && part <= whole, "a sample counts {part} of {whole}");
            }
        }
        Ok(samples)
    }
}

fn ago(now: Timestamp, time: Duration) -> Timestamp {
    now.checked_sub(time).unwrap_or(Timestamp::MIN)
}

pub(super) async fn m1_silence_is_silence(bench: &Bench<'_>) -> Check {
    let fleet = bench.fleet_id(Version::Old).await;
    let now = bench.harness.now();
    let samples = bench.query(&fleet, ago(now, Duration::from_mins(5)), now).await?;
    hold!(samples.is_empty(), "a fleet that does not exist has {samples:?}");
    // Nor does one that runs and gets no request.
    bench.running(Version::Old, 1).await?;
    let now = bench.harness.now();
    let samples = bench.query(&fleet, ago(now, Duration::from_mins(5)), now).await?;
    hold!(samples.is_empty(), "a fleet that never had a request has {samples:?}");
    Ok(())
}

pub(super) async fn m2_known_names_only(bench: &Bench<'_>) -> Check {
    let cx = bench.cx("describe");
    let known = bench.harness.metric();
    bench.good("describe", bench.platform.metrics.describe(&cx, &known)).await?;
    let unknown = MetricName::new("no_such_metric_as_this").map_err(|error| Seen(error.to_string()))?;
    match bench.call("describe", bench.platform.metrics.describe(&cx, &unknown)).await? {
        Ok(kind) => Err(Seen(format!("a metric that does not exist is described as {kind:?}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Seen(format!("a metric that does not exist is refused as something else: {error}"))),
    }
}

pub(super) async fn m3_inside_the_window(bench: &Bench<'_>) -> Check {
    let cx = bench.cx("describe");
    let metric = bench.harness.metric();
    let kind = bench.good("describe", bench.platform.metrics.describe(&cx, &metric)).await?;
    let members = bench.members(Version::Old, 1).await?;
    let fleet = members[0].fleet.clone();
    let start = bench.harness.now();
    bench.move_to(&Assignment { split: Split::all_to(fleet.clone()), members }).await?;
    let mut samples = Vec::new();
    bench
        .until("a fleet with requests has samples", async || {
            let answer = bench.harness.request().await;
            bench.able(Ability::Request, answer.is_some())?;
            samples = bench.query(&fleet, start, bench.harness.now()).await?;
            Ok(samples.len() > 1 || samples.first().is_some_and(|sample| whole(sample) > 3))
        })
        .await?;
    for sample in &samples {
        let fits = match sample.value {
            MetricValue::Ratio { .. } => kind == MetricKind::Ratio,
            MetricValue::Gauge(_) => kind == MetricKind::Gauge,
        };
        hold!(fits, "a {kind:?} has the sample {sample:?}");
    }
    // Two windows side by side have no more in them than both together.
    let end = bench.harness.now();
    let middle = ago(end, Duration::try_from(end.duration_since(start)).unwrap_or_default() / 2);
    let mut counts = Vec::new();
    for (from, to) in [(start, middle), (middle, end), (start, end)] {
        counts.push(bench.query(&fleet, from, to).await?.iter().map(whole).sum::<u64>());
    }
    hold!(
        counts[0] + counts[1] <= counts[2],
        "two halves of a window count {} and {}, and both {}",
        counts[0],
        counts[1],
        counts[2]
    );
    let before = bench.query(&fleet, ago(start, Duration::from_mins(5)), start).await?;
    hold!(before.is_empty(), "before its first request, a fleet has {before:?}");
    Ok(())
}

/// What a sample counts; a level counts once.
fn whole(sample: &MetricSample) -> u64 {
    match sample.value {
        MetricValue::Ratio { whole, .. } => whole,
        MetricValue::Gauge(_) => 1,
    }
}
