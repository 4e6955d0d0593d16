//! A backend pool of a Standard Load Balancer: read together with the rules that lead to it, written by itself.
//!
//! # Guarantees
//! All that is not ours in a pool is written as it was read. A pool is written only as long as its balancer has the `ETag` that was read with it.
//!
//! # Assumptions
//! The `If-Match` of a write of a single pool is not in the reference of the API. The load balancer controller of Kubernetes
//! [relies on it](https://github.com/kubernetes-sigs/cloud-provider-azure/blob/master/pkg/provider/azure_loadbalancer_repo.go).

use std::time::Duration;

use immutable_core::model::{Fingerprint, RouteId, RouteVersion};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use reqwest::Method;
use serde_json::{Value, json};

use super::members::{Entry, is_left_by, witnessed};
use crate::Clients;
use crate::client::{Answer, Failure, Request};
use crate::error::{Complaint, failed, unseen};
use crate::looks;
use crate::operation::{SOON, Standing, begun};

/// The first version with the health of rules is 2023-11-01.
pub(in crate::traffic_switch) const API_VERSION: &str = "2024-05-01";

/// The field that members are in.
const ADDRESSES: &str = "loadBalancerBackendAddresses";

/// What a person decides about a pool, beside its members. The rest of its fields is what the server says.
const SETTINGS: [&str; 5] = ["drainPeriodInSeconds", "location", "syncMode", "tunnelInterfaces", "virtualNetwork"];

/// How long the balancer may take until it looks at a new member, beside the time between its looks.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// How often the balancer looks unless told otherwise, in seconds.
const PROBE_INTERVAL: u64 = 15;

/// Which pool of which balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::traffic_switch) struct Place {
    pub(in crate::traffic_switch) balancer: String,
    pub(in crate::traffic_switch) pool: String,
}

impl Place {
    pub(in crate::traffic_switch) fn parse(id: &str) -> Option<Self> {
        let parts: Vec<&str> = id.split('/').collect();
        let (fixed, names): (Vec<_>, Vec<_>) = parts.iter().enumerate().skip(1).partition(|(index, _)| index % 2 == 1);
        let wanted = ["subscriptions", "resourceGroups", "providers", "loadBalancers", "backendAddressPools"];
        // The name of the provider stands where other names do.
        let [_, _, (_, provider), _, (_, pool)] = names[..] else { return None };
        let is_pool = fixed.len() == wanted.len()
            && fixed.iter().zip(wanted).all(|((_, part), wanted)| part.eq_ignore_ascii_case(wanted))
            && provider.eq_ignore_ascii_case("Microsoft.Network")
            && names.iter().all(|(_, name)| !name.is_empty());
        let balancer = id.rsplitn(3, '/').nth(2).filter(|_| is_pool)?;
        Some(Self { balancer: balancer.to_owned(), pool: (*pool).to_owned() })
    }

    /// The place of a route.
    ///
    /// # Errors
    /// `NotFound` for what is no pool.
    pub(in crate::traffic_switch) fn of(operation: &'static str, route: &RouteId) -> Result<Self, ProviderError> {
        Self::parse(route.as_str()).ok_or_else(|| {
            let problem = format!(
                "{route} is no backend pool: it must look like \"/subscriptions/.../loadBalancers/<balancer>/backendAddressPools/<pool>\""
            );
            ProviderError::new(ErrorKind::NotFound, operation, problem).without_effect()
        })
    }

    pub(in crate::traffic_switch) fn id(&self) -> String {
        format!("{}/backendAddressPools/{}", self.balancer, self.pool)
    }
}

/// A backend pool as it was read.
#[derive(Debug, Clone)]
pub(in crate::traffic_switch) struct Pool {
    pub(in crate::traffic_switch) place: Place,
    pub(in crate::traffic_switch) standing: Standing,
    /// The members, in their order.
    pub(in crate::traffic_switch) entries: Vec<Entry>,
    /// The rules that lead here.
    pub(in crate::traffic_switch) rules: Vec<Rule>,
    document: Value,
    etag: String,
}

/// A rule that leads to a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::traffic_switch) struct Rule {
    pub(in crate::traffic_switch) id: String,
    /// How its members are looked at, if they are.
    pub(in crate::traffic_switch) probe: Option<Probe>,
}

