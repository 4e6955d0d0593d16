//! What a gateway thinks of its members: it takes seconds to say, so it is [asked](crate::asked) in one call and answers in a later one.
//!
//! Pools that rules lead to are probed all the time. Others are not: those are probed [on demand](https://learn.microsoft.com/rest/api/application-gateway/application-gateways/backend-health-on-demand),
//! by the settings and the probe of the rule that is to lead to them.

mod answers;
mod on_demand;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use immutable_core::model::FleetId;
use immutable_core::provider::{ErrorKind, MemberHealth, ProviderError};
use jiff::Timestamp;
use reqwest::Method;

use super::document::{API, name, same};
use super::memory::Since;
use super::names;
use super::route::Part;
use super::state::State;
use crate::Config;
use crate::asked::{Answered, Unanswered};
use crate::client::Request;
use crate::operation::Standing;
use answers::{Looks, looks_on_demand};
pub(crate) use answers::{Seen, pool_looks};
use on_demand::{probed_within, question, topic};

/// Asks how all pools are that rules lead to.
///
/// # Errors
/// As [`crate::asked::Questions::ask`].
pub(crate) async fn ask_all(config: &Config, operation: &'static str, gateway: &str) -> Result<Answered, Unanswered> {
    let topic = format!("{gateway}/backendhealth");
    let question = Request::new(Method::POST, &topic, API);
    config.questions.ask(&config.clients, operation, &topic.to_ascii_lowercase(), question).await
}

/// What a gateway thinks of the members of a route.
#[derive(Debug)]
pub(crate) struct Opinion {
    /// By the fleet, or for all fleets together.
    of: BTreeMap<Option<FleetId>, About>,
    /// Since when members are known: what was asked before may be about who had their addresses then.
    since: Since,
    /// How long the gateway takes until it knows a member that it probes by itself.
    probed_within: Duration,
    /// Why the gateway has not told, the last time.
    pub(super) why: Option<String>,
}

/// What it thinks of those in one pool.
#[derive(Debug)]
struct About {
    told: Told,
    /// What was found on demand before the pool was in use, and when, as long as the gateway may not have probed it by itself.
    before: Option<(Looks, Timestamp)>,
    /// Since when the pool is known to be in use; nothing as long as it is not.
    in_use: Option<Timestamp>,
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

impl Opinion {
    /// Asks about all members of a route.
    ///
    /// # Errors
    /// Why the gateway could not be asked. That it has not answered yet is none.
    pub(super) async fn ask(config: &Config, operation: &'static str, state: &State) -> Result<Self, ProviderError> {
        let mut opinion =
            Self { of: BTreeMap::new(), since: state.since.clone(), probed_within: probed_within(state), why: None };
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
        // Others are in use by other rules, and since when is not known here.
        let in_use = if same(pool, &state.pool) { state.led_to.in_effect } else { Some(Timestamp::MIN) };
        let question = question(state, pool).filter(|_| !is_probed);
        let told = if !is_probed && question.is_none() {
            // Nothing leads there, and nothing says how it would be probed.
            Told::Never
        } else if state.document.standing == Standing::Busy {
            said_last(config, state, pool)
        } else if let Some(question) = question {
            let answered = config.questions.ask(&config.clients, operation, &topic(state, pool), question).await;
            self.take_in(answered, true, |answered| looks_on_demand(answered, operation))?
        } else {
            let answered = ask_all(config, operation, state.document.id()).await;
            self.take_in(answered, false, |answered| pool_looks(answered, operation, Some(pool)))?
        };
        let asked = match &told {
            Told::Answer(_, as_of, false) => Some(*as_of),
            _ => None,
        };
        let is_over = self.is_probed(in_use, asked.unwrap_or_else(Timestamp::now));
        let before = config.questions.kept(&topic(state, pool)).filter(|_| is_probed && !is_over);
        let before = before.and_then(|answered| Some((looks_on_demand(&answered, operation).ok()?, answered.as_of)));
        self.of.insert(fleet.cloned(), About { told, before, in_use });
        Ok(())
    }

