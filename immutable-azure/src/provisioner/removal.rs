//! Ending instances by name, and removing what is left of a fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, InstanceId, Lifecycle, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use serde_json::Value;

use super::member::{self, Member};
use super::scale_set::Set;
use super::survey::{Fleet, Parts};
use super::{REMOVE, RETIRE, leftovers, pending};
use crate::client::Failure;
use crate::config::Config;
use crate::error::{Complaint, failed};
use crate::operation::{self, Standing};
use crate::traffic_switch;

/// So many instances are ended with a request. Azure gives no figure; these fit into a request whatever they are called.
const ENDED_AT_ONCE: usize = 100;

/// When those who are to be ended are looked at again.
const BEGUN_WITHIN: Duration = Duration::from_secs(2);

/// Begins to end those whom the proof names, who are of its fleet, and whom nobody ends already. Done when all of them are seen to end.
/// `until`: when who was looked at has to do.
pub(super) async fn retire(
    config: &Config,
    proof: &RetireProof,
    fleet: Fleet,
    until: Instant,
) -> Result<Progress<()>, ProviderError> {
    let Fleet::Ours(parts) = fleet else { return Ok(Progress::Done(())) };
    let named: BTreeSet<&InstanceId> = proof.instances().iter().collect();
    let victims = parts.members.iter().filter(|member| member.lifecycle != Lifecycle::Ending);
    let victims = victims.filter(|member| member.is_one_of(&named));
    let (kept, victims): (Vec<_>, Vec<_>) = victims.partition(|member| member.is_protected);
    if victims.is_empty() {
        // Azure itself would end it all the same: this is a user's own request.
        return kept.first().map_or(Ok(Progress::Done(())), |member| {
            let problem = format!("{} is protected by its scale set: end its protection", member.text());
            Err(ProviderError::new(ErrorKind::Conflict, RETIRE, problem).without_effect())
        });
    }
    let outdated = || Ok(pending(format!("who is gone of {} to be listed no more", proof.fleet())));
    let victims = still_there(config, &parts.set, victims.into_iter(), until).await?;
    let keys: Vec<&str> = victims.iter().map(|member| member.key.as_str()).collect();
    if keys.is_empty() {
        return outdated();
    }
    let answer = match parts.set.end(config, &keys).await {
        Ok(answer) => answer,
        Err(failure) if names_who_is_gone(&failure) => return outdated(),
        Err(failure) => return Err(failed(RETIRE, Effect::None, failure)),
    };
    // What was accepted is not seen yet. The next call sees it, and who is left.
    operation::begun(RETIRE, Effect::None, &parts.set.name, &answer)?;
    let note = format!("{} instances of {} to be seen ending", keys.len(), proof.fleet());
    Ok(Progress::Pending { retry_after: BEGUN_WITHIN, note })
}

/// So many of these members as are ended with a request, and are who they were. Members of a uniform set are ended by their numbers, and a number in a list that
/// lags may be another one's by now. Between this look and the end nobody goes whose number another gets: that takes longer. Who is not looked at in time
/// has the next call.
async fn still_there<'a>(
    config: &Config,
    set: &Set,
    victims: impl Iterator<Item = &'a Member>,
    until: Instant,
) -> Result<Vec<&'a Member>, ProviderError> {
    if set.is_flexible() {
        return Ok(victims.take(ENDED_AT_ONCE).collect());
    }
    let mut found = Vec::new();
    for (looked, member) in victims.enumerate() {
        let is_late = looked > 0 && Instant::now() > until;
        if is_late || found.len() == ENDED_AT_ONCE {
            break;
        }
        if member::now(config, RETIRE, set, member).await?.is_some() {
            found.push(member);
        }
    }
    Ok(found)
}

/// Whether a request was refused as a whole because one that it names is gone, as happens when a list lags: "The provided instanceId 5 is not an active
/// Virtual Machine Scale Set VM instanceId."
fn names_who_is_gone(failure: &Failure) -> bool {
    let Failure::Refused(answer) = failure else { return false };
    let complaint = Complaint::read(&answer.body).unwrap_or_default();
    let words = complaint.message.unwrap_or_default();
    answer.status == 400 && words.contains("instanceId") && words.contains("is not an active")
}

