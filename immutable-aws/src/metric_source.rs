//! What `CloudWatch` tells of the requests to a fleet.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat, ScanBy, StatusCode};
use aws_smithy_types::DateTime;
use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{
    Effect, ErrorKind, MetricKind, MetricSample, MetricSource, MetricValue, OpContext, ProviderError, Window,
};
use jiff::Timestamp;

use crate::error::unseen;
use crate::traffic_switch::route::Route;
use crate::{Config, target_groups};

const OPERATION: &str = "query metrics";

/// The balancer tells its metrics in intervals of a minute.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html>
const MINUTE: i64 = 60;

/// So many queries are in a request at most.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>
const QUERIES: usize = 500;

/// The metrics of the application load balancers that fleets are behind, per target group, in whole minutes:
///
/// * `errors`, a ratio: the answers of the instances with a status of 5xx, of all requests;
/// * `latency_p50`, `latency_p90`, `latency_p95`, `latency_p99`, a level: seconds from when a request left the balancer until the instance
///   began to answer. On several routes, the slowest counts.
///
/// They are looked for on the configuration's [routes](crate::ConfigBuilder::routes). A network load balancer does not see requests, and
/// has none of these. An instance that accepts no connection answers nothing, and its requests are in `errors` as requests only:
/// for that there are health checks.
///
/// # Errors
/// `NotFound` for any other metric, and for all of them when no route is of an application load balancer.
///
/// # Cancellation
/// Dropping a future leaves nothing behind.
pub struct CloudWatchMetrics {
    config: Config,
}

impl CloudWatchMetrics {
    /// The metrics on the routes of this configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl fmt::Debug for CloudWatchMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudWatchMetrics").finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Errors,
    /// A percentile, as the API names it.
    Latency(&'static str),
}

impl Wanted {
    fn named(name: &MetricName) -> Option<Self> {
        Some(match name.as_str() {
            "errors" => Self::Errors,
            "latency_p50" => Self::Latency("p50"),
            "latency_p90" => Self::Latency("p90"),
            "latency_p95" => Self::Latency("p95"),
            "latency_p99" => Self::Latency("p99"),
            _ => return None,
        })
    }

    /// The metrics of the balancer that it is made of, each with its statistic.
    fn parts(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Errors => &[("RequestCount", "Sum"), ("HTTPCode_Target_5XX_Count", "Sum")],
            Self::Latency("p50") => &[("TargetResponseTime", "p50")],
            Self::Latency("p90") => &[("TargetResponseTime", "p90")],
            Self::Latency("p95") => &[("TargetResponseTime", "p95")],
            Self::Latency(_) => &[("TargetResponseTime", "p99")],
        }
    }

    fn kind(self) -> MetricKind {
        match self {
            Self::Errors => MetricKind::Ratio,
            Self::Latency(_) => MetricKind::Gauge,
        }
    }
}

/// A target group, as metrics name it.
struct Place {
    balancer: String,
    group: String,
}

/// Values by the minute that they are about, in seconds since 1970, of each part of a metric.
type Minutes = BTreeMap<(usize, i64), f64>;

#[async_trait]
impl MetricSource for CloudWatchMetrics {
    fn lag(&self) -> Duration {
        self.config.metric_lag
    }

    async fn describe(&self, _: &OpContext, metric: &MetricName) -> Result<MetricKind, ProviderError> {
        self.wanted(metric).map(Wanted::kind)
    }

    async fn query(
        &self,
        _: &OpContext,
        metric: &MetricName,
        fleet: &FleetId,
        window: Window,
    ) -> Result<Vec<MetricSample>, ProviderError> {
        let wanted = self.wanted(metric)?;
        let window = settled(window, Timestamp::now(), self.config.metric_lag);
        let Some((from, to)) = whole_minutes(window) else { return Ok(Vec::new()) };
        let places = self.places(fleet).await?;
        let minutes = self.minutes(wanted, &places, (from, to)).await?;
        Ok(samples(wanted, &minutes, (from, to)))
    }
}

impl CloudWatchMetrics {
    fn wanted(&self, metric: &MetricName) -> Result<Wanted, ProviderError> {
        let missing = |message: String| ProviderError::new(ErrorKind::NotFound, OPERATION, message).without_effect();
        let wanted = Wanted::named(metric).ok_or_else(|| missing(format!("there is no metric {metric}")))?;
        let has_balancer = self.config.routes.iter().any(|route| balancer(route.as_str()).is_some());
        has_balancer.then_some(wanted).ok_or_else(|| {
            missing(format!("{metric} needs a route of an application load balancer in the configuration"))
        })
    }

