//! How everything that was made is found again, by whoever comes later: a name that tells the fleet, and a record in the description.
//!
//! Templates, groups, backend services and endpoint groups have no labels; their descriptions say whose they are, from the moment that they are
//! made. Machines, disks and images have labels as well, because that is what people filter by.

use std::collections::BTreeMap;

use immutable_core::model::{Fingerprint, FleetId, FleetSpec, RouteId};
use immutable_core::provider::{ErrorKind, ProviderError};
use serde::{Deserialize, Serialize};

/// Labels of machines, disks and images.
pub(crate) const SERVICE: &str = "immutable-service";
pub(crate) const FLEET: &str = "immutable-fleet";

/// Every name of ours begins like this.
pub(crate) const PREFIX: &str = "im-";

/// The longest name of a group, which has to leave five characters for the names of its instances:
/// <https://docs.cloud.google.com/compute/docs/naming-resources>.
const LONGEST: usize = 58;

/// Whose a thing is, as its description says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) service: String,
    pub(crate) fleet: String,
    /// The rollout on whose behalf it was made.
    pub(crate) rollout: String,
    /// What only the thing's own module knows of it.
    #[serde(flatten)]
    pub(crate) more: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Description {
    immutable: Record,
}

impl Record {
    pub(crate) fn of(spec: &FleetSpec) -> Self {
        Self {
            service: spec.service.to_string(),
            fleet: spec.id.to_string(),
            rollout: spec.rollout.to_string(),
            more: BTreeMap::new(),
        }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.more.get(key).map(String::as_str)
    }

    /// What a description says, if it is one of ours.
    pub(crate) fn read(description: Option<&str>) -> Option<Self> {
        serde_json::from_str::<Description>(description?).ok().map(|found| found.immutable)
    }

    pub(crate) fn description(&self) -> String {
        serde_json::to_string(&Description { immutable: self.clone() })
            .expect("invariant: plain texts always serialise")
    }
}

/// The name of the template and of the group of a fleet.
///
/// # Errors
/// `InvalidRequest` for a fleet whose id is no name: those that the engine makes always are.
pub(crate) fn name(operation: &'static str, fleet: &FleetId) -> Result<String, ProviderError> {
    let id = fleet.as_str();
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = format!("{PREFIX}{id}");
    if name.len() <= LONGEST && id.chars().all(usual) && !id.ends_with('-') {
        return Ok(name);
    }
    let problem = format!("{fleet} is no name of a group: it must be made of a service's name and a release");
    Err(ProviderError::new(ErrorKind::InvalidRequest, operation, problem).without_effect())
}

/// A filter of lists for the names of all fleets of a service, and perhaps of services whose names begin like it.
pub(crate) fn names_of(service: &str) -> String {
    format!("name eq {PREFIX}{service}-.*")
}

/// The name of what a fleet has on one route.
pub(crate) fn name_on(route: &RouteId, fleet: &FleetId) -> String {
    let short = |text: &str| Fingerprint::of(text).short();
    format!("{PREFIX}{}-{}", short(fleet.as_str()), short(route.as_str()))
}

/// The filter for what a fleet has on any route.
pub(crate) fn names_on_routes(fleet: &FleetId) -> String {
    format!("name eq {PREFIX}{}-.*", Fingerprint::of(fleet.as_str()).short())
}

/// A text as a label's value, which has at most 63 lower-case letters, digits, hyphens and underscores:
/// <https://docs.cloud.google.com/compute/docs/labeling-resources#requirements>. What is no such text is told by its fingerprint.
pub(crate) fn label(text: &str) -> String {
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if text.len() <= 63 && text.chars().all(usual) { text.to_owned() } else { Fingerprint::of(text).short() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_description() {
        let record =
            Record { service: "web".into(), fleet: "web-1".into(), rollout: "r".into(), more: BTreeMap::new() };
        let record = record.with("route", "global/urlMaps/a\"b");
        assert_eq!(Record::read(Some(&record.description())), Some(record));
        for nobodys in [None, Some(""), Some("a template"), Some("{}"), Some(r#"{"immutable":{}}"#)] {
            assert_eq!(Record::read(nobodys), None);
        }
    }

    #[test]
    fn names_leave_room_and_are_names() {
        let service = "a".repeat(40).parse().unwrap();
        let longest = FleetId::of(&service, &Fingerprint::of("x").to_string().parse().unwrap());
        assert_eq!(name("test", &longest).unwrap().len(), 56);
        for wrong in ["Web-1", "web_1", "web-", &"a".repeat(56)] {
            let error = name("test", &wrong.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{wrong}");
        }
        assert!(name_on(&"r".parse().unwrap(), &longest).len() <= 63);
    }

    #[test]
    fn what_is_no_label_is_told_by_its_fingerprint() {
        assert_eq!(label("web-1"), "web-1");
        assert_eq!(label("Web 1"), Fingerprint::of("Web 1").short());
        assert!(label(&"a".repeat(64)).len() < 64);
    }
}
