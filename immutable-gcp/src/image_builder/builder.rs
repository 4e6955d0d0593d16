//! The machine that an image is built on, from its start to its end.

use std::collections::HashMap;
use std::time::Duration;

use google_cloud_compute_v1::model::{self, instance};
use google_cloud_gax::paginator::Paginator as _;
use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ProviderError};
use immutable_guest::Signal;
use jiff::Timestamp;

use super::artifact::PAGE;
use super::record::{BUILDER, CONTENT, EXPIRES_AT, ROLE, Record};
use super::{ENSURE, GUEST_ATTRIBUTE};
use crate::config::Config;
use crate::error::{failed, reached, unseen};
use crate::operation::{Change, Scope, Turn};
use crate::ownership::{SERVICE, label};

/// Beside the time of the build itself: to boot, and until it is heard.
pub(super) const TO_BOOT_AND_TO_BE_HEARD: Duration = Duration::from_mins(10);

/// How much of what was written to the serial port is looked through, from its end: after its last words a builder says little.
const LAST_WORDS: i64 = 64 * 1024;

/// A builder as Compute Engine tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Builder {
    pub(super) name: String,
    pub(super) zone: String,
    pub(super) status: instance::Status,
    pub(super) created: Timestamp,
    pub(super) labels: HashMap<String, String>,
    pub(super) label_fingerprint: Option<bytes::Bytes>,
    pub(super) description: String,
}

impl Builder {
    fn read(found: model::Instance) -> Option<Self> {
        Some(Self {
            name: found.name?,
            zone: last(&found.zone?).to_owned(),
            status: found.status?,
            created: found.creation_timestamp?.parse().ok()?,
            labels: found.labels,
            label_fingerprint: found.label_fingerprint,
            description: found.description.unwrap_or_default(),
        })
    }

    /// What it was started for.
    pub(super) fn record(&self) -> Option<Record> {
        Record::read(Some(&self.description))
    }

    pub(super) fn is_for(&self, recipe: &Fingerprint) -> bool {
        self.record().is_some_and(|record| record.recipe == *recipe)
    }

    /// What it has put into the image, if it is known to be done.
    pub(super) fn content(&self) -> Option<&str> {
        self.labels.get(CONTENT).map(String::as_str)
    }

    /// Whether nobody needs it any more, whoever started it and whatever for.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        is_expired(&self.labels, now)
    }

    /// Whether it has had its time.
    pub(super) fn is_late(&self, deadline: Duration, now: Timestamp) -> bool {
        let time = deadline.saturating_add(TO_BOOT_AND_TO_BE_HEARD).as_secs();
        let taken = now.as_second().saturating_sub(self.created.as_second());
        u64::try_from(taken).is_ok_and(|taken| taken > time)
    }

    /// Whether it is ending, or switching off.
    pub(super) fn is_stopping(&self) -> bool {
        self.status == instance::Status::Stopping
    }

    /// A change of this builder.
    fn change<'a>(&self, config: &'a Config, scope: &'a Scope, key: &'a IdempotencyKey, step: &'a str) -> Change<'a> {
        Change { config, operation: ENSURE, scope, target: format!("instances/{}", self.name), key, step }
    }
}

pub(super) fn is_expired(labels: &HashMap<String, String>, now: Timestamp) -> bool {
    let expires = labels.get(EXPIRES_AT).and_then(|at| at.parse::<i64>().ok());
    expires.is_some_and(|expires| expires <= now.as_second())
}

/// The name at the end of a URL.
pub(super) fn last(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// The filter for the builders of a service, and for their disks.
pub(super) fn filter(service: &ServiceName) -> String {
    format!("(labels.{SERVICE} = {}) (labels.{ROLE} = {BUILDER})", label(service.as_str()))
}

/// All builders of a service, of all zones and pages.
pub(super) async fn of_service(config: &Config, service: &ServiceName) -> Result<Vec<Builder>, ProviderError> {
    let request = config.clients.instances.aggregated_list().set_project(&config.project);
    let mut pages = request.set_filter(filter(service)).set_max_results(PAGE).by_page();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| unseen(ENSURE, error))?;
        reached!(ENSURE, page.items, &page.unreachables)?;
        found.extend(page.items.into_values().flat_map(|zone| zone.instances).filter_map(Builder::read));
    }
    Ok(found)
}

