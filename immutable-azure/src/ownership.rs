//! How everything that was made is found again, by whoever comes later: a name that tells the fleet, and tags that say whose it is.
//!
//! Scale sets, machines, disks and images have tags, from the moment that they are made.

use immutable_core::model::{Fingerprint, FleetId, FleetSpec, ReleaseId, RolloutId, ServiceName};
use immutable_core::provider::{ErrorKind, ProviderError};
use serde_json::{Map, Value};

/// The tags of ours. Azure compares the names of tags without regard to case, and some services change it.
pub(crate) const SERVICE: &str = "immutable-service";
pub(crate) const FLEET: &str = "immutable-fleet";
const RELEASE: &str = "immutable-release";
const IMAGE: &str = "immutable-image";
const LAUNCH: &str = "immutable-launch";
const ROLLOUT: &str = "immutable-rollout";

/// Every name of ours begins like this.
pub(crate) const PREFIX: &str = "im-";

/// The longest name of a scale set. A machine has 64 characters at most, which is the shortest of the limits of all that is named here
/// (<https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftcompute>), and nine of them tell it from the
/// others of its set: `_0a1b2c3d`.
const LONGEST_NAME: usize = 64 - 9;

/// The longest name of a service whose fleets have such names: beside it there are the prefix, a dash and twelve digits of the release.
const LONGEST_SERVICE: usize = 39;

/// The longest value of a tag, in characters:
/// <https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations>. A name may have 512, and a resource 50 tags.
const LONGEST_VALUE: usize = 256;

/// Whose a thing is, as its tags say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) service: ServiceName,
    pub(crate) fleet: FleetId,
    pub(crate) release: ReleaseId,
    /// The content of the image that instances are born from.
    pub(crate) image: Fingerprint,
    /// The settings that instances are launched with, beside their release.
    pub(crate) launch: Fingerprint,
    /// The rollout on whose behalf it was made.
    pub(crate) rollout: RolloutId,
}

impl Record {
    /// The record of a fleet that is launched with settings of this fingerprint.
    pub(crate) fn of(spec: &FleetSpec, launch: Fingerprint) -> Self {
        Self {
            service: spec.service.clone(),
            fleet: spec.id.clone(),
            release: spec.release.id(),
            image: spec.release.image().fingerprint,
            launch,
            rollout: spec.rollout.clone(),
        }
    }

    /// The tags that say this.
    ///
    /// # Errors
    /// `InvalidRequest` for a fleet or a rollout whose name is too long: those that the engine makes never are.
    pub(crate) fn tags(&self, operation: &'static str) -> Result<Value, ProviderError> {
        let mut tags = Map::new();
        for (key, value) in [
            (SERVICE, self.service.to_string()),
            (FLEET, self.fleet.to_string()),
            // `Display` of a release prints only the beginning of its fingerprint.
            (RELEASE, self.release.fingerprint().to_string()),
            (IMAGE, self.image.to_string()),
            (LAUNCH, self.launch.to_string()),
            (ROLLOUT, self.rollout.to_string()),
        ] {
            if value.chars().count() > LONGEST_VALUE {
                let problem = format!("{value} is too long for a tag: name it with at most {LONGEST_VALUE} characters");
                return Err(ProviderError::new(ErrorKind::InvalidRequest, operation, problem).without_effect());
            }
            tags.insert(key.to_owned(), value.into());
        }
        Ok(Value::Object(tags))
    }

    /// What the tags of a thing say: nothing if it is none of ours.
    ///
    /// # Errors
    /// `Internal` for a thing that is ours by its tags, and whose tags are no record: to leave it out would be to say that it is gone.
    pub(crate) fn read(
        operation: &'static str,
        thing: &str,
        tags: Option<&Value>,
    ) -> Result<Option<Self>, ProviderError> {
        let tags = tags.and_then(Value::as_object);
        let all = || tags.into_iter().flatten();
        let tag = |key: &str| all().find(|(name, _)| name.eq_ignore_ascii_case(key))?.1.as_str();
        if !all().any(|(name, _)| [SERVICE, FLEET].iter().any(|key| name.eq_ignore_ascii_case(key))) {
            return Ok(None);
        }
        let problem = |key: &str| {
            let problem = format!("the tag {key} of {thing} is missing or was changed: restore it, or remove {thing}");
            ProviderError::new(ErrorKind::Internal, operation, problem).without_effect()
        };
        macro_rules! parsed {
            ($key:expr) => {
                tag($key).and_then(|text| text.parse().ok()).ok_or_else(|| problem($key))?
            };
        }
        Ok(Some(Self {
            service: parsed!(SERVICE),
            fleet: parsed!(FLEET),
            release: parsed!(RELEASE),
            image: parsed!(IMAGE),
            launch: parsed!(LAUNCH),
            rollout: parsed!(ROLLOUT),
        }))
    }
}