    /// The target groups of the fleet that are there.
    async fn places(&self, fleet: &FleetId) -> Result<Vec<Place>, ProviderError> {
        let mut places = Vec::new();
        for route in &self.config.routes {
            let Some(balancer) = balancer(route.as_str()) else { continue };
            let name = target_groups::name(route.as_str(), fleet);
            let group = target_groups::by_name(&self.config.clients, OPERATION, Effect::None, &name).await?;
            let arn = group.and_then(|group| group.target_group_arn).unwrap_or_default();
            if let Some((_, group)) = arn.rsplit_once(':') {
                places.push(Place { balancer, group: group.to_owned() });
            }
        }
        Ok(places)
    }

    async fn minutes(&self, wanted: Wanted, places: &[Place], span: (i64, i64)) -> Result<Minutes, ProviderError> {
        let mut minutes = Minutes::new();
        for places in places.chunks(QUERIES / wanted.parts().len()) {
            let queries: Vec<_> = places.iter().enumerate().flat_map(|(n, place)| queries(wanted, n, place)).collect();
            let mut token = None;
            loop {
                let request = self.config.clients.cloudwatch.get_metric_data().scan_by(ScanBy::TimestampAscending);
                let request = request.start_time(DateTime::from_secs(span.0)).end_time(DateTime::from_secs(span.1));
                let request = request.set_metric_data_queries(Some(queries.clone())).set_next_token(token);
                let answer = request.send().await.map_err(|error| unseen(OPERATION, Effect::None, error))?;
                for result in answer.metric_data_results() {
                    check(result.status_code())?;
                    let Some(part) = result.id().and_then(part_of) else { continue };
                    for (at, value) in result.timestamps().iter().zip(result.values()) {
                        let known = minutes.entry((part, at.secs())).or_default();
                        *known = if wanted == Wanted::Errors { *known + value } else { known.max(*value) };
                    }
                }
                token = answer.next_token;
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(minutes)
    }
}

/// The queries of one target group. Their ids say which part of the metric they are about.
fn queries(wanted: Wanted, number: usize, place: &Place) -> impl Iterator<Item = MetricDataQuery> {
    let dimension = |name, value: &str| Dimension::builder().name(name).value(value).build();
    wanted.parts().iter().enumerate().map(move |(part, (name, statistic))| {
        let metric = Metric::builder().namespace("AWS/ApplicationELB").metric_name(*name);
        let metric = metric.dimensions(dimension("LoadBalancer", &place.balancer));
        let metric = metric.dimensions(dimension("TargetGroup", &place.group)).build();
        let seconds = i32::try_from(MINUTE).unwrap_or(i32::MAX);
        let stat = MetricStat::builder().metric(metric).period(seconds).stat(*statistic).build();
        MetricDataQuery::builder().id(format!("m{part}_{number}")).metric_stat(stat).build()
    })
}

fn part_of(id: &str) -> Option<usize> {
    id.strip_prefix('m')?.split('_').next()?.parse().ok()
}

/// Whether a part of the answer is an answer. That of a page is partial until the last one.
fn check(status: Option<&StatusCode>) -> Result<(), ProviderError> {
    let (kind, problem) = match status {
        Some(StatusCode::Forbidden) => (ErrorKind::PermissionDenied, "may not be read"),
        Some(StatusCode::InternalError) => (ErrorKind::Unavailable, "could not be read: ask again"),
        _ => return Ok(()),
    };
    let message = format!("the metrics of the load balancer {problem}");
    Err(ProviderError::new(kind, OPERATION, message).without_effect())
}

/// The balancer of a route, as metrics name it, if it sees requests.
fn balancer(route: &str) -> Option<String> {
    let (Route::Listener(arn) | Route::Rule(arn)) = Route::parse(route)?;
    let parts: Vec<&str> = arn.rsplit_once(':')?.1.split('/').collect();
    match parts[..] {
        [_, "app", name, id, ..] => Some(format!("app/{name}/{id}")),
        _ => None,
    }
}

/// The window without what may not be complete: of the newest minutes the requests may be told already and the errors among them not yet, which would
/// look like none.
fn settled(window: Window, now: Timestamp, lag: Duration) -> Window {
    let newest = now.checked_sub(lag).unwrap_or(Timestamp::MIN);
    Window { from: window.from, to: window.to.min(newest) }
}

/// The minutes that are in the window as a whole, in seconds since 1970.
fn whole_minutes(window: Window) -> Option<(i64, i64)> {
    let up = |time: Timestamp| {
        let seconds = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
        seconds.div_euclid(MINUTE) * MINUTE + if seconds.rem_euclid(MINUTE) > 0 { MINUTE } else { 0 }
    };
    let (from, to) = (up(window.from), window.to.as_second().div_euclid(MINUTE) * MINUTE);
    (from < to).then_some((from, to))
}

fn samples(wanted: Wanted, minutes: &Minutes, (from, to): (i64, i64)) -> Vec<MetricSample> {
    let inside = |at: i64| (from..to).contains(&at) && at.rem_euclid(MINUTE) == 0;
    let first = minutes.iter().filter(|((part, at), _)| *part == 0 && inside(*at));
    let sample = |((_, at), value): (&(usize, i64), &f64)| {
        let (start, end) = (Timestamp::from_second(*at).ok()?, Timestamp::from_second(at + MINUTE).ok()?);
        let value = match wanted {
            Wanted::Latency(_) => MetricValue::Gauge(*value),
            Wanted::Errors => {
                // The balancer tells of errors only when there are some, and of requests only when there are some.
                let whole = count(*value);
                let part = count(minutes.get(&(1, *at)).copied().unwrap_or_default()).min(whole);
                (whole > 0).then_some(MetricValue::Ratio { part, whole })?
            }
        };
        Some(MetricSample { window: Window { from: start, to: end }, value })
    };
    first.filter_map(sample).collect()
}

/// A number of requests, which comes as a float.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count; a cast ends at the limits")]
fn count(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, to: &str) -> Window {
        Window { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn minutes_that_may_not_be_complete_are_left_out() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let whole = |now| whole_minutes(settled(Window { from: at(0), to: at(600) }, at(now), Duration::from_mins(2)));
        assert_eq!(
            [whole(700), whole(719), whole(720), whole(179), whole(180)].map(|span| span.map(|(_, to)| to)),
            [Some(540), Some(540), Some(600), None, Some(60)]
        );
    }

    #[test]
    fn only_whole_minutes_inside_the_window_count() {
        let cases = [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z", Some(2)),
            ("2026-01-01T00:00:00.000000001Z", "2026-01-01T00:02:00Z", Some(1)),
            ("2026-01-01T00:00:01Z", "2026-01-01T00:02:59Z", Some(1)),
            ("2026-01-01T00:00:01Z", "2026-01-01T00:01:59Z", None),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", None),
            ("2026-01-01T00:05:00Z", "2026-01-01T00:00:00Z", None),
            ("1969-12-31T23:58:30Z", "1970-01-01T00:00:30Z", Some(1)),
        ];
        for (from, to, expected) in cases {
            let minutes = whole_minutes(window(from, to)).map(|(from, to)| (to - from) / MINUTE);
            assert_eq!(minutes, expected, "{from} to {to}");
        }
    }

    #[test]
    fn no_errors_are_told_of_where_there_are_none_and_no_requests_are_silence() {
        let (first, second, third, outside) = (600, 660, 720, 780);
        let minutes = Minutes::from([
            ((0, first), 10.0),
            ((0, second), 4.0),
            ((1, second), 9.0),
            ((0, third), 0.0),
            ((1, third), 0.0),
            ((0, outside), 5.0),
        ]);
        let told = samples(Wanted::Errors, &minutes, (600, 780));
        let values: Vec<_> = told.iter().map(|sample| (sample.window.from.as_second(), sample.value)).collect();
        // Errors that are told of before their requests are no more than those.
        let expected =
            [(first, MetricValue::Ratio { part: 0, whole: 10 }), (second, MetricValue::Ratio { part: 4, whole: 4 })];
        assert_eq!(values, expected);
        assert!(samples(Wanted::Errors, &Minutes::from([((1, first), 3.0)]), (600, 780)).is_empty());
    }

    #[test]
    fn a_balancer_is_named_by_its_kind_name_and_id() {
        let arn = |resource: &str| format!("arn:aws:elasticloadbalancing:eu-west-1:1:{resource}");
        let cases = [
            ("listener/app/web/50dc/f2f7", Some("app/web/50dc")),
            ("listener-rule/app/web/50dc/f2f7/9683", Some("app/web/50dc")),
            ("listener/net/web/50dc/f2f7", None),
            ("loadbalancer/app/web/50dc", None),
        ];
        for (resource, expected) in cases {
            assert_eq!(balancer(&arn(resource)).as_deref(), expected, "{resource}");
        }
    }

    #[test]
    fn a_metric_is_asked_for_in_parts_that_are_recognised() {
        let place = Place { balancer: "app/web/1".to_owned(), group: "targetgroup/im-a-b/2".to_owned() };
        let queries: Vec<_> = queries(Wanted::Errors, 7, &place).collect();
        assert_eq!(queries.iter().filter_map(|query| part_of(query.id()?)).collect::<Vec<_>>(), [0, 1]);
        let stat = queries[1].metric_stat().unwrap();
        assert_eq!((stat.stat(), stat.period()), (Some("Sum"), Some(60)));
        let dimensions = stat.metric().unwrap().dimensions().iter();
        let dimensions: Vec<_> = dimensions.map(|one| (one.name().unwrap(), one.value().unwrap())).collect();
        assert_eq!(dimensions, [("LoadBalancer", "app/web/1"), ("TargetGroup", "targetgroup/im-a-b/2")]);
    }
}
