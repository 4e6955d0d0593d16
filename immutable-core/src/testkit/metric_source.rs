//! What simulated requests say about a fleet.

use std::time::Duration;

use async_trait::async_trait;

use super::operation::Operation;
use super::state::State;
use super::traffic_switch::Route;
use super::{Behaviour, SimCloud};
use crate::model::{FleetId, MetricName, Weight};
use crate::provider::{
    ErrorKind, MetricKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};

/// The one metric there is.
const ERRORS: &str = "errors";

#[async_trait]
impl MetricSource for SimCloud {
    async fn describe(&self, cx: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        self.enter(cx, Operation::DescribeMetric, |_| {
            known(metric, Operation::DescribeMetric)?;
            Ok(MetricKind::Ratio)
        })
        .await
    }

    /// One sample over the part of the window that is past, if the fleet had a request in it.
    async fn query(
        &self,
        cx: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        self.enter(cx, Operation::QueryMetric, |state| {
            known(metric, Operation::QueryMetric)?;
            Ok(state.errors(fleet, window).into_iter().collect())
        })
        .await
    }
}

fn known(metric: &MetricName, operation: Operation) -> Result<(), ProviderError> {
    if metric.as_str() == ERRORS {
        return Ok(());
    }
    Err(operation.refuse(ErrorKind::NotFound, format!("no metric {metric}; this source has {ERRORS}")))
}

/// How requests are shared from a moment on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flow {
    from: Duration,
    shares: Vec<FlowShare>,
}

#[derive(Debug, PartialEq, Eq)]
struct FlowShare {
    fleet: FleetId,
    weight: Weight,
    errors_per_mille: u32,
}

impl Flow {
    /// Adds a flow to a history, if it is another one than the last.
    pub(super) fn note(history: &mut Vec<Self>, flow: Self) {
        // Of several changes at one moment, only what came out of them matters.
        history.pop_if(|last| last.from == flow.from);
        if history.last().is_none_or(|last| last.shares != flow.shares) {
            history.push(flow);
        }
    }
}

impl State {
    /// How a route shares requests at this moment. A fleet without a healthy member answers each with an error.
    pub(super) fn flow(&self, route: &Route) -> Flow {
        let split = self.effective_split(route);
        let share = |(fleet, weight): (&FleetId, Weight)| {
            let behaviour = self.fleets.get(fleet).map(|fleet| self.behaviour(&fleet.spec.release.id()));
            let errors_per_mille = match behaviour {
                _ if self.healthy_members(route, fleet) == 0 => 1_000,
                Some(Behaviour::Errors { per_mille }) => per_mille.min(1_000),
                _ => 0,
            };
            FlowShare { fleet: fleet.clone(), weight, errors_per_mille }
        };
        Flow { from: self.now, shares: split.iter().map(share).collect() }
    }

    fn errors(&self, fleet: &FleetId, window: Window) -> Option<MetricSample> {
        let from = self.clock.since_start(window.from);
        let to = self.clock.since_start(window.to).min(self.now);
        let (before, after) = (self.requests(fleet, from), self.requests(fleet, to));
        let whole = after.0.checked_sub(before.0).filter(|whole| *whole > 0)?;
        // Requests are counted as they come to a whole, so the last of a window may belong to the next one.
        let part = (after.1 - before.1).min(whole);
        let window = Window { from: self.clock.at(from), to: self.clock.at(to) };
        Some(MetricSample { window, value: MetricValue::Ratio { part, whole } })
    }

