//! Sharing traffic by the weights of a profile of Traffic Manager.
//!
//! # Flow
//! Answers lead to addresses, so each fleet has a place of its own: an endpoint of the profile, and the backend pool behind it. A call claims the
//! route, puts those who come into their pools, waits until their balancers have found them good, gives the endpoints other weights, waits until
//! nobody goes by the old ones, and takes out those who go. Each call does the first of this that is not done.
//!
//! # Guarantees
//! Pools are written only as they were read; the profile is read just before it is written, because nothing of it can be compared by the
//! platform. Within one process a route is changed by one call at a time.

mod plan;
mod profile;
mod state;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{FleetId, RouteId, RouteVersion, Weight};
use immutable_core::provider::{
    Assignment, ErrorKind, MemberTarget, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities,
    TrafficState, TrafficSwitch, VersionCheck,
};
use jiff::Timestamp;

use super::load_balancer::Call;
use super::load_balancer::members::leaves;
use super::load_balancer::pool::Place;
use super::load_balancer::state::State;
use super::{APPLY, OBSERVE};
use crate::operation::SOON;
use crate::{Config, ConfigError};
use plan::{Full, Weighing, seating, split, weighing};
use profile::{Profile, Weights, text_of};
use state::{Known, seat};

pub(crate) use turns::Turns;

/// The most places: each look asks about all of them.
const MOST_SLOTS: usize = 10;

/// The longest value of a tag: <https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations>.
const LONGEST_TAG: usize = 256;

/// The largest weight of an endpoint.
const LARGEST: u32 = 1000;

/// A place for one fleet at a time: an endpoint of a profile of Traffic Manager, and what is behind its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The name of the endpoint in the profile.
    pub endpoint: String,
    /// The backend pool that the address of the endpoint leads to, as for a [`LoadBalancerSwitch`](crate::LoadBalancerSwitch).
    pub pool: RouteId,
}

/// Shares traffic by the weights of endpoints in a profile of
/// [Traffic Manager](https://learn.microsoft.com/azure/traffic-manager/traffic-manager-overview): one for each fleet.
///
/// A route is a profile with the method `Weighted`, named by its id from `/subscriptions/` on. Its endpoints and the load balancers behind them are
/// yours: you declare which of them are [slots](Slot), at least two. A fleet takes a slot that is free: with an empty pool, and a
/// disabled endpoint. It leaves the slot when its members have left, and the endpoint is disabled again. All else of the profile stays as it
/// is; endpoints that are no slots keep their weights, and shares are of what these leave.
///
/// New weights are in effect when the profile's time to live is over. Until then the route is observed as it was, so that nobody is drained to
/// whom an old answer leads. The tags `immutable-claim`, `immutable-before` and `immutable-since` of the profile tell every process about that.
/// What the balancers think of members may be three minutes older than the rest of an observation, and each member tells how old.
///
/// # Errors
/// `NotFound` for what is no profile; `InvalidRequest` for one that does not route by weights or lacks an endpoint, and when no slot is free; all
/// errors of a [`LoadBalancerSwitch`](crate::LoadBalancerSwitch).
///
/// # Cancellation
/// A dropped `apply` may have done some of its steps, in the order in which no request is lost: members, weights, and then those who go. The same call
/// again does the rest.
pub struct TrafficManagerSwitch {
    config: Config,
    slots: Vec<(String, Place)>,
}