    fn take_in(
        &mut self,
        answered: Result<Answered, Unanswered>,
        on_demand: bool,
        read: impl FnOnce(&Answered) -> Result<Looks, ProviderError>,
    ) -> Result<Told, ProviderError> {
        let answered = match answered {
            Err(Unanswered::NotYet(why)) => {
                self.why = why.or(self.why.take());
                return Ok(Told::Not);
            }
            Ok(answered) => read(&answered).map(|looks| Told::Answer(looks, answered.as_of, on_demand)),
            Err(Unanswered::Failed(error)) => Err(error),
        };
        answered.or_else(|error| match error.kind() {
            ErrorKind::InvalidRequest if on_demand => Ok(Told::Never),
            // It is the question that has no answer: what is read of the gateway is as true as ever.
            ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Conflict
            | ErrorKind::NotFound
            | ErrorKind::InvalidRequest
            | ErrorKind::Internal => {
                self.why = Some(error.to_string());
                Ok(Told::Not)
            }
            _ => Err(error),
        })
    }

    /// Whether the gateway knows at a time, by its own probes, what is in use since another one.
    fn is_probed(&self, since: Option<Timestamp>, at: Timestamp) -> bool {
        let until = since.and_then(|since| since.checked_add(self.probed_within).ok());
        until.is_some_and(|until| until <= at)
    }

    /// What the gateway thinks of a member that is in. It takes those for bad whom it has not probed yet, or says nothing of them.
    pub(super) fn of(&self, fleet: &FleetId, address: IpAddr) -> MemberHealth {
        self.said_of(fleet, address).0
    }

