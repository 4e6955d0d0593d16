//! What a metric is asked with.

use immutable_core::provider::MetricKind;

use crate::template::{Placeholder, Template};

/// The queries of a metric, in `PromQL`, with places that are filled in for each question:
///
/// | placeholder | is filled with | stands |
/// |---|---|---|
/// | `{{fleet}}` | the fleet's name | between `""` or `''` |
/// | `{{release}}` | what is after the last hyphen of the fleet's name: its release | between `""` or `''` |
/// | `{{service}}` | what is before that hyphen: its service | between `""` or `''` |
/// | `{{window}}` | the [resolution](crate::MetricsBuilder::resolution), such as `10s` | anywhere |
///
/// What is filled in is escaped for the text that it stands in, and after `=~` and `!~` also for a regular expression: it matches
/// nothing but itself. A baseline that a canary is compared with runs an old release as a fleet of its own, and only `{{fleet}}` tells
/// it from the others.
///
/// Every query needs `{{window}}`, as it would otherwise tell of moments that it was not asked about, and `{{fleet}}` or `{{release}}`,
/// as it would otherwise tell the same of every fleet. It must come to one series: aggregate with `sum()` or the like, without `by`.
#[derive(Debug, Clone)]
pub struct Query(Kind<String>);

/// The kinds of metrics, with what each is asked with.
#[derive(Debug, Clone)]
pub(crate) enum Kind<T> {
    Ratio { part: T, whole: T },
    Gauge(T),
}

impl Query {
    /// So many of so many: errors of requests. Both are counts over `{{window}}`, usually with `increase`.
    ///
    /// They are asked for one after the other, the whole first: nothing that is in the whole is missing in the part because it came
    /// in between.
    ///
    /// ```
    /// use immutable_prometheus::Query;
    ///
    /// let errors = Query::ratio(
    ///     r#"sum(increase(http_requests_total{fleet="{{fleet}}",code=~"5.."}[{{window}}]))"#,
    ///     r#"sum(increase(http_requests_total{fleet="{{fleet}}"}[{{window}}]))"#,
    /// );
    /// ```
    pub fn ratio(part: impl Into<String>, whole: impl Into<String>) -> Self {
        Self(Kind::Ratio { part: part.into(), whole: whole.into() })
    }

    /// A level: a latency, the length of a queue.
    ///
    /// ```
    /// use immutable_prometheus::Query;
    ///
    /// let queue = Query::gauge(r#"max(max_over_time(queue_length{fleet="{{fleet}}"}[{{window}}]))"#);
    /// let latency = Query::gauge(
    ///     r#"histogram_quantile(0.99, sum by (le) (rate(http_seconds_bucket{fleet="{{fleet}}"}[{{window}}])))"#,
    /// );
    /// ```
    pub fn gauge(query: impl Into<String>) -> Self {
        Self(Kind::Gauge(query.into()))
    }

    /// The queries, ready to be filled in.
    ///
    /// # Errors
    /// The name of the first that cannot be, and what is wrong with it.
    pub(crate) fn parse(&self) -> Result<Kind<Template>, (&'static str, String)> {
        let parse = |name, text: &str| checked(text).map_err(|problem| (name, problem));
        Ok(match &self.0 {
            Kind::Ratio { part, whole } => Kind::Ratio { part: parse(PART, part)?, whole: parse(WHOLE, whole)? },
            Kind::Gauge(query) => Kind::Gauge(parse(LEVEL, query)?),
        })
    }
}

/// What the queries are called, for people.
pub(crate) const PART: &str = "part";
pub(crate) const WHOLE: &str = "whole";
pub(crate) const LEVEL: &str = "query";

impl<T> Kind<T> {
    pub(crate) fn of_metric(&self) -> MetricKind {
        match self {
            Self::Ratio { .. } => MetricKind::Ratio,
            Self::Gauge(_) => MetricKind::Gauge,
        }
    }

    /// Each query with its name.
    pub(crate) fn queries(&self) -> Vec<(&'static str, &T)> {
        match self {
            Self::Ratio { part, whole } => vec![(PART, part), (WHOLE, whole)],
            Self::Gauge(query) => vec![(LEVEL, query)],
        }
    }
}

fn checked(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    if !template.uses(Placeholder::Window) {
        return Err("has no {{window}}, as in increase(x[{{window}}]) or avg_over_time(x[{{window}}]): \
                    it would tell of moments that it is not asked about"
            .to_owned());
    }
    if !template.uses(Placeholder::Fleet) && !template.uses(Placeholder::Release) {
        return Err("has no {{fleet}}, as in x{fleet=\"{{fleet}}\"}: it would tell the same of every fleet".to_owned());
    }
    Ok(template)
}