/// How the balancer looks at members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::traffic_switch) struct Probe {
    pub(in crate::traffic_switch) id: String,
    /// So long a new member may be looked at until it is found good.
    pub(in crate::traffic_switch) patience: Duration,
}

impl Pool {
    /// Reads a pool, with all of its balancer.
    ///
    /// # Errors
    /// `NotFound` when there is no such balancer or pool.
    pub(in crate::traffic_switch) async fn read(
        clients: &Clients,
        operation: &'static str,
        place: &Place,
    ) -> Result<Self, ProviderError> {
        let request = Request::new(Method::GET, &place.balancer, API_VERSION);
        let answer = clients.send(request).await.map_err(|failure| unseen(operation, failure))?;
        let balancer: Value = answer.json().map_err(|failure| unseen(operation, failure))?;
        Self::of(operation, place, &balancer)
    }

    /// Reads a pool; nothing, if there is no such balancer or pool.
    pub(in crate::traffic_switch) async fn find(
        clients: &Clients,
        operation: &'static str,
        place: &Place,
    ) -> Result<Option<Self>, ProviderError> {
        let request = Request::new(Method::GET, &place.balancer, API_VERSION);
        let Some(answer) = looks::one(clients, operation, request).await? else { return Ok(None) };
        let balancer: Value = answer.json().map_err(|failure| unseen(operation, failure))?;
        match Self::of(operation, place, &balancer) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    pub(in crate::traffic_switch) fn of(
        operation: &'static str,
        place: &Place,
        balancer: &Value,
    ) -> Result<Self, ProviderError> {
        let refuse = |kind, problem: String| Err(ProviderError::new(kind, operation, problem).without_effect());
        let all = balancer["properties"]["backendAddressPools"].as_array();
        let named = |pool: &&Value| pool["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(&place.pool));
        let Some(document) = all.into_iter().flatten().find(named).cloned() else {
            return refuse(ErrorKind::NotFound, format!("there is no backend pool {}", place.id()));
        };
        let etag = document["etag"].as_str().or(balancer["etag"].as_str()).map(str::to_owned);
        let addresses = document["properties"][ADDRESSES].as_array();
        let entries: Option<Vec<Entry>> = addresses.into_iter().flatten().map(Entry::read).collect();
        let (Some(etag), Some(entries)) = (etag, entries) else {
            return refuse(ErrorKind::Internal, format!("the answer about {} is not one about a pool", place.id()));
        };
        let standing = match standing(balancer) {
            Standing::Settled => standing(&document),
            other => other,
        };
        let rules = rules(balancer, &place.id());
        Ok(Self { place: place.clone(), standing, entries, rules, document, etag })
    }

    /// How long those who leave may finish what they have begun, if the pool says so.
    pub(in crate::traffic_switch) fn drain_time(&self) -> Option<Duration> {
        let seconds = self.document["properties"]["drainPeriodInSeconds"].as_u64();
        seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// The virtual network that all members are in, if the pool says so.
    pub(in crate::traffic_switch) fn has_network(&self) -> bool {
        self.document["properties"]["virtualNetwork"]["id"].is_string()
    }

    /// All that people decide about the pool and the ways to it, with these members, as a text that is the same whenever that is.
    pub(in crate::traffic_switch) fn text(&self, entries: &[Entry]) -> String {
        let setting = |name: &&str| format!("{name} {}\n", self.document["properties"][*name]).to_ascii_lowercase();
        let mut rules: Vec<String> = self.rules.iter().map(|rule| rule.id.to_ascii_lowercase()).collect();
        rules.sort();
        // Nobody has promised an order.
        let mut entries: Vec<String> = entries.iter().map(Entry::text).collect();
        entries.sort();
        SETTINGS.iter().map(setting).collect::<String>() + &rules.join("\n") + "\n" + &entries.concat()
    }

    /// A short name for all of it but those of ours who have left, and the marks of [sweeps](super::members).
    pub(in crate::traffic_switch) fn lasting_fingerprint(&self) -> String {
        let stays: Vec<Entry> = self.entries.iter().filter(|entry| entry.left().is_none()).cloned().collect();
        Fingerprint::of(self.text(&witnessed(&stays))).short()
    }

    /// A short name for all of it.
    pub(in crate::traffic_switch) fn fingerprint(&self) -> String {
        Fingerprint::of(self.text(&self.entries)).short()
    }

    /// Changes with every change of the pool by anybody.
    pub(in crate::traffic_switch) fn version(&self) -> RouteVersion {
        RouteVersion::new(self.fingerprint()).expect("invariant: hexadecimal digits are a route version")
    }

    /// Whether the pool is as a call with this intent, its key and the version that it saw, has left it.
    pub(in crate::traffic_switch) fn is_left_by(&self, intent: (&str, &str)) -> bool {
        is_left_by(&self.entries, intent, |entries| self.text(entries))
    }

    /// Writes other members, if nobody has changed the balancer since it was read, and all else of the pool as it is.
    ///
    /// # Errors
    /// `Conflict` when somebody has.
    pub(in crate::traffic_switch) async fn write(
        &self,
        clients: &Clients,
        operation: &'static str,
        entries: &[Entry],
    ) -> Result<Progress<()>, ProviderError> {
        let mut document = self.document.clone();
        document["properties"][ADDRESSES] = entries.iter().map(|entry| entry.value.clone()).collect();
        let place = self.place.id();
        let request = Request::new(Method::PUT, &place, API_VERSION).if_match(&self.etag).json(&document);
        let failure = match request {
            Ok(request) => match clients.send(request).await {
                Ok(answer) => return Ok(begun(operation, Effect::None, &place, &answer)?.progress),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        match &failure {
            Failure::Refused(answer) if is_busy(answer) => Ok(self.waits(answer.retry_after().unwrap_or(SOON))),
            _ => Err(failed(operation, Effect::None, failure)),
        }
    }

    /// A write is done when the next call sees it.
    pub(in crate::traffic_switch) fn until_seen(&self, done: Progress<()>) -> Progress<()> {
        match done {
            Progress::Done(()) => self.waits(Duration::ZERO),
            pending @ Progress::Pending { .. } => pending,
        }
    }

    /// Waits for somebody else's change of the balancer, or of an earlier one of ours.
    pub(in crate::traffic_switch) fn waits(&self, retry_after: Duration) -> Progress<()> {
        Progress::Pending { retry_after, note: format!("the change of {} to be done", self.place.balancer) }
    }
}

/// Another change of the balancer is on its way, and nothing was changed.
fn is_busy(answer: &Answer) -> bool {
    Complaint::read(&answer.body)
        .is_some_and(|complaint| complaint.code.as_deref() == Some("AnotherOperationInProgress"))
}

fn standing(resource: &Value) -> Standing {
    Standing::of(resource["properties"]["provisioningState"].as_str())
}

/// The rules of a balancer that lead to a pool.
fn rules(balancer: &Value, pool: &str) -> Vec<Rule> {
    let parts = |list: &str| balancer["properties"][list].as_array().into_iter().flatten();
    let is_pool = |reference: &Value| reference["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(pool));
    let leads_here = |rule: &&Value| {
        let properties = &rule["properties"];
        let several = properties["backendAddressPools"].as_array().into_iter().flatten();
        several.chain([&properties["backendAddressPool"]]).any(is_pool)
    };
    let probe = |rule: &Value| {
        let id = rule["properties"]["probe"]["id"].as_str()?;
        let is_it = |probe: &&Value| probe["id"].as_str().is_some_and(|other| other.eq_ignore_ascii_case(id));
        let settings = parts("probes").find(is_it).map_or(&json!(null), |probe| &probe["properties"]).clone();
        let number = |field: &str, usual| settings[field].as_u64().unwrap_or(usual).clamp(1, 100);
        let looks = number("probeThreshold", 1).max(number("numberOfProbes", 1));
        let patience = FIRST_LOOK + Duration::from_secs(number("intervalInSeconds", PROBE_INTERVAL) * looks);
        Some(Probe { id: id.to_ascii_lowercase(), patience })
    };
    let rules = parts("loadBalancingRules").filter(leads_here);
    rules.filter_map(|rule| Some(Rule { id: rule["id"].as_str()?.to_owned(), probe: probe(rule) })).collect()
}
