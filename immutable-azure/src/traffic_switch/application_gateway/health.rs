//! What a gateway thinks of its members: it takes seconds to say, so it is [asked](crate::asked) in one call and answers in a later one.
//!
//! Pools that rules lead to are probed all the time. Others are not: those are probed [on demand](https://learn.microsoft.com/rest/api/application-gateway/application-gateways/backend-health-on-demand),
//! by the settings and the probe of the rule that is to lead to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use immutable_core::model::FleetId;
use immutable_core::provider::{ErrorKind, MemberHealth, ProviderError};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::{API, name, same};
use super::memory::Since;
use super::names;
use super::route::Part;
use super::state::State;
use crate::Config;
use crate::asked::Answered;
use crate::client::Request;

/// The answer of a gateway about all pools that rules lead to.
#[derive(Debug, Deserialize)]
struct All {
    #[serde(rename = "backendAddressPools", default)]
    pools: Vec<OfPool>,
}

#[derive(Debug, Deserialize)]
struct OfPool {
    #[serde(rename = "backendAddressPool")]
    pool: Reference,
    #[serde(rename = "backendHttpSettingsCollection", default)]
    settings: Vec<OfSettings>,
}

/// Its answer about one pool.
#[derive(Debug, Deserialize)]
struct OnDemand {
    #[serde(rename = "backendHealthHttpSettings")]
    settings: Option<OfSettings>,
}

#[derive(Debug, Default, Deserialize)]
struct OfSettings {
    #[serde(default)]
    servers: Vec<Server>,
}

#[derive(Debug, Deserialize)]
struct Server {
    #[serde(default)]
    address: String,
    #[serde(default)]
    health: String,
}

#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(default)]
    id: String,
}

/// What is said of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    Good,
    /// The gateway does not know yet, or not all of it agrees.
    Open,
    Bad,
}

impl Seen {
    /// The meaning of a word: [those of the reference](https://learn.microsoft.com/rest/api/application-gateway/application-gateways/backend-health#applicationgatewaybackendhealthserverhealth),
    /// and [those that gateways use](https://learn.microsoft.com/azure/application-gateway/application-gateway-backend-health#backend-health-report).
    fn of(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "up" | "healthy" => Self::Good,
            "down" | "unhealthy" => Self::Bad,
            _ => Self::Open,
        }
    }
}

/// By address; of several settings the worst.
type Looks = BTreeMap<IpAddr, Seen>;

fn looks(settings: &[OfSettings]) -> Looks {
    let mut looks = Looks::new();
    for server in settings.iter().flat_map(|settings| &settings.servers) {
        let Ok(address) = server.address.parse() else { continue };
        let seen = Seen::of(&server.health);
        let worst = looks.entry(address).or_insert(seen);
        *worst = seen.max(*worst);
    }
    looks
}

/// Asks how all pools are that rules lead to.
///
/// # Errors
/// As [`crate::asked::Questions::ask`].
pub(crate) async fn ask_all(
    config: &Config,
    operation: &'static str,
    gateway: &str,
) -> Result<Answered, ProviderError> {
    let topic = format!("{gateway}/backendhealth");
    let question = Request::new(Method::POST, &topic, API);
    config.questions.ask(&config.clients, operation, &topic.to_ascii_lowercase(), question).await
}

/// What an answer says of a pool, or of all pools together.
///
/// # Errors
/// `Internal` for what is no answer.
pub(crate) fn pool_looks(
    answered: &Answered,
    operation: &'static str,
    pool: Option<&str>,
) -> Result<BTreeMap<IpAddr, Seen>, ProviderError> {
    let all: All = answered.json(operation)?;
    let asked = all.pools.into_iter().filter(|one| pool.is_none_or(|pool| same(name(&one.pool.id), pool)));
    Ok(looks(&asked.flat_map(|one| one.settings).collect::<Vec<_>>()))
}

/// What a gateway thinks of the members of a route.
#[derive(Debug)]
pub(crate) struct Opinion {
    /// No answer in here is about an earlier time.
    pub(super) as_of: Timestamp,
    /// By the fleet, or for all fleets together.
    of: BTreeMap<Option<FleetId>, Told>,
    /// Since when members are known: what was asked before may be about who had their addresses then.
    since: Since,
}

#[derive(Debug)]
enum Told {
    /// No answer yet.
    Not,
    /// It cannot be asked about this pool.
    Never,
    /// An answer, when it was asked for, and whether it is one on demand: who cannot be told about then is not judged, for want of another who could.
    Answer(Looks, Timestamp, bool),
}

