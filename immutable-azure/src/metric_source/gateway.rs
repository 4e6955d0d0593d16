//! What application gateways tell of the requests to a fleet.

use std::collections::{BTreeMap, BTreeSet};

use immutable_core::model::{FleetId, MetricName};
use immutable_core::provider::{MetricKind, MetricValue, ProviderError};
use reqwest::Method;
use serde_json::Value;

use super::OPERATION;
use super::addresses::{self, Addresses, host};
use super::minutes::{Minutes, Span, add, ratio};
use super::question::{Aggregation, Question, Series, moments};
use crate::client::Request;
use crate::error::unseen;
use crate::traffic_switch::application_gateway::uses;
use crate::{Config, looks, ownership};

/// The version of the API of Network.
const NETWORK: &str = "2024-05-01";

/// The [dimensions](https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-network-applicationgateways-metrics) of
/// metrics of gateways: a pool by its name, a server by its address and its port, a pool with the settings that it is used by as `pool~settings`, and
/// the first digit of a status as `5xx`.
const POOL: &str = "BackendPool";
const SERVER: &str = "BackendServer";
const POOL_WITH_SETTINGS: &str = "BackendSettingsPool";
const STATUS: &str = "HttpStatusGroup";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Errors,
    Latency(Aggregation),
}

impl Wanted {
    pub(super) fn named(name: &MetricName) -> Option<Self> {
        Some(match name.as_str() {
            "errors" => Self::Errors,
            "latency_average" => Self::Latency(Aggregation::Average),
            "latency_max" => Self::Latency(Aggregation::Maximum),
            _ => return None,
        })
    }

    pub(super) fn kind(self) -> MetricKind {
        match self {
            Self::Errors => MetricKind::Ratio,
            Self::Latency(_) => MetricKind::Gauge,
        }
    }
}

/// The gateways that the routes are parts of, by their ids.
pub(super) fn gateways(config: &Config) -> BTreeSet<String> {
    const KIND: &str = "/providers/microsoft.network/applicationgateways/";
    let gateway = |route: &str| {
        let start = route.to_ascii_lowercase().find(KIND)? + KIND.len();
        let end = route[start..].find('/').map_or(route.len(), |length| start + length);
        Some(route[..end].to_owned())
    };
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for id in config.routes.iter().filter_map(|route| gateway(route.as_str())) {
        found.entry(id.to_ascii_lowercase()).or_insert(id);
    }
    found.into_values().collect()
}

/// What the gateways tell of a fleet.
///
/// # Errors
/// When one of them cannot be asked.
pub(super) async fn minutes(
    config: &Config,
    wanted: Wanted,
    fleet: &FleetId,
    span: Span,
) -> Result<Minutes, ProviderError> {
    let name = ownership::name(OPERATION, fleet)?;
    let mut minutes = Minutes::new();
    let mut known = None;
    for gateway in gateways(config) {
        let request = Request::new(Method::GET, &gateway, NETWORK);
        let Some(answer) = looks::one(&config.clients, OPERATION, request).await? else { continue };
        let document = answer.json().map_err(|failure| unseen(OPERATION, failure))?;
        let pools = own_pools(&document, &name);
        let place = if pools.is_empty() {
            let addresses = match known.take() {
                Some(addresses) => addresses,
                None => addresses::of_fleet(config, fleet).await?,
            };
            Place::Shared(known.insert(addresses).clone())
        } else {
            Place::Own(pools)
        };
        if !place.is_empty() {
            place.tell(config, &gateway, wanted, span, &mut minutes).await?;
        }
    }
    Ok(minutes)
}

/// Where a fleet is on a gateway.
enum Place {
    /// In pools of its own.
    Own(Vec<String>),
    /// In pools with others.
    Shared(Addresses),
}

impl Place {
    fn is_empty(&self) -> bool {
        match self {
            Self::Own(pools) => pools.is_empty(),
            Self::Shared(addresses) => addresses.is_empty(),
        }
    }

