//! What instances have left behind that were to take it with them: their disks and network interfaces.

use immutable_core::provider::{Effect, Progress, ProviderError};
use reqwest::Method;
use serde_json::Value;

use super::scale_set::Set;
use super::{REMOVE, pending};
use crate::client::{Failure, Request};
use crate::config::Config;
use crate::error::{Complaint, failed};
use crate::looks;
use crate::operation::SOON;
use crate::ownership::Record;

/// A kind of thing: where it is, the version of its API, and where it says whose it is as long as it is in use.
type Kind = (&'static str, &'static str, &'static str);

const KINDS: [Kind; 2] = [
    ("Microsoft.Compute/disks", "2024-03-02", "/managedBy"),
    ("Microsoft.Network/networkInterfaces", "2024-05-01", "/properties/virtualMachine"),
];

/// Begins to remove one thing that an instance of this set has left behind. Done when there is none.
///
/// # Errors
/// Why it cannot be seen or removed.
pub(super) async fn sweep(config: &Config, set: &Set) -> Result<Progress<()>, ProviderError> {
    let going = || pending(format!("what instances of {} have left behind to be gone", set.name));
    for (path, version, user) in KINDS {
        let request = Request::new(Method::GET, &config.resource(path), version);
        let found = looks::all(&config.clients, REMOVE, request).await?.unwrap_or_default();
        let left = found.iter().find(|thing| thing.pointer(user).is_none_or(Value::is_null) && is_of(set, thing));
        if left.is_some_and(|thing| thing["properties"]["provisioningState"] == "Deleting") {
            return Ok(going());
        }
        if let Some(name) = left.and_then(|thing| thing["name"].as_str()) {
            let request = Request::new(Method::DELETE, &config.resource(&format!("{path}/{name}")), version);
            return match config.clients.send(request).await {
                Ok(_) => Ok(going()),
                Err(failure) if is_held(&failure) => {
                    let retry_after = failed(REMOVE, Effect::None, failure).retry_after().unwrap_or(SOON);
                    Ok(Progress::Pending { retry_after, note: format!("{name} to be free, so that it can be removed") })
                }
                Err(failure) => Err(failed(REMOVE, Effect::None, failure)),
            };
        }
    }
    Ok(Progress::Done(()))
}

/// Whether an interface cannot be removed yet: it is kept for a machine that could not be made, or one that is gone still has it.
fn is_held(failure: &Failure) -> bool {
    let Failure::Refused(answer) = failure else { return false };
    let code = Complaint::read(&answer.body).and_then(|complaint| complaint.code);
    matches!(code.as_deref(), Some("NicReservedForAnotherVm" | "NicInUse"))
}

/// Whether a thing is of this set, by its tags or by its name: Azure names disks by their machines, and interfaces as the set says.
fn is_of(set: &Set, thing: &Value) -> bool {
    let name = thing["name"].as_str().unwrap_or_default().to_ascii_lowercase();
    let rest = name.strip_prefix(&set.name);
    let is_machines = rest.is_some_and(|rest| rest.starts_with('_'));
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric());
    let is_sets = rest.and_then(|rest| rest.strip_prefix('-')).is_some_and(is_word);
    let tagged = Record::read(REMOVE, &name, thing.get("tags"));
    is_machines || is_sets || matches!(tagged, Ok(Some(record)) if record.fleet == set.record.fleet)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_of_a_set_is_told_from_what_is_of_others() {
        let record = Record::example();
        let tags = record.tags("test").unwrap();
        let set = Set { name: "im-web-1".into(), record, document: json!({}) };
        for (name, tags, expected) in [
            ("im-web-1_0a1b2c3d_OsDisk_1_4711", json!({}), true),
            ("IM-WEB-1_0a1b2c3d_disk1", json!({}), true),
            ("im-web-1-0a1b2c3d", json!({}), true),
            ("disk", tags.clone(), true),
            ("im-web-1", json!({}), false),
            ("im-web-1-", json!({}), false),
            ("im-web-1-2-0a1b2c3d", json!({}), false),
            ("im-web-10_0a1b2c3d_disk1", json!({}), false),
            ("disk", json!({ "immutable-fleet": "another" }), false),
        ] {
            assert_eq!(is_of(&set, &json!({ "name": name, "tags": tags })), expected, "{name}");
        }
    }
}
