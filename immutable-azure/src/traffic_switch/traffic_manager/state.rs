//! What a profile of Traffic Manager and the pools behind it do now.

use std::collections::BTreeSet;

use immutable_core::model::{FleetId, RouteVersion};
use immutable_core::provider::{Member, MemberHealth};
use jiff::Timestamp;

use super::plan::Seat;
use super::profile::Profile;
use crate::traffic_switch::load_balancer::state::State;

/// A route as it was read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) now: Timestamp,
    pub(super) profile: Profile,
    pub(super) seats: Vec<Seat>,
    /// The pools of the seats.
    pub(super) states: Vec<State>,
}

/// What is at an endpoint; why that cannot be, otherwise.
pub(super) fn seat(profile: &Profile, endpoint: &str, state: &State, now: Timestamp) -> Result<Seat, String> {
    let fleets = |is: fn(&MemberHealth) -> bool| -> BTreeSet<FleetId> {
        state.members(now).into_iter().filter(|member| is(&member.health)).map(|member| member.fleet).collect()
    };
    let (inside, left) =
        (fleets(|health| *health != MemberHealth::Draining), fleets(|health| *health == MemberHealth::Draining));
    if inside.len() > 1 {
        return Err(format!("the pool of the endpoint {endpoint} has members of several fleets: take all but one out"));
    }
    let is_foreign = state.pool.entries.iter().any(|entry| entry.ours.is_none());
    let written = profile.written(endpoint);
    let in_effect = profile.before(endpoint, now).unwrap_or(written);
    let nobody = inside.is_empty() && left.is_empty() && !is_foreign;
    Ok(Seat {
        endpoint: endpoint.to_owned(),
        is_left: inside.is_empty() && (!left.is_empty() || in_effect > 0),
        owner: inside.into_iter().next().or_else(|| left.into_iter().next()),
        is_free: nobody && written == 0 && in_effect == 0,
        written,
        in_effect: if profile.is_enabled() { in_effect } else { 0 },
        is_online: profile.monitored(endpoint).is_none(),
    })
}

impl Known {
    /// Changes with every change of the route by anybody. The parts of it are those that are written one by one.
    pub(super) fn version(&self) -> RouteVersion {
        RouteVersion::new(self.parts().join("-")).expect("invariant: digits and hyphens are a route version")
    }

    fn parts(&self) -> Vec<String> {
        // The profile counts changes, so that those who have left need not be told.
        let pools = self.states.iter().map(|state| state.pool.lasting_fingerprint());
        [self.profile.fingerprint()].into_iter().chain(pools).collect()
    }

    /// Whether a call with this intent may change the route now, and whether it has claimed it: nothing when somebody else has changed it since
    /// the call saw it.
    pub(super) fn admit(&self, intent: (&str, &str)) -> Option<bool> {
        let (key, seen) = intent;
        if self.version().as_str() == seen {
            return Some(self.profile.claim.key == key);
        }
        let parts = self.parts();
        let seen: Vec<&str> = seen.split('-').collect();
        let same = |index: usize| seen.get(index).is_some_and(|seen| *seen == parts[index]);
        let is_ours = |(index, state): (usize, &State)| same(index + 1) || state.is_left_by(intent);
        let claimed = self.profile.is_left_by(intent) || (same(0) && self.profile.claim.key == key);
        (claimed && self.states.iter().enumerate().all(is_ours)).then_some(true)
    }

    /// Every member, as its balancer sees it, or Traffic Manager if that does not lead there.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for (seat, state) in self.seats.iter().zip(&self.states) {
            let monitored = Some(&seat.endpoint).filter(|_| seat.written > 0);
            let monitored = monitored.and_then(|endpoint| self.profile.monitored(endpoint));
            members.extend(state.members(self.now).into_iter().map(|member| {
                let is_good = matches!(member.health, MemberHealth::Healthy | MemberHealth::Untold);
                match monitored.filter(|_| is_good) {
                    // The profile was read just now.
                    Some(health) => Member { health, health_as_of: None, ..member },
                    None => member,
                }
            }));
        }
        members
    }
}
