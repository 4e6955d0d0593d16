//! Compare-and-swap on a route: a counter beside what is changed, written with the fingerprint that was read.
//!
//! # Flow
//! A URL map and a backend service can be changed only by who names their fingerprint; endpoint groups can be changed by everybody. So
//! whoever changes a route counts first: writes the next number, the key of its call and the version that it saw into a place that has a
//! fingerprint, in the name of all that hangs together. If somebody else was there first, the fingerprint is another one. A
//! call that is sent again finds its own claim and goes on.
//!
//! # Guarantees
//! Of two who saw the same version one is told. No version comes back as long as anything of ours is on the route.
//! Of those who share a configuration, one call at a time changes a route.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use immutable_core::model::{Fingerprint, RouteId, RouteVersion};
use immutable_core::provider::{ErrorKind, IdempotencyKey, ProviderError};

/// The routes that a call changes at the moment, of all that share a configuration.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<BTreeSet<RouteId>>);

impl Turns {
    fn taken(&self) -> MutexGuard<'_, BTreeSet<RouteId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to change a route, unless another call has it.
    pub(crate) fn take(&self, route: &RouteId, operation: &'static str) -> Result<Turn<'_>, ProviderError> {
        if self.taken().insert(route.clone()) {
            return Ok(Turn { of: self, route: route.clone() });
        }
        let message = format!("another call of this process changes {route}: observe it again");
        Err(ProviderError::new(ErrorKind::Conflict, operation, message).without_effect())
    }
}

/// The right to change a route, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    of: &'a Turns,
    route: RouteId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of.taken().remove(&self.route);
    }
}

/// Who changed a route the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// How often the route has been changed.
    count: u64,
    /// The key of the last call that did, and the version that it saw. Empty for a route that never was.
    key: String,
    seen: String,
}

impl Claim {
    /// What is written. What nobody of us wrote counts as the start.
    pub(crate) fn read(text: &str) -> Self {
        let mut parts = text.splitn(3, ':');
        let count = parts.next().and_then(|count| count.parse().ok()).unwrap_or_default();
        let mut rest = || parts.next().unwrap_or_default().to_owned();
        Self { count, key: rest(), seen: rest() }
    }

    /// The one that follows, of a call with this key that saw this version.
    pub(super) fn next(&self, key: &IdempotencyKey, seen: &RouteVersion) -> Self {
        Self { count: self.count.saturating_add(1), key: key.as_str().to_owned(), seen: seen.to_string() }
    }

    /// Whether the last change was made for this intent. Then nobody else has changed the route since.
    pub(super) fn is_for(&self, key: &IdempotencyKey) -> bool {
        self.key == key.as_str()
    }

    /// Whether this is the claim of that call: a call that is sent again has the same key and has seen the same version.
    pub(super) fn is_of(&self, key: &IdempotencyKey, seen: &RouteVersion) -> bool {
        self.is_for(key) && self.seen == seen.as_str()
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.count, self.key, self.seen)
    }
}

/// The version of a route: the counter, what decides where requests go, and all the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    count: u64,
    traffic: String,
    whole: String,
}

impl Version {
    pub(super) fn of(claim: &Claim, traffic: &str, rest: &str) -> Self {
        let whole = Fingerprint::of(format!("{claim}\n{traffic}\n{rest}")).short();
        Self { count: claim.count, traffic: Fingerprint::of(traffic).short(), whole }
    }

    pub(super) fn id(&self) -> RouteVersion {
        let text = format!("{}-{}-{}", self.count, self.traffic, self.whole);
        RouteVersion::new(text).expect("invariant: digits and hyphens are a route version")
    }

