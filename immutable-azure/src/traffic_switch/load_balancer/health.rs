//! What a load balancer thinks of its members: <https://learn.microsoft.com/azure/load-balancer/load-balancer-manage-health-status>.
//!
//! # Assumptions
//! It is told for each rule, by an operation that takes a while. An opinion counts for a member from the moment on that the member came: before, the
//! same address may have been another machine's. A new member is down until it has passed its first probes; so long it is
//! [`Registering`](MemberHealth::Registering) and not bad.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use immutable_core::provider::{ErrorKind, MemberHealth, ProviderError};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use super::members::{Entry, Ours};
use super::pool::{API_VERSION, Pool, Probe};
use crate::Config;
use crate::asked::{Answered, Unanswered};
use crate::client::Request;
use crate::operation::Standing;

/// All that the balancer has said of the members of a pool.
#[derive(Debug)]
pub(in crate::traffic_switch) struct Opinions {
    of: Vec<Opinion>,
    /// Why the balancer has not told, the last time.
    pub(super) why: Option<String>,
}

/// What one rule says; nothing as long as it was not asked or has not answered.
#[derive(Debug)]
struct Opinion {
    probe: Probe,
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    as_of: Timestamp,
    /// Whether the member at an address is up.
    is_up: BTreeMap<IpAddr, bool>,
}

#[derive(Deserialize)]
struct Health {
    #[serde(rename = "loadBalancerBackendAddresses", default)]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "ipAddress")]
    ip: Option<IpAddr>,
    state: Option<String>,
}

impl Opinions {
    /// Asks the balancer, or looks for its answer. While the balancer is being changed it is not asked: what it says then may be about members that
    /// are not in use yet.
    pub(super) async fn ask(config: &Config, operation: &'static str, pool: &Pool) -> Result<Self, ProviderError> {
        let (mut all, mut why): (Vec<Opinion>, _) = (Vec::new(), None);
        let has_members = pool.entries.iter().any(|entry| entry.registered().is_some());
        for rule in pool.rules.iter().filter(|_| has_members) {
            let Some(probe) = &rule.probe else { continue };
            // Rules with the same probe say the same.
            if all.iter().any(|opinion| opinion.probe == *probe) {
                continue;
            }
            let topic = format!("{}/health", rule.id);
            let answered = if pool.standing == Standing::Busy {
                config.questions.last(&topic)
            } else {
                let question = Request::new(Method::POST, &topic, API_VERSION);
                match config.questions.ask(&config.clients, operation, &topic, question).await {
                    Ok(answered) => Some(answered),
                    Err(Unanswered::NotYet(before)) => {
                        why = why.or(before);
                        None
                    }
                    Err(Unanswered::Failed(error)) if is_of_this_question(error.kind()) => {
                        why = Some(error.to_string());
                        config.questions.last(&topic)
                    }
                    Err(Unanswered::Failed(error)) => return Err(error),
                }
            };
            // What cannot be read tells nothing.
            let said = answered.and_then(|answered| {
                Said::of(operation, &answered).map_err(|error| why = Some(error.to_string())).ok()
            });
            all.push(Opinion { probe: probe.clone(), said });
        }
        Ok(Self { of: all, why })
    }

    /// What the balancer thinks of one who is in.
    pub(super) fn of(&self, entry: &Entry, ours: &Ours) -> MemberHealth {
        self.said_of(entry, ours).0
    }

    /// What the balancer thinks of one who is in, and when it was asked, if it was told so.
    pub(super) fn said_of(&self, entry: &Entry, ours: &Ours) -> (MemberHealth, Option<Timestamp>) {
        let address = entry.address().and_then(|text| text.parse().ok());
        let opinions = self.of.iter().map(|opinion| opinion.of(address, ours.since));
        // The worst counts: a connection may come by any of the rules. What several say is as old as the oldest of it.
        let worst = opinions.max_by_key(|(health, as_of)| (badness(*health), Reverse(*as_of)));
        worst.unwrap_or((MemberHealth::Untold, None))
    }

    /// Whether any of this was said of one who is in: then the balancer has it.
    pub(super) fn knows(&self, entry: &Entry, ours: &Ours) -> bool {
        let address = entry.address().and_then(|text| text.parse::<IpAddr>().ok());
        let told =
            |said: &Said| said.as_of >= ours.since && address.is_some_and(|address| said.is_up.contains_key(&address));
        self.of.iter().filter_map(|opinion| opinion.said.as_ref()).any(told)
    }
}

