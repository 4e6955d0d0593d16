//! The fleets, routes and images that the tests of clauses make, and how they are cleared away.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bench::{Bench, Check, Seen};
use super::harness::Version;
use crate::decide::{FleetView, InstanceView, Phase, RetireProof, World};
use crate::model::{FleetId, FleetSpec, InstanceId, Lifecycle, ObservedFleet, ObservedInstance, Split};
use crate::provider::{
    Assignment, FleetsState, Member, MemberHealth, MemberTarget, Progress, ProviderError, SwitchKind, TrafficState,
};

/// An instance that is neither dead nor ending.
pub(super) fn is_alive(instance: &ObservedInstance) -> bool {
    matches!(instance.lifecycle, Lifecycle::Starting | Lifecycle::Running)
}

/// The ids of instances, to be compared.
pub(super) fn ids<'a>(instances: impl IntoIterator<Item = &'a ObservedInstance>) -> BTreeSet<InstanceId> {
    instances.into_iter().map(|instance| instance.id.clone()).collect()
}

/// The proof that instances may be ended, whatever they are. A provider may rely on what a proof says, so the suite makes
/// one only for instances that it keeps out of traffic.
pub(super) fn proof(fleet: &FleetId, instances: &[InstanceId], now: jiff::Timestamp) -> Result<RetireProof, Seen> {
    let view = |id: &InstanceId| InstanceView {
        id: id.clone(),
        phase: Phase::Drained,
        replace: false,
        dead: false,
        endpoint: None,
    };
    let views = instances.iter().map(view).collect();
    let fleets = vec![FleetView { id: fleet.clone(), instances: views, hold_growth: false }];
    let version = "1".parse().expect("invariant: a digit is a route version");
    let world = World { as_of: now, fleets, split: Split::closed(), version };
    RetireProof::new(&world, fleet, instances, now, Duration::ZERO).map_err(|error| Seen(error.to_string()))
}

/// Whether a route does what an assignment says: the same fleets have traffic, and the same instances are in use.
pub(super) fn is_in_effect(state: &TrafficState, wanted: &Assignment, by_weight: bool) -> bool {
    let in_use = |member: &&Member| matches!(member.health, MemberHealth::Healthy | MemberHealth::Untold);
    let there = state.members.iter().filter(|member| member.health != MemberHealth::Draining);
    let used: BTreeSet<_> = state.members.iter().filter(in_use).map(|member| &member.instance).collect();
    let named: BTreeSet<_> = wanted.members.iter().map(|member| &member.instance).collect();
    let fleets = |split: &Split| split.iter().map(|(fleet, _)| fleet.clone()).collect::<BTreeSet<_>>();
    let members = wanted.members.iter().map(|member| member.fleet.clone()).collect();
    let split = if by_weight { state.split == wanted.split } else { fleets(&state.split) == members };
    split && used == named && there.count() == named.len()
}

/// Whether a route is as it was. When the balancer was asked about its members is no part of that.
pub(super) fn is_same(after: &TrafficState, before: &TrafficState) -> bool {
    let members = |state: &TrafficState| -> Vec<Member> {
        state.members.iter().map(|member| Member { health_as_of: None, ..member.clone() }).collect()
    };
    (&after.version, &after.split, members(after)) == (&before.version, &before.split, members(before))
}