    async fn tell(
        &self,
        config: &Config,
        gateway: &str,
        wanted: Wanted,
        span: Span,
        minutes: &mut Minutes,
    ) -> Result<(), ProviderError> {
        let ask = async |metric: &str, aggregation, dimensions| {
            let (resource, metric) = (gateway.to_owned(), metric.to_owned());
            Question { resource, metric, namespace: None, aggregation, dimensions }.ask(config, span).await
        };
        let (own, any) = (self.dimension(), vec!["*".to_owned()]);
        match wanted {
            Wanted::Latency(aggregation) => {
                let told = ask("BackendFirstByteResponseTime", aggregation, BTreeMap::from([own])).await?;
                slowest(minutes, &self.of_fleet(told));
            }
            Wanted::Errors => {
                let by_status = BTreeMap::from([own, (STATUS.to_owned(), any.clone())]);
                let answered = self.of_fleet(ask("BackendResponseStatus", Aggregation::Total, by_status).await?);
                let failed = if let Self::Own(pools) = self {
                    let by_pool = BTreeMap::from([(POOL_WITH_SETTINGS.to_owned(), any)]);
                    let mut failed = ask("FailedRequests", Aggregation::Total, by_pool).await?;
                    failed.retain(|series| pools.iter().any(|pool| is_with(series.label("backendsettingspool"), pool)));
                    failed
                } else {
                    Vec::new()
                };
                errors(minutes, &answered, &failed);
            }
        }
        Ok(())
    }

    /// What tells the fleet from others. Servers are not asked for one by one: there may be too many for a URL.
    fn dimension(&self) -> (String, Vec<String>) {
        match self {
            Self::Own(pools) => (POOL.to_owned(), pools.clone()),
            Self::Shared(_) => (SERVER.to_owned(), vec!["*".to_owned()]),
        }
    }

    /// Of what was told, what is about the fleet.
    fn of_fleet(&self, told: Vec<Series>) -> Vec<Series> {
        let Self::Shared(addresses) = self else { return told };
        let owned = |mut series: Series| {
            let since = addresses.get(host(series.label("backendserver")))?;
            series.values.retain(|at, _| at >= since);
            Some(series)
        };
        told.into_iter().filter_map(owned).collect()
    }
}