/// Since when this process sees that nobody is listed in a set that counts somebody, by the name of the set; with what the set was then. It is not in
/// a tag of the set: a change of the set may start those who are missing.
#[derive(Clone, Default)]
pub(super) struct Vacancies(Arc<Mutex<BTreeMap<String, (Value, Instant)>>>);

impl Vacancies {
    /// For how long nobody was listed when somebody `asked`, and the set was as it is; nothing, if this is the first look.
    fn last(&self, set: &Set, asked: Instant) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((document, since)) = all.get(&set.name)
            && *document == set.document
        {
            return Some(asked.saturating_duration_since(*since));
        }
        all.insert(set.name.clone(), (set.document.clone(), Instant::now()));
        None
    }

    fn forget(&self, set: &Set) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&set.name);
    }
}

/// Lowers the capacity of a set that counts members which are not listed, once it is known that there are none: to lower it ends whoever is there.
async fn vacate(
    config: &Config,
    (vacancies, asked): (&Vacancies, Instant),
    set: &Set,
) -> Result<Progress<()>, ProviderError> {
    let last = vacancies.last(set, asked);
    if last.is_none_or(|last| last < config.list_lag) {
        let problem =
            format!("scale set {} has {} instances that are not listed: look again", set.name, set.capacity());
        let error = ProviderError::new(ErrorKind::Conflict, REMOVE, problem).without_effect();
        return Err(error.with_retry_after(config.list_lag.saturating_sub(last.unwrap_or_default())));
    }
    match set.resize(config, 0, None).await {
        Ok(answer) => {
            operation::begun(REMOVE, Effect::None, &set.name, &answer)?;
        }
        // Somebody else has changed it in this moment: the next look tells.
        Err(Failure::Refused(answer)) if answer.status == 412 => {}
        Err(failure) => return Err(failed(REMOVE, Effect::None, failure)),
    }
    vacancies.forget(set);
    Ok(pending(format!("scale set {} to count no instances that it never got", set.name)))
}

/// Removes a fleet without instances: what it has on routes, what instances have left behind, and last its set, by which it would be found again.
pub(super) async fn remove(
    config: &Config,
    (vacancies, asked): (&Vacancies, Instant),
    (service, fleet): (&ServiceName, &FleetId),
    found: Fleet,
) -> Result<Progress<()>, ProviderError> {
    let Fleet::Ours(parts) = found else { return Ok(Progress::Done(())) };
    let Parts { set, members } = *parts;
    if set.record.service != *service {
        // This service has no such fleet.
        return Ok(Progress::Done(()));
    }
    let gone = || pending(format!("scale set {} to be gone", set.name));
    if set.is_going() {
        return Ok(gone());
    }
    let conflict = |problem: String| Err(ProviderError::new(ErrorKind::Conflict, REMOVE, problem).without_effect());
    // Who never was an instance cannot be ended by name, and goes with the set.
    let members: Vec<&Member> = members.iter().filter(|member| !member.never_was()).collect();
    if let Some(first) = members.first() {
        vacancies.forget(&set);
        let (count, who, state) = (members.len(), first.text(), first.lifecycle);
        return conflict(format!("fleet {fleet} has {count} instances, {who} is {state:?}: end them first"));
    }
    match set.standing() {
        Standing::Busy => return Ok(pending(format!("the change of scale set {} to be over", set.name))),
        // Of a set whose last change failed there may be less than it should have. Otherwise there may be somebody who is not listed yet.
        Standing::Settled if set.capacity() > 0 => return vacate(config, (vacancies, asked), &set).await,
        Standing::Settled | Standing::Failed => {}
    }
    // In a box: with its many requests it is too large to be a part of this future.
    let off_routes = Box::pin(traffic_switch::drop_fleet(config, REMOVE, fleet)).await?;
    if off_routes != Progress::Done(()) {
        return Ok(off_routes);
    }
    vacancies.forget(&set);
    let swept = leftovers::sweep(config, &set).await?;
    if swept != Progress::Done(()) {
        return Ok(swept);
    }
    match set.remove(config).await {
        Err(Failure::Refused(answer)) if answer.status == 412 => Ok(pending(format!("{fleet} to be looked at again"))),
        Err(failure) => Err(failed(REMOVE, Effect::None, failure)),
        Ok(answer) => {
            operation::begun(REMOVE, Effect::None, &set.name, &answer)?;
            Ok(gone())
        }
    }
}