    /// The same, and when the gateway was asked, if it was told so.
    pub(super) fn said_of(&self, fleet: &FleetId, address: IpAddr) -> (MemberHealth, Option<Timestamp>) {
        let open = (MemberHealth::Registering, None);
        let about = self.of.get(&Some(fleet.clone())).or_else(|| self.of.get(&None));
        let (Some(about), Some(seen)) = (about, self.since.get(&(fleet.clone(), address))) else {
            return open;
        };
        let of_before = about.before.as_ref().filter(|(_, as_of)| *as_of >= seen.since);
        let otherwise = match of_before.and_then(|(looks, as_of)| Some((looks.get(&address)?, as_of))) {
            Some((Seen::Good, as_of)) => (MemberHealth::Healthy, Some(*as_of)),
            _ => open,
        };
        let (looks, as_of, on_demand) = match &about.told {
            Told::Never => return (MemberHealth::Untold, None),
            Told::Answer(looks, as_of, on_demand) if *as_of >= seen.since => (looks, *as_of, *on_demand),
            Told::Not | Told::Answer(..) => return otherwise,
        };
        let health = match looks.get(&address) {
            Some(Seen::Good) => MemberHealth::Healthy,
            Some(Seen::Bad) if on_demand => MemberHealth::Unhealthy,
            None if on_demand && !looks.is_empty() => MemberHealth::Registering,
            Some(Seen::Open) | None if on_demand => MemberHealth::Untold,
            Some(Seen::Bad) if self.is_probed(about.in_use, as_of) && self.is_probed(seen.in_effect, as_of) => {
                MemberHealth::Unhealthy
            }
            Some(Seen::Bad | Seen::Open) | None => return otherwise,
        };
        (health, Some(as_of))
    }
}

/// What was said last of a pool, in either way. A gateway that changes is not asked: it may have no time for questions, and it is not as it was written yet.
fn said_last(config: &Config, state: &State, pool: &str) -> Told {
    const LOOK: &str = "look at members of a gateway";
    let all = config.questions.kept(&format!("{}/backendhealth", state.document.id()).to_ascii_lowercase());
    let all = all.and_then(|answered| Some((pool_looks(&answered, LOOK, Some(pool)).ok()?, answered.as_of, false)));
    // An answer in which the pool has nobody is one from before it was in use.
    let all = all.filter(|(looks, ..)| !looks.is_empty());
    let one = config.questions.kept(&topic(state, pool));
    let one = one.and_then(|answered| Some((looks_on_demand(&answered, LOOK).ok()?, answered.as_of, true)));
    let last = all.into_iter().chain(one).max_by_key(|(_, as_of, _)| *as_of);
    last.map_or(Told::Not, |(looks, as_of, on_demand)| Told::Answer(looks, as_of, on_demand))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A member that came at 10, in a pool that is in use since a time, where a probe takes 5 seconds.
    fn opinion(told: Told, before: Option<(Seen, i64)>, in_use: Option<i64>) -> (Opinion, FleetId, IpAddr) {
        let (fleet, address): (FleetId, IpAddr) = ("web-1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let before = before.map(|(seen, as_of)| (Looks::from([(address, seen)]), at(as_of)));
        let about = About { told, before, in_use: in_use.map(at) };
        let known = super::super::memory::Seen { since: at(10), in_effect: Some(at(10)) };
        let since = Since::from([((fleet.clone(), address), known)]);
        let of = BTreeMap::from([(None, about)]);
        (Opinion { of, since, probed_within: Duration::from_secs(5), why: None }, fleet, address)
    }

    fn answer(seen: Seen, as_of: i64, on_demand: bool) -> Told {
        Told::Answer(Looks::from([("10.0.0.1".parse().unwrap(), seen)]), at(as_of), on_demand)
    }

    #[test]
    fn an_answer_from_before_a_member_was_seen_is_about_somebody_else() {
        for (seen, as_of, on_demand, expected) in [
            (Seen::Good, 9, false, MemberHealth::Registering),
            (Seen::Bad, 9, false, MemberHealth::Registering),
            (Seen::Open, 9, true, MemberHealth::Registering),
            (Seen::Good, 10, false, MemberHealth::Healthy),
            (Seen::Bad, 11, true, MemberHealth::Unhealthy),
            (Seen::Open, 11, true, MemberHealth::Untold),
        ] {
            let (opinion, fleet, address) = opinion(answer(seen, as_of, on_demand), None, Some(0));
            assert_eq!(opinion.of(&fleet, address), expected, "{seen:?} {as_of} {on_demand}");
            let heir = "web-2".parse().unwrap();
            assert_eq!(opinion.of(&heir, address), MemberHealth::Registering, "whom nobody has seen there");
        }
    }

    #[test]
    fn who_is_not_probed_yet_is_not_bad_and_who_was_good_on_demand_stays_good_so_long() {
        let (good, bad) = (Some((Seen::Good, 11)), Some((Seen::Bad, 11)));
        for (seen, as_of, in_use, before, expected) in [
            (Seen::Bad, 14, Some(0), None, MemberHealth::Registering),
            (Seen::Bad, 15, Some(0), None, MemberHealth::Unhealthy),
            (Seen::Bad, 99, None, None, MemberHealth::Registering),
            (Seen::Bad, 99, None, good, MemberHealth::Healthy),
            (Seen::Bad, 99, None, Some((Seen::Good, 9)), MemberHealth::Registering),
            (Seen::Bad, 54, Some(50), good, MemberHealth::Healthy),
            (Seen::Open, 54, Some(50), good, MemberHealth::Healthy),
            (Seen::Bad, 54, Some(50), bad, MemberHealth::Registering),
            (Seen::Bad, 55, Some(50), None, MemberHealth::Unhealthy),
        ] {
            let (opinion, fleet, address) = opinion(answer(seen, as_of, false), before, in_use);
            assert_eq!(opinion.of(&fleet, address), expected, "{seen:?} {as_of} {in_use:?} {before:?}");
        }
        let (opinion, fleet, address) = opinion(Told::Not, good, None);
        assert_eq!(opinion.of(&fleet, address), MemberHealth::Healthy);
    }

    #[test]
    fn an_opinion_is_as_old_as_the_answer_that_it_is_from() {
        let good = Some((Seen::Good, 11));
        for (told, expected) in [
            (answer(Seen::Bad, 60, false), Some(60)),
            (answer(Seen::Good, 60, false), Some(60)),
            (answer(Seen::Open, 60, true), Some(60)),
            (answer(Seen::Open, 60, false), Some(11)),
            (answer(Seen::Bad, 12, false), Some(11)),
            (Told::Not, Some(11)),
            (Told::Never, None),
        ] {
            let context = format!("{told:?}");
            let (opinion, fleet, address) = opinion(told, good, Some(0));
            assert_eq!(opinion.said_of(&fleet, address).1, expected.map(at), "{context}");
        }
        let (opinion, fleet, address) = opinion(Told::Not, None, Some(0));
        assert_eq!(opinion.said_of(&fleet, address), (MemberHealth::Registering, None));
    }
}
