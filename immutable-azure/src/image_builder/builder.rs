//! The machine that an image is built on, from its start to its end.

use std::time::Duration;

use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::record::{BUILDER, CONTENT, EXPIRES_AT, IMAGE_OF, ROLE, Record, tag};
use super::resources::COMPUTE;
use super::site::{Site, builder_name};
use crate::client::{Answer, Failure, Request};
use crate::error::{Complaint, of_operation};
use crate::operation::Standing;

/// Beside the time of the build itself: to boot, and until it is heard.
pub(super) const TO_BOOT_AND_TO_BE_HEARD: Duration = Duration::from_mins(10);

/// And until it is made into a pattern of machines and off.
const TO_BE_SEALED: Duration = Duration::from_mins(15);

/// Whether a machine is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    Running,
    /// Off, with its place kept.
    Stopped,
    Deallocated,
    /// Neither, or nobody says.
    Changing,
}

/// A builder as Azure tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Builder {
    pub(super) name: String,
    pub(super) record: Record,
    pub(super) created: Timestamp,
    pub(super) standing: Standing,
    pub(super) is_deleting: bool,
    pub(super) power: Power,
    pub(super) is_generalized: bool,
    pub(super) tags: Value,
    pub(super) etag: Option<String>,
    /// Why it could not be made, where Azure says so.
    pub(super) complaint: Option<Complaint>,
}

impl Builder {
    fn read(operation: &'static str, name: &str, found: &Value) -> Result<Option<Self>, ProviderError> {
        let tags = found["tags"].clone();
        let Some(record) = Record::read(operation, &format!("machine {name}"), &tags, BUILDER)? else {
            return Ok(None);
        };
        let properties = &found["properties"];
        let codes = || properties["instanceView"]["statuses"].as_array().into_iter().flatten();
        let power = codes().filter_map(|status| status["code"].as_str()?.strip_prefix("PowerState/")).next_back();
        let state = properties["provisioningState"].as_str();
        let standing = Standing::of(state);
        let created = match properties["timeCreated"].as_str().map(str::parse) {
            Some(Ok(created)) => created,
            // One that could not be made.
            None if standing == Standing::Failed => Timestamp::UNIX_EPOCH,
            _ => {
                let problem = format!("machine {name} does not say when it was made");
                return Err(ProviderError::new(ErrorKind::Internal, operation, problem).without_effect());
            }
        };
        Ok(Some(Self {
            name: name.to_owned(),
            record,
            created,
            standing,
            is_deleting: state.is_some_and(|state| state.eq_ignore_ascii_case("Deleting")),
            power: match power {
                Some("running") => Power::Running,
                Some("stopped") => Power::Stopped,
                Some("deallocated") => Power::Deallocated,
                _ => Power::Changing,
            },
            is_generalized: codes().any(|status| status["code"] == "OSState/generalized"),
            tags,
            etag: found["etag"].as_str().map(str::to_owned),
            complaint: codes().find_map(complaint),
        }))
    }

    /// What it has put into the image, if it is known to be done.
    pub(super) fn content(&self) -> Option<&str> {
        tag(&self.tags, CONTENT)
    }

    /// Whether it has had its time: to build, and when that is done, to be sealed as well.
    pub(super) fn is_late(&self, deadline: Duration, now: Timestamp) -> bool {
        let sealing = if self.content().is_some() { TO_BE_SEALED } else { Duration::ZERO };
        let time = deadline.saturating_add(TO_BOOT_AND_TO_BE_HEARD).saturating_add(sealing).as_secs();
        let taken = now.as_second().saturating_sub(self.created.as_second());
        u64::try_from(taken).is_ok_and(|taken| taken > time)
    }

    /// Whether nobody needs it any more, whatever it is at. One that does not say until when it is needed is needed.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        is_expired(&self.tags, now)
    }

    /// Why it could not be made.
    pub(super) fn failure(&self, operation: &'static str) -> ProviderError {
        if let Some(complaint) = &self.complaint {
            // It is there until it is ended, which this call has begun.
            return of_operation(operation, Effect::Unknown, complaint);
        }
        let problem = format!("builder {} could not be started, and Azure does not say why", self.name);
        ProviderError::new(ErrorKind::Unavailable, operation, problem)
    }
}

fn is_expired(tags: &Value, now: Timestamp) -> bool {
    let expires = tag(tags, EXPIRES_AT).and_then(|at| at.parse::<i64>().ok());
    expires.is_some_and(|expires| expires <= now.as_second())
}

/// Why a machine failed: its status is `ProvisioningState/failed/AllocationFailed`, with words.
fn complaint(status: &Value) -> Option<Complaint> {
    let code = status["code"].as_str()?.strip_prefix("ProvisioningState/failed/")?;
    Complaint::read(json!({ "code": code, "message": status["message"] }).to_string().as_bytes())
}

