//! Parsed names. Each is cheap to clone and orders, hashes, prints and serialises as its text.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A text that is not a valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?}: {problem}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    problem: &'static str,
}

impl NameError {
    pub(super) fn new(kind: &'static str, text: &str, problem: &'static str) -> Self {
        // A hostile input must not turn an error into a megabyte of log.
        let text = text.chars().take(80).collect();
        Self { kind, text, problem }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a text into a name of this kind.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(problem) => Err(NameError::new($kind, text, problem)),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name!(
    /// The name of a service: 1 to 40 lower-case letters, digits and inner hyphens, starting with a letter.
    ///
    /// The limit leaves room for the release in a fleet's name within the 63 characters that
    /// DNS labels and most clouds' resource names allow (RFC 1123, section 2.1).
    ServiceName, "service name", service
);
name!(
    /// The name of a fleet, made from its service and its release.
    FleetId, "fleet id", identifier
);
name!(
    /// A provider's name of one instance.
    InstanceId, "instance id", identifier
);
name!(
    /// A provider's name of an image.
    ImageId, "image id", identifier
);
name!(
    /// Where traffic enters, in the provider's terms: a listener rule, a URL map, a backend pool.
    RouteId, "route id", identifier
);
name!(
    /// The version of a route's state, for compare-and-swap. Opaque: only equality means anything.
    RouteVersion, "route version", identifier
);
name!(
    /// The name of one rollout, unique for ever.
    RolloutId, "rollout id", identifier
);
name!(
    /// Who drives: a process on a host. Appears in leases and errors, for people.
    OwnerId, "owner id", identifier
);
name!(
    /// The name of an approval that a stage waits for.
    ApprovalName, "approval name", label
);
name!(
    /// The name of a metric of a `MetricSource`: 1 to 63 lower-case letters, digits and underscores, starting with a letter.
    MetricName, "metric name", metric
);
name!(
    /// The key of a label: 1 to 63 letters, digits, `-`, `_`, `.` and `/`.
    LabelKey, "label key", label
);
name!(
    /// The key of a configuration value or a secret, given to an instance as an environment variable:
    /// letters, digits and underscores, not starting with a digit (POSIX.1-2017, section 8.1).
    ConfigKey, "config key", environment_variable
);
name!(
    /// Where a secret lies: a reference (an ARN, a resource name, a key), never the secret itself.
    SecretRef, "secret reference", identifier
);

impl FleetId {
    /// The fleet of one release of one service.
    pub fn of(service: &ServiceName, release: &super::ReleaseId) -> Self {
        Self(format!("{service}-{release}").into())
    }

    /// The fleet of an old release that a new one is compared with: another one than that which serves, and for each new release
    /// another.
    pub(crate) fn baseline_of(service: &ServiceName, old: &super::ReleaseId, new: &super::ReleaseId) -> Self {
        let mut digits = super::Fingerprint::of(format!("baseline\u{1f}{old}\u{1f}{new}")).to_string();
        digits.truncate(old.to_string().len());
        Self(format!("{service}-{digits}").into())
    }
}

fn service(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text.len() > 40 {
        return Err("must have at most 40 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("must start with a lower-case letter");
    }
    if !text.chars().all(inner) {
        return Err("must have only lower-case letters, digits and hyphens");
    }
    if text.ends_with('-') {
        return Err("must not end with a hyphen");
    }
    Ok(())
}

fn identifier(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text.len() > 512 {
        return Err("must have at most 512 bytes");
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must have no white space and no control characters");
    }
    Ok(())
}

fn label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text.len() > 63 {
        return Err("must have at most 63 characters");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) {
        return Err("must have only letters, digits, '-', '_', '.' and '/'");
    }
    Ok(())
}

fn metric(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("must have at most 63 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("must start with a lower-case letter");
    }
    if !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Err("must have only lower-case letters, digits and underscores");
    }
    Ok(())
}

fn environment_variable(text: &str) -> Result<(), &'static str> {
    if text.len() > 255 {
        return Err("must have at most 255 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Err("must start with a letter or an underscore");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("must have only letters, digits and underscores");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_says_which_rule_it_breaks() {
        let long = "x".repeat(41);
        let cases: &[(&str, &str)] = &[
            ("", "service name \"\": must not be empty"),
            ("Web", "service name \"Web\": must start with a lower-case letter"),
            ("1web", "service name \"1web\": must start with a lower-case letter"),
            ("web_1", "service name \"web_1\": must have only lower-case letters, digits and hyphens"),
            ("web-", "service name \"web-\": must not end with a hyphen"),
            ("../etc", "service name \"../etc\": must start with a lower-case letter"),
        ];
        for (text, expected) in cases {
            assert_eq!(ServiceName::new(text).map_err(|e| e.to_string()), Err((*expected).to_owned()));
        }
        let error = ServiceName::new(&long).expect_err("41 characters");
        assert!(error.to_string().ends_with("must have at most 40 characters"));
        assert_eq!(
            ConfigKey::new("A-B").map_err(|e| e.to_string()),
            Err("config key \"A-B\": must have only letters, digits and underscores".to_owned())
        );
        assert_eq!(
            InstanceId::new("a b").map_err(|e| e.to_string()),
            Err("instance id \"a b\": must have no white space and no control characters".to_owned())
        );
    }

    #[test]
    fn an_error_does_not_repeat_a_huge_input() {
        let error = MetricName::new("X".repeat(1_000_000)).expect_err("too long");
        assert!(error.to_string().len() < 300);
    }

    #[test]
    fn a_name_is_checked_when_read_back() {
        assert!(serde_json::from_str::<ServiceName>("\"web\"").is_ok());
        assert!(serde_json::from_str::<ServiceName>("\"We b\"").is_err());
    }
}
