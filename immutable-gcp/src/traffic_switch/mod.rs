//! Moving traffic with a load balancer: by the weights of a URL map, or by the members of a backend service.
//!
//! # Which balancers
//! * Application Load Balancers of the schemes `EXTERNAL_MANAGED` and `INTERNAL_MANAGED`, global and regional: [`UrlMapSwitch`].
//!   Classic ones (`EXTERNAL`) have [no weights](https://docs.cloud.google.com/load-balancing/docs/features#routing-traffic-management).
//! * Every balancer whose backend service takes zonal endpoint groups: [`BackendServiceSwitch`], also for proxy and passthrough Network
//!   Load Balancers. Endpoint groups and instance groups
//!   [cannot be mixed](https://docs.cloud.google.com/load-balancing/docs/backend-service#backends).
//!
//! # Members
//! Members are endpoints of zonal network endpoint groups, one group for each fleet, route and zone, and not the managed instance groups:
//! a rolling replacement takes single instances out while they still run, which a managed group cannot do.

mod claim;
mod members;
mod membership;
mod plan;
mod route;
mod state;
#[cfg(test)]
mod tests;
mod url_map;

use immutable_core::model::Fingerprint;
use serde::Serialize;

pub(crate) use self::claim::{Claim, Turns};
pub use self::membership::BackendServiceSwitch;
pub(crate) use self::membership::drop_groups;
pub(crate) use self::route::Route;
pub use self::url_map::UrlMapSwitch;
pub(crate) use self::url_map::drop_service;

const OBSERVE: &str = "observe route";
const APPLY: &str = "apply to route";

/// A value as a text that is the same whenever the value is.
fn text(value: impl Serialize) -> String {
    // By way of a value, whose fields have an order; the SDK's types always serialise.
    serde_json::to_value(value).map(|value| value.to_string()).unwrap_or_default()
}

/// A short name for what is written.
pub(crate) fn short(value: &impl Serialize) -> String {
    Fingerprint::of(text(value)).short()
}