/// The builder of a recipe, if there is one.
///
/// # Errors
/// `Conflict` for a machine that is in its place and is another one.
pub(super) async fn of_recipe(
    site: &Site<'_>,
    service: &ServiceName,
    recipe: &Fingerprint,
) -> Result<Option<Builder>, ProviderError> {
    let name = builder_name(service, recipe);
    let Some(found) = site.compute().get(&site.machine(&name), Some("instanceView")).await? else { return Ok(None) };
    match Builder::read(site.operation, &name, &found)? {
        Some(builder) if builder.record.recipe == *recipe => Ok(Some(builder)),
        _ => Err(site.refused(ErrorKind::Conflict, format!("machine {name} is there and is another one: remove it"))),
    }
}

/// The builders of a service that nobody needs any more, whoever started them and whatever for, by their names; of all pages.
pub(super) async fn expired(site: &Site<'_>, service: &ServiceName) -> Result<Vec<String>, ProviderError> {
    let machines = site.compute().list(&site.id("Microsoft.Compute/virtualMachines")).await?;
    let is_expired = |machine: &&Value| {
        let tags = &machine["tags"];
        tag(tags, ROLE) == Some(BUILDER) && tag(tags, IMAGE_OF) == Some(service.as_str()) && is_expired(tags, site.now)
    };
    let names = machines.iter().filter(is_expired).filter_map(|machine| machine["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Notes on a builder that it is done, because what it has said cannot be read any more when it is off.
pub(super) async fn note(site: &Site<'_>, builder: &Builder, content: &str) -> Result<(), ProviderError> {
    let mut tags = builder.tags.clone();
    tags[CONTENT] = content.into();
    let mut request = Request::new(Method::PATCH, &site.machine(&builder.name), COMPUTE);
    if let Some(etag) = &builder.etag {
        request = request.if_match(etag);
    }
    let request = request.json(&json!({ "tags": tags }));
    match site.compute().change(Effect::None, &format!("builder {}", builder.name), request).await {
        Ok(_) => Ok(()),
        // It has changed since it was looked at.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(error),
    }
}

/// Turns a builder off for good.
pub(super) async fn deallocate(site: &Site<'_>, builder: &Builder) -> Result<(), ProviderError> {
    let (machines, config) = (site.config.clients.compute().virtual_machines_client(), site.config);
    let request = machines.deallocate(&config.resource_group, &builder.name, &config.subscription);
    told(site, builder, Answer::of(request.send().await).await)
}

/// Makes a builder into the pattern of an image.
pub(super) async fn generalize(site: &Site<'_>, builder: &Builder) -> Result<(), ProviderError> {
    let (machines, config) = (site.config.clients.compute().virtual_machines_client(), site.config);
    let request = machines.generalize(&config.resource_group, &builder.name, &config.subscription);
    told(site, builder, Answer::of(request.send().await).await)
}

fn told(site: &Site<'_>, builder: &Builder, answer: Result<Answer, Failure>) -> Result<(), ProviderError> {
    site.compute().begun(Effect::None, &format!("builder {}", builder.name), answer).map(drop)
}

/// Ends a builder, with its disk and its network interface. One that is gone has ended.
///
/// `before` is what the call has done so far.
pub(super) async fn end(site: &Site<'_>, name: &str, before: Effect) -> Result<Progress<()>, ProviderError> {
    site.compute().delete(before, &site.machine(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(statuses: &[&str], content: bool) -> Builder {
        let record = Record {
            service: "web".parse().unwrap(),
            recipe: Fingerprint::of("it"),
            nonce: "n".into(),
            version: "1".into(),
            commit: None,
            parents: vec![],
        };
        let mut tags = record.tags(BUILDER);
        if content {
            tags.insert(CONTENT.into(), "c".into());
        }
        let statuses: Vec<Value> = statuses.iter().map(|code| json!({ "code": code, "message": "no room" })).collect();
        let found = json!({
            "tags": tags,
            "properties": {
                "provisioningState": "Failed",
                "timeCreated": "2026-01-02T03:00:00Z",
                "instanceView": { "statuses": statuses },
            },
        });
        Builder::read("test", "b", &found).unwrap().unwrap()
    }

    #[test]
    fn a_builder_is_late_only_after_it_could_have_been_heard_and_sealed() {
        let late = |content, time: &str| found(&[], content).is_late(Duration::from_mins(30), time.parse().unwrap());
        assert!(!late(false, "2026-01-02T02:00:00Z"), "a clock that is behind");
        assert!(!late(false, "2026-01-02T03:40:00Z"));
        assert!(late(false, "2026-01-02T03:40:01Z"));
        assert!(!late(true, "2026-01-02T03:55:00Z"));
        assert!(late(true, "2026-01-02T03:55:01Z"));
    }

    #[test]
    fn a_builder_is_what_its_statuses_say() {
        let generalized =
            found(&["ProvisioningState/succeeded", "PowerState/deallocated", "OSState/generalized"], false);
        assert_eq!((generalized.power, generalized.is_generalized), (Power::Deallocated, true));
        assert_eq!(found(&["PowerState/starting"], false).power, Power::Changing);
        let failed = found(&["ProvisioningState/failed/AllocationFailed"], false).failure("test");
        assert_eq!(failed.kind(), ErrorKind::Capacity);
        assert!(failed.to_string().contains("no room"), "{failed}");
        assert_eq!(found(&["ProvisioningState/failed"], false).failure("test").kind(), ErrorKind::Unavailable);
    }
}
