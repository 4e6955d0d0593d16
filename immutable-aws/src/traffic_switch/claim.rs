//! Compare-and-swap on a route, for which the API of load balancers has nothing: a counter in a tag of the listener or rule.
//!
//! # Flow
//! Whoever changes a route counts the tag up first, writes into it the key of its call and the version that it saw, and reads it back.
//! If somebody else's stands there, that one was first. A call that is sent again finds its own and goes on.
//!
//! # Guarantees
//! No version comes back, and of two who saw the same version one is told. Two who write within the same moment may both read their own
//! tag back before the other's write: against that stand the second look at the route just before it is changed, and the engine's lease.
//! Within one process a route is changed by one call at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};

use aws_sdk_elasticloadbalancingv2::types::Tag;
use immutable_core::model::{Fingerprint, RouteVersion};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ProviderError};

use super::route::{self, Route};
use crate::Clients;
use crate::error::failed;
use crate::tags;

/// The routes that a call of this process changes at the moment.
static TAKEN: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);

/// The right to change a route, within this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(String);

impl Turn {
    /// Takes the right, unless another call has it.
    pub(crate) fn take(route: &Route, operation: &'static str) -> Result<Self, ProviderError> {
        let arn = route.arn().to_owned();
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.insert(arn.clone()) {
            return Ok(Self(arn));
        }
        let message = format!("another call of this process changes {arn}: observe it again");
        Err(ProviderError::new(ErrorKind::Conflict, operation, message).without_effect())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Who changed a route the last time, as its tag says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// How often the route has been changed.
    count: u64,
    /// The key of the last call that did, and the version that it saw. Empty for a route that never was.
    key: String,
    seen: String,
}

impl Claim {
    /// What the tag says. What nobody of us wrote there counts as the start; it is in the version as well.
    pub(super) fn read(tag: &str) -> Self {
        let mut parts = tag.splitn(3, ':');
        let count = parts.next().and_then(|count| count.parse().ok()).unwrap_or_default();
        let mut rest = || parts.next().unwrap_or_default().to_owned();
        Self { count, key: rest(), seen: rest() }
    }

    /// The one that follows, of a call with this key that saw this version.
    fn next(&self, key: &IdempotencyKey, seen: &RouteVersion) -> Self {
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

    /// Whether requests go the same ways as they did at that version.
    pub(super) fn has_the_traffic_of(&self, version: &RouteVersion) -> bool {
        version.as_str().split('-').nth(1) == Some(self.traffic.as_str())
    }

    pub(super) fn id(&self) -> RouteVersion {
        let text = format!("{}-{}-{}", self.count, self.traffic, self.whole);
        RouteVersion::new(text).expect("invariant: digits and hyphens are a route version")
    }
}

/// Counts the route up in the name of a call, and reads back whether nobody else did at the same time. Whether the claim can be seen:
/// a list of tags may lag behind, and until it shows the claim nothing is known.
///
/// # Errors
/// `Conflict` when somebody else's claim is there.
pub(super) async fn take(
    clients: &Clients,
    route: &Route,
    operation: &'static str,
    (claim, key, seen): (&Claim, &IdempotencyKey, &RouteVersion),
) -> Result<bool, ProviderError> {
    let next = claim.next(key, seen).to_string();
    let tag = Tag::builder().key(tags::ROUTE_VERSION).value(&next).build();
    let request = clients.elb.add_tags().resource_arns(route.arn()).tags(tag);
    request.send().await.map_err(|error| failed(operation, Effect::None, error))?;
    let found = route::tags(clients, operation, Effect::Unknown, &[route.arn()]).await?;
    let found = found.get(route.arn()).and_then(|tags| tags.get(tags::ROUTE_VERSION));
    if found == Some(&next) {
        return Ok(true);
    }
    if found.map(|tag| Claim::read(tag)).unwrap_or_default() == *claim {
        return Ok(false);
    }
    let message = format!("somebody else changes {} at the same time: observe it again", route.arn());
    Err(ProviderError::new(ErrorKind::Conflict, operation, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_survives_its_tag() {
        let key = IdempotencyKey::of(&["a call"]);
        let seen = Version::of(&Claim::default(), "traffic", "rest").id();
        let claim = Claim::read("41:other:40-a-b").next(&key, &seen);
        assert_eq!(Claim::read(&claim.to_string()), claim);
        assert!(claim.is_of(&key, &seen));
        assert!(!claim.is_of(&IdempotencyKey::of(&["another call"]), &seen));
        assert!(!claim.is_of(&key, &Version::of(&claim, "traffic", "rest").id()));
        assert!(claim.to_string().starts_with("42:"));
        // https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Tag.html
        let longest = Claim { count: u64::MAX, ..claim };
        assert!(longest.next(&key, &Version::of(&longest, "", "").id()).to_string().len() <= 256);
    }

    #[test]
    fn what_nobody_of_us_wrote_counts_from_the_start() {
        for tag in ["", "x", ":", "x:y:z", "-1:a:b", "99999999999999999999:a:b"] {
            assert_eq!(Claim::read(tag).count, 0, "{tag}");
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
        assert!(others[3].has_the_traffic_of(&version.id()));
        assert!(!others[2].has_the_traffic_of(&version.id()));
        assert!(!version.has_the_traffic_of(&"1".parse().unwrap()));
    }

    #[test]
    fn a_route_has_one_turn_at_a_time() {
        let route =
            |name: &str| Route::parse(&format!("arn:aws:elasticloadbalancing:x:1:listener/app/{name}/1/2")).unwrap();
        let turn = Turn::take(&route("turns"), "test").unwrap();
        let refused = Turn::take(&route("turns"), "test").unwrap_err();
        assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Conflict, Effect::None));
        assert!(Turn::take(&route("other"), "test").is_ok());
        drop(turn);
        assert!(Turn::take(&route("turns"), "test").is_ok());
    }
}
