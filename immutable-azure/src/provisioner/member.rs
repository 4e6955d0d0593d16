//! The members of a scale set, as the lists of either kind tell them.

use std::collections::BTreeSet;

use immutable_core::model::{Fingerprint, InstanceId, Lifecycle};
use immutable_core::provider::{Effect, ErrorKind, ProviderError};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::scale_set::Set;
use super::{lifecycle, tags};
use crate::client::{Failure, Request};
use crate::config::Config;
use crate::error::{Complaint, of_operation, unseen};
use crate::members::COMPUTE;
use crate::operation::Standing;
use crate::{instance, looks, members};

/// A machine of a scale set.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// The instance that it is; nothing, as long as Azure has not told what makes its number its own. It never ran then.
    pub(super) id: Option<InstanceId>,
    /// What its scale set calls it: the name of a machine, or a number.
    pub(super) key: String,
    pub(super) lifecycle: Lifecycle,
    /// The content that it runs.
    pub(super) image: Option<Fingerprint>,
    pub(super) created: Option<Timestamp>,
    /// Why it could not be made, if it never ran.
    pub(super) failure: Option<Complaint>,
    /// Whether somebody has said that it stays:
    /// <https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-instance-protection>.
    pub(super) is_protected: bool,
}

/// The members of a set; nothing, if the set is gone.
pub(super) async fn all(
    config: &Config,
    operation: &'static str,
    set: &Set,
) -> Result<Option<Vec<Member>>, ProviderError> {
    let found = members::list(config, operation, &set.name, set.is_flexible()).await?;
    let read = |machines: Vec<Value>| machines.iter().map(|one| Member::read(operation, set, one)).collect();
    found.map(read).transpose()
}

/// A member as it is now; nothing, if it is gone, whoever has its number.
pub(super) async fn now(
    config: &Config,
    operation: &'static str,
    set: &Set,
    member: &Member,
) -> Result<Option<Member>, ProviderError> {
    let path = if set.is_flexible() {
        format!("Microsoft.Compute/virtualMachines/{}", member.key)
    } else {
        format!("{}/virtualMachines/{}", set.path(), member.key)
    };
    let request = Request::new(Method::GET, &config.resource(&path), COMPUTE).query("$expand", "instanceView");
    let Some(answer) = looks::one(&config.clients, operation, request).await? else { return Ok(None) };
    let machine: Value = answer.json().map_err(|failure| unseen(operation, failure))?;
    let now = Member::read(operation, set, &machine)?;
    Ok((now.id == member.id).then_some(now))
}

impl Member {
    fn read(operation: &'static str, set: &Set, machine: &Value) -> Result<Self, ProviderError> {
        let unreadable = || unseen(operation, Failure::Unreadable);
        let properties = &machine["properties"];
        let key = if set.is_flexible() { &machine["name"] } else { &machine["instanceId"] };
        let key = key.as_str().ok_or_else(unreadable)?;
        let id = members::instance(&set.name, set.is_flexible(), machine);
        let state = properties["provisioningState"].as_str().unwrap_or_default();
        let statuses = || properties["instanceView"]["statuses"].as_array().into_iter().flatten();
        let power = statuses().find_map(|status| status["code"].as_str()?.strip_prefix("PowerState/"));
        if id.is_none() && (set.is_flexible() || power.is_some()) {
            let problem =
                format!("machine {key} of scale set {} has nothing that it could be known by: look again", set.name);
            return Err(ProviderError::new(ErrorKind::Internal, operation, problem).without_effect());
        }
        let is_failed = Standing::of(Some(state)) == Standing::Failed;
        let is_unborn = power.is_none() && is_failed && statuses().any(is_over);
        let protection = &properties["protectionPolicy"];
        let is_on = |field: &str| protection[field] == true;
        Ok(Self {
            id,
            key: key.to_owned(),
            lifecycle: lifecycle::of(state, power, is_unborn),
            image: runs(set, machine),
            created: properties["timeCreated"].as_str().and_then(|time| time.parse().ok()),
            failure: is_unborn.then(|| statuses().find_map(failure).unwrap_or_default()),
            is_protected: is_on("protectFromScaleIn") || is_on("protectFromScaleSetActions"),
        })
    }

    /// Whether it is an instance that is starting or running.
    pub(super) fn is_live(&self) -> bool {
        self.id.is_some() && lifecycle::is_live(self.lifecycle)
    }

    /// Whether it is one of these.
    pub(super) fn is_one_of(&self, instances: &BTreeSet<&InstanceId>) -> bool {
        self.id.as_ref().is_some_and(|id| instances.contains(id))
    }

    /// Whether it never was an instance, and never will be.
    pub(super) fn never_was(&self) -> bool {
        self.id.is_none() && self.lifecycle == Lifecycle::Dead
    }

    /// What it is called where people read it.
    pub(super) fn text(&self) -> &str {
        self.id.as_ref().map_or(&self.key, InstanceId::as_str)
    }

    /// What tells it from the other members of its set.
    pub(super) fn mark(&self) -> &str {
        self.id.as_ref().map_or(&self.key, instance::mark)
    }
}