    /// How many requests a fleet got from the start until a moment, and how many of them it answered with an error.
    fn requests(&self, fleet: &FleetId, until: Duration) -> (u64, u64) {
        let rate = u128::from(self.options.requests_per_second);
        let (mut whole, mut part) = (0_u128, 0_u128);
        for route in self.routes.values() {
            let ends = route.flows.iter().skip(1).map(|flow| flow.from).chain([until]);
            for (flow, end) in route.flows.iter().zip(ends) {
                let nanos = end.min(until).saturating_sub(flow.from).as_nanos();
                for share in flow.shares.iter().filter(|share| share.fleet == *fleet) {
                    let requests = rate * nanos * u128::from(share.weight.points());
                    whole += requests;
                    part += requests * u128::from(share.errors_per_mille);
                }
            }
        }
        // Nanoseconds in a second, basis points in the whole, errors in a thousand.
        let scale = 1_000_000_000 * 10_000;
        let count = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        (count(whole / scale), count(part / (scale * 1_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::VirtualClock;
    use super::super::fixture::{after, apply, cx, fleet_id, id, quick, ready, weighted};
    use super::*;

    /// The errors and requests of a fleet between two seconds after the start.
    async fn errors(cloud: &SimCloud, version: &str, from: u64, to: u64) -> Option<(u64, u64)> {
        let at = |seconds| VirtualClock::START + Duration::from_secs(seconds);
        let (metric, window) = ("errors".parse().unwrap(), Window { from: at(from), to: at(to) });
        let samples = cloud.platform().metrics.query(&cx(), &metric, &fleet_id(version), window).await.unwrap();
        assert!(samples.len() <= 1);
        samples.first().map(|sample| {
            assert!(window.from <= sample.window.from && sample.window.to <= window.to.min(cloud.now()));
            let MetricValue::Ratio { part, whole } = sample.value else { panic!("no ratio") };
            (part, whole)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn m1_m3_requests_are_counted_once_as_the_weights_were() {
        let cloud = quick(weighted());
        cloud.behave(cloud.release("2").id(), Behaviour::Errors { per_mille: 20 });
        ready(&cloud, "1", 1).await;
        ready(&cloud, "2", 1).await;
        apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
        after(10).await;
        apply(&cloud, &["sim-1", "sim-2"], &[("1", 75), ("2", 25)]).await.unwrap();
        after(20).await;
        apply(&cloud, &["sim-1", "sim-2"], &[("2", 100)]).await.unwrap();
        after(10).await;
        // One hundred requests a second: all to the first from 120 to 130, three quarters until 150, then none.
        for (version, from, to, expected) in [
            ("1", 0, 120, None),
            ("1", 120, 130, Some((0, 1_000))),
            ("1", 125, 140, Some((0, 1_250))),
            ("1", 140, 150, Some((0, 750))),
            ("1", 150, 160, None),
            ("2", 0, 130, None),
            ("2", 130, 150, Some((10, 500))),
            ("2", 0, 999, Some((30, 1_500))),
            ("2", 160, 999, None),
            ("2", 160, 130, None),
            ("3", 0, 999, None),
        ] {
            assert_eq!(errors(&cloud, version, from, to).await, expected, "fleet {version} from {from} to {to}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_healthy_member_every_request_is_an_error() {
        let cloud = quick(weighted());
        ready(&cloud, "1", 2).await;
        apply(&cloud, &["sim-1", "sim-2"], &[("1", 100)]).await.unwrap();
        after(10).await;
        cloud.kill(&id("sim-1"));
        after(10).await;
        cloud.make_ill(&id("sim-2"));
        after(10).await;
        cloud.heal(&id("sim-2"));
        after(10).await;
        assert_eq!(errors(&cloud, "1", 60, 100).await, Some((1_000, 4_000)));
        assert_eq!(errors(&cloud, "1", 80, 90).await, Some((1_000, 1_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn m2_only_the_errors_are_known() {
        let metrics = SimCloud::default().platform().metrics;
        assert_eq!(metrics.describe(&cx(), &"errors".parse().unwrap()).await.unwrap(), MetricKind::Ratio);
        let error = metrics.describe(&cx(), &"latency".parse().unwrap()).await.expect_err("unknown");
        assert_eq!(error.to_string(), "not found in describe metric: no metric latency; this source has errors");
    }
}