impl Told {
    /// Takes for good whom an answer of this time says to be, and this one does not. Whether there is any.
    fn takes(&mut self, (before, found): (Timestamp, Looks)) -> bool {
        let (mut looks, at) = match self {
            Self::Answer(looks, at, _) => (std::mem::take(looks), (*at).min(before)),
            Self::Not | Self::Never => (Looks::new(), before),
        };
        let found = found.into_iter().filter(|(address, seen)| *seen == Seen::Good && looks.get(address) != Some(seen));
        let found: Vec<_> = found.collect();
        let any = !found.is_empty();
        looks.extend(found);
        if any || matches!(self, Self::Answer(..)) {
            *self = Self::Answer(looks, at, false);
        }
        any
    }
}

impl Opinion {
    /// Asks about all members of a route.
    ///
    /// # Errors
    /// Why the gateway could not be asked. That it has not answered yet is none.
    pub(super) async fn ask(config: &Config, operation: &'static str, state: &State) -> Result<Self, ProviderError> {
        let mut opinion = Self { as_of: Timestamp::now(), of: BTreeMap::new(), since: state.since.clone() };
        if state.fleets.values().all(std::collections::BTreeSet::is_empty) {
            return Ok(opinion);
        }
        if let Part::Pool(pool) = &state.route.part {
            opinion.ask_about(config, operation, state, None, pool).await?;
            return Ok(opinion);
        }
        for fleet in state.fleets.keys() {
            let pool = names::pool(operation, fleet, &state.route.short())?;
            opinion.ask_about(config, operation, state, Some(fleet), &pool).await?;
        }
        Ok(opinion)
    }

    async fn ask_about(
        &mut self,
        config: &Config,
        operation: &'static str,
        state: &State,
        fleet: Option<&FleetId>,
        pool: &str,
    ) -> Result<(), ProviderError> {
        let is_probed = state.document.uses().iter().any(|(used, _)| same(name(used), pool));
        let answered = if is_probed {
            ask_all(config, operation, state.document.id()).await
        } else if let Some(question) = on_demand(state, pool) {
            config.questions.ask(&config.clients, operation, &topic(state, pool), question).await
        } else {
            // Nothing leads there, and nothing says how it would be probed.
            self.of.insert(fleet.cloned(), Told::Never);
            return Ok(());
        };
        let asked = answered.as_ref().ok().map(|answered| answered.as_of);
        let mut told = match answered {
            Ok(answered) => {
                self.as_of = self.as_of.min(answered.as_of);
                let looks = if is_probed {
                    pool_looks(&answered, operation, Some(pool))?
                } else {
                    let answer: OnDemand = answered.json(operation)?;
                    looks(answer.settings.as_slice())
                };
                Told::Answer(looks, answered.as_of, !is_probed)
            }
            Err(error) => match error.kind() {
                // A gateway that changes may have no time for questions.
                ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Conflict | ErrorKind::NotFound => Told::Not,
                ErrorKind::InvalidRequest if !is_probed => Told::Never,
                _ => return Err(error),
            },
        };
        if is_probed && let Some(found) = found_before(config, operation, state, (pool, asked))? {
            let before = found.0;
            if told.takes(found) {
                self.as_of = self.as_of.min(before);
            }
        }
        self.of.insert(fleet.cloned(), told);
        Ok(())
    }

    /// What the gateway thinks of a member that is in.
    pub(super) fn of(&self, fleet: &FleetId, address: IpAddr) -> MemberHealth {
        let told = self.of.get(&Some(fleet.clone())).or_else(|| self.of.get(&None));
        let since = self.since.get(&(fleet.clone(), address));
        match told {
            None | Some(Told::Not) => MemberHealth::Registering,
            Some(Told::Never) => MemberHealth::Untold,
            Some(Told::Answer(_, as_of, _)) if since.is_none_or(|since| as_of < since) => MemberHealth::Registering,
            Some(Told::Answer(looks, _, on_demand)) => match looks.get(&address) {
                Some(Seen::Good) => MemberHealth::Healthy,
                Some(Seen::Bad) => MemberHealth::Unhealthy,
                None if *on_demand && !looks.is_empty() => MemberHealth::Registering,
                Some(Seen::Open) | None if *on_demand => MemberHealth::Untold,
                Some(Seen::Open) | None => MemberHealth::Registering,
            },
        }
    }
}