impl Opinion {
    fn of(&self, address: Option<IpAddr>, since: Timestamp) -> (MemberHealth, Option<Timestamp>) {
        let said = self.said.as_ref().filter(|said| said.as_of >= since);
        match said.and_then(|said| Some((said.as_of, said.is_up.get(&address?)?))) {
            Some((as_of, true)) => (MemberHealth::Healthy, Some(as_of)),
            Some((as_of, false)) if since.saturating_add(self.probe.patience).is_ok_and(|end| end <= as_of) => {
                (MemberHealth::Unhealthy, Some(as_of))
            }
            _ => (MemberHealth::Registering, None),
        }
    }
}

impl Said {
    fn of(operation: &'static str, answered: &Answered) -> Result<Self, ProviderError> {
        let health: Health = answered.json(operation)?;
        let mut is_up = BTreeMap::new();
        for address in health.addresses {
            let up = address.state.is_some_and(|state| state.eq_ignore_ascii_case("Up"));
            if let Some(ip) = address.ip {
                // More than one rule or pool may have said something of it.
                *is_up.entry(ip).or_insert(true) &= up;
            }
        }
        Ok(Self { as_of: answered.as_of, is_up })
    }
}

/// What is the matter with a question and not with the route: it passes, or the balancer has no answer. What was said before still counts.
fn is_of_this_question(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Throttled
            | ErrorKind::Conflict
            | ErrorKind::NotFound
            | ErrorKind::InvalidRequest
            | ErrorKind::Internal
    )
}

fn badness(health: MemberHealth) -> u8 {
    match health {
        MemberHealth::Unhealthy => 2,
        MemberHealth::Registering => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const CAME: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(CAME + seconds).unwrap()
    }

    /// What rules said, each so many seconds after the member came: of addresses, whether they are up.
    fn opinions(rules: &[(i64, &[(&str, bool)])]) -> Opinions {
        let opinion = |(seconds, addresses): &(i64, &[(&str, bool)])| {
            let is_up = addresses.iter().map(|(ip, up)| (ip.parse().unwrap(), *up)).collect();
            let probe = Probe { id: "probe".into(), patience: Duration::from_secs(30) };
            Opinion { probe, said: Some(Said { as_of: at(*seconds), is_up }) }
        };
        Opinions { of: rules.iter().map(opinion).collect(), why: None }
    }

    #[test]
    fn the_worst_opinion_of_a_member_counts_from_when_it_came() {
        let name = "im-web-1_a.tro8w0.abcdef";
        let value = json!({ "name": name, "properties": { "ipAddress": "10.0.0.1" } });
        let entry = Entry::read(&value).unwrap();
        let ours = Ours { since: at(0), ..entry.ours.clone().unwrap() };
        let (up, down): (&[_], &[_]) = (&[("10.0.0.1", true)], &[("10.0.0.1", false)]);
        for (rules, expected, as_of) in [
            (vec![], MemberHealth::Untold, None),
            (vec![(5, up)], MemberHealth::Healthy, Some(5)),
            (vec![(6, up), (5, up)], MemberHealth::Healthy, Some(5)),
            (vec![(-1, up)], MemberHealth::Registering, None),
            (vec![(5, &[("10.0.0.2", true)][..])], MemberHealth::Registering, None),
            (vec![(5, down)], MemberHealth::Registering, None),
            (vec![(30, down)], MemberHealth::Unhealthy, Some(30)),
            (vec![(30, up), (31, down)], MemberHealth::Unhealthy, Some(31)),
            (vec![(32, down), (31, down)], MemberHealth::Unhealthy, Some(31)),
            (vec![(5, up), (5, &[])], MemberHealth::Registering, None),
        ] {
            let opinions = opinions(&rules);
            assert_eq!(opinions.said_of(&entry, &ours), (expected, as_of.map(at)), "{rules:?}");
        }
        assert!(opinions(&[(5, down)]).knows(&entry, &ours));
        assert!(!opinions(&[(-1, up)]).knows(&entry, &ours));
        let unasked = Opinion { probe: Probe { id: "probe".into(), patience: Duration::ZERO }, said: None };
        assert_eq!(Opinions { of: vec![unasked], why: None }.of(&entry, &ours), MemberHealth::Registering);
    }
}
