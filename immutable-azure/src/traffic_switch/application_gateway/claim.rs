//! Compare-and-swap on a route: who changed it the last time, written with the change.
//!
//! The `ETag` of a gateway changes with every route on it, and when an operation ends. So the version of a route is made of what concerns the
//! route, and of a count, so that what was changed and changed back is not what it was. One call takes several changes, one after another: it is known again by
//! its key, by the version that it saw, and by the route being as it left it.

use std::fmt;

use immutable_core::model::{Fingerprint, RouteId, RouteVersion};
use immutable_core::provider::{ErrorKind, IdempotencyKey, ProviderError};

/// Who changed a route the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// How often the route has been changed.
    count: u64,
    /// The key of the call that did, the version that it saw, and the fingerprint of the route as it left it.
    key: String,
    seen: String,
    left: String,
}

impl Claim {
    /// What a tag says.
    ///
    /// # Errors
    /// For what is no claim. To begin anew would be to forget that others may be on the way.
    pub(super) fn read(operation: &'static str, tag: &str, text: Option<&str>) -> Result<Self, ProviderError> {
        let Some(text) = text else { return Ok(Self::default()) };
        let parts: Vec<&str> = text.split(':').collect();
        let read = |count: &str, key: &str, seen: &str, left: &str| {
            Some(Self { count: count.parse().ok()?, key: key.into(), seen: seen.into(), left: left.into() })
        };
        let found = if let [count, key, seen, left] = parts[..] { read(count, key, seen, left) } else { None };
        found.ok_or_else(|| {
            let problem = format!("the tag {tag} was changed: remove it if no rollout is under way");
            ProviderError::new(ErrorKind::Internal, operation, problem).without_effect()
        })
    }

    /// The one that follows, of a call that leaves the route like this.
    pub(super) fn next(&self, key: &IdempotencyKey, expected: &RouteVersion, content: &str) -> Self {
        Self {
            count: self.count.saturating_add(1),
            key: key.as_str().to_owned(),
            seen: expected.to_string(),
            left: Fingerprint::of(content).short(),
        }
    }

    /// The version of the route with this content.
    pub(super) fn version(&self, content: &str) -> RouteVersion {
        let text = format!("{}-{}", self.count, Fingerprint::of(format!("{self}\n{content}")).short());
        RouteVersion::new(text).expect("invariant: digits and a hyphen are a route version")
    }

    /// Whether a call may change the route as it is: it has seen this version, or left the route so.
    ///
    /// # Errors
    /// `Conflict` otherwise.
    pub(super) fn admit(
        &self,
        (operation, route, key): (&'static str, &RouteId, &IdempotencyKey),
        expected: &RouteVersion,
        content: &str,
    ) -> Result<(), ProviderError> {
        let version = self.version(content);
        let goes_on =
            self.key == key.as_str() && self.seen == expected.as_str() && self.left == Fingerprint::of(content).short();
        if version == *expected || goes_on {
            return Ok(());
        }
        let problem = format!("{route} has version {version}, not {expected}: observe it again");
        Err(ProviderError::new(ErrorKind::Conflict, operation, problem).without_effect())
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.count, self.key, self.seen, self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Claim, ErrorKind> {
        Claim::read("test", "tag", Some(text)).map_err(|error| error.kind())
    }

    #[test]
    fn a_claim_survives_its_text_which_is_no_longer_than_a_tag() {
        let claim = Claim { count: u64::MAX - 1, ..Claim::default() };
        let next = claim.next(&IdempotencyKey::of(&["a"]), &claim.version("x"), "y");
        assert_eq!(read(&next.to_string()), Ok(next.clone()));
        assert!(next.to_string().len() <= 256);
        assert_eq!(Claim::read("test", "tag", None).unwrap(), Claim::default());
        for damaged in ["", "1", "x:a:b:c", "1:a:b", "1:a:b:c:d", "-1:a:b:c"] {
            assert_eq!(read(damaged), Err(ErrorKind::Internal), "{damaged}");
        }
    }

    #[test]
    fn a_call_is_admitted_to_what_it_saw_and_to_what_it_left() {
        let (route, key): (RouteId, _) = ("r".parse().unwrap(), IdempotencyKey::of(&["a"]));
        let (none, other) = (Claim::default(), IdempotencyKey::of(&["b"]));
        let before = none.version("before");
        let claim = none.next(&key, &before, "left");
        let admit = |claim: &Claim, key: &IdempotencyKey, expected: &RouteVersion, content: &str| {
            claim.admit(("test", &route, key), expected, content).map_err(|error| error.kind())
        };
        assert_eq!(admit(&none, &key, &before, "before"), Ok(()));
        assert_eq!(admit(&claim, &key, &before, "left"), Ok(()));
        for (key, expected, content) in
            [(&other, &before, "left"), (&key, &claim.version("other"), "left"), (&key, &before, "changed by hand")]
        {
            assert_eq!(admit(&claim, key, expected, content), Err(ErrorKind::Conflict), "{content}");
        }
        assert_ne!(claim.version("before"), before, "changed back is not unchanged");
    }
}