impl TrafficManagerSwitch {
    /// A switch for one profile with these slots.
    ///
    /// # Errors
    /// [`ConfigError`] for slots that cannot work: fewer than two or more than ten, two with the same endpoint or pool, a pool that is none.
    pub fn new(config: Config, slots: impl IntoIterator<Item = Slot>) -> Result<Self, ConfigError> {
        let wrong = |problem: &str| ConfigError::new("slots", problem);
        let (mut endpoints, mut pools, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for Slot { endpoint, pool } in slots {
            let usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if endpoint.is_empty() || !endpoint.chars().all(usual) {
                return Err(wrong("an endpoint must be a name of letters, digits, '-', '_' and '.'"));
            }
            let place = Place::parse(pool.as_str());
            let place = place.ok_or_else(|| {
                wrong(
                    "a pool must look like \"/subscriptions/.../loadBalancers/<balancer>/backendAddressPools/<pool>\"",
                )
            })?;
            let is_new =
                endpoints.insert(endpoint.to_ascii_lowercase()) && pools.insert(place.id().to_ascii_lowercase());
            if !is_new {
                return Err(wrong("each needs an endpoint and a pool of its own"));
            }
            found.push((endpoint, place));
        }
        if !(2..=MOST_SLOTS).contains(&found.len()) {
            return Err(wrong("there must be from 2 to 10"));
        }
        let longest: Weights = found.iter().map(|(endpoint, _)| (endpoint.clone(), LARGEST)).collect();
        if text_of(&longest).len() > LONGEST_TAG {
            return Err(wrong("the names of all endpoints, with their weights, must fit into a tag of 256 characters"));
        }
        Ok(Self { config, slots: found })
    }

    async fn read(&self, operation: &'static str, route: &RouteId) -> Result<Known, ProviderError> {
        if !Profile::is_id(route.as_str()) {
            let problem = format!(
                "{route} is no profile: it must look like \"/subscriptions/.../Microsoft.Network/trafficManagerProfiles/<profile>\""
            );
            return Err(ProviderError::new(ErrorKind::NotFound, operation, problem).without_effect());
        }
        let now = Timestamp::now();
        let refuse =
            |problem: String| ProviderError::new(ErrorKind::InvalidRequest, operation, problem).without_effect();
        let mut states = Vec::new();
        for (_, place) in &self.slots {
            states.push(State::read(&self.config, operation, place).await?);
        }
        // The profile comes last: between this look at it and a write of it nothing is compared.
        let profile = Profile::read(&self.config.clients, operation, route.as_str()).await?;
        let mut seats = Vec::new();
        for ((endpoint, _), state) in self.slots.iter().zip(&states) {
            if !profile.has(endpoint) {
                return Err(refuse(format!("{route} has no endpoint {endpoint}: add it, or name another")));
            }
            seats.push(seat(&profile, endpoint, state, now).map_err(refuse)?);
        }
        Ok(Known { now, profile, seats, states })
    }
}

impl fmt::Debug for TrafficManagerSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficManagerSwitch").field("slots", &self.slots).finish_non_exhaustive()
    }
}

#[async_trait]
impl TrafficSwitch for TrafficManagerSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        let step = Weight::basis_points(10).expect("invariant: a tenth of a percent is no more than the whole");
        TrafficCapabilities {
            kind: SwitchKind::Weighted { step },
            max_fleets: u32::try_from(self.slots.len()).ok(),
            version_check: VersionCheck::BeforeTheChange,
        }
    }

    async fn observe(&self, _: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let known = self.read(OBSERVE, route).await?;
        Ok(TrafficState {
            as_of: known.now,
            version: known.version(),
            split: split(&known.seats),
            members: known.members(),
        })
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let _turn = self.config.turns.take(route, APPLY)?;
        let known = self.read(APPLY, route).await?;
        let intent = (cx.key.as_str(), expected.as_str());
        let has_claim = known.admit(intent).ok_or_else(|| {
            let problem = format!("{route} has version {}, not {expected}: observe it again", known.version());
            ProviderError::new(ErrorKind::Conflict, APPLY, problem).without_effect()
        })?;
        let seating = seating(&known.seats, assignment);
        let seating = match seating {
            Ok(seating) => seating,
            Err(Full::ForNow(fleet)) => {
                return Ok(waits(SOON, format!("a slot to be free for {fleet}")));
            }
            Err(Full::Always(fleet)) => {
                let problem =
                    format!("no slot is free for {fleet}: a free one has an empty pool and a disabled endpoint");
                return Err(ProviderError::new(ErrorKind::InvalidRequest, APPLY, problem).without_effect());
            }
        };
        Work { config: &self.config, known: &known, assignment, seating, intent, has_claim }.run().await
    }
}

