//! A profile of Traffic Manager: its endpoints with their weights, and what its tags say of the last change.
//!
//! # Flow
//! Nothing of Traffic Manager has an `ETag`. So whoever changes a route counts first, by a tag of the profile in the name of the call, and later
//! finds its own mark there, or that of another one. The mark is made of the call, the version that it saw and what the profile is after the write:
//! so it is also seen whether the profile is still as the call has left it.
//!
//! # Assumptions
//! Who has asked for the name of the profile goes where the answer led for its time to live. The tags tell what was before the last change, and when
//! that was. Traffic Manager [needs no more time](https://learn.microsoft.com/azure/traffic-manager/traffic-manager-faqs) for a change than that.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use immutable_core::model::Fingerprint;
use immutable_core::provider::{Effect, ErrorKind, MemberHealth, ProviderError};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Clients;
use crate::client::Request;
use crate::error::{failed, unseen};
use crate::traffic_switch::load_balancer::members::stamp;

const API_VERSION: &str = "2022-04-01";

/// The tags of ours on a profile. Azure compares the names of tags without regard to case.
const CLAIM: &str = "immutable-claim";
const BEFORE: &str = "immutable-before";
const SINCE: &str = "immutable-since";

/// What is written where there were no weights.
const NONE: &str = "none";

/// Weights by the names of endpoints; who is disabled has none.
pub(super) type Weights = BTreeMap<String, u32>;

/// A profile as it was read.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    id: String,
    document: Value,
    pub(super) claim: Claim,
    before: Weights,
    since: Option<Timestamp>,
}

/// Who changed the route the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// How often the route has been changed.
    count: u64,
    /// The key of the last call that did.
    pub(super) key: String,
    /// The mark of its last write.
    stamp: String,
}

impl Claim {
    /// What the tag says. What nobody of us wrote there counts as the start; it is in the version as well.
    fn read(tag: &str) -> Self {
        let mut parts = tag.splitn(3, ':');
        let count = parts.next().and_then(|count| count.parse().ok()).unwrap_or_default();
        let mut rest = || parts.next().unwrap_or_default().to_owned();
        Self { count, key: rest(), stamp: rest() }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.count, self.key, self.stamp)
    }
}

impl Profile {
    /// Whether this can be the id of a profile.
    pub(super) fn is_id(id: &str) -> bool {
        let parts: Vec<&str> = id.split('/').collect();
        let fixed: Vec<String> = parts.iter().skip(1).step_by(2).map(|part| part.to_ascii_lowercase()).collect();
        fixed == ["subscriptions", "resourcegroups", "providers", "trafficmanagerprofiles"]
            && parts.len() == 9
            && parts[6].eq_ignore_ascii_case("Microsoft.Network")
    }

    pub(super) async fn read(clients: &Clients, operation: &'static str, id: &str) -> Result<Self, ProviderError> {
        let answer = clients.send(Request::new(Method::GET, id, API_VERSION)).await;
        let answer = answer.map_err(|failure| unseen(operation, failure))?;
        Self::of(operation, id, answer.json().map_err(|failure| unseen(operation, failure))?)
    }

    pub(super) fn of(operation: &'static str, id: &str, document: Value) -> Result<Self, ProviderError> {
        let error = |kind, problem: String| ProviderError::new(kind, operation, problem).without_effect();
        if document["properties"]["trafficRoutingMethod"] != "Weighted" {
            return Err(error(ErrorKind::InvalidRequest, format!("{id} does not route by weights: let it do so")));
        }
        let tag = |name: &str| {
            let tags = document["tags"].as_object().into_iter().flatten();
            tags.filter(|(key, _)| key.eq_ignore_ascii_case(name)).find_map(|(_, value)| value.as_str())
        };
        let damaged = |name: &str| {
            error(
                ErrorKind::Internal,
                format!("the tag {name} of {id} was changed: restore it, or remove it when nothing moves"),
            )
        };
        let before = tag(BEFORE).map_or(Some(Weights::new()), weights_of).ok_or_else(|| damaged(BEFORE))?;
        let seconds = |text: &str| Timestamp::from_second(text.parse().ok()?).ok();
        let since = tag(SINCE).map(|text| seconds(text).ok_or_else(|| damaged(SINCE))).transpose()?;
        let claim = tag(CLAIM).map(Claim::read).unwrap_or_default();
        Ok(Self { id: id.to_owned(), claim, before, since, document })
    }

    fn endpoints(&self) -> impl Iterator<Item = &Value> {
        self.document["properties"]["endpoints"].as_array().into_iter().flatten()
    }