/// What was found on demand before a rule led to a pool, and when: it holds until the gateway has had the time to probe the pool by itself. Before that
/// it takes members for bad, or says nothing of them. `in_use`: the time of its answer about what it probes by itself.
fn found_before(
    config: &Config,
    operation: &'static str,
    state: &State,
    (pool, in_use): (&str, Option<Timestamp>),
) -> Result<Option<(Timestamp, Looks)>, ProviderError> {
    let Some(answered) = config.questions.last(&topic(state, pool)) else { return Ok(None) };
    if in_use.is_some_and(|asked| asked > answered.as_of + probed_within(state)) {
        return Ok(None);
    }
    let answer: OnDemand = answered.json(operation)?;
    Ok(Some((answered.as_of, looks(answer.settings.as_slice()))))
}

/// How long the gateway takes until it knows a member that it probes by itself. Without a probe of its own
/// [twice 30 seconds](https://learn.microsoft.com/azure/application-gateway/application-gateway-probe-overview#default-health-probe).
fn probed_within(state: &State) -> Duration {
    let settings = state.route.settings(&state.document);
    let probe = settings.first().and_then(|settings| probe(state, settings));
    let seconds = |field: &str| probe.and_then(|probe| probe["properties"][field].as_u64()).unwrap_or(30);
    Duration::from_secs(seconds("interval") + seconds("timeout"))
}

/// The name of the question about one pool.
fn topic(state: &State, pool: &str) -> String {
    format!("{}/{pool}", state.document.id()).to_ascii_lowercase()
}

/// The probe of some settings.
fn probe<'a>(state: &'a State, settings: &Value) -> Option<&'a Value> {
    let id = settings["properties"]["probe"]["id"].as_str()?;
    state.document.part("probes", name(id))
}

/// The question how a pool is that no rule leads to, as it would be probed if that of this route did. Without a probe of its own the settings are probed
/// [in the usual way](https://learn.microsoft.com/azure/application-gateway/application-gateway-probe-overview#default-health-probe).
fn on_demand(state: &State, pool: &str) -> Option<Request> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_gateway_has_a_meaning() {
        for (word, seen) in [
            ("Up", Seen::Good),
            ("Healthy", Seen::Good),
            ("healthy", Seen::Good),
            ("Down", Seen::Bad),
            ("Unhealthy", Seen::Bad),
            ("Partial", Seen::Open),
            ("Draining", Seen::Open),
            ("Unknown", Seen::Open),
            ("", Seen::Open),
        ] {
            assert_eq!(Seen::of(word), seen, "{word}");
        }
    }

    #[test]
    fn an_answer_from_before_a_member_was_seen_is_about_somebody_else() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (fleet, address): (FleetId, IpAddr) = ("web-1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let of = |seen, as_of, on_demand| {
            let told = Told::Answer(Looks::from([(address, seen)]), at(as_of), on_demand);
            let since = Since::from([((fleet.clone(), address), at(10))]);
            Opinion { as_of: at(as_of), of: BTreeMap::from([(None, told)]), since }
        };
        for (seen, as_of, on_demand, expected) in [
            (Seen::Good, 9, false, MemberHealth::Registering),
            (Seen::Bad, 9, false, MemberHealth::Registering),
            (Seen::Open, 9, true, MemberHealth::Registering),
            (Seen::Good, 10, false, MemberHealth::Healthy),
            (Seen::Bad, 11, true, MemberHealth::Unhealthy),
            (Seen::Open, 11, true, MemberHealth::Untold),
        ] {
            let opinion = of(seen, as_of, on_demand);
            assert_eq!(opinion.of(&fleet, address), expected, "{seen:?} {as_of} {on_demand}");
            let heir = "web-2".parse().unwrap();
            assert_eq!(opinion.of(&heir, address), MemberHealth::Registering, "whom nobody has seen there");
        }
    }

    #[test]
    fn of_several_settings_the_worst_counts() {
        let of = |address: &str, health: &str| Server { address: address.into(), health: health.into() };
        let settings = [
            OfSettings { servers: vec![of("10.0.0.1", "Up"), of("10.0.0.2", "Up"), of("web.example", "Up")] },
            OfSettings { servers: vec![of("10.0.0.1", "Down"), of("10.0.0.2", "Unknown")] },
        ];
        let expected = [("10.0.0.1", Seen::Bad), ("10.0.0.2", Seen::Open)];
        let expected: Looks = expected.into_iter().map(|(address, seen)| (address.parse().unwrap(), seen)).collect();
        assert_eq!(looks(&settings), expected);
    }
}
