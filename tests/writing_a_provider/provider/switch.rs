//! Routes are pools of a balancer.

use std::collections::BTreeMap;

use async_trait::async_trait;
use immutable_core::model::{FleetId, NameError, RouteId, RouteVersion, Split, SplitError, Weight};
use immutable_core::provider::{
    Assignment, Effect, ErrorKind, Member, MemberHealth, MemberTarget, OpContext, Progress, ProviderError, SwitchKind,
    TrafficCapabilities, TrafficState, TrafficSwitch, VersionCheck,
};

use super::error::{failed, refuse, unreadable, unseen};
use crate::acme::{Acme, Pool, Target, TargetState};

/// The balancer counts in percents.
const STEP: u16 = 100;

#[derive(Debug)]
pub(super) struct AcmeSwitch {
    acme: Acme,
}

impl AcmeSwitch {
    pub(super) fn new(acme: Acme) -> Self {
        Self { acme }
    }
}

#[async_trait]
impl TrafficSwitch for AcmeSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        let step = Weight::basis_points(STEP).expect("invariant: a percent is no more than the whole");
        TrafficCapabilities {
            kind: SwitchKind::Weighted { step },
            max_fleets: None,
            version_check: VersionCheck::WithTheChange,
        }
    }

    async fn observe(&self, _: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        const OPERATION: &str = "observe route";
        let as_of = self.acme.now();
        let pool = self.acme.pool(route.as_str()).await.map_err(|trouble| unseen(OPERATION, trouble))?;
        let split = split(&pool).map_err(|error| refuse(ErrorKind::Internal, OPERATION, error.to_string()))?;
        let read = || -> Result<_, NameError> {
            let members: Result<_, _> = pool.targets.iter().map(member).collect();
            Ok((pool.version.to_string().parse()?, members?))
        };
        let (version, members) = read().map_err(|error| unreadable(OPERATION, &error))?;
        Ok(TrafficState { as_of, version, split, members })
    }

    async fn apply(
        &self,
        _: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        const OPERATION: &str = "apply to route";
        let mut percents = BTreeMap::new();
        for (fleet, weight) in assignment.split.iter() {
            if weight.points() % STEP != 0 {
                let message = format!("{fleet} is to have {weight}: use whole percents");
                return Err(refuse(ErrorKind::InvalidRequest, OPERATION, message));
            }
            percents.insert(fleet.to_string(), weight.points() / STEP);
        }
        let target = |member: &MemberTarget| Target::new(member.instance.as_str(), member.fleet.as_str());
        let targets = assignment.members.iter().map(target).collect();
        // T2: a version that is not a number is none of this balancer's.
        let Ok(version) = expected.as_str().parse() else {
            return Err(refuse(ErrorKind::Conflict, OPERATION, format!("no version {expected}: observe again")));
        };
        // T3: one request, which the balancer takes as a whole, drains who is not named and compares the version itself.
        let put = self.acme.put_pool(route.as_str(), version, percents, targets).await;
        put.map(Progress::Done).map_err(|trouble| failed(OPERATION, Effect::None, trouble))
    }
}

fn split(pool: &Pool) -> Result<Split, SplitError> {
    let weight = |(group, percent): (&String, &u16)| Some((group.parse::<FleetId>().ok()?, *percent));
    let weights = pool.percents.iter().filter_map(weight);
    let weights: Result<Vec<_>, _> =
        weights.map(|(fleet, percent)| Weight::percent(percent).map(|weight| (fleet, weight))).collect();
    let weights = weights?;
    if weights.is_empty() { Ok(Split::closed()) } else { Split::new(weights) }
}

fn member(target: &Target) -> Result<Member, NameError> {
    let health = match target.state {
        TargetState::Registering => MemberHealth::Registering,
        TargetState::InUse => MemberHealth::Healthy,
        TargetState::Draining => MemberHealth::Draining,
    };
    Ok(Member { instance: target.machine.parse()?, fleet: target.group.parse()?, health, health_as_of: None })
}