impl Bench<'_> {
    pub(super) async fn spec(&self, version: Version, size: u32) -> FleetSpec {
        let (service, release) = (self.harness.service(), self.harness.release(version).await);
        FleetSpec { id: FleetId::of(&service, &release.id()), service, release, size, rollout: self.rollout() }
    }

    pub(super) async fn fleet_id(&self, version: Version) -> FleetId {
        self.spec(version, 0).await.id
    }

    /// One attempt to grow a fleet.
    pub(super) async fn try_ensure(
        &self,
        spec: &FleetSpec,
        key: &str,
    ) -> Result<Result<Progress<()>, ProviderError>, Seen> {
        let cx = self.cx(key);
        self.call(&format!("ensure of {} instances", spec.size), self.platform.fleets.ensure(&cx, spec)).await
    }

    pub(super) async fn ensure(&self, spec: &FleetSpec) -> Check {
        self.ensure_as(spec, &format!("ensure {} to {}", spec.id, spec.size)).await
    }

    /// Grows a fleet, under a key of its own.
    pub(super) async fn ensure_as(&self, spec: &FleetSpec, key: &str) -> Check {
        let cx = self.cx(key);
        let what = format!("ensure of {} instances", spec.size);
        self.done(&what, || self.platform.fleets.ensure(&cx, spec)).await
    }

    /// One look at the fleets, however old its facts are.
    pub(super) async fn look(&self) -> Result<FleetsState, Seen> {
        let (cx, service) = (self.cx("observe fleets"), self.harness.service());
        self.good("observe of the fleets", self.platform.fleets.observe(&cx, &service)).await
    }

    /// The fleets as they are now: looks until the facts are no older than this call.
    pub(super) async fn fleets(&self) -> Result<FleetsState, Seen> {
        let now = self.harness.now();
        let mut state = self.look().await?;
        if state.as_of < now {
            self.until("the facts about the fleets are as of now", async || {
                state = self.look().await?;
                Ok(state.as_of >= now)
            })
            .await?;
        }
        Ok(state)
    }

    pub(super) async fn fleet(&self, id: &FleetId) -> Result<Option<ObservedFleet>, Seen> {
        Ok(self.fleets().await?.fleets.into_iter().find(|fleet| fleet.id == *id))
    }

    /// The instances of a fleet that are not gone for good.
    pub(super) async fn instances(&self, fleet: &FleetId) -> Result<Vec<ObservedInstance>, Seen> {
        Ok(self.fleet(fleet).await?.map(|fleet| fleet.instances).unwrap_or_default())
    }

    pub(super) async fn alive(&self, fleet: &FleetId) -> Result<Vec<ObservedInstance>, Seen> {
        Ok(self.instances(fleet).await?.into_iter().filter(is_alive).collect())
    }

    /// A fleet whose instances all run and can be reached.
    pub(super) async fn running(&self, version: Version, size: u32) -> Result<Vec<ObservedInstance>, Seen> {
        let spec = self.spec(version, size).await;
        self.ensure(&spec).await?;
        let mut found = Vec::new();
        self.until(&format!("{size} running instances with endpoints"), async || {
            found = self.alive(&spec.id).await?;
            let runs = |one: &&ObservedInstance| one.lifecycle == Lifecycle::Running && one.endpoint.is_some();
            Ok(found.iter().filter(runs).count() == size as usize)
        })
        .await?;
        Ok(found)
    }

    pub(super) async fn retire(&self, fleet: &FleetId, instances: &[InstanceId]) -> Check {
        let proof = proof(fleet, instances, self.harness.now())?;
        let cx = self.cx(&format!("retire {instances:?}"));
        self.done("retire", || self.platform.fleets.retire(&cx, &proof)).await
    }

    pub(super) async fn until_gone(&self, fleet: &FleetId, instances: &BTreeSet<InstanceId>) -> Check {
        self.until("the retired instances are gone for good", async || {
            Ok(self.instances(fleet).await?.iter().all(|one| !instances.contains(&one.id)))
        })
        .await
    }

    /// Good instances as members of a route. Those that do not answer yet are nobody's to give traffic to.
    pub(super) async fn members(&self, version: Version, count: u32) -> Result<Vec<MemberTarget>, Seen> {
        let good = self.good_targets(version, count).await?.into_iter();
        Ok(good
            .filter_map(|one| Some(MemberTarget { instance: one.instance, fleet: one.fleet, endpoint: one.endpoint? }))
            .collect())
    }

    /// One look at the route, however old its facts are.
    pub(super) async fn look_at_route(&self) -> Result<TrafficState, Seen> {
        let cx = self.cx("observe route");
        self.good("observe of the route", self.platform.traffic.observe(&cx, &self.harness.route())).await
    }

    /// The route as it is now: looks until the facts are no older than this call.
    pub(super) async fn route(&self) -> Result<TrafficState, Seen> {
        let now = self.harness.now();
        let mut state = self.look_at_route().await?;
        if state.as_of < now {
            self.until("the facts about the route are as of now", async || {
                state = self.look_at_route().await?;
                Ok(state.as_of >= now)
            })
            .await?;
        }
        Ok(state)
    }

    /// Whether the switch shares traffic by weights; the other kind shares it by members.
    pub(super) fn is_by_weight(&self) -> bool {
        matches!(self.platform.traffic.capabilities().kind, SwitchKind::Weighted { .. })
    }

    /// Gives the route a new state, whatever its version.
    pub(super) async fn apply(&self, wanted: &Assignment) -> Check {
        let version = self.route().await?.version;
        let (cx, route) = (self.cx(&format!("apply {wanted:?} to {version}")), self.harness.route());
        self.done("apply", || self.platform.traffic.apply(&cx, &route, wanted, &version)).await
    }

    /// Gives the route a new state, and waits until it has it.
    pub(super) async fn move_to(&self, wanted: &Assignment) -> Check {
        self.apply(wanted).await?;
        self.until_in_effect(wanted).await
    }

    pub(super) async fn until_in_effect(&self, wanted: &Assignment) -> Check {
        let by_weight = self.is_by_weight();
        self.until("the route is as it was applied, and its members are in use", async || {
            Ok(is_in_effect(&self.route().await?, wanted, by_weight))
        })
        .await
    }

    /// Undoes what a test has made, as far as it can be undone. Whether that works is the matter of other clauses.
    pub(super) async fn clear_away(&self) {
        let _ = self.close_route().await;
        let _ = self.remove_fleets().await;
        let _ = self.remove_images().await;
    }

    async fn close_route(&self) -> Check {
        let state = self.route().await?;
        if state.split.is_closed() && state.members.is_empty() {
            return Ok(());
        }
        let closed = Assignment { split: Split::closed(), members: Vec::new() };
        self.apply(&closed).await?;
        self.until("the route has no members", async || Ok(self.route().await?.members.is_empty())).await
    }

    async fn remove_fleets(&self) -> Check {
        for fleet in self.fleets().await?.fleets {
            let all: Vec<_> = fleet.instances.into_iter().map(|instance| instance.id).collect();
            self.retire(&fleet.id, &all).await?;
            self.until_gone(&fleet.id, &all.into_iter().collect()).await?;
            self.remove(&fleet.id).await?;
        }
        Ok(())
    }

    pub(super) async fn remove(&self, fleet: &FleetId) -> Check {
        let (cx, service) = (self.cx(&format!("remove {fleet}")), self.harness.service());
        self.done("remove of the empty fleet", || self.platform.fleets.remove(&cx, &service, fleet)).await
    }

    async fn remove_images(&self) -> Check {
        let cx = self.cx("list images");
        let mut images = self.good("list", self.platform.images.list(&cx, &self.harness.service())).await?;
        let mut kept = Vec::new();
        for version in [Version::Old, Version::New] {
            kept.push(self.harness.release(version).await.image().fingerprint);
        }
        images.retain(|image| !kept.contains(&image.fingerprint));
        // Children have more parents than those that they are built on, so they go first.
        images.sort_by_key(|image| std::cmp::Reverse(image.parents.len()));
        for image in images {
            let cx = self.cx(&format!("remove image {}", image.id));
            self.done("remove of an image", || self.platform.images.remove(&cx, &image)).await?;
        }
        Ok(())
    }
}