/// The name of the scale set of a fleet, and of what belongs to it alone.
///
/// # Errors
/// `InvalidRequest` for a fleet whose id is no name: those that the engine makes are, unless the name of their service is too long.
pub(crate) fn name(operation: &'static str, fleet: &FleetId) -> Result<String, ProviderError> {
    let id = fleet.as_str();
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = format!("{PREFIX}{id}");
    if name.len() <= LONGEST_NAME && id.chars().all(usual) && !id.ends_with('-') {
        return Ok(name);
    }
    let problem = if name.len() > LONGEST_NAME {
        format!("{fleet} is too long for Azure: name the service with at most {LONGEST_SERVICE} characters")
    } else {
        format!("{fleet} is no name of a scale set: it must be made of a service's name and a release")
    };
    Err(ProviderError::new(ErrorKind::InvalidRequest, operation, problem).without_effect())
}

#[cfg(test)]
impl Record {
    /// One for tests.
    pub(crate) fn example() -> Self {
        let service: ServiceName = "web".parse().unwrap();
        let release: ReleaseId = Fingerprint::of("release").to_string().parse().unwrap();
        Self {
            fleet: FleetId::of(&service, &release),
            service,
            release,
            image: Fingerprint::of("image"),
            launch: Fingerprint::of("launch"),
            rollout: "web-7".parse().unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use immutable_core::model::{Image, ImageLabels, LaunchSpec, Release};
    use serde_json::json;

    use super::*;

    fn record() -> Record {
        Record::example()
    }

    #[test]
    fn the_record_of_a_fleet_is_made_of_what_is_asked_for() {
        let labels = ImageLabels { version: "1".into(), commit: None, built_at: jiff::Timestamp::UNIX_EPOCH };
        let fingerprint = Fingerprint::of("image");
        let image = Image { id: "versions/1.0.0".parse().unwrap(), fingerprint, parents: vec![], labels };
        let (service, release): (ServiceName, _) = ("web".parse().unwrap(), Release::new(image, LaunchSpec::default()));
        let id = FleetId::of(&service, &release.id());
        let rollout = "web-7".parse().unwrap();
        let spec = FleetSpec { id: id.clone(), service, release: release.clone(), size: 3, rollout };
        let made = Record::of(&spec, Fingerprint::of("launch"));
        assert_eq!(made, Record { fleet: id, release: release.id(), ..record() });
        assert_eq!(read(&made.tags("test").unwrap()), Ok(Some(made)));
    }

    fn read(tags: &Value) -> Result<Option<Record>, String> {
        Record::read("test", "im-web", Some(tags)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_record_survives_its_tags_whatever_is_beside_them() {
        let mut tags = record().tags("test").unwrap();
        assert_eq!(read(&tags), Ok(Some(record())));
        tags["owner"] = "somebody".into();
        assert_eq!(read(&tags), Ok(Some(record())));
        let upper = tags.as_object().unwrap().iter().map(|(name, value)| (name.to_uppercase(), value.clone()));
        assert_eq!(read(&Value::Object(upper.collect())), Ok(Some(record())));
    }

    #[test]
    fn what_is_nobodys_is_not_ours() {
        for tags in [json!(null), json!({}), json!({"owner": "somebody"}), json!([]), json!({"immutable": "web"})] {
            assert_eq!(read(&tags), Ok(None), "{tags}");
        }
        assert_eq!(Record::read("test", "im-web", None).unwrap(), None);
    }

    #[test]
    fn a_tag_that_was_changed_or_lost_is_an_error_and_not_an_absence() {
        for key in [SERVICE, FLEET, RELEASE, IMAGE, LAUNCH, ROLLOUT] {
            let whole = record().tags("test").unwrap();
            let mut lost = whole.clone();
            lost.as_object_mut().unwrap().remove(key);
            let mut changed = whole.clone();
            changed[key] = "".into();
            for tags in [lost, changed] {
                let problem = read(&tags).unwrap_err();
                assert!(problem.contains(key), "{problem}");
            }
        }
    }

    #[test]
    fn names_and_tags_are_within_the_limits() {
        let of = |letters| FleetId::of(&"a".repeat(letters).parse().unwrap(), &record().release);
        let machine = format!("{}_0a1b2c3d", name("test", &of(LONGEST_SERVICE)).unwrap());
        assert_eq!(machine.len(), 64);
        let error = name("test", &of(LONGEST_SERVICE + 1)).unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, immutable_core::provider::Effect::None));
        assert!(error.to_string().contains("at most 39 characters"), "{error}");
        for wrong in ["Web-1", "web_1", "web-", &"a".repeat(62)] {
            let error = name("test", &wrong.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{wrong}");
        }
        let tags = record().tags("test").unwrap();
        assert!(tags.as_object().unwrap().values().all(|value| value.as_str().unwrap().len() <= LONGEST_VALUE));
        let long = Record { rollout: "r".repeat(257).parse().unwrap(), ..record() };
        assert_eq!(long.tags("test").unwrap_err().kind(), ErrorKind::InvalidRequest);
    }
}