/// One call of `apply`, with what it has read.
struct Work<'a> {
    config: &'a Config,
    known: &'a Known,
    assignment: &'a Assignment,
    seating: BTreeMap<FleetId, usize>,
    intent: (&'a str, &'a str),
    has_claim: bool,
}

impl Work<'_> {
    /// The members that are to be at a place.
    fn targets(&self, index: usize) -> Vec<MemberTarget> {
        let here = |target: &&MemberTarget| self.seating.get(&target.fleet) == Some(&index);
        self.assignment.members.iter().filter(here).cloned().collect()
    }

    fn call<'b>(&'b self, index: usize, targets: &'b [MemberTarget]) -> Call<'b> {
        let pool = &self.known.states[index].pool;
        Call { config: self.config, pool, intent: self.intent, targets, now: self.known.now }
    }

    /// Whether anything is to be changed, now or later.
    fn has_work(&self, weighing: &Weighing, targets: &[Vec<MemberTarget>]) -> bool {
        let differs = |(index, targets): (usize, &Vec<MemberTarget>)| {
            let call = self.call(index, targets);
            call.has_joining() || call.pool.entries.iter().any(|entry| leaves(entry, targets))
        };
        matches!(weighing, Weighing::Write(_)) || targets.iter().enumerate().any(differs)
    }

    /// Does the first step that is not done yet. What it does is seen by the next call.
    async fn run(&self) -> Result<Progress<()>, ProviderError> {
        let Known { now, profile, seats, states } = self.known;
        let targets: Vec<Vec<MemberTarget>> = (0..seats.len()).map(|index| self.targets(index)).collect();
        let weighing = weighing(seats, &self.seating, &self.assignment.split);
        let nobody = |(fleet, _): &(&FleetId, Weight)| {
            self.seating.get(*fleet).is_some_and(|index| targets[*index].is_empty() && seats[*index].owner.is_none())
        };
        if let Some((fleet, _)) = self.assignment.split.iter().find(nobody) {
            let problem = format!("{fleet} is to have traffic, and has no member: name one");
            return Err(ProviderError::new(ErrorKind::InvalidRequest, APPLY, problem).without_effect());
        }
        if !self.has_claim && self.has_work(&weighing, &targets) {
            profile.write(&self.config.clients, APPLY, self.intent, None).await?;
            return Ok(seen("the claim of the route"));
        }
        for (index, targets) in targets.iter().enumerate().filter(|(_, targets)| !targets.is_empty()) {
            if let Some(progress) = self.call(index, targets).join().await? {
                return Ok(progress);
            }
        }
        for (fleet, _) in self.assignment.split.iter() {
            let Some(index) = self.seating.get(fleet) else { continue };
            if let Some(fleet) = states[*index].unready(&targets[*index]) {
                return Ok(waits(SOON, format!("the balancer to find members of {fleet} good")));
            }
        }
        match weighing {
            Weighing::Done => {}
            Weighing::Wait => {
                return Ok(waits(SOON, "Traffic Manager to find the endpoint online that is to have traffic".into()));
            }
            Weighing::Write(weights) => {
                profile.write(&self.config.clients, APPLY, self.intent, Some((&weights, *now))).await?;
                return Ok(seen("the new weights"));
            }
        }
        for (index, targets) in targets.iter().enumerate() {
            if !states[index].pool.entries.iter().any(|entry| leaves(entry, targets)) {
                continue;
            }
            // Until then its fleet may have more traffic than the others of it can carry.
            if let Some(left) = profile.until_in_effect(*now).filter(|_| seats[index].in_effect > seats[index].written)
            {
                return Ok(waits(left, "the time to live of the earlier weights to be over".into()));
            }
            return self.call(index, targets).leave().await;
        }
        Ok(Progress::Done(()))
    }
}

fn seen(what: &str) -> Progress<()> {
    waits(Duration::ZERO, format!("{what} to be seen"))
}

fn waits(retry_after: Duration, note: String) -> Progress<()> {
    Progress::Pending { retry_after, note }
}
