//! Making a fleet, and making it larger: one change in a call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use immutable_core::model::{FleetSpec, Lifecycle};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};

use super::member::{self, Member};
use super::survey::{Parts, count};
use super::{ENSURE, model, pending, scale_set, tags};
use crate::client::{Answer, Failure};
use crate::config::Config;
use crate::error::failed;
use crate::operation::{self, Handle, Standing};
use crate::ownership;

/// Where the last change of each set that this process has made can be looked at. Nothing depends on it but the words for a failure, which
/// Azure has nowhere else where no member is left to tell: whoever starts anew tries again, and knows then.
#[derive(Clone, Default)]
pub(super) struct Changes(Arc<Mutex<BTreeMap<String, Handle>>>);

impl Changes {
    fn remember(&self, set: &str, handle: Option<Handle>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match handle {
            Some(handle) => all.insert(set.to_owned(), handle),
            None => all.remove(set),
        };
    }

    /// Takes it out: a failure is told once.
    fn take(&self, set: &str) -> Option<Handle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(set)
    }
}

impl fmt::Debug for Changes {
    /// Without the signatures of links.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

/// Makes the scale set of a fleet.
pub(super) async fn make(config: &Config, changes: &Changes, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
    let name = ownership::name(ENSURE, &spec.id)?;
    let document = model::document(config, &name, spec)?;
    match scale_set::make(config, &name, &document).await {
        Ok(answer) => note(changes, &name, &answer)?,
        Err(failure) if is_outrun(&failure) => {}
        Err(failure) => return Err(unmade(failure)),
    }
    Ok(pending(format!("scale set {name} to be made")))
}

/// Raises the capacity of a scale set, if that is what a fleet lacks.
pub(super) async fn grow(
    config: &Config,
    changes: &Changes,
    spec: &FleetSpec,
    parts: &Parts,
) -> Result<Progress<()>, ProviderError> {
    let (set, live) = (&parts.set, parts.live());
    if set.is_going() {
        return Ok(pending(format!("scale set {} to be gone, before it is made anew", set.name)));
    }
    let is_enough = live >= spec.size && set.capacity() >= spec.size;
    if set.standing() == Standing::Busy {
        return Ok(if is_enough { Progress::Done(()) } else { starting(spec, parts) });
    }
    if live < spec.size
        && let Some(error) = member::shortage(ENSURE, &parts.members)
    {
        // Each further attempt would leave more of them behind. When they are ended there is room for others.
        return Err(error);
    }
    let replaced = if is_enough { Vec::new() } else { dead(config, parts).await? };
    let wanted = spec.size.saturating_add(count(replaced.iter())).min(config.max_fleet_size);
    if set.capacity() < wanted {
        return raise(config, changes, parts, wanted, &replaced, spec).await;
    }
    if live >= spec.size {
        return Ok(Progress::Done(()));
    }
    if set.standing() == Standing::Failed {
        if let Some(handle) = changes.take(&set.name) {
            match handle.look(&config.clients, ENSURE, Effect::None, &set.name).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) | Ok(_) => {}
            }
        }
        return raise(config, changes, parts, set.capacity(), &replaced, spec).await;
    }
    Ok(starting(spec, parts))
}

/// Those who are dead, and are as they are now: a list that lags tells of some who are gone, and whose places are with them.
async fn dead(config: &Config, parts: &Parts) -> Result<Vec<Member>, ProviderError> {
    let mut found = Vec::new();
    let dead = parts.members.iter().filter(|member| member.lifecycle == Lifecycle::Dead);
    for member in dead.take(tags::MOST_REPLACED) {
        let now = member::now(config, ENSURE, &parts.set, member).await?;
        found.extend(now.filter(|now| now.lifecycle == Lifecycle::Dead));
    }
    Ok(found)
}

async fn raise(
    config: &Config,
    changes: &Changes,
    parts: &Parts,
    capacity: u32,
    replaced: &[Member],
    spec: &FleetSpec,
) -> Result<Progress<()>, ProviderError> {
    let set = &parts.set;
    let names = replaced.iter().map(Member::mark).collect::<Vec<_>>().join(",");
    match set.resize(config, capacity, (!names.is_empty()).then_some(names.as_str())).await {
        Ok(answer) => note(changes, &set.name, &answer)?,
        // Somebody else has changed it in this moment: the next look tells.
        Err(failure) if is_outrun(&failure) => {}
        Err(failure) => return Err(failed(ENSURE, Effect::None, failure)),
    }
    Ok(starting(spec, parts))
}

fn starting(spec: &FleetSpec, parts: &Parts) -> Progress<()> {
    let missing = spec.size.saturating_sub(parts.live());
    pending(format!("scale set {} to start {missing} of {} instances", parts.set.name, spec.size))
}

fn note(changes: &Changes, set: &str, answer: &Answer) -> Result<(), ProviderError> {
    let begun = operation::begun(ENSURE, Effect::None, set, answer)?;
    changes.remember(set, begun.handle);
    Ok(())
}

fn is_outrun(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(answer) if answer.status == 412)
}

/// What is not found when a set is made is what it is to be made of, such as the image.
fn unmade(failure: Failure) -> ProviderError {
    let error = failed(ENSURE, Effect::None, failure);
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let problem =
        format!("what the fleet is to be made of does not exist ({error}): build the image, or let this group use it");
    ProviderError::new(ErrorKind::InvalidRequest, ENSURE, problem).without_effect().with_source(error)
}