/// What a builder has said, as a guest attribute or to its serial port. Both can only be read while it runs.
pub(super) async fn listen(config: &Config, builder: &Builder) -> Result<Option<Signal>, ProviderError> {
    let Some(record) = builder.record() else { return Ok(None) };
    let (instances, project) = (&config.clients.instances, &config.project);
    let request = instances.get_guest_attributes().set_project(project).set_zone(&builder.zone);
    let attributes = request.set_instance(&builder.name).set_query_path(GUEST_ATTRIBUTE).send().await;
    let attributes = match attributes {
        Ok(found) => {
            let items = found.query_value.map(|value| value.items).unwrap_or_default();
            let mut said = items.iter().filter_map(|item| item.value.as_deref());
            if let Some(signal) = said.find_map(|said| Signal::read(said, &record.nonce)) {
                return Ok(Some(signal));
            }
            Ok(())
        }
        // Nothing was said yet.
        Err(error) if error.http_status_code() == Some(404) => Ok(()),
        Err(error) => Err(unseen(ENSURE, error)),
    };
    let request = instances.get_serial_port_output().set_project(project).set_zone(&builder.zone);
    let output = request.set_instance(&builder.name).set_port(1).set_start(-LAST_WORDS).send().await;
    match (output, attributes) {
        (Ok(output), _) => Ok(Signal::read(output.contents.as_deref().unwrap_or_default(), &record.nonce)),
        // One of the two ways is enough, as where an organisation forbids the other.
        (Err(_), Ok(())) => Ok(None),
        (Err(_), Err(error)) => Err(error),
    }
}

/// Notes on a builder that it is done, because what it has said cannot be read any more when it is off.
pub(super) async fn note(
    config: &Config,
    key: &IdempotencyKey,
    builder: &Builder,
    content: &str,
) -> Result<(), ProviderError> {
    let (scope, project) = (Scope::Zone(builder.zone.clone()), &config.project);
    let change = builder.change(config, &scope, key, "note the content");
    let Turn::Send(id) = change.turn().await? else { return Ok(()) };
    let mut labels = builder.labels.clone();
    labels.insert(CONTENT.to_owned(), content.chars().take(32).collect());
    let body = model::InstancesSetLabelsRequest::new()
        .set_labels(labels)
        .set_or_clear_label_fingerprint(builder.label_fingerprint.clone());
    let request = config.clients.instances.set_labels().set_project(project).set_zone(&builder.zone);
    match request.set_instance(&builder.name).set_request_id(id).set_body(body).send().await {
        Ok(operation) => change.answered(Effect::None, &operation).map(drop),
        Err(error) => match failed(ENSURE, Effect::None, error) {
            // It has other labels since it was looked at, such as this one.
            error if error.kind() == ErrorKind::Conflict => Ok(()),
            error => Err(error),
        },
    }
}

/// Switches a builder off, so that its disk is whole.
pub(super) async fn stop(config: &Config, key: &IdempotencyKey, builder: &Builder) -> Result<(), ProviderError> {
    let (scope, project) = (Scope::Zone(builder.zone.clone()), &config.project);
    let change = builder.change(config, &scope, key, "stop a builder");
    let Turn::Send(id) = change.turn().await? else { return Ok(()) };
    let request = config.clients.instances.stop().set_project(project).set_zone(&builder.zone);
    let sent = request.set_instance(&builder.name).set_request_id(id).send().await;
    change.answered(Effect::None, &sent.map_err(|error| failed(ENSURE, Effect::None, error))?).map(drop)
}

/// Ends a builder and its disk. One that is gone has ended. Whether this has changed anything, which it has not while something else is done with it.
///
/// `before` is what the call has done so far.
pub(super) async fn end(
    config: &Config,
    key: &IdempotencyKey,
    builder: &Builder,
    before: Effect,
) -> Result<bool, ProviderError> {
    let (scope, project) = (Scope::Zone(builder.zone.clone()), &config.project);
    let change = builder.change(config, &scope, key, "end a builder");
    let Turn::Send(id) = change.turn().await? else { return Ok(false) };
    let request = config.clients.instances.delete().set_project(project).set_zone(&builder.zone);
    match request.set_instance(&builder.name).set_request_id(id).send().await {
        Ok(operation) => change.answered(before, &operation).map(|_| true),
        Err(error) => match failed(ENSURE, before, error) {
            error if error.kind() == ErrorKind::NotFound => Ok(false),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(labels: &[(&str, &str)]) -> Builder {
        Builder {
            name: "b".into(),
            zone: "z".into(),
            status: instance::Status::Running,
            created: "2026-01-02T03:00:00Z".parse().unwrap(),
            labels: labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            label_fingerprint: None,
            description: String::new(),
        }
    }

    #[test]
    fn a_builder_is_late_only_after_it_could_have_been_heard() {
        let late = |time: &str| builder(&[]).is_late(Duration::from_mins(30), time.parse().unwrap());
        assert!(!late("2026-01-02T02:00:00Z"), "a clock that is behind");
        assert!(!late("2026-01-02T03:40:00Z"));
        assert!(late("2026-01-02T03:40:01Z"));
    }

    #[test]
    fn a_builder_is_expired_from_the_time_on_that_it_bears() {
        let expires: Timestamp = "2026-01-02T05:00:00Z".parse().unwrap();
        let marked = builder(&[(EXPIRES_AT, &expires.as_second().to_string())]);
        assert!(!marked.is_expired("2026-01-02T04:59:59Z".parse().unwrap()));
        assert!(marked.is_expired(expires));
        for unmarked in [builder(&[]), builder(&[(EXPIRES_AT, "soon")])] {
            assert!(!unmarked.is_expired("2030-01-01T00:00:00Z".parse().unwrap()));
        }
    }
}
