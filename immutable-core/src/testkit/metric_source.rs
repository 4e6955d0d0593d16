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
            let behaviour = self.fleets.get(fleet).map(|fleet| self.behaviour(&fleet.release));
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