/// The content of a machine: that of its fleet, if it was made of the same image. What else it may be is not known, and not the fleet's. Whether it is
/// of the latest model of its set counts only where it does not say its image: any change of the set may make it older, also that of a tag.
fn runs(set: &Set, machine: &Value) -> Option<Fingerprint> {
    let properties = &machine["properties"];
    let other = |what: &str| Fingerprint::of(format!("{what} of {}", set.name).to_ascii_lowercase());
    let Some(image) = properties["storageProfile"]["imageReference"]["id"].as_str() else {
        return (properties["latestModelApplied"] == false).then(|| other("another model"));
    };
    let is_same = set.tag(tags::IMAGE_ID).is_some_and(|known| known == tags::image(image));
    Some(if is_same { set.record.image } else { other(image) })
}

/// Whether a status says that a machine could not be made, such as `ProvisioningState/failed/AllocationFailed`. A view may be missing for a while.
fn is_over(status: &Value) -> bool {
    let code = status["code"].as_str().unwrap_or_default().to_ascii_lowercase();
    let is = |state: &str| code.strip_prefix(state).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is("provisioningstate/failed") || is("provisioningstate/canceled")
}

/// What a status complains of, such as `ProvisioningState/failed/AllocationFailed`.
fn failure(status: &Value) -> Option<Complaint> {
    let mut parts = status["code"].as_str()?.splitn(3, '/');
    let is = |part: Option<&str>, text: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(text));
    if !is(parts.next(), "ProvisioningState") || !is(parts.next(), "failed") {
        return None;
    }
    let said = json!({ "code": parts.next().unwrap_or("Failed"), "message": status["message"] });
    Complaint::read(said.to_string().as_bytes())
}

/// Why members could not be made: what a person has to mend comes first, then a quota, then a shortage.
pub(super) fn shortage(operation: &'static str, members: &[Member]) -> Option<ProviderError> {
    let told = members.iter().filter_map(|member| member.failure.as_ref());
    let told = told.map(|failure| of_operation(operation, Effect::None, failure));
    told.min_by_key(|error| match error.kind() {
        ErrorKind::Quota => 1,
        ErrorKind::Capacity => 2,
        kind if kind.is_transient() => 3,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Record;

    fn member(state: &str, statuses: &Value) -> Member {
        let properties = json!({ "orchestrationMode": "Flexible" });
        let set =
            Set { name: "im-web".into(), record: Record::example(), document: json!({ "properties": properties }) };
        let properties = json!({ "provisioningState": state, "instanceView": { "statuses": statuses } });
        Member::read("test", &set, &json!({ "name": "im-web_1", "properties": properties })).unwrap()
    }

    fn failed(code: &str) -> Member {
        let code = format!("ProvisioningState/failed/{code}");
        member("Failed", &json!([{ "code": code, "message": "words" }]))
    }

    #[test]
    fn what_failed_is_dead_when_its_view_says_so_and_not_when_the_view_is_missing() {
        for (statuses, lifecycle) in [
            (json!(null), Lifecycle::Starting),
            (json!([]), Lifecycle::Starting),
            (json!([{ "code": "ProvisioningState/failed" }]), Lifecycle::Dead),
            (json!([{ "code": "ProvisioningState/failed/AllocationFailed" }]), Lifecycle::Dead),
        ] {
            assert_eq!(member("Failed", &statuses).lifecycle, lifecycle, "{statuses}");
        }
    }

    #[test]
    fn what_was_never_made_tells_why_and_what_ran_does_not() {
        for (members, kind) in [
            (vec![failed("AllocationFailed")], Some(ErrorKind::Capacity)),
            (vec![failed("ZonalAllocationFailed"), failed("QuotaExceeded")], Some(ErrorKind::Quota)),
            (vec![failed("QuotaExceeded"), failed("AuthorizationFailed")], Some(ErrorKind::PermissionDenied)),
            (vec![failed("SomethingNew"), failed("SkuNotAvailable")], Some(ErrorKind::Capacity)),
            (vec![failed("SomethingNew")], Some(ErrorKind::Internal)),
            (vec![member("Failed", &json!([{ "code": "ProvisioningState/failed" }]))], Some(ErrorKind::Internal)),
            (vec![member("Canceled", &json!([{ "code": "ProvisioningState/canceled" }]))], Some(ErrorKind::Internal)),
            (vec![member("Failed", &json!([]))], None),
            (vec![member("Failed", &json!(null))], None),
            (vec![member("Failed", &json!([{ "code": "ProvisioningState/updating" }]))], None),
            (vec![member("Creating", &json!([{ "code": "ProvisioningState/creating" }]))], None),
            (
                vec![member(
                    "Failed",
                    &json!([{ "code": "ProvisioningState/failed/A" }, { "code": "PowerState/running" }]),
                )],
                None,
            ),
            (
                vec![member(
                    "Failed",
                    &json!([{ "code": "ProvisioningState/failed/A" }, { "code": "PowerState/stopped" }]),
                )],
                None,
            ),
        ] {
            let told = shortage("test", &members);
            assert_eq!(told.as_ref().map(ProviderError::kind), kind, "{told:?}");
            assert!(told.is_none_or(|error| error.effect() == Effect::None));
        }
    }
}