    fn endpoint(&self, name: &str) -> Option<&Value> {
        self.endpoints().find(|one| one["name"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)))
    }

    /// Whether there is an endpoint of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.endpoint(name).is_some()
    }

    /// The weight that an endpoint has as it is written.
    pub(super) fn written(&self, name: &str) -> u32 {
        let Some(endpoint) = self.endpoint(name).filter(|one| one["properties"]["endpointStatus"] != "Disabled") else {
            return 0;
        };
        // One without a weight weighs 1: https://learn.microsoft.com/azure/traffic-manager/traffic-manager-routing-methods
        endpoint["properties"]["weight"].as_u64().and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1)
    }

    /// The weight that an endpoint had before the last change, as long as somebody may still go by that.
    pub(super) fn before(&self, name: &str, now: Timestamp) -> Option<u32> {
        self.until_in_effect(now).map(|_| self.before.get(name).copied().unwrap_or_default())
    }

    /// How long it is until nobody goes by the weights before the last change.
    pub(super) fn until_in_effect(&self, now: Timestamp) -> Option<Duration> {
        let ttl = self.document["properties"]["dnsConfig"]["ttl"].as_u64().filter(|ttl| *ttl > 0)?;
        let end = self.since?.saturating_add(Duration::from_secs(ttl)).ok()?;
        Duration::try_from(end.duration_since(now)).ok().filter(|left| !left.is_zero())
    }

    /// Whether the name of the profile leads anywhere.
    pub(super) fn is_enabled(&self) -> bool {
        self.document["properties"]["profileStatus"] != "Disabled"
    }

    /// What Traffic Manager makes of a member that is good for its balancer: answers lead to an endpoint that
    /// [is online, is not probed or was not probed yet](https://learn.microsoft.com/azure/traffic-manager/traffic-manager-monitoring#endpoint-monitor-status).
    pub(super) fn monitored(&self, name: &str) -> Option<MemberHealth> {
        let status = self.endpoint(name)?["properties"]["endpointMonitorStatus"].as_str()?;
        match status {
            "Online" | "Unmonitored" => None,
            "CheckingEndpoint" => Some(MemberHealth::Registering),
            _ => Some(MemberHealth::Unhealthy),
        }
    }

    /// All that people decide about the profile, as a text that is the same whenever that is.
    fn text(&self, claim: &Claim) -> String {
        let properties = &self.document["properties"];
        let endpoints: Vec<Value> = self.endpoints().map(said).collect();
        let mut monitor = properties["monitorConfig"].clone();
        if let Some(fields) = monitor.as_object_mut() {
            fields.remove("profileMonitorStatus");
        }
        let whole = json!([
            endpoints,
            properties["trafficRoutingMethod"],
            self.is_enabled(),
            properties["dnsConfig"]["ttl"],
            monitor,
            self.before,
            self.since.map(Timestamp::as_second),
            claim.to_string(),
        ]);
        whole.to_string()
    }

    /// A short name for all of it.
    pub(super) fn fingerprint(&self) -> String {
        Fingerprint::of(self.text(&self.claim)).short()
    }

    /// Whether the profile is as a call with this intent, which saw that version, has left it.
    pub(super) fn is_left_by(&self, (key, seen): (&str, &str)) -> bool {
        self.claim.key == key && self.claim.stamp == self.stamp(&self.claim, seen)
    }

    fn stamp(&self, claim: &Claim, seen: &str) -> String {
        stamp(&claim.key, seen, &self.text(&Claim { stamp: String::new(), ..claim.clone() }))
    }

    /// Writes a claim, and these weights of these endpoints if there are any, and all else as it was read.
    pub(super) async fn write(
        &self,
        clients: &Clients,
        operation: &'static str,
        (key, seen): (&str, &str),
        weights: Option<(&Weights, Timestamp)>,
    ) -> Result<(), ProviderError> {
        let mut next = self.clone();
        if let Some((weights, now)) = weights {
            next.before = self.reachable(weights.keys(), now);
            // Whole seconds, and none too few.
            next.since = Timestamp::from_second(now.as_second().saturating_add(1)).ok();
            next.weigh(weights);
        }
        next.claim = Claim { count: self.claim.count.saturating_add(1), key: key.to_owned(), stamp: String::new() };
        next.claim.stamp = next.stamp(&next.claim, seen);
        next.tag(CLAIM, &next.claim.to_string());
        if let Some(since) = next.since {
            next.tag(BEFORE, &text_of(&next.before));
            next.tag(SINCE, &since.as_second().to_string());
        }
        let request = Request::new(Method::PUT, &self.id, API_VERSION).json(&next.document);
        let request = request.map_err(|failure| failed(operation, Effect::None, failure))?;
        clients.send(request).await.map_err(|failure| failed(operation, Effect::None, failure))?;
        Ok(())
    }

    /// The most that each endpoint has by any answer that somebody may still go by.
    fn reachable<'a>(&self, names: impl Iterator<Item = &'a String>, now: Timestamp) -> Weights {
        let most = |name: &String| self.before(name, now).unwrap_or_default().max(self.written(name));
        names.map(|name| (name.clone(), most(name))).filter(|(_, weight)| *weight > 0).collect()
    }

    fn weigh(&mut self, weights: &Weights) {
        for endpoint in self.document["properties"]["endpoints"].as_array_mut().into_iter().flatten() {
            let name = endpoint["name"].as_str().unwrap_or_default();
            let Some((_, weight)) = weights.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)) else { continue };
            if *weight > 0 {
                endpoint["properties"]["weight"] = (*weight).into();
            }
            endpoint["properties"]["endpointStatus"] = if *weight > 0 { "Enabled" } else { "Disabled" }.into();
        }
    }

    fn tag(&mut self, name: &str, value: &str) {
        if !self.document["tags"].is_object() {
            self.document["tags"] = json!({});
        }
        let Some(tags) = self.document["tags"].as_object_mut() else { return };
        let own = tags.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        tags.insert(own.unwrap_or_else(|| name.to_owned()), value.into());
    }
}

/// What people decide about an endpoint.
fn said(endpoint: &Value) -> Value {
    let properties = &endpoint["properties"];
    let is_enabled = properties["endpointStatus"] != "Disabled";
    let weight = properties["weight"].as_u64().unwrap_or(1);
    json!([endpoint["name"], is_enabled, weight, properties["target"], properties["targetResourceId"]])
}

/// Weights as a tag has them: `blue=900,green=100`.
pub(super) fn text_of(weights: &Weights) -> String {
    let all: Vec<String> = weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(",") }
}

fn weights_of(text: &str) -> Option<Weights> {
    if text == NONE {
        return Some(Weights::new());
    }
    let one =
        |pair: &str| pair.split_once('=').and_then(|(name, weight)| Some((name.to_owned(), weight.parse().ok()?)));
    text.split(',').map(one).collect()
}
