//! The members of a fleet on a route: who is in, who is to come and who is to go.

use std::collections::{BTreeMap, BTreeSet};

use immutable_core::model::FleetId;
use immutable_core::provider::{Assignment, Member, MemberHealth, MemberTarget};

use crate::endpoint_groups::{EndpointGroup, Listed, zone};

/// What a fleet has on a route.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) fleet: FleetId,
    /// The groups that the balancer sends requests to.
    pub(super) groups: Vec<EndpointGroup>,
    pub(super) listed: Vec<Listed>,
}

impl Members {
    /// Those who are in, whatever the balancer thinks of them.
    pub(super) fn registered(&self) -> impl Iterator<Item = &Listed> {
        self.listed.iter().filter(|listed| listed.is_registered())
    }

    /// Everybody, draining ones included.
    pub(super) fn all(&self) -> impl Iterator<Item = Member> {
        // An instance may be in twice, and it is out only when both are.
        let mut members = BTreeMap::new();
        for listed in &self.listed {
            let health = members.entry(&listed.instance).or_insert(listed.health);
            if *health == MemberHealth::Draining {
                *health = listed.health;
            }
        }
        let fleet = self.fleet.clone();
        let member = move |(instance, health)| {
            let instance: &immutable_core::model::InstanceId = instance;
            Member { instance: instance.clone(), fleet: fleet.clone(), health, health_as_of: None }
        };
        members.into_iter().map(member)
    }

    /// Who is to come, by the group of its zone. Those whose zone has no group are left out: see [`Members::zones_without_group`].
    pub(super) fn joining<'a>(&self, assignment: &'a Assignment) -> Vec<(EndpointGroup, Vec<&'a MemberTarget>)> {
        let mut joining = Vec::new();
        for group in &self.groups {
            let missing = self.missing(assignment).filter(|member| zone(&member.instance) == group.zone);
            let missing: Vec<_> = missing.collect();
            if !missing.is_empty() {
                joining.push((group.clone(), missing));
            }
        }
        joining
    }

    /// The zones of those who are to come, where the fleet has no group yet.
    pub(super) fn zones_without_group(&self, assignment: &Assignment) -> BTreeSet<String> {
        let zones = self.missing(assignment).map(|member| zone(&member.instance));
        let is_new = |zone: &&str| !self.groups.iter().any(|group| group.zone == *zone);
        zones.filter(is_new).map(str::to_owned).collect()
    }

    /// Who is in and not to be.
    pub(super) fn leaving(&self, assignment: &Assignment) -> Vec<&Listed> {
        let stays = |listed: &Listed| named(assignment, &self.fleet).any(|member| listed.is(member));
        self.registered().filter(|listed| !stays(listed)).collect()
    }

    /// What the balancer thinks of one who is in.
    fn health(&self, member: &MemberTarget) -> Option<MemberHealth> {
        self.registered().find(|listed| listed.is(member)).map(|listed| listed.health)
    }

    fn missing<'a>(&self, assignment: &'a Assignment) -> impl Iterator<Item = &'a MemberTarget> {
        named(assignment, &self.fleet).filter(|member| self.health(member).is_none())
    }

    /// Who is in which group, as a text for versions.
    pub(super) fn places(&self) -> Vec<String> {
        let mut places: Vec<String> = self.registered().map(Listed::place).collect();
        places.sort();
        places
    }
}

/// The members of a fleet that are to be.
fn named<'a>(assignment: &'a Assignment, fleet: &FleetId) -> impl Iterator<Item = &'a MemberTarget> {
    assignment.members.iter().filter(move |member| member.fleet == *fleet)
}

/// Whether some members of a fleet are still being looked at and none is good.
///
/// When all that are in are bad, there is nothing to wait for: then the balancer sends requests to all of them.
pub(super) fn is_unready(assignment: &Assignment, fleet: &FleetId, members: Option<&Members>) -> bool {
    let looks = named(assignment, fleet).map(|member| members.and_then(|members| members.health(member)));
    let looks: Vec<_> = looks.collect();
    let is_good = |look: &Option<MemberHealth>| matches!(look, Some(MemberHealth::Healthy | MemberHealth::Untold));
    let is_open = |look: &Option<MemberHealth>| matches!(look, None | Some(MemberHealth::Registering));
    !looks.iter().any(is_good) && looks.iter().any(is_open)
}