/// The pools of a gateway that are of a fleet alone and have requests: those that a rule leads to, and that begin with the name of its scale set and go on
/// with nothing that a name could go on with. Others only say whose the members of a shared pool are, or were.
fn own_pools(gateway: &Value, name: &str) -> Vec<String> {
    let used = uses(gateway);
    let is_used = |pool: &&str| {
        let name = |id: &str| id.rsplit('/').next().is_some_and(|name| name.eq_ignore_ascii_case(pool));
        used.iter().any(|(id, _)| name(id))
    };
    let pools = gateway["properties"]["backendAddressPools"].as_array().into_iter().flatten();
    let names = pools.filter_map(|pool| pool["name"].as_str()).filter(is_used);
    let is_own = |pool: &&str| {
        let rest = pool.to_ascii_lowercase().strip_prefix(name).map(str::to_owned);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    names.filter(is_own).map(str::to_owned).collect()
}

/// Whether this is a pool with some settings.
fn is_with(pool_and_settings: &str, pool: &str) -> bool {
    pool_and_settings.split('~').next().is_some_and(|name| name.eq_ignore_ascii_case(pool))
}

/// Adds the errors among all requests. `answered`: the answers of instances by their status. `failed`: all answers with 5xx, those included that the
/// gateway gave itself, which are in no other number.
fn errors(minutes: &mut Minutes, answered: &[Series], failed: &[Series]) {
    let sum =
        |all: &mut dyn Iterator<Item = &Series>, at: i64| all.filter_map(|series| series.values.get(&at)).sum::<f64>();
    for at in moments(answered.iter().chain(failed)) {
        let all = sum(&mut answered.iter(), at);
        let bad = sum(&mut answered.iter().filter(|series| series.label("httpstatusgroup") == "5xx"), at);
        let by_gateway = (sum(&mut failed.iter(), at) - bad).max(0.0);
        add(minutes, at, ratio(bad + by_gateway, all + by_gateway));
    }
}

/// Adds the slowest, which Azure tells in milliseconds. Nothing takes no time at all: zeros fill what is not known.
fn slowest(minutes: &mut Minutes, told: &[Series]) {
    for (at, milliseconds) in told.iter().flat_map(|series| &series.values) {
        if *milliseconds > 0.0 {
            add(minutes, *at, MetricValue::Gauge(milliseconds / 1000.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn series(labels: &[(&str, &str)], values: &[(i64, f64)]) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Series { labels: labels.collect(), values: values.iter().copied().collect() }
    }

    #[test]
    fn errors_are_those_of_instances_and_those_of_a_gateway_that_reached_none() {
        let status = |status: &str, values: &[(i64, f64)]| series(&[("httpstatusgroup", status)], values);
        let answered =
            [status("2xx", &[(0, 90.0), (60, 10.0), (180, 0.0)]), status("5xx", &[(0, 6.0), (60, 0.0), (120, 1.0)])];
        let failed = [
            series(&[("backendsettingspool", "im-a~web")], &[(0, 8.0), (240, 5.0)]),
            series(&[("backendsettingspool", "im-a~api")], &[(0, 2.0)]),
        ];
        let mut minutes = Minutes::new();
        errors(&mut minutes, &answered, &failed);
        let ratio = |part, whole| MetricValue::Ratio { part, whole };
        let expected = [
            (0, ratio(10, 100)),
            (60, ratio(0, 10)),
            // The gateway has not told of the failure yet that the instance has.
            (120, ratio(1, 1)),
            (180, ratio(0, 0)),
            (240, ratio(5, 5)),
        ];
        assert_eq!(minutes, Minutes::from(expected));
    }

    #[test]
    fn a_pool_is_of_the_fleet_that_it_is_named_for() {
        let pools = ["im-web-1a", "IM-WEB-1A", "im-web-1a-0f", "im-web-1a.x", "im-web-1ab", "im-web", "web"];
        let rules: Vec<_> = pools.iter().map(|name| rule("backendAddressPool", "backendHttpSettings", name)).collect();
        let pools: Vec<_> = pools.iter().map(|name| json!({ "name": name })).collect();
        let gateway = json!({ "properties": { "backendAddressPools": pools, "requestRoutingRules": rules } });
        assert_eq!(own_pools(&gateway, "im-web-1a"), ["im-web-1a", "IM-WEB-1A", "im-web-1a-0f", "im-web-1a.x"]);
    }

    /// A rule that leads to a pool.
    fn rule(pool_field: &str, settings_field: &str, pool: &str) -> Value {
        let part = |name: &str| json!({ "id": format!("/gateways/web/parts/{name}") });
        json!({ "properties": { pool_field: part(pool), settings_field: part("web") } })
    }

    #[test]
    fn a_pool_that_nothing_leads_to_has_no_requests() {
        let ways = |name: &str| {
            let plain = rule("backendAddressPool", "backendHttpSettings", name);
            let mut map = rule("defaultBackendAddressPool", "defaultBackendHttpSettings", "other");
            map["properties"]["pathRules"] = json!([plain]);
            let default = rule("defaultBackendAddressPool", "defaultBackendHttpSettings", name);
            [("requestRoutingRules", plain), ("urlPathMaps", map), ("urlPathMaps", default)]
        };
        let told = |name: &str, way: Option<(&str, Value)>| {
            let mut gateway = json!({ "properties": { "backendAddressPools": [{ "name": name }] } });
            if let Some((list, way)) = way {
                gateway["properties"][list] = json!([way]);
            }
            own_pools(&gateway, "im-web-1a").len()
        };
        for pool in ["im-web-1a-0a1b2c3d", "im-web-1a-0a1b2c3d-out-1800000000"] {
            assert_eq!(told(pool, None), 0, "{pool}");
            for way in ways("im-web-1a-other") {
                assert_eq!(told(pool, Some(way)), 0, "{pool}");
            }
            for way in ways(&pool.to_uppercase()) {
                assert_eq!(told(pool, Some(way)), 1, "{pool}");
            }
        }
    }

    #[test]
    fn an_address_tells_nothing_of_the_time_before_its_instance() {
        let place = Place::Shared(Addresses::from([("10.0.0.4".to_owned(), 61)]));
        let told = vec![
            series(&[("backendserver", "10.0.0.4:80")], &[(0, 1.0), (60, 1.0), (120, 1.0)]),
            series(&[("backendserver", "10.0.0.5:80")], &[(120, 1.0)]),
        ];
        let left = place.of_fleet(told);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].values, BTreeMap::from([(120, 1.0)]));
    }
}