    /// Whether a call may change the route now; `moves`: whether it moves traffic. `true` when it has claimed the route already, as
    /// it has when it is sent again.
    ///
    /// # Errors
    /// `Conflict` when the route has another version than the call has seen, and it was not this call that gave it that one.
    pub(super) fn admit(
        &self,
        claim: &Claim,
        (operation, route, key): (&'static str, &RouteId, &IdempotencyKey),
        expected: &RouteVersion,
        moves: bool,
    ) -> Result<bool, ProviderError> {
        if self.id() == *expected {
            return Ok(claim.is_for(key));
        }
        // Requests go the ways that they went before the call, or those that it wants: nobody else moved them.
        let same = expected.as_str().split('-').nth(1) == Some(self.traffic.as_str());
        if claim.is_of(key, expected) && (same || !moves) {
            return Ok(true);
        }
        let message = format!("{route} has version {}, not {expected}: observe it again", self.id());
        Err(ProviderError::new(ErrorKind::Conflict, operation, message).without_effect())
    }
}

#[cfg(test)]
mod tests {
    use immutable_core::provider::Effect;

    use super::*;

    #[test]
    fn a_claim_survives_its_text() {
        let key = IdempotencyKey::of(&["a call"]);
        let seen = Version::of(&Claim::default(), "traffic", "rest").id();
        let claim = Claim::read("41:other:40-a-b").next(&key, &seen);
        assert_eq!(Claim::read(&claim.to_string()), claim);
        assert!(claim.is_of(&key, &seen));
        assert!(!claim.is_of(&IdempotencyKey::of(&["another call"]), &seen));
        assert!(!claim.is_of(&key, &Version::of(&claim, "traffic", "rest").id()));
        assert!(claim.to_string().starts_with("42:"));
    }

    #[test]
    fn what_nobody_of_us_wrote_counts_from_the_start() {
        for text in ["", "x", ":", "x:y:z", "-1:a:b", "99999999999999999999:a:b"] {
            assert_eq!(Claim::read(text).count, 0, "{text}");
        }
    }

    #[test]
    fn every_part_of_a_route_is_in_its_version() {
        let claim = Claim::read("7:a:b");
        let version = Version::of(&claim, "traffic", "rest");
        let others = [
            Version::of(&Claim::read("8:a:b"), "traffic", "rest"),
            Version::of(&Claim::read("7:c:b"), "traffic", "rest"),
            Version::of(&claim, "other traffic", "rest"),
            Version::of(&claim, "traffic", "other rest"),
        ];
        for other in &others {
            assert_ne!(other.id(), version.id());
        }
    }

    #[test]
    fn a_call_goes_on_under_its_own_claim_only_while_nobody_moved_the_traffic() {
        let (route, key): (RouteId, _) = ("r".parse().unwrap(), IdempotencyKey::of(&["a call"]));
        let before = Version::of(&Claim::default(), "traffic", "rest").id();
        let claim = Claim::default().next(&key, &before);
        let admit = |version: &Version, key: &IdempotencyKey, moves| {
            let admitted = version.admit(&claim, ("test", &route, key), &before, moves);
            admitted.map_err(|error| (error.kind(), error.effect()))
        };
        let refused = Err((ErrorKind::Conflict, Effect::None));
        let (claimed, moved) = (Version::of(&claim, "traffic", "more"), Version::of(&claim, "by hand", "rest"));
        assert_eq!(admit(&claimed, &key, true), Ok(true));
        assert_eq!(admit(&claimed, &IdempotencyKey::of(&["another"]), true), refused);
        assert_eq!(admit(&moved, &key, true), refused);
        assert_eq!(admit(&moved, &key, false), Ok(true));
        let untouched = Version::of(&Claim::default(), "traffic", "rest");
        let admitted = untouched.admit(&Claim::default(), ("test", &route, &key), &before, true);
        assert_eq!(admitted.ok(), Some(false));
    }

    #[test]
    fn a_route_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let take = |route: &str| turns.take(&route.parse().unwrap(), "test");
        let turn = take("turns").unwrap();
        let refused = take("turns").unwrap_err();
        assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Conflict, Effect::None));
        assert!(take("other").is_ok());
        drop(turn);
        assert!(take("turns").is_ok());
    }
}
