//! How a gateway probes, and the question how a pool is that it does not probe by itself.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::super::document::{API, name};
use super::super::state::State;
use crate::client::Request;

/// The name of the question about one pool.
pub(super) fn topic(state: &State, pool: &str) -> String {
    format!("{}/{pool}", state.document.id()).to_ascii_lowercase()
}

/// The probe of some settings.
fn probe<'a>(state: &'a State, settings: &Value) -> Option<&'a Value> {
    let id = settings["properties"]["probe"]["id"].as_str()?;
    state.document.part("probes", name(id))
}

/// The question how a pool is that no rule leads to, as it would be probed if that of this route did. Without a probe of its own the settings are probed
/// [in the usual way](https://learn.microsoft.com/azure/application-gateway/application-gateway-probe-overview#default-health-probe).
pub(super) fn question(state: &State, pool: &str) -> Option<Request> {
    let document = &state.document;
    let settings = state.route.settings(document).into_iter().next()?;
    let said = &settings["properties"];
    let mut question = match probe(state, settings) {
        Some(probe) => copied(&probe["properties"]),
        None => json!({ "protocol": said["protocol"], "host": "127.0.0.1", "path": "/", "timeout": 30 }),
    };
    question["backendAddressPool"] = json!({ "id": document.id_of("backendAddressPools", pool) });
    let settings = settings["name"].as_str().unwrap_or_default();
    question["backendHttpSettings"] = json!({ "id": document.id_of("backendHttpSettingsCollection", settings) });
    let topic = format!("{}/getBackendHealthOnDemand", document.id());
    Request::new(Method::POST, &topic, API).json(&question).ok()
}

/// What a question takes of a probe.
fn copied(probe: &Value) -> Value {
    let fields = ["protocol", "host", "path", "timeout", "pickHostNameFromBackendHttpSettings", "match"];
    let found = fields.into_iter().filter_map(|field| Some((field.to_owned(), probe.get(field)?.clone())));
    Value::Object(found.collect())
}

/// How long the gateway takes until it knows a member that it probes by itself. Without a probe of its own
/// [twice 30 seconds](https://learn.microsoft.com/azure/application-gateway/application-gateway-probe-overview#default-health-probe).
pub(super) fn probed_within(state: &State) -> Duration {
    let of = |settings: &Value| {
        let probe = probe(state, settings);
        let seconds = |field: &str| probe.and_then(|probe| probe["properties"][field].as_u64()).unwrap_or(30);
        Duration::from_secs(seconds("interval") + seconds("timeout"))
    };
    let all = state.route.settings(&state.document).into_iter().map(of);
    all.max().unwrap_or(Duration::from_mins(1))
}
